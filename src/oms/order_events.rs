//! Encodes changes of orders as events of a shard's streams.

use super::account_events::write_account;
use super::order_changes::{ChangeId, Changes, ChangesSince, OrderChanges};
use super::order_store::{OrderStore, PostgresStore, StoreUnavailable};
use super::order_watch::OrderWatch;
use crate::order::Order;
use crate::stream::{
    ChangedUsers, EventSink, LogMark, OpenOrders, OrderCursor, OrderListing, OrderSource,
    StoreQuery, StoreReply, StoredEvents, WrittenChanges,
};
use crate::types::{OrderId, TimestampMicros, UserId};
use crate::wal::LogId;

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
        let at = self.changes.time();
        let (view, lsn) = self.changes.view(user);
        let cursor = OrderCursor::Position(LogMark { lsn, at });
        let begin = to.out.len();
        let mut last = None;
        let behind = (after.map_or(Unbounded, Excluded), Unbounded);
        let open = view.orders.range(behind).map(|(_, order)| order);
        for order in open.filter(|order| order.is_open()) {
            if to.out.len() - begin >= to.most_bytes {
                return OpenOrders { next: last, cursor };
            }
            assert_eq!(order.user, *user, "a stream has the orders of its user");
            write_without_id(to.out, order);
            last = Some(order.order_id);
        }
        OpenOrders { next: None, cursor }
    }

    fn write_changes(
        &self,
        user: &UserId,
        after: &OrderCursor,
        to: EventSink<'_>,
    ) -> WrittenChanges {
        // Memory has no listings.
        let OrderCursor::Position(after) = *after else { return WrittenChanges::Stored };
        let at = self.changes.time();
        match self.changes.now(user, after.lsn, CHANGES_AT_ONCE) {
            None => WrittenChanges::Stored,
            Some(ChangesSince::Lost) => WrittenChanges::Lost,
            Some(ChangesSince::Known(known)) => {
                assert_orders_of(user, known.changes.iter().map(|(_, order)| &**order));
                // Ahead of the changes: whoever resumes after the id of one has seen what it moved.
                if to.with_account
                    && let Some((account, symbols)) = self.changes.account_since(user, after.lsn)
                {
                    write_account(to.out, &account, symbols.as_ref());
                }
                let (mark, has_more) = self.changes.write(&known, (after, at), to);
                WrittenChanges::UpTo { cursor: OrderCursor::Position(mark), has_more }
            }
        }
    }

    fn write_cursor(&self, cursor: &OrderCursor, out: &mut Vec<u8>) {
        match cursor {
            OrderCursor::Position(mark) => self.changes.write_id(*mark, out),
            OrderCursor::Listing(listing) => {
                let (log, LogMark { lsn, at }) = listing.from;
                out.extend_from_slice(ChangeId { log, lsn, at }.to_string().as_bytes());
            }
        }
    }
}

impl OrderChanges {
    /// Answers a stream's query to the store.
    pub async fn answer(&self, query: &StoreQuery) -> StoreReply {
        let answer = match (self.store(), &query.after) {
            (OrderStore::Local(_), OrderCursor::Position(after)) => self.each(query, *after).await,
            (OrderStore::Postgres(store), OrderCursor::Position(after)) => {
                match self.listing_after(&query.user, *after) {
                    Some(listing) => self.listing(store, query, &listing).await,
                    None => Ok(StoreReply::Lost),
                }
            }
            (OrderStore::Postgres(store), OrderCursor::Listing(listing)) => {
                self.listing(store, query, listing).await
            }
            (OrderStore::Local(_), OrderCursor::Listing(_)) => Ok(StoreReply::Lost),
        };
        answer.unwrap_or(StoreReply::Unavailable)
    }

