use std::sync::Arc;

use dashmap::DashMap;
use imbl::OrdMap;

use crate::order::Order;
use crate::types::{OrderId, UserId};

/// Parts of the table of views, each with its own lock and growing by itself: twenty million users
/// are 20,000 to a part, which moves within a few milliseconds.
const SHARDS: usize = 1_024;

/// What readers may see of the orders in memory: what is durable. One immutable view per user; a reader clones its `Arc`
/// and lets go at once.
#[derive(Debug, Clone)]
pub struct CommittedViews(Arc<DashMap<UserId, Arc<UserView>>>);

/// One user's orders in memory at one moment.
#[derive(Debug, Clone, Default)]
pub struct UserView {
    /// By id, which is by age: the last is the newest. A newer view shares all that did not
    /// change with this one.
    pub orders: OrdMap<OrderId, Arc<Order>>,
}

impl CommittedViews {
    /// No orders.
    pub fn new() -> Self {
        Self(Arc::new(DashMap::with_shard_amount(SHARDS)))
    }

    /// A user's orders in memory as they are now; `None` for a user without any.
    pub fn user(&self, user: &UserId) -> Option<Arc<UserView>> {
        self.0.get(user).map(|view| Arc::clone(&view))
    }

    /// Lets readers see an order. Only the orders thread publishes.
    pub(crate) fn publish(&self, order: Arc<Order>) {
        let mut view = match self.0.get_mut(&order.user) {
            Some(view) => view,
            None => self.0.entry(order.user.clone()).or_default(),
        };
        let before = Arc::make_mut(&mut view).orders.insert(order.order_id, Arc::clone(&order));
        debug_assert!(
            before.is_none_or(|before| before.version <= order.version),
            "a version never goes back for any reader"
        );
    }
}

impl CommittedViews {
    /// Takes an order out that readers find in the store, as it was last shown. Only the orders
    /// thread forgets.
    pub(super) fn forget(&self, order: &Order) {
        let is_last = match self.0.get_mut(&order.user) {
            None => false,
            Some(mut view) => {
                let shown = view.orders.get(&order.order_id).map(|shown| shown.version);
                if shown == Some(order.version) {
                    Arc::make_mut(&mut view).orders.remove(&order.order_id);
                }
                view.orders.is_empty()
            }
        };
        if is_last {
            self.0.remove_if(&order.user, |_, view| view.orders.is_empty());
        }
    }
}

impl Default for CommittedViews {
    fn default() -> Self {
        Self::new()
    }
}
