//! Builds an index from orders instead of from the log, for a restore.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use super::feed_records::is_attended;
use super::fjall_store::FjallStore;
use super::history::Terms;
use super::index_handle::IndexAges;
use super::keys;
use super::node::{self, INDEX_FORMAT, Meta};
use super::store::{Bytes, Space, Store, Write};
use super::{IndexError, open};
use crate::money::Account;
use crate::order::{Event, EventEncoder, FeedPosition, StoredOrderEncoder, TrackedOrder};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Writes in one batch of the store: some megabytes.
const BATCH_WRITES: usize = 8_192;
/// Ended orders in memory at which those that ended too long ago are dropped for the first time.
const MANY_ENDED: usize = 1 << 20;

/// Fills a new index. The index is unusable until [`finish`](Self::finish): without a position it
/// counts as empty.
pub struct IndexFiller {
    store: Arc<dyn Store>,
    batch: Vec<Write>,
    /// Exchange ids in the batch.
    external: HashSet<ExternalOrderId>,
    encoder: StoredOrderEncoder,
    orders: u64,
    open: u64,
    /// The latest time of an order.
    last_at: TimestampMicros,
    /// Orders that have ended lately, with their last change: a gap in the feed may hide more.
    ended: Vec<(TimestampMicros, OrderId)>,
    /// So many of them that it is time to drop the old ones.
    many_ended: usize,
}

impl IndexFiller {
    /// Creates an index in a directory that is missing or empty.
    pub fn create(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        if !open::is_missing(directory)? {
            return Err(IndexError::NotEmpty { directory: directory.to_path_buf() });
        }
        open::make_durably(directory)?;
        Ok(Self::over(Arc::new(FjallStore::open(directory, cache_bytes)?)))
    }

    pub(crate) fn over(store: Arc<dyn Store>) -> Self {
        Self {
            store,
            batch: Vec::with_capacity(BATCH_WRITES),
            external: HashSet::new(),
            encoder: StoredOrderEncoder::new(),
            orders: 0,
            open: 0,
            last_at: TimestampMicros::default(),
            ended: Vec::new(),
            many_ended: MANY_ENDED,
        }
    }

    /// Number of orders taken, and how many of them are open.
    pub fn counts(&self) -> (u64, u64) {
        (self.orders, self.open)
    }

    /// Takes an order and its client order id. Orders may come in any sequence.
    ///
    /// # Errors
    /// Write errors.
    pub fn order(&mut self, tracked: &TrackedOrder) -> Result<(), IndexError> {
        let order = tracked.order();
        let (user, order_id) = (&order.user, order.order_id);
        let id = keys::order_id_bytes(order_id);
        let value = Bytes::from(self.encoder.encode(tracked)?);
        self.orders += 1;
        self.last_at = self.last_at.max(order.updated_at);
        if order.is_open() {
            self.open += 1;
            self.put(Space::Open, keys::open(order_id).into(), value);
        } else {
            self.put(Space::Ended, id.into(), value);
            self.put(Space::History, keys::history(user, order_id), Terms::of(order).encode());
            if is_attended(tracked) {
                self.put(Space::Node, node::attended_key(order_id), Bytes::from(&[][..]));
            }
            self.note_ended(order.updated_at, order_id);
        }
        if let Some(key) = &order.client_order_id {
            self.put(Space::Keys, keys::client_key(user, key), id.into());
        }
        self.commit_when_full()
    }

    /// Takes an exchange id. The first order with an id keeps it.
    ///
    /// # Errors
    /// Read and write errors.
    pub fn external(&mut self, id: &ExternalOrderId, of: OrderId) -> Result<(), IndexError> {
        let key = Bytes::from(keys::external(id));
        let is_new = !self.external.contains(id);
        if is_new && self.store.get(Space::External, &key)?.is_none() {
            self.external.insert(id.clone());
            self.put(Space::External, key, keys::order_id_bytes(of).into());
        }
        self.commit_when_full()
    }

    /// Takes an account.
    ///
    /// # Errors
    /// Write errors.
    pub fn account(&mut self, user: &UserId, account: &Account) -> Result<(), IndexError> {
        self.put(Space::Accounts, keys::account(user), account.to_bytes().into());
        self.commit_when_full()
    }

    /// Accounts follow the orders, also if there are none yet.
    pub fn keep_accounts(&mut self) {
        self.put(Space::Node, node::ACCOUNTS_KEY.into(), Bytes::from(&[][..]));
    }

    /// Sets the position to just before the first record of a log, makes the index durable and
    /// closes the store.
    ///
    /// # Errors
    /// Write errors.
    pub fn finish(self, log_id: LogId, feed: Option<FeedPosition>) -> Result<(), IndexError> {
        self.finish_after((log_id, Lsn(0)), feed)
    }

    /// Sets another position than a restore does: for a copy of an index that follows a log.
    ///
    /// # Errors
    /// Write errors.
    pub fn finish_at(self, log_id: LogId, position: Lsn) -> Result<(), IndexError> {
        self.finish_after((log_id, position), None)
    }

