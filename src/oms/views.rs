//! Committed orders in memory, as readers see them.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;
use dashmap::DashMap;
use dashmap::mapref::one::RefMut;
use imbl::OrdMap;

use crate::money::Account;
use crate::order::Order;
use crate::sync::{WaitError, Watermark};
use crate::types::{OrderId, TimestampMicros, USER_PARTITIONS, UserId, UserPartition};
use crate::wal::Lsn;

/// Shards of the table of views, each with its own lock and growing on its own: with twenty million
/// users a shard has 20,000, which are moved within a few milliseconds.
const SHARDS: usize = 1_024;

/// Most reads of the store that wait for memory to show as much: more than are in flight.
const MAX_WAITING_READS: usize = 65_536;

/// Refused cancels remembered: more than are answered in a moment.
const MAX_REFUSED_CANCELS: usize = 1_024;

/// The orders in memory that readers may see: durable state only. One immutable view per user; a
/// reader clones its `Arc` and releases the lock at once.
#[derive(Debug, Clone)]
pub struct CommittedViews(Arc<Views>);

#[derive(Debug)]
struct Views {
    users: DashMap<UserId, Arc<UserView>>,
    /// Readers of memory see everything in the log up to here.
    shown: Watermark,
    /// The time of the newest change that readers may have seen, in microseconds; at least that of the
    /// start. 0 if it is not known.
    shown_at: AtomicU64,
    /// No change of a user without a view is newer than this.
    forgotten: AtomicU64,
    /// Where each user partition came from another node; 0 if it never did.
    came: [AtomicU64; USER_PARTITIONS],
    /// A bit for each user partition that had open orders when that was last looked at.
    with_open_orders: AtomicU64,
    /// Whether reads are blocked.
    are_hidden: AtomicBool,
    /// The newest cancels that the exchange refused, oldest first, with its reasons: for the
    /// answers to them.
    refused_cancels: Mutex<VecDeque<(OrderId, CompactString)>>,
}

/// One user's orders in memory at one moment.
#[derive(Debug, Clone, Default)]
pub struct UserView {
    /// By id, which is by age: the last is the newest. A newer view shares everything that did not
    /// change with this one.
    pub orders: OrdMap<OrderId, Arc<Order>>,
    /// The user's account; `None` if it has not moved since they had no order in memory: then the
    /// store has it.
    pub account: Option<Arc<Account>>,
    /// The newest changes: all after [`changes_from`](Self::changes_from), oldest first. Few, and
    /// none once the store has them: those of this user's last second or two.
    pub(super) changes: Vec<(Lsn, Arc<Order>)>,
    /// Every change after this position is among [`changes`](Self::changes).
    pub(super) changes_from: Lsn,
    /// The last change in this view; 0 if it came from before the start.
    pub(super) changed: Lsn,
    /// The last record that moved the account, or a later one; 0 if it has not moved since the view began.
    pub(super) account_moved: Lsn,
    /// The last cash movement that the store may lack; 0 if it has all.
    pub(super) cash_moved: Lsn,
}

impl CommittedViews {
    /// No orders.
    pub fn new() -> Self {
        Self::since(Lsn(0))
    }

    /// No orders yet, for a log up to this position.
    pub(super) fn since(last: Lsn) -> Self {
        Self(Arc::new(Views {
            users: DashMap::with_shard_amount(SHARDS),
            shown: Watermark::new(last.0, MAX_WAITING_READS),
            shown_at: AtomicU64::new(0),
            forgotten: AtomicU64::new(last.0),
            came: [const { AtomicU64::new(0) }; USER_PARTITIONS],
            with_open_orders: AtomicU64::new(u64::MAX),
            are_hidden: AtomicBool::new(false),
            refused_cancels: Mutex::default(),
        }))
    }

    /// Remembers for a while why the exchange refused a cancel.
    pub(super) fn note_refused_cancel(&self, order_id: OrderId, reason: CompactString) {
        let mut refused = self.refused_cancels();
        if refused.len() == MAX_REFUSED_CANCELS {
            refused.pop_front();
        }
        refused.push_back((order_id, reason));
        assert!(refused.len() <= MAX_REFUSED_CANCELS, "refused cancels are bounded");
    }

    /// Why the exchange refused the last cancel of an order. `None` if that was too long ago; ask
    /// before answering the cancel.
    pub fn refused_cancel(&self, order_id: OrderId) -> Option<CompactString> {
        let refused = self.refused_cancels();
        let newest = refused.iter().rev().find(|(of, _)| *of == order_id);
        newest.map(|(_, reason)| reason.clone())
    }

    fn refused_cancels(&self) -> MutexGuard<'_, VecDeque<(OrderId, CompactString)>> {
        self.0.refused_cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's orders in memory; `None` for a user without any.
    pub fn user(&self, user: &UserId) -> Option<Arc<UserView>> {
        self.0.users.get(user).map(|view| Arc::clone(&view))
    }

