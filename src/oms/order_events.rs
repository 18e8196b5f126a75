//! Encodes changes of orders as events of a shard's streams.

use std::sync::Arc;

use super::order_changes::{ChangeId, Changes, ChangesSince, OrderChanges};
use super::order_watch::OrderWatch;
use super::reads::StoreUnavailable;
use crate::order::Order;
use crate::stream::{
    ChangedUsers, EventSink, OpenOrders, OrderSource, StoreQuery, StoreReply, StoredEvents,
    WrittenChanges,
};
use crate::types::{OrderId, UserId};
use crate::wal::{LogId, Lsn};

/// Changes encoded at once: more than one send takes.
const CHANGES_AT_ONCE: usize = 64;
/// Bytes of events requested from the store at a time, which then wait for a slow client.
const MOST_STORED_BYTES: usize = 16 * 1024;

/// The source of order events for one shard's streams.
#[derive(Debug)]
pub struct OrderEventFeed {
    watch: OrderWatch,
    changes: OrderChanges,
}

impl OrderEventFeed {
    /// The feed of a shard to which `watch` announces changes.
    pub fn new(watch: OrderWatch, changes: OrderChanges) -> Self {
        Self { watch, changes }
    }
}

impl OrderSource for OrderEventFeed {
    fn watch(&mut self, user: &UserId) {
        self.watch.watch(user);
    }

    fn unwatch(&mut self, user: &UserId) {
        self.watch.unwatch(user);
    }

    fn next_changed(&mut self) -> Option<ChangedUsers> {
        self.watch.next_changed()
    }

    fn has_changed(&self) -> bool {
        self.watch.has_changed()
    }

    fn write_open(&self, user: &UserId, after: Option<OrderId>, to: EventSink<'_>) -> OpenOrders {
        use std::ops::Bound::{Excluded, Unbounded};
        let (view, cursor) = self.changes.view(user);
        let begin = to.out.len();
        let mut last = None;
        let behind = (after.map_or(Unbounded, Excluded), Unbounded);
        let open = view.orders.range(behind).map(|(_, order)| order);
        for order in open.filter(|order| order.is_open()) {
            if to.out.len() - begin >= to.most_bytes {
                return OpenOrders { next: last, cursor: cursor.0 };
            }
            to.out.extend_from_slice(b"event: order\n");
            write_data(to.out, order);
            last = Some(order.order_id);
        }
        OpenOrders { next: None, cursor: cursor.0 }
    }

    fn write_changes(&self, user: &UserId, after: u64, to: EventSink<'_>) -> WrittenChanges {
        match self.changes.now(user, Lsn(after), CHANGES_AT_ONCE) {
            None => WrittenChanges::Stored,
            Some(ChangesSince::Lost) => WrittenChanges::Lost,
            Some(ChangesSince::Known(known)) => {
                let (cursor, has_more) = self.changes.write(&known, Lsn(after), to);
                WrittenChanges::UpTo { cursor: cursor.0, has_more }
            }
        }
    }

    fn write_cursor(&self, cursor: u64, out: &mut Vec<u8>) {
        self.changes.write_id(Lsn(cursor), out);
    }
}

impl OrderChanges {
    /// Answers a stream's query to the store.
    pub async fn answer(&self, query: &StoreQuery) -> StoreReply {
        let after = Lsn(query.after);
        match self.since(&query.user, after, CHANGES_AT_ONCE).await {
            Err(StoreUnavailable) => StoreReply::Unavailable,
            Ok(ChangesSince::Lost) => StoreReply::Lost,
            Ok(ChangesSince::Known(known)) => {
                let mut bytes = Vec::new();
                let to = EventSink {
                    out: &mut bytes,
                    most_bytes: MOST_STORED_BYTES,
                    id_prefix: &query.id_prefix,
                };
                let (cursor, has_more) = self.write(&known, after, to);
                StoreReply::Events(StoredEvents { bytes, cursor: cursor.0, has_more })
            }
        }
    }

    /// Appends changes after a cursor until the sink is full. Returns the next cursor, and whether
    /// there is more.
    fn write(&self, known: &Changes, after: Lsn, to: EventSink<'_>) -> (Lsn, bool) {
        let begin = to.out.len();
        let mut written = after;
        for (lsn, order) in &known.changes {
            if to.out.len() - begin >= to.most_bytes {
                return (written, true);
            }
            to.out.extend_from_slice(b"event: order\nid: ");
            to.out.extend_from_slice(to.id_prefix);
            self.write_id(*lsn, to.out);
            to.out.push(b'\n');
            write_data(to.out, order);
            written = *lsn;
        }
        (known.complete_to, known.has_more)
    }

