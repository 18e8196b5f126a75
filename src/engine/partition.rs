//! The engine of one user partition: its orders, and how an input works on one of them.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;

use super::accounts::Accounts;
use super::entry::{Entry, QueryReason, Reconciling, Underway};
use super::feed_progress::FeedProgress;
use super::inputs::{AccountMode, EngineOptions};
use super::order_map::OrderMap;
use super::outbox::{Alert, Effect, Outbox};
use super::spread_map::SpreadMap;
use crate::money::{Account, Held, Overflow};
use crate::order::{Anomaly, Change, Changed, Created, Event, Order, TrackedOrder, booking};
use crate::types::{ClientOrderId, OrderId, Symbol, TimestampMicros, UserId};

/// Maximum orders with open cases per user partition. Further cases are counted, logged and
/// dropped. 64 partitions keep at most some 100 MB of such reports.
const MAX_ORDERS_WITH_CASES: usize = 1_024;

/// Hash tables for one engine's orders and users. With 64 engines, ten million orders are some
/// 10,000 per table; a table that grows rehashes them within a millisecond.
const TABLES: usize = 16;

/// The orders of one user partition.
#[derive(Debug)]
pub struct Engine {
    pub(super) orders: OrderMap<Entry>,
    /// The idempotency keys of each user. A tree, not a hash table: users choose the keys.
    pub(super) keys: SpreadMap<UserId, BTreeMap<ClientOrderId, OrderId>, RandomState>,
    pub(super) lists: Lists,
    pub(super) accounts: Accounts,
    /// Orders that wait for the exchange, with the time to query them. The grace is the same for
    /// all, so the queue is sorted by time.
    pub(super) watch: VecDeque<(TimestampMicros, OrderId)>,
}

/// Sets of orders by what they need.
#[derive(Debug, Default)]
pub(super) struct Lists {
    /// Open orders, oldest first.
    pub(super) open: BTreeSet<OrderId>,
    /// Orders whose reconciling query is unanswered.
    pub(super) unreconciled: BTreeSet<OrderId>,
    /// Scheduled queries about doubtful orders, and about orders that failed because the exchange
    /// did not know them. These orders may have left memory.
    pub(super) scheduled_queries: BTreeSet<(TimestampMicros, OrderId)>,
    /// Orders with open cases.
    pub(super) cases: BTreeSet<OrderId>,
}

/// The log changes an order that is not in memory: it ended before and is in the store, or the log
/// never created it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the log changes order {order_id}, which is not in memory")]
pub struct UnknownOrder {
    pub order_id: OrderId,
}

/// Context of one input.
pub(super) struct Turn<'a> {
    pub(super) now: TimestampMicros,
    pub(super) options: &'a EngineOptions,
    pub(super) feed: &'a FeedProgress,
    /// When the exchange last answered anything.
    pub(super) answered_at: TimestampMicros,
    /// The quarantine has no room for a first case of the order being worked on.
    pub(super) is_quarantine_full: bool,
    pub(super) out: &'a mut Outbox,
}

impl Default for Engine {
    fn default() -> Self {
        Self {
            orders: OrderMap::new(TABLES),
            keys: SpreadMap::new(TABLES),
            lists: Lists::default(),
            accounts: Accounts::default(),
            watch: VecDeque::new(),
        }
    }
}

/// Most orders that a check in debug builds walks through.
const MAX_WALKED: usize = 256;

impl Engine {
    /// Applies an event of the log, exactly as when it was new.
    ///
    /// # Errors
    /// The event is about an order that is not in memory.
    pub fn apply(&mut self, event: &Event) -> Result<(), UnknownOrder> {
        match event {
            Event::Created(created) => self.insert(created),
            Event::Changed(changed) => {
                let order_id = changed.order_id;
                let entry = self.orders.get_mut(&order_id).ok_or(UnknownOrder { order_id })?;
                let (_, effect) = booking::apply(&mut entry.tracked, changed);
                self.accounts.book(&mut entry.tracked, effect);
                list(entry, &mut self.lists);
            }
            Event::Adopted(adopted) => self.load(adopted.order.clone()),
            Event::CashMoved(moved) => self.accounts.move_cash(moved),
            Event::AccountAdopted(adopted) => {
                self.accounts.put(adopted.user.clone(), adopted.account.clone());
            }
            Event::AccountsBegun(_) => self.accounts.begin(),
            Event::UnmatchedReport(_) | Event::FeedPosition(_) => {}
        }
        Ok(())
    }