    fn finish_after(
        mut self,
        (log_id, position): (LogId, Lsn),
        feed: Option<FeedPosition>,
    ) -> Result<(), IndexError> {
        // Everything else first: the position vouches for it.
        self.commit()?;
        self.store.persist()?;
        let feed_at = feed.as_ref().map(|feed| feed.at);
        if let Some(feed) = feed {
            let mut events = EventEncoder::new();
            let value = node::event_value(&mut events, &Event::FeedPosition(feed), Lsn(0))?;
            self.put(Space::Node, node::FEED_KEY.into(), value);
        }
        self.forget_ended_before(feed_at.unwrap_or(self.last_at));
        let ended: Vec<OrderId> = self.ended.iter().map(|(_, order_id)| *order_id).collect();
        if let Some(at) = self.ended.iter().map(|(at, _)| *at).max() {
            self.put(Space::Node, node::ended_key(position.0), node::ended_value(at, &ended));
        }
        // Without a feed position the latest time is that of an order.
        let last_at = self.last_at.max(feed_at.unwrap_or_default());
        let meta = Meta { format: INDEX_FORMAT, log_id, position, last_at };
        self.put(Space::Node, node::META_KEY.into(), meta.encode());
        self.commit()?;
        self.store.persist()
    }

    fn note_ended(&mut self, at: TimestampMicros, order_id: OrderId) {
        self.ended.push((at, order_id));
        if self.ended.len() >= self.many_ended {
            self.forget_ended_before(self.last_at);
            // All of them may be recent.
            self.many_ended = MANY_ENDED.max(2 * self.ended.len());
        }
    }

    /// Drops ended orders that no gap in the feed after `position_at` reaches back to.
    fn forget_ended_before(&mut self, position_at: TimestampMicros) {
        let window = IndexAges::default().ended_window_micros;
        self.ended.retain(|(ended, _)| position_at.micros_since(*ended) <= window);
    }

    fn put(&mut self, space: Space, key: Bytes, value: Bytes) {
        self.batch.push(Write { space, key, value: Some(value) });
    }

    fn commit_when_full(&mut self) -> Result<(), IndexError> {
        if self.batch.len() < BATCH_WRITES { Ok(()) } else { self.commit() }
    }

    fn commit(&mut self) -> Result<(), IndexError> {
        let mut batch = std::mem::replace(&mut self.batch, Vec::with_capacity(BATCH_WRITES));
        batch.sort_unstable();
        self.external.clear();
        self.store.commit(batch)
    }
}

impl std::fmt::Debug for IndexFiller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("IndexFiller")
            .field("orders", &self.orders)
            .field("open", &self.open)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::super::test_log::{AGES, LOG, long_log, take_until};
    use super::super::{Index, IndexWriter};
    use super::*;
    use crate::testing::MemoryStore;

    #[test]
    fn a_filled_index_equals_one_that_followed_the_log() {
        let log = long_log();
        let followed = MemoryStore::new();
        let index = Index::in_memory(&followed, AGES).unwrap();
        let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
        take_until(&mut writer, &log.events, log.events.len());
        writer.commit().unwrap();

        let filled = MemoryStore::new();
        let mut filler = IndexFiller::in_memory(&filled);
        let mut scan = index.scan_orders().unwrap();
        while let [one, ..] = &scan.next_orders(1, |_| true).unwrap()[..] {
            filler.order(one).unwrap();
        }
        for (id, order_id) in &log.external {
            filler.external(id, *order_id).unwrap();
        }
        let open = log.orders.values().filter(|order| order.order().is_open()).count();
        assert_eq!(filler.counts(), (log.orders.len() as u64, open as u64));
        let another = *log.orders.keys().next().unwrap();
        filler.external(log.external.keys().last().unwrap(), another).unwrap();
        let feed = log.node.feed_position.clone();
        filler.finish(LogId(99), feed.clone()).unwrap();
        assert_eq!(filled.unpersisted_batches(), 0);

        let of_orders = |store: &MemoryStore| {
            let mut content = store.content();
            content.retain(|(space, ..)| *space < Space::Node);
            content
        };
        assert_eq!(of_orders(&filled), of_orders(&followed));
        let index = Index::in_memory(&filled, AGES).unwrap();
        assert_eq!((index.log_id(), index.position()), (Some(LogId(99)), Lsn(0)));
        let (node, expected) = (index.node_state().unwrap(), log.node);
        assert_eq!((&node.feed_position, &node.attended), (&feed, &expected.attended));
        let position_at = feed.map_or_else(|| log_end(&log.orders), |feed| feed.at);
        let ended: BTreeSet<OrderId> = log
            .orders
            .values()
            .filter(|tracked| !tracked.order().is_open())
            .filter(|tracked| {
                let age_micros = position_at.micros_since(tracked.order().updated_at);
                age_micros <= IndexAges::default().ended_window_micros
            })
            .map(|tracked| tracked.order().order_id)
            .collect();
        assert!(!ended.is_empty());
        assert_eq!(node.ended.iter().map(|(_, id)| *id).collect::<BTreeSet<_>>(), ended);
        assert!(IndexWriter::new(index, LogId(99)).is_ok(), "the log continues from there");
    }

    fn log_end(orders: &BTreeMap<OrderId, TrackedOrder>) -> TimestampMicros {
        orders.values().map(|tracked| tracked.order().updated_at).max().unwrap()
    }

    #[test]
    fn only_an_empty_directory_is_filled() {
        let data = tempfile::tempdir().unwrap();
        let directory = data.path().join("index");
        let filler = IndexFiller::create(&directory, 1 << 20).unwrap();
        filler.finish(LOG, None).unwrap();
        let refused = IndexFiller::create(&directory, 1 << 20).unwrap_err();
        assert!(refused.to_string().contains("is not empty"), "{refused}");
    }
}
