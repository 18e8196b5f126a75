//! What answers are compared with.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::durable::DurableLog;
use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken};
use crate::index::Index;
use crate::oms::{CommittedViews, UserView};
use crate::order::Order;
use crate::types::{ClientOrderId, OrderId, UserId};

/// What users were told.
#[derive(Default)]
pub(super) struct Told {
    /// Orders whose owners know that they are recorded.
    pub(super) acknowledged: BTreeMap<OrderId, UserId>,
    /// Refused orders: the log must not have them.
    pub(super) refused: BTreeSet<OrderId>,
    /// The order that each user's key names.
    pub(super) names: BTreeMap<(UserId, ClientOrderId), OrderId>,
}

/// The state that answers are compared with.
pub(super) struct CheckContext<'a> {
    pub(super) views: &'a CommittedViews,
    pub(super) index: &'a Index,
    pub(super) exchange: &'a Exchange,
    pub(super) durable: &'a DurableLog,
    /// Whether there is a reason to refuse requests: Postgres is awaited and lags, or a stop.
    pub(super) may_refuse: bool,
    /// Whether the disk is full.
    pub(super) is_full: bool,
    /// Whether the log's reserve is used up too.
    pub(super) is_exhausted: bool,
    /// Whether orders can be read: only once Postgres has what a start recovered.
    pub(super) is_readable: bool,
}

impl CheckContext<'_> {
    /// An order as a user would read it: from memory, otherwise from the store.
    pub(super) fn read(
        &self,
        view: Option<&UserView>,
        user: &UserId,
        order_id: OrderId,
    ) -> Checked<Option<Arc<Order>>> {
        if let Some(order) = view.and_then(|view| view.orders.get(&order_id)) {
            return Ok(Some(Arc::clone(order)));
        }
        let stored = self.index.order(user, order_id);
        let unreadable = |error| broken(Invariant::StoreFollows, format!("{error:?}"));
        Ok(stored.map_err(unreadable)?.map(|tracked| Arc::clone(tracked.order())))
    }
}
