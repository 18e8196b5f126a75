//! A cache of the open orders that changed last.

use std::collections::HashMap;
use std::mem;

use crate::order::TrackedOrder;
use crate::types::OrderId;

/// Orders in each of the two generations. 10,400 new orders/s stay open for some seconds, and most
/// changes come in that time. About 700 bytes each, so at most 90 MB.
const GENERATION_ORDERS: usize = 65_536;

/// Open orders as the store has them, of those that changed last. Most orders change again soon,
/// and then need not be read and decoded.
#[derive(Default)]
pub(super) struct RecentOrders {
    young: HashMap<OrderId, TrackedOrder>,
    old: HashMap<OrderId, TrackedOrder>,
}

impl RecentOrders {
    /// Removes an order, to change it.
    pub(super) fn take(&mut self, order_id: OrderId) -> Option<TrackedOrder> {
        self.young.remove(&order_id).or_else(|| self.old.remove(&order_id))
    }

    /// Keeps an order until many others have followed.
    pub(super) fn keep(&mut self, order_id: OrderId, tracked: TrackedOrder) {
        if self.young.len() >= GENERATION_ORDERS {
            self.old = mem::take(&mut self.young);
        }
        assert!(!self.old.contains_key(&order_id), "an order is taken before it changes");
        let before = self.young.insert(order_id, tracked);
        assert!(before.is_none(), "an order is taken before it changes");
    }
}