    fn write_id(&self, lsn: Lsn, out: &mut Vec<u8>) {
        // Streams begin only after there is a log.
        let log = self.log_id().unwrap_or(LogId(0));
        out.extend_from_slice(ChangeId { log, lsn }.to_string().as_bytes());
    }
}

/// The order as event data. Its JSON contains no line ends.
fn write_data(out: &mut Vec<u8>, order: &Arc<Order>) {
    out.extend_from_slice(b"data: ");
    let written = serde_json::to_writer(&mut *out, &**order);
    debug_assert!(written.is_ok(), "every order can be serialized");
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, IndexAges, IndexReaders, IndexWriter};
    use crate::market::ShardWatch;
    use crate::oms::OrderWatchers;
    use crate::oms::reads::OrderReads;
    use crate::oms::views::CommittedViews;
    use crate::order::{Created, TrackedOrder};
    use crate::testing::MemoryStore;
    use crate::types::*;

    fn order(number: u64) -> Arc<Order> {
        let user = UserId::new("alice").unwrap();
        let created = Created {
            order_id: OrderId::new(u128::from(number) * 1_000_000, 0, user.partition()),
            user,
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: number,
            created_at: TimestampMicros::new(1),
            submit_before: TimestampMicros::new(2),
        };
        Arc::clone(TrackedOrder::new(&created).order())
    }

    fn feed(orders: u64) -> (OrderEventFeed, OrderWatchers, CommittedViews) {
        let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
        IndexWriter::new(index.clone(), LogId(0xabc)).unwrap();
        let views = CommittedViews::new();
        for number in 1..=orders {
            views.publish_change(order(number), Lsn(10 * number), 3);
        }
        views.show(Lsn(10 * orders + 5));
        let (readers, _) = IndexReaders::new(&index);
        let changes = OrderChanges::new(OrderReads::new(views.clone(), readers));
        let (watchers, mut ends) = OrderWatchers::new(&[Arc::new(ShardWatch::new())]);
        (OrderEventFeed::new(ends.pop().unwrap(), changes), watchers, views)
    }

    fn sink(out: &mut Vec<u8>, most_bytes: usize) -> EventSink<'_> {
        EventSink { out, most_bytes, id_prefix: b"7-1/" }
    }

    #[test]
    fn an_event_contains_the_order_and_the_id_of_its_change() {
        let (feed, ..) = feed(2);
        let alice = UserId::new("alice").unwrap();
        let mut out = Vec::new();
        let written = feed.write_changes(&alice, 10, sink(&mut out, 10_000));
        assert_eq!(written, WrittenChanges::UpTo { cursor: 25, has_more: false });
        let json = serde_json::to_string(&*order(2)).unwrap();
        let expected = format!("event: order\nid: 7-1/0000000000000abc.20\ndata: {json}\n\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_full_sink_gets_the_rest_later() {
        let (feed, ..) = feed(3);
        let alice = UserId::new("alice").unwrap();
        let (mut parts, mut after) = (Vec::new(), 0);
        loop {
            let WrittenChanges::UpTo { cursor, has_more } =
                feed.write_changes(&alice, after, sink(&mut parts, 1))
            else {
                panic!("memory has them")
            };
            after = cursor;
            if !has_more {
                break;
            }
        }
        let mut whole = Vec::new();
        feed.write_changes(&alice, 0, sink(&mut whole, 10_000));
        assert_eq!(String::from_utf8(parts), String::from_utf8(whole));
        let mut open = Vec::new();
        let first = feed.write_open(&alice, None, sink(&mut open, 1));
        assert_eq!(first, OpenOrders { next: Some(order(1).order_id), cursor: 35 });
        let rest = feed.write_open(&alice, first.next, sink(&mut open, 10_000));
        assert_eq!(rest, OpenOrders { next: None, cursor: 35 });
        let open = String::from_utf8(open).unwrap();
        assert_eq!(open.matches("event: order\ndata: {").count(), 3);
    }

    #[test]
    fn a_shard_is_told_of_its_users_and_restarts_from_an_unknown_cursor() {
        let (mut feed, watchers, views) = feed(1);
        let alice = UserId::new("alice").unwrap();
        feed.watch(&alice);
        views.publish_change(order(2), Lsn(20), 3);
        watchers.tell([&alice].into_iter());
        assert!(feed.has_changed());
        assert_eq!(feed.next_changed(), Some(ChangedUsers::One(alice.clone())));
        let mut out = Vec::new();
        assert_eq!(feed.write_changes(&alice, 21, sink(&mut out, 9)), WrittenChanges::Lost);
        views.forget_changes(&alice, Lsn(10));
        assert_eq!(feed.write_changes(&alice, 5, sink(&mut out, 9)), WrittenChanges::Stored);
        assert!(out.is_empty());
        feed.write_cursor(20, &mut out);
        assert_eq!(out, b"0000000000000abc.20");
    }
}
