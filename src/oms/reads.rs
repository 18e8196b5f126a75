//! Reads of committed orders. Every committed order is in the views in memory, or has ended and is
//! in the store, or both: the orders thread forgets an order only once the store has its last
//! state. So reads check memory first and the store second: an order that is forgotten in between
//! is in both.
//!
//! This holds for Postgres as for the index, where replies wait for Postgres: memory shows only what
//! Postgres has, and forgets nothing before. But Postgres has a change some time before memory shows
//! it, and who saw it there could then see an older version in memory. So the position of the tables
//! is read together with the orders, and the answer waits until memory shows as much: then every
//! version in it is one that memory shows, or showed before it forgot the order. What happened before
//! this node became the user's owner is below any such position: its open orders were taken into
//! memory, and the others had ended.

use std::sync::Arc;
use std::time::Duration;

use super::order_store::{OrderStore, StoreUnavailable, Stored, StoredKey, StoredList};
use super::views::{CommittedViews, UserView};
use crate::money::Account;
use crate::order::{Order, Status};
use crate::runtime::timeout;
use crate::types::{ClientOrderId, OrderId, Symbol, UserId};
use crate::wal::Lsn;

/// Orders scanned for one page. Beyond this, a page that has any order is returned short, and its
/// cursor continues from there. An empty page continues, one chunk of the store at a time, with
/// other reads in between.
const ENOUGH_SCANNED: usize = 20_000;
/// Longest wait for memory to show what Postgres has: as long as for an answer of Postgres. It takes
/// a moment, unless the answer to a commit was lost.
const SHOWN_DEADLINE: Duration = Duration::from_secs(2);

/// Selects a page of a user's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Only orders older than this one.
    pub before: Option<OrderId>,
    /// Only orders in this status.
    pub status: Option<Status>,
    /// Only orders for this symbol.
    pub symbol: Option<Symbol>,
    /// Most orders of the page.
    pub limit: usize,
}

impl PageRequest {
    /// Whether the request is for open orders alone, all of which are in memory.
    fn is_of_open_orders(&self) -> bool {
        self.status.is_some_and(|status| !status.is_terminal())
    }

    fn skips_some(&self) -> bool {
        self.status.is_some() || self.symbol.is_some()
    }

    fn wants(&self, order: &Order) -> bool {
        self.status.is_none_or(|status| order.status == status)
            && self.symbol.is_none_or(|symbol| order.symbol == symbol)
    }
}

/// A page of a user's orders, newest first.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OrderPage {
    /// The selected orders.
    pub orders: Vec<Arc<Order>>,
    /// Cursor of the next page; `None` after the oldest order.
    pub next: Option<OrderId>,
}

/// The store's answer about an idempotency key.
#[derive(Debug)]
pub(super) struct KeyCheck {
    /// The store had followed the log at least to here: a key that it does not have was not used
    /// before.
    pub(super) position: Lsn,
    /// The order that the key names.
    pub(super) order: Option<Arc<Order>>,
}

/// Committed orders, from memory and from the store.
#[derive(Debug, Clone)]
pub(super) struct OrderReads {
    views: CommittedViews,
    store: OrderStore,
}

impl OrderReads {
    pub(super) fn new(views: CommittedViews, store: impl Into<OrderStore>) -> Self {
        Self { views, store: store.into() }
    }

    pub(super) fn views(&self) -> &CommittedViews {
        &self.views
    }

    pub(super) fn store(&self) -> &OrderStore {
        &self.store
    }

    /// Waits until memory shows what was read.
    pub(super) async fn once_shown<T>(&self, stored: Stored<T>) -> Result<T, StoreUnavailable> {
        let Stored { found, as_of } = stored;
        if self.views.shown() < as_of {
            let shown = timeout(SHOWN_DEADLINE, self.views.shows(as_of)).await;
            shown.and_then(Result::ok).ok_or(StoreUnavailable)?;
        }
        assert!(self.views.shown() >= as_of, "memory shows as much as the answer says");
        Ok(found)
    }

    /// Whether orders may be read.
    pub(super) fn are_readable(&self) -> bool {
        !self.views.are_hidden()
    }

    fn check_readable(&self) -> Result<(), StoreUnavailable> {
        if self.are_readable() { Ok(()) } else { Err(StoreUnavailable) }
    }

    fn in_memory(&self, user: &UserId, order_id: OrderId) -> Option<Arc<Order>> {
        let order = self.views.user(user)?.orders.get(&order_id).cloned()?;
        assert_eq!(order.user, *user, "a view has the orders of its user");
        Some(order)
    }

    pub(super) async fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<Arc<Order>>, StoreUnavailable> {
        self.check_readable()?;
        if let Some(order) = self.in_memory(user, order_id) {
            return Ok(Some(order));
        }
        let stored = self.once_shown(self.store.order(user, order_id).await?).await?;
        assert!(
            stored.as_ref().is_none_or(|order| order.user == *user),
            "the store is asked about a user's own order"
        );
        Ok(stored)
    }