    /// Notes which user partitions have open orders.
    pub(super) fn note_open_orders(&self, has_any: impl Fn(UserPartition) -> bool) {
        let with_any = UserPartition::all().filter(|partition| has_any(*partition));
        let bits = with_any.fold(0, |bits, partition| bits | 1 << partition.get());
        self.0.with_open_orders.store(bits, Ordering::Relaxed);
    }

    /// Whether a user partition had open orders about a second ago.
    pub fn has_open_orders(&self, partition: UserPartition) -> bool {
        self.0.with_open_orders.load(Ordering::Relaxed) & (1 << partition.get()) != 0
    }

    /// Whether nobody may read these orders, nor those in the store: with `--commit postgres`,
    /// until Postgres has everything that a restart recovered.
    pub fn are_hidden(&self) -> bool {
        self.0.are_hidden.load(Ordering::Acquire)
    }

    /// Blocks reads until the orders thread allows them. For a start whose readers begin before the
    /// orders thread.
    pub fn hide(&self) {
        self.0.are_hidden.store(true, Ordering::Release);
    }

    /// Allows reads. Only the orders thread calls this.
    pub(super) fn reveal(&self) {
        self.0.are_hidden.store(false, Ordering::Release);
    }

    /// Readers see everything in the log up to here. Loaded before a view, it is a lower bound of
    /// what the view contains.
    pub(super) fn shown(&self) -> Lsn {
        Lsn(self.0.shown.get())
    }

    /// Waits until readers see everything up to here.
    ///
    /// # Errors
    /// [`WaitError::TooMany`].
    pub(super) async fn shows(&self, upto: Lsn) -> Result<(), WaitError> {
        match upto.0.checked_sub(1) {
            Some(before) => self.0.shown.beyond(before).await.map(drop),
            None => Ok(()),
        }
    }

    /// A time before which no later change is: every change of a view that is loaded after this call,
    /// and is not in it, has this time or a later one. `None` if it is not known.
    pub(super) fn shown_at(&self) -> Option<TimestampMicros> {
        let micros = self.0.shown_at.load(Ordering::Acquire);
        (micros > 0).then(|| TimestampMicros::new(micros))
    }

    /// All changes to come have this time or a later one.
    pub(super) fn note_time(&self, at: TimestampMicros) {
        self.0.shown_at.fetch_max(at.micros(), Ordering::Release);
    }

    /// No change of a user without a view is newer than this. Load it after the view was found
    /// missing.
    pub(super) fn forgotten(&self) -> Lsn {
        Lsn(self.0.forgotten.load(Ordering::Acquire))
    }

    /// A user partition has come from another node: the log up to here lacks what happened there. Only
    /// the orders thread calls this.
    pub(super) fn note_coming(&self, partition: UserPartition, last: Lsn) {
        let before = self.came_of(partition).swap(last.0, Ordering::AcqRel);
        assert!(before <= last.0, "a partition comes again later in the log");
    }

    fn came_of(&self, partition: UserPartition) -> &AtomicU64 {
        let Some(came) = self.0.came.get(partition.index()) else {
            unreachable!("every partition has a place: {partition:?}");
        };
        came
    }

    /// Where a user's partition came from another node: the log up to here may lack changes.
    pub(super) fn came(&self, user: &UserId) -> Lsn {
        Lsn(self.came_of(user.partition()).load(Ordering::Acquire))
    }

    /// Publishes the account of a user as this record left it, together with an order of theirs. Only the orders thread
    /// publishes.
    pub(crate) fn publish_account(&self, user: &UserId, account: Arc<Account>, lsn: Lsn) {
        let mut view = self.view_mut(user);
        let version = account.version();
        let view = Arc::make_mut(&mut view);
        view.account_moved = view.account_moved.max(lsn);
        let before = view.account.replace(account);
        assert!(
            before.is_none_or(|before| before.version() <= version),
            "an account never goes back for any reader"
        );
    }

    /// Publishes an account that this cash movement has moved. Only the orders thread publishes.
    pub(super) fn publish_moved_account(&self, user: &UserId, account: Arc<Account>, lsn: Lsn) {
        self.publish_account(user, account, lsn);
        Arc::make_mut(&mut self.view_mut(user)).cash_moved = lsn;
    }

