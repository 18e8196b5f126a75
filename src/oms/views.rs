use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use compact_str::CompactString;
use dashmap::DashMap;
use imbl::OrdMap;

use crate::order::Order;
use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

/// Parts of the table of views, each with its own lock and growing by itself: twenty million users
/// are 20,000 to a part, which moves within a few milliseconds.
const SHARDS: usize = 1_024;

/// Refused cancels that are remembered: more than are answered in a moment.
const MAX_REFUSED_CANCELS: usize = 1_024;

/// What readers may see of the orders in memory: what is durable. One immutable view per user; a reader clones its `Arc`
/// and lets go at once.
#[derive(Debug, Clone)]
pub struct CommittedViews(Arc<Views>);

#[derive(Debug)]
struct Views {
    users: DashMap<UserId, Arc<UserView>>,
    /// Readers of memory see what the log says up to here.
    shown: AtomicU64,
    /// No change of a user without a view is newer than this.
    forgotten: AtomicU64,
    /// Whether nobody may read any of it yet.
    are_hidden: AtomicBool,
    /// The newest cancels that the exchange refused, oldest first, and its reasons: for whoever
    /// answers them.
    refused_cancels: Mutex<VecDeque<(OrderId, CompactString)>>,
}

/// One user's orders in memory at one moment.
#[derive(Debug, Clone, Default)]
pub struct UserView {
    /// By id, which is by age: the last is the newest. A newer view shares all that did not
    /// change with this one.
    pub orders: OrdMap<OrderId, Arc<Order>>,
    /// The newest changes: all behind [`changes_from`](Self::changes_from), oldest first. Few, and
    /// none once the store has them: a second or two of this user's life.
    pub(super) changes: Vec<(Lsn, Arc<Order>)>,
    /// Every change behind this record of the log is among [`changes`](Self::changes).
    pub(super) changes_from: Lsn,
    /// The last change that is in this view; 0 where it came from before the start.
    pub(super) changed: Lsn,
}

impl CommittedViews {
    /// No orders.
    pub fn new() -> Self {
        Self::since(Lsn(0))
    }

    /// No orders yet, of a log up to this record.
    pub(super) fn since(last: Lsn) -> Self {
        Self(Arc::new(Views {
            users: DashMap::with_shard_amount(SHARDS),
            shown: AtomicU64::new(last.0),
            forgotten: AtomicU64::new(last.0),
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
    }

    /// Why the exchange refused the last cancel of an order. `None` where that was too long ago, for
    /// whoever asks before the answer goes out.
    pub fn refused_cancel(&self, order_id: OrderId) -> Option<CompactString> {
        let refused = self.refused_cancels();
        let newest = refused.iter().rev().find(|(of, _)| *of == order_id);
        newest.map(|(_, reason)| reason.clone())
    }

    fn refused_cancels(&self) -> MutexGuard<'_, VecDeque<(OrderId, CompactString)>> {
        self.0.refused_cancels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A user's orders in memory as they are now; `None` for a user without any.
    pub fn user(&self, user: &UserId) -> Option<Arc<UserView>> {
        self.0.users.get(user).map(|view| Arc::clone(&view))
    }

    /// Whether nobody may read them, nor what the store has: where Postgres is awaited, a restart has
    /// recovered what it lacks until it has all of that.
    pub fn are_hidden(&self) -> bool {
        self.0.are_hidden.load(Ordering::Acquire)
    }

    /// Keeps them from readers until the orders thread shows them. For whoever starts readers before
    /// the orders thread.
    pub fn hide(&self) {
        self.0.are_hidden.store(true, Ordering::Release);
    }

    /// Lets readers see them. Only the orders thread does.
    pub(super) fn reveal(&self) {
        self.0.are_hidden.store(false, Ordering::Release);
    }

    /// Readers see everything that the log says up to here. Looked at before a view, it says what is
    /// in there at least.
    pub(super) fn shown(&self) -> Lsn {
        Lsn(self.0.shown.load(Ordering::Acquire))
    }

    /// No change of a user without a view is newer than this. Looked at after the view was found
    /// missing.
    pub(super) fn forgotten(&self) -> Lsn {
        Lsn(self.0.forgotten.load(Ordering::Acquire))
    }

    /// Lets readers see an order as it has been before. Only the orders thread publishes.
    pub(crate) fn publish(&self, order: Arc<Order>) {
        self.change(order, |_, _| {});
    }

    /// Lets readers see a new version of an order, which this record of the log has made, and keeps
    /// the user's newest `max_recent` changes. Only the orders thread publishes, in the order of the
    /// log.
    pub(super) fn publish_change(&self, order: Arc<Order>, lsn: Lsn, max_recent: usize) {
        self.change(order, |view, order| {
            debug_assert!(view.changed < lsn, "changes are published in the order of the log");
            if view.changes.len() == max_recent {
                let (oldest, _) = view.changes.remove(0);
                view.changes_from = oldest;
            }
            view.changes.push((lsn, order));
            view.changed = lsn;
        });
    }

    fn change(&self, order: Arc<Order>, note: impl FnOnce(&mut UserView, Arc<Order>)) {
        let mut view = match self.0.users.get_mut(&order.user) {
            Some(view) => view,
            None => self.0.users.entry(order.user.clone()).or_insert_with(|| {
                let changes_from = Lsn(self.0.forgotten.load(Ordering::Relaxed));
                Arc::new(UserView { changes_from, ..UserView::default() })
            }),
        };
        let view = Arc::make_mut(&mut view);
        note(view, Arc::clone(&order));
        let version = order.version;
        let before = view.orders.insert(order.order_id, order);
        debug_assert!(
            before.is_none_or(|before| before.version <= version),
            "a version never goes back for any reader"
        );
    }
}

impl CommittedViews {
    /// Says that readers see everything that the log says up to here. Only the orders thread does.
    pub(super) fn show(&self, upto: Lsn) {
        self.0.shown.store(upto.0, Ordering::Release);
    }

    /// Takes an order out that readers find in the store, as it was last shown. Only the orders
    /// thread forgets.
    pub(super) fn forget(&self, order: &Order) {
        let is_last = match self.0.users.get_mut(&order.user) {
            None => false,
            Some(mut view) => {
                let shown = view.orders.get(&order.order_id).map(|shown| shown.version);
                if shown == Some(order.version) {
                    Arc::make_mut(&mut view).orders.remove(&order.order_id);
                }
                if view.orders.is_empty() {
                    // Before the view goes: who finds none then knows what may be missing.
                    self.0.forgotten.fetch_max(view.changed.0, Ordering::Release);
                }
                view.orders.is_empty()
            }
        };
        if is_last {
            self.0.users.remove_if(&order.user, |_, view| view.orders.is_empty());
        }
    }

    /// Forgets the changes of a user that the store has: all up to this record of the log. Only the
    /// orders thread does.
    pub(super) fn forget_changes(&self, user: &UserId, stored: Lsn) {
        let Some(mut view) = self.0.users.get_mut(user) else { return };
        let count = view.changes.partition_point(|(lsn, _)| *lsn <= stored);
        let Some(&(last, _)) = count.checked_sub(1).and_then(|last| view.changes.get(last)) else {
            return;
        };
        let view = Arc::make_mut(&mut view);
        view.changes_from = last;
        if count == view.changes.len() {
            // Gives the memory back: most users have no newer one for a long time.
            view.changes = Vec::new();
        } else {
            view.changes.drain(..count);
        }
    }
}

impl Default for CommittedViews {
    fn default() -> Self {
        Self::new()
    }
}