    /// Each change after a position.
    async fn each(
        &self,
        query: &StoreQuery,
        after: LogMark,
    ) -> Result<StoreReply, StoreUnavailable> {
        let known = match self.since(&query.user, after.lsn, CHANGES_AT_ONCE).await? {
            ChangesSince::Lost => return Ok(StoreReply::Lost),
            ChangesSince::Known(known) => known,
        };
        assert_orders_of(&query.user, known.changes.iter().map(|(_, order)| &**order));
        let mut bytes = Vec::new();
        if query.with_account {
            // Which record moved it last is not known: it may have been told before.
            let account = self.account(&query.user).await?;
            write_account(&mut bytes, &account, None);
        }
        let to = stored_sink(&mut bytes, query);
        let (mark, has_more) = self.write(&known, (after, None), to);
        let cursor = OrderCursor::Position(mark);
        Ok(StoreReply::Events(StoredEvents { bytes, cursor, has_more }))
    }

    /// The next part of a listing. Its events carry no ids, so that a client that leaves meanwhile
    /// resumes from where it did before; the last one has the id of the position that follows.
    ///
    /// The parts of a listing are of several moments, so after more than one what has changed since
    /// the first is listed again, until a listing is of one moment: changes in memory continue from
    /// there, and no version goes back.
    async fn listing(
        &self,
        store: &PostgresStore,
        query: &StoreQuery,
        listing: &OrderListing,
    ) -> Result<StoreReply, StoreUnavailable> {
        let listed = self.list(store, (&query.user, listing), CHANGES_AT_ONCE).await?;
        assert_orders_of(&query.user, listed.orders.iter().map(|order| &**order));
        let began_at = listing.began_at.or(listed.mark.at);
        let Some(began_at) = began_at else { return Ok(StoreReply::Lost) };
        assert!(
            listed.mark.at.is_none_or(|at| began_at <= at),
            "the parts of a listing are later than its beginning"
        );
        let mut bytes = Vec::new();
        let to = stored_sink(&mut bytes, query);
        let (mut next, mut orders) = (listed.next, listed.orders.iter().peekable());
        let is_whole = listing.after.is_none() && next.is_none();
        while let Some(order) = orders.next() {
            let is_last = orders.peek().is_none();
            if is_last && is_whole {
                self.write_with_id(order, listed.mark, to.id_prefix, to.out);
            } else {
                write_without_id(to.out, order);
            }
            if to.out.len() >= to.most_bytes && !is_last {
                next = Some(order.order_id);
                break;
            }
        }
        let more = |since, after, began_at| {
            let from = listing.from;
            OrderCursor::Listing(Box::new(OrderListing { from, since, after, began_at }))
        };
        let cursor = match next {
            Some(next) => more(listing.since, Some(next), Some(began_at)),
            None if is_whole => OrderCursor::Position(listed.mark),
            None => more(began_at, None, None),
        };
        Ok(StoreReply::Events(StoredEvents { bytes, cursor, has_more: true }))
    }

    /// Appends changes after a position until the sink is full. Returns the next position, and whether
    /// there is more. No later change is before the time `at`.
    fn write(
        &self,
        known: &Changes,
        (after, at): (LogMark, Option<TimestampMicros>),
        to: EventSink<'_>,
    ) -> (LogMark, bool) {
        let begin = to.out.len();
        let mut written = after;
        for (lsn, order) in &known.changes {
            if to.out.len() - begin >= to.most_bytes {
                return (written, true);
            }
            assert!(*lsn > written.lsn, "changes are written in log order");
            written = LogMark { lsn: *lsn, at: at.map(|_| order.updated_at) };
            self.write_with_id(order, written, to.id_prefix, to.out);
        }
        assert!(written.lsn <= known.complete_to, "a cursor passes what was written");
        let at = if known.has_more { written.at } else { at };
        (LogMark { lsn: known.complete_to, at }, known.has_more)
    }

    fn write_with_id(&self, order: &Order, mark: LogMark, id_prefix: &[u8], out: &mut Vec<u8>) {
        out.extend_from_slice(b"event: order\nid: ");
        out.extend_from_slice(id_prefix);
        self.write_id(mark, out);
        out.push(b'\n');
        write_data(out, order);
    }