    /// The current version of an order, durable or not.
    pub fn order(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        let order = self.orders.get(&order_id).map(Entry::order);
        assert!(
            order.is_none_or(|order| order.order_id == order_id),
            "an order is kept under its own id"
        );
        order
    }

    /// An order with its executions and cases.
    pub(super) fn tracked(&self, order_id: OrderId) -> Option<&TrackedOrder> {
        self.orders.get(&order_id).map(|entry| &entry.tracked)
    }

    /// All orders, in no particular order.
    pub fn orders(&self) -> impl Iterator<Item = &Arc<Order>> {
        self.orders.values().map(Entry::order)
    }

    /// Number of open orders.
    pub fn open_orders(&self) -> usize {
        self.lists.open.len()
    }

    /// Whether every reconciling query is answered.
    pub(super) fn is_reconciled(&self) -> bool {
        self.lists.unreconciled.is_empty()
    }

    /// The order that a client's key names.
    pub(super) fn by_key(&self, user: &UserId, key: &ClientOrderId) -> Option<&Arc<Order>> {
        let order_id = self.keys.get(user)?.get(key)?;
        let order = self.order(*order_id)?;
        assert_eq!(order.user, *user, "a key names an order of its user");
        assert_eq!(order.client_order_id.as_ref(), Some(key), "an order has its key");
        Some(order)
    }

    /// Loads an order from the store. Its key stays in the store.
    pub fn load(&mut self, tracked: TrackedOrder) {
        let order_id = tracked.order().order_id;
        let mut entry = Entry::new(tracked);
        list(&mut entry, &mut self.lists);
        self.orders.insert(order_id, entry);
    }

    /// Drops an order from memory if it is idle and still at this version, which the store has.
    pub(super) fn forget(&mut self, order_id: OrderId, version: u64) -> Option<Arc<Order>> {
        let entry = self.orders.get(&order_id)?;
        if entry.order().version != version || !entry.is_idle() {
            return None;
        }
        let Some(entry) = self.orders.remove(&order_id) else {
            unreachable!("order {order_id} is in memory: it was looked at just now");
        };
        assert!(!entry.order().is_open(), "only an order that has ended leaves memory");
        let Underway { listed_open, listed_unreconciled, listed_case, .. } = entry.underway;
        assert!(
            !(listed_open || listed_unreconciled || listed_case),
            "an order leaves the lists before it leaves memory"
        );
        let lists = &self.lists;
        debug_assert!(!lists.open.contains(&order_id), "an idle order is not open");
        debug_assert!(!lists.unreconciled.contains(&order_id), "an idle order is reconciled");
        debug_assert!(!lists.cases.contains(&order_id), "an idle order has no open case");
        let order = Arc::clone(entry.order());
        if let Some(key) = &order.client_order_id
            && let Some(keys) = self.keys.get_mut(&order.user)
            && keys.get(key) == Some(&order_id)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.keys.remove(&order.user);
            }
        }
        Some(order)
    }

    /// Loads an account from the store.
    pub fn load_account(&mut self, user: UserId, account: Account) {
        self.accounts.put(user, account);
    }

    /// Accounts follow the orders, as they did when they were stored.
    pub fn keep_accounts(&mut self) {
        self.accounts.begin();
    }

    pub(super) fn insert(&mut self, created: &Created) {
        if let Some(key) = &created.client_order_id {
            // The map shares the user's name with the order.
            let keys = self.keys.get_or_insert(created.user.clone(), BTreeMap::new());
            keys.insert(key.clone(), created.order_id);
        }
        let mut entry = Entry::new(TrackedOrder::new(created));
        let effect = booking::created(&entry.tracked);
        self.accounts.book(&mut entry.tracked, effect);
        list(&mut entry, &mut self.lists);
        self.orders.insert(created.order_id, entry);
        debug_assert!(
            created.client_order_id.as_ref().is_none_or(|key| {
                self.by_key(&created.user, key).map(|order| order.order_id)
                    == Some(created.order_id)
            }),
            "a key names its order"
        );
    }

    /// Works on one order and applies the consequences. `None` if the order is not in memory.
    pub(super) fn with_order<R>(
        &mut self,
        order_id: OrderId,
        turn: &mut Turn<'_>,
        work: impl FnOnce(&mut Work<'_, '_>) -> R,
    ) -> Option<R> {
        let entry = self.orders.get_mut(&order_id)?;
        let version_before = entry.order().version;
        turn.is_quarantine_full =
            !entry.underway.listed_case && self.lists.cases.len() >= MAX_ORDERS_WITH_CASES;
        let accounts = &mut self.accounts;
        let result = work(&mut Work { entry: &mut *entry, accounts, turn: &mut *turn });
        assert!(entry.order().version >= version_before, "a version never goes back");
        assert_eq!(entry.order().order_id, order_id, "work on an order leaves it in its place");
        if entry.order().version != version_before {
            entry.answer_waiting(turn.out);
        }
        entry.send_cancel(turn.out);
        list(entry, &mut self.lists);
        watch(entry, &mut self.watch, turn);
        entry.assert_invariants();
        Some(result)
    }

    /// That accounts reserve what the open orders hold. Looks at all of them.
    fn debug_assert_accounts(&self) {
        if !self.accounts.are_kept() || self.accounts.iter().nth(MAX_WALKED).is_some() {
            return;
        }
        let mut held: HashMap<&UserId, Reserved> = HashMap::new();
        for entry in self.orders.values() {
            let order = entry.order();
            held.entry(&order.user).or_default().add(order.funds().held());
        }
        for (user, account) in self.accounts.iter() {
            let expected = held.remove(user).unwrap_or_default();
            debug_assert_eq!(
                Reserved::of(account),
                expected,
                "the account of {user} reserves what their open orders hold"
            );
            debug_assert!(account.is_balanced(), "the account of {user} is balanced");
        }
        debug_assert!(
            held.values().all(|held| *held == Reserved::default()),
            "who has an order that reserves has an account"
        );
    }

    /// That its lists name orders in memory, which belong there. Looks at all of them.
    pub(super) fn debug_assert_lists(&self) {
        // With more orders the walk would be most of the work, and it would find nothing else.
        if self.orders.values().nth(MAX_WALKED).is_some() {
            return;
        }
        let entry = |order_id: &OrderId| self.orders.get(order_id);
        debug_assert!(
            self.lists.open.iter().all(|id| entry(id).is_some_and(|e| e.order().is_open())),
            "listed orders are open"
        );
        debug_assert!(
            self.lists
                .unreconciled
                .iter()
                .all(|id| entry(id).is_some_and(|e| e.underway.unreconciled)),
            "listed orders are unreconciled"
        );
        debug_assert!(
            self.lists
                .cases
                .iter()
                .all(|id| entry(id).is_some_and(|e| !e.tracked.cases().is_empty())),
            "listed orders have open cases"
        );
        debug_assert!(
            self.orders.values().filter(|entry| entry.order().is_open()).count()
                == self.lists.open.len(),
            "every open order is listed"
        );
        debug_assert!(self.watch.iter().is_sorted_by_key(|(due, _)| due), "the queue is sorted");
        self.debug_assert_accounts();
    }
}