    /// The view of a user, who gets one.
    fn view_mut(&self, user: &UserId) -> RefMut<'_, UserId, Arc<UserView>> {
        match self.0.users.get_mut(user) {
            Some(view) => view,
            None => self.0.users.entry(user.clone()).or_insert_with(|| {
                let changes_from = Lsn(self.0.forgotten.load(Ordering::Relaxed));
                Arc::new(UserView { changes_from, ..UserView::default() })
            }),
        }
    }

    /// Publishes an order in a state that was public before. Only the orders thread publishes.
    pub(crate) fn publish(&self, order: Arc<Order>) {
        self.change(order, |_, _| {});
    }

    /// Publishes a new version of an order, made by this record of the log, and keeps the user's
    /// newest `max_recent` changes. Only the orders thread publishes, in log order.
    pub(super) fn publish_change(&self, order: Arc<Order>, lsn: Lsn, max_recent: usize) {
        assert!(max_recent > 0, "memory keeps a change until the store has it");
        let at = order.updated_at;
        self.change(order, |view, order| {
            assert!(view.changed < lsn, "changes are published in log order");
            if view.changes.len() == max_recent {
                let (oldest, _) = view.changes.remove(0);
                view.changes_from = oldest;
            }
            view.changes.push((lsn, order));
            view.changed = lsn;
            assert!(view.changes.len() <= max_recent, "recent changes are bounded");
            view.assert_changes();
        });
        // After the view: who sees the time sees the change.
        self.note_time(at);
    }

    fn change(&self, order: Arc<Order>, note: impl FnOnce(&mut UserView, Arc<Order>)) {
        let mut view = self.view_mut(&order.user);
        let view = Arc::make_mut(&mut view);
        note(view, Arc::clone(&order));
        let version = order.version;
        let before = view.orders.insert(order.order_id, order);
        assert!(
            before.is_none_or(|before| before.version <= version),
            "a version never goes back for any reader"
        );
    }
}

impl CommittedViews {
    /// Declares that readers see everything in the log up to here. Only the orders thread calls
    /// this.
    pub(super) fn show(&self, upto: Lsn) {
        self.0.shown.advance(upto.0);
        assert!(self.shown() >= upto, "what is shown is seen");
    }

    /// Removes an order that readers find in the store in its last published state. Only the orders
    /// thread calls this.
    pub(super) fn forget(&self, order: &Order) {
        let is_last = match self.0.users.get_mut(&order.user) {
            None => false,
            Some(mut view) => {
                let shown = view.orders.get(&order.order_id).map(|shown| shown.version);
                assert!(
                    shown.is_none_or(|shown| shown >= order.version),
                    "readers see what memory forgets, or later"
                );
                if shown == Some(order.version) {
                    Arc::make_mut(&mut view).orders.remove(&order.order_id);
                }
                self.is_needless(&view)
            }
        };
        if is_last {
            self.0.users.remove_if(&order.user, |_, view| view.has_nothing());
        }
    }

    /// Whether readers find everything in the store that a view has.
    fn is_needless(&self, view: &UserView) -> bool {
        if view.has_nothing() {
            // Before the view is removed: a reader that finds none then knows what may be missing.
            self.0.forgotten.fetch_max(view.newest().0, Ordering::Release);
        }
        view.has_nothing()
    }

    /// Removes a user whom another node serves from now on. Only the orders thread calls this.
    pub(super) fn drop_user(&self, user: &UserId) {
        if let Some(view) = self.0.users.get(user) {
            self.0.forgotten.fetch_max(view.newest().0, Ordering::Release);
        }
        self.0.users.remove(user);
    }

    /// Forgets the changes of a user that the store has: all up to this position. Only the orders
    /// thread calls this.
    pub(super) fn forget_changes(&self, user: &UserId, stored: Lsn) {
        // The user's last order has left memory.
        let Some(mut view) = self.0.users.get_mut(user) else { return };
        if view.cash_moved > Lsn(0) && view.cash_moved <= stored {
            Arc::make_mut(&mut view).cash_moved = Lsn(0);
            if self.is_needless(&view) {
                drop(view);
                self.0.users.remove_if(user, |_, view| view.has_nothing());
                return;
            }
        }
        let count = view.changes.partition_point(|(lsn, _)| *lsn <= stored);
        // Forgotten already, with an earlier change.
        let Some(&(last, _)) = count.checked_sub(1).and_then(|last| view.changes.get(last)) else {
            return;
        };
        assert!(last <= stored, "only what the store has is forgotten");
        let view = Arc::make_mut(&mut view);
        view.changes_from = last;
        if count == view.changes.len() {
            // Frees the memory: most users have no newer change for a long time.
            view.changes = Vec::new();
        } else {
            view.changes.drain(..count);
        }
        view.assert_changes();
    }
}

impl UserView {
    /// The last record in this view; 0 if it came from before the start.
    pub(super) fn newest(&self) -> Lsn {
        self.changed.max(self.account_moved)
    }

    /// Whether it has nothing that the store lacks: an account moves with an order of the view, or with
    /// cash.
    fn has_nothing(&self) -> bool {
        self.orders.is_empty() && self.cash_moved == Lsn(0)
    }

    /// What holds between the recent changes and the positions that they lie between.
    pub(super) fn assert_changes(&self) {
        let (oldest, newest) = (self.changes.first(), self.changes.last());
        assert!(
            oldest.is_none_or(|(lsn, _)| self.changes_from < *lsn),
            "recent changes follow what has been forgotten"
        );
        assert!(
            newest.is_none_or(|(lsn, _)| *lsn == self.changed),
            "the last change is the newest"
        );
        let before = self.changes.iter().rev().nth(1);
        assert!(
            before.zip(newest).is_none_or(|((before, _), (newest, _))| before < newest),
            "changes are kept in log order"
        );
    }
}

impl Default for CommittedViews {
    fn default() -> Self {
        Self::new()
    }
}