    /// A user's account; an empty one for a user who has never had money.
    pub(super) async fn account(&self, user: &UserId) -> Result<Arc<Account>, StoreUnavailable> {
        self.check_readable()?;
        let in_memory = || self.views.user(user).and_then(|view| view.account.clone());
        if let Some(account) = in_memory() {
            return Ok(account);
        }
        let stored = self.store.account(user).await?;
        // It may have moved meanwhile, and somebody may have seen that.
        let newer = in_memory().filter(|newer| newer.version() > stored.version());
        Ok(newer.unwrap_or_else(|| Arc::new(stored)))
    }

    /// The order that a user's idempotency key names.
    pub(super) async fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<KeyCheck, StoreUnavailable> {
        self.check_readable()?;
        let StoredKey { position, order_id } = self.store.by_key(user, key).await?;
        let order = match order_id {
            None => None,
            Some(order_id) => self.order(user, order_id).await?,
        };
        Ok(KeyCheck { position, order })
    }

    pub(super) async fn page(
        &self,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<OrderPage, StoreUnavailable> {
        self.check_readable()?;
        // Memory has nothing of most users.
        let view = self.views.user(user).unwrap_or_default();
        let mut page = OrderPage::default();
        let mut before = request.before;
        let mut scanned = 0;
        let chunk = self.store.chunk(request.limit, request.skips_some());
        loop {
            let StoredList { orders: stored, next: floor } = if request.is_of_open_orders() {
                StoredList::default()
            } else {
                self.once_shown(self.store.ended(user, before, chunk).await?).await?
            };
            assert!(
                floor.is_none_or(|floor| before.is_none_or(|before| floor < before)),
                "a page goes from newer to older orders"
            );
            // A late fill or a bust may have reopened an order meanwhile, which removes it from the
            // ended orders of the store. It was back in memory before the store followed.
            let later_view = self.views.user(user).unwrap_or_default();
            for order in merged([&view, &later_view], &stored, before, floor) {
                assert!(page.orders.len() <= request.limit, "a page has at most its limit");
                let is_enough = scanned >= ENOUGH_SCANNED && !page.orders.is_empty();
                if page.orders.len() == request.limit || is_enough {
                    page.next = before;
                    return Ok(page);
                }
                scanned += 1;
                before = Some(order.order_id);
                if request.wants(order) {
                    assert_eq!(order.user, *user, "a page has the orders of its user");
                    page.orders.push(Arc::clone(order));
                }
            }
            // Below this order the store has more.
            before = floor;
            if floor.is_none() {
                return Ok(page);
            }
        }
    }
}

/// Merges the orders in memory, before and after the store was read, with those of the store:
/// newest first, each once in its newest version, from below `before` down to `floor`.
fn merged<'a>(
    views: [&'a UserView; 2],
    stored: &'a [Arc<Order>],
    before: Option<OrderId>,
    floor: Option<OrderId>,
) -> impl Iterator<Item = &'a Arc<Order>> {
    use std::ops::Bound::{Excluded, Included, Unbounded};
    let range = (floor.map_or(Unbounded, Included), before.map_or(Unbounded, Excluded));
    let [earlier, later] = views.map(|view| view.orders.range(range).rev().map(|(_, order)| order));
    newest(newest(earlier, later), stored.iter())
}