/// What is reserved, in cents and in shares by symbol.
#[derive(Debug, Default, PartialEq, Eq)]
struct Reserved {
    cents: i64,
    shares: BTreeMap<Symbol, i64>,
}

impl Reserved {
    fn of(account: &Account) -> Self {
        let shares =
            account.holdings().map(|(symbol, holding)| (symbol, holding.reserved_shares()));
        let shares = shares.filter(|(_, shares)| *shares != 0).collect();
        Self { cents: account.reserved_cents(), shares }
    }

    fn add(&mut self, held: Result<Held, Overflow>) {
        match held {
            Ok(Held::Cash(cents)) => self.cents += cents,
            Ok(Held::Shares(symbol, shares)) => {
                *self.shares.entry(symbol).or_default() += shares;
            }
            Ok(Held::Nothing) | Err(Overflow) => {}
        }
    }
}

/// Updates the sets of orders. Touches a set only when the order enters or leaves it.
pub(super) fn list(entry: &mut Entry, lists: &mut Lists) {
    let order_id = entry.order().order_id;
    let is_open = entry.order().is_open();
    let is_unreconciled = entry.underway.unreconciled;
    let has_cases = !entry.tracked.cases().is_empty();
    let sets = [
        (is_open, &mut entry.underway.listed_open, &mut lists.open),
        (is_unreconciled, &mut entry.underway.listed_unreconciled, &mut lists.unreconciled),
        (has_cases, &mut entry.underway.listed_case, &mut lists.cases),
    ];
    for (belongs, listed, set) in sets {
        if belongs == *listed {
            continue;
        }
        if belongs {
            set.insert(order_id);
        } else {
            let was_listed = set.remove(&order_id);
            assert!(was_listed, "a set has the orders that say so");
        }
        *listed = belongs;
    }
    let underway = &mut entry.underway;
    lists.scheduled_queries.extend(underway.extra_query_at.take().map(|at| (at, order_id)));
    if underway.next_query_at != underway.listed_query_at {
        if let Some(at) = underway.listed_query_at {
            let was_listed = lists.scheduled_queries.remove(&(at, order_id));
            assert!(was_listed, "a scheduled query is listed at its time");
        }
        if let Some(at) = underway.next_query_at {
            lists.scheduled_queries.insert((at, order_id));
        }
        underway.listed_query_at = underway.next_query_at;
    }
}