    fn write_id(&self, LogMark { lsn, at }: LogMark, out: &mut Vec<u8>) {
        let id = ChangeId { log: self.own_log(), lsn, at };
        out.extend_from_slice(id.to_string().as_bytes());
    }

    fn own_log(&self) -> LogId {
        // Streams begin only after there is a log.
        self.log_id().unwrap_or(LogId(0))
    }
}

fn assert_orders_of<'a>(user: &UserId, mut orders: impl Iterator<Item = &'a Order>) {
    assert!(orders.all(|order| order.user == *user), "a stream has the orders of its user");
}

/// Room for events that then wait for the client.
fn stored_sink<'a>(out: &'a mut Vec<u8>, query: &'a StoreQuery) -> EventSink<'a> {
    let StoreQuery { id_prefix, with_account, .. } = query;
    EventSink { out, most_bytes: MOST_STORED_BYTES, id_prefix, with_account: *with_account }
}

fn write_without_id(out: &mut Vec<u8>, order: &Order) {
    out.extend_from_slice(b"event: order\n");
    write_data(out, order);
}

/// The order as event data. Its JSON contains no line ends.
fn write_data(out: &mut Vec<u8>, order: &Order) {
    out.extend_from_slice(b"data: ");
    let written = serde_json::to_writer(&mut *out, order);
    debug_assert!(written.is_ok(), "every order can be serialized");
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::index::{Index, IndexAges, IndexReaders, IndexWriter};
    use crate::market::ShardWatch;
    use crate::oms::OrderWatchers;
    use crate::oms::reads::OrderReads;
    use crate::oms::views::CommittedViews;
    use crate::order::{Created, TrackedOrder};
    use crate::testing::MemoryStore;
    use crate::types::*;
    use crate::wal::Lsn;

    fn at(lsn: u64) -> OrderCursor {
        OrderCursor::at(Lsn(lsn))
    }

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
            reservation: crate::money::Reservation::Nothing,
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
        EventSink { out, most_bytes, id_prefix: b"7-1/", with_account: false }
    }

    #[test]
    fn an_event_contains_the_order_and_the_id_of_its_change() {
        let (feed, ..) = feed(2);
        let alice = UserId::new("alice").unwrap();
        let mut out = Vec::new();
        let written = feed.write_changes(&alice, &at(10), sink(&mut out, 10_000));
        assert_eq!(written, WrittenChanges::UpTo { cursor: at(25), has_more: false });
        let json = serde_json::to_string(&*order(2)).unwrap();
        let expected = format!("event: order\nid: 7-1/0000000000000abc.20\ndata: {json}\n\n");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn a_full_sink_gets_the_rest_later() {
        let (feed, ..) = feed(3);
        let alice = UserId::new("alice").unwrap();
        let (mut parts, mut after) = (Vec::new(), at(0));
        loop {
            let WrittenChanges::UpTo { cursor, has_more } =
                feed.write_changes(&alice, &after, sink(&mut parts, 1))
            else {
                panic!("memory has them")
            };
            after = cursor;
            if !has_more {
                break;
            }
        }
        let mut whole = Vec::new();
        feed.write_changes(&alice, &at(0), sink(&mut whole, 10_000));
        assert_eq!(String::from_utf8(parts), String::from_utf8(whole));
        let mut open = Vec::new();
        let first = feed.write_open(&alice, None, sink(&mut open, 1));
        assert_eq!(first, OpenOrders { next: Some(order(1).order_id), cursor: at(35) });
        let rest = feed.write_open(&alice, first.next, sink(&mut open, 10_000));
        assert_eq!(rest, OpenOrders { next: None, cursor: at(35) });
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
        assert_eq!(feed.write_changes(&alice, &at(21), sink(&mut out, 9)), WrittenChanges::Lost);
        views.forget_changes(&alice, Lsn(10));
        assert_eq!(feed.write_changes(&alice, &at(5), sink(&mut out, 9)), WrittenChanges::Stored);
        assert!(out.is_empty());
        feed.write_cursor(&at(20), &mut out);
        assert_eq!(out, b"0000000000000abc.20");
    }
}