/// Merges two lists of orders, newest first: each order once, in its newest version.
fn newest<'a>(
    left: impl Iterator<Item = &'a Arc<Order>>,
    right: impl Iterator<Item = &'a Arc<Order>>,
) -> impl Iterator<Item = &'a Arc<Order>> {
    let (mut left, mut right) = (left.peekable(), right.peekable());
    std::iter::from_fn(move || {
        // One of them has ended.
        let (Some(next_left), Some(next_right)) = (left.peek(), right.peek()) else {
            return left.next().or_else(|| right.next());
        };
        match next_left.order_id.cmp(&next_right.order_id) {
            std::cmp::Ordering::Greater => left.next(),
            std::cmp::Ordering::Less => right.next(),
            std::cmp::Ordering::Equal => {
                let (in_left, in_right) = (left.next()?, right.next()?);
                assert_eq!(in_left.user, in_right.user, "an order has one owner");
                Some(if in_left.version >= in_right.version { in_left } else { in_right })
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{Index, IndexAges, IndexReaders, IndexWriter};
    use crate::order::{Created, TrackedOrder};
    use crate::testing::MemoryStore;
    use crate::types::{Side, TimeInForce, TimestampMicros, UserPartition};
    use crate::wal::LogId;

    fn order(number: u128) -> Arc<Order> {
        let created = Created {
            order_id: OrderId::new(number * 1_000_000, 0, UserPartition::new(0).unwrap()),
            user: UserId::new("u").unwrap(),
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 1,
            created_at: TimestampMicros::new(1),
            submit_before: TimestampMicros::new(2),
            reservation: crate::money::Reservation::Nothing,
        };
        Arc::clone(TrackedOrder::new(&created).order())
    }

    fn newer(order: &Arc<Order>) -> Arc<Order> {
        let mut newer = (**order).clone();
        newer.version += 1;
        Arc::new(newer)
    }

    fn view(orders: &[&Arc<Order>]) -> UserView {
        let orders = orders.iter().map(|o| (o.order_id, Arc::clone(o))).collect();
        UserView { orders, ..UserView::default() }
    }

    #[test]
    fn each_order_is_returned_once_in_its_newest_version() {
        let orders: Vec<Arc<Order>> = (0..6).map(order).collect();
        let in_memory = view(&[&orders[5], &newer(&orders[4]), &orders[3], &orders[1]]);
        let stored = [orders[4].clone(), newer(&orders[3]), orders[2].clone()];
        let nothing = UserView::default();
        let together: Vec<(OrderId, u64)> = merged([&in_memory, &nothing], &stored, None, None)
            .map(|order| (order.order_id, order.version))
            .collect();
        let expected: Vec<(OrderId, u64)> =
            [(5, 1), (4, 2), (3, 2), (2, 1), (1, 1)].map(|(n, v)| (orders[n].order_id, v)).into();
        assert_eq!(together, expected);
    }

    #[test]
    fn bounds_apply_to_memory_and_store() {
        let orders: Vec<Arc<Order>> = (0..6).map(order).collect();
        let in_memory = view(&[&orders[5], &orders[3], &orders[1]]);
        let stored = [orders[4].clone(), orders[2].clone()];
        let (before, floor) = (Some(orders[5].order_id), Some(orders[2].order_id));
        let ids: Vec<OrderId> = merged([&in_memory, &in_memory], &stored, before, floor)
            .map(|order| order.order_id)
            .collect();
        assert_eq!(ids, [4, 3, 2].map(|n| orders[n].order_id));
    }

    /// All pages: the symbols of their orders, and their cursors.
    fn pages(symbols: &[&str], request: &PageRequest) -> Vec<(Vec<String>, Option<OrderId>)> {
        let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
        IndexWriter::new(index.clone(), LogId(1)).unwrap();
        let views = CommittedViews::new();
        for (number, name) in (1..).zip(symbols) {
            let mut order = (*order(number)).clone();
            order.symbol = Symbol::new(name).unwrap();
            views.publish_change(Arc::new(order), Lsn(u64::try_from(number).unwrap()), 3);
        }
        views.show(Lsn(symbols.len() as u64));
        let (readers, [reader, _]) = IndexReaders::new(&index);
        let reading = std::thread::spawn(move || reader.run());
        let reads = OrderReads::new(views, readers);
        let (mut request, mut pages) = (request.clone(), Vec::new());
        loop {
            let user = UserId::new("u").unwrap();
            let page = futures_lite::future::block_on(reads.page(&user, &request)).unwrap();
            let names = page.orders.iter().map(|order| order.symbol.to_string()).collect();
            pages.push((names, page.next));
            request.before = page.next;
            if page.next.is_none() {
                break;
            }
        }
        drop(reads);
        reading.join().unwrap();
        pages
    }

    #[test]
    fn a_page_with_a_cursor_is_never_empty() {
        let mut symbols = vec!["SPY"];
        symbols.extend(vec!["IBM"; ENOUGH_SCANNED * 2]);
        symbols.push("SPY");
        for status in [None, Some(Status::Pending)] {
            let symbol = Symbol::new("SPY").ok();
            let request = PageRequest { before: None, status, symbol, limit: 50 };
            let pages = pages(&symbols, &request);
            let found: Vec<usize> = pages.iter().map(|(orders, _)| orders.len()).collect();
            assert_eq!(found, [1, 1], "the newest once enough was scanned, then the oldest");
        }
        let symbol = Symbol::new("AIG").ok();
        let none = PageRequest { before: None, status: None, symbol, limit: 50 };
        assert_eq!(pages(&symbols, &none), [(Vec::new(), None)]);
        let ended = PageRequest { status: Some(Status::Filled), symbol: None, ..none };
        assert_eq!(pages(&symbols, &ended), [(Vec::new(), None)]);
    }

    #[test]
    fn an_order_reopened_while_the_store_is_read_is_not_missed() {
        let orders: Vec<Arc<Order>> = (0..3).map(order).collect();
        let (before, after) = (view(&[&orders[2]]), view(&[&orders[2], &newer(&orders[1])]));
        let stored = [orders[0].clone()];
        let together: Vec<(OrderId, u64)> = merged([&before, &after], &stored, None, None)
            .map(|order| (order.order_id, order.version))
            .collect();
        let expected = [(2, 1), (1, 2), (0, 1)].map(|(n, v)| (orders[n].order_id, v));
        assert_eq!(together, expected);
    }
}