pub(super) fn watch(
    entry: &mut Entry,
    queue: &mut VecDeque<(TimestampMicros, OrderId)>,
    turn: &Turn<'_>,
) {
    if entry.needs_watch() && !entry.underway.watched {
        entry.underway.watched = true;
        let due = turn.now.saturating_add_micros(turn.options.grace_micros);
        assert!(queue.back().is_none_or(|(last, _)| *last <= due), "the queue is sorted by time");
        queue.push_back((due, entry.order().order_id));
    }
}

/// One order being worked on: records changes and the actions that follow.
pub(super) struct Work<'work, 'turn> {
    pub(super) entry: &'work mut Entry,
    pub(super) accounts: &'work mut Accounts,
    pub(super) turn: &'work mut Turn<'turn>,
}

impl Work<'_, '_> {
    pub(super) fn order(&self) -> &Arc<Order> {
        self.entry.order()
    }

    /// Applies a change and, if the order records it, appends it to the log.
    pub(super) fn record(&mut self, change: Change) {
        let was_terminal = self.order().status.is_terminal();
        let (version_before, events_before) = (self.order().version, self.turn.out.events.len());
        let order_id = self.order().order_id;
        let filled_before = self.order().filled_shares;
        let changed = Changed { order_id, at: self.turn.now, change };
        let (applied, effect) = booking::apply(&mut self.entry.tracked, &changed);
        let overdrawn_before = self.accounts.overdrawn();
        let booked = self.accounts.book(&mut self.entry.tracked, effect);
        let is_checked = self.turn.options.accounts.mode == AccountMode::Cash;
        if is_checked && self.accounts.overdrawn() > overdrawn_before {
            self.alert(Anomaly::Overdrawn);
        }
        if applied.recorded {
            self.entry.note_beside_query(&changed.change);
            let order = self.entry.order();
            let account = booked.and_then(|_| self.accounts.snapshot(&order.user));
            self.turn.out.record(Event::Changed(changed), order, account);
        }
        assert_eq!(
            self.order().version - version_before,
            (self.turn.out.events.len() - events_before) as u64,
            "every version is made by an event"
        );
        if let Some(anomaly) = applied.anomaly {
            self.alert(anomaly);
        }
        if booked.is_some_and(|booked| booked.is_beyond_account) {
            self.alert(Anomaly::BeyondAccount);
        }
        if !was_terminal && self.order().status.is_terminal() {
            self.entry.underway.ended_in = Some(self.turn.feed.place().0);
        }
        if was_terminal && !self.order().status.is_terminal() {
            // A late fill or a bust contradicts what the exchange reported before. Query until its
            // record tells whether anything is left to happen. The end may have been reported while
            // it changed nothing here, so the record must cover what the feed has brought.
            let (since, feed) = (self.turn.now, self.turn.feed.place());
            self.entry.underway.reconciling = Some(Reconciling { since, feed });
            self.entry.underway.unreconciled = true;
            self.entry.query_fresh(QueryReason::FollowUp, self.turn.now, self.turn.out);
        }
        let order = self.order();
        if order.filled_shares > order.num_shares && order.filled_shares > filled_before {
            // The exchange's record tells which executions do not count.
            self.entry.underway.unreconciled = true;
            self.entry.query_fresh(QueryReason::FollowUp, self.turn.now, self.turn.out);
        }
        let order = self.order();
        assert!(
            !applied.recorded || order.updated_at >= self.turn.now,
            "a change is recorded with its time"
        );
        assert!(
            !was_terminal || order.status.is_terminal() || self.entry.underway.unreconciled,
            "an order that is open again is reconciled"
        );
    }

    /// Schedules a query at this time, unless one is due earlier.
    pub(super) fn schedule_query(&mut self, at: TimestampMicros) {
        let underway = &mut self.entry.underway;
        let due = underway.next_query_at.map_or(at, |due| due.min(at));
        assert!(due <= at, "a scheduled query is never put off");
        underway.next_query_at = Some(due);
    }

    pub(super) fn alert(&mut self, anomaly: Anomaly) {
        let order_id = self.order().order_id;
        self.turn.out.effects.push(Effect::Alert(Alert::Order { order_id, anomaly }));
    }
}
