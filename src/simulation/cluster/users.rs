//! Users: what they ask for and of whom, and what they have been told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::engine::{CancelReply, CreateReply};
use crate::oms::CreateOrder;
use crate::order::Order;
use crate::simulation::invariant::{Checked, Invariant, ensure};
use crate::types::{ClientOrderId, OrderId, UserId};
use crate::wal::Lsn;

/// A request whose key was looked up in Postgres and is not used there.
pub(super) struct KeyChecked {
    pub(super) epoch: i64,
    pub(super) request: CreateOrder,
    pub(super) checked_at: Lsn,
}

/// An answer that comes.
pub(super) enum Reply {
    Create(CreateOrder, oneshot::Receiver<CreateReply>),
    Cancel(oneshot::Receiver<CancelReply>),
}

/// A user who waits for an answer of a process.
pub(super) struct Waiting {
    pub(super) epoch: i64,
    pub(super) user: UserId,
    pub(super) reply: Reply,
    /// The versions that were read before the request.
    pub(super) seen: BTreeMap<OrderId, u64>,
}

/// All users.
pub(super) struct Users {
    pub(super) names: Vec<UserId>,
    pub(super) keyed: Vec<CreateOrder>,
    pub(super) orders: Vec<(UserId, OrderId)>,
    pub(super) checked: Vec<KeyChecked>,
    pub(super) waiting: Vec<Waiting>,
    pub(super) keys: BTreeMap<(UserId, ClientOrderId), OrderId>,
    /// Refused orders: nobody may have them.
    pub(super) refused: BTreeSet<OrderId>,
    /// The newest version of each order that anybody was shown.
    pub(super) seen: BTreeMap<OrderId, Arc<Order>>,
}

impl Users {
    pub(super) fn new(count: usize) -> Self {
        let names = (0..count).filter_map(|number| UserId::new(&format!("user-{number}")).ok());
        Self {
            names: names.collect(),
            keyed: Vec::new(),
            orders: Vec::new(),
            checked: Vec::new(),
            waiting: Vec::new(),
            keys: BTreeMap::new(),
            refused: BTreeSet::new(),
            seen: BTreeMap::new(),
        }
    }

    pub(super) fn waiting_count(&self) -> usize {
        self.waiting.len() + self.checked.len()
    }

    /// A process has ended: its connections are cut.
    pub(super) fn cut(&mut self, epoch: i64) {
        self.checked.retain(|checked| checked.epoch != epoch);
        self.waiting.retain(|waiting| waiting.epoch != epoch);
    }

    /// Somebody is shown an order, not older than anybody was shown before.
    pub(super) fn see(&mut self, order: &Arc<Order>) -> Checked {
        if let Some(before) = self.seen.get(&order.order_id) {
            if Arc::ptr_eq(before, order) {
                return Ok(());
            }
            let is_newer = before.version < order.version
                || (before.version == order.version && before == order);
            ensure(is_newer, Invariant::VersionNeverBack, || {
                format!("{before:?} was shown, then {order:?}")
            })?;
        }
        self.seen.insert(order.order_id, Arc::clone(order));
        Ok(())
    }

    /// The versions of a user's orders that anybody was shown.
    pub(super) fn versions_of(&self, user: &UserId) -> BTreeMap<OrderId, u64> {
        let theirs = self.seen.values().filter(|order| order.user == *user);
        theirs.map(|order| (order.order_id, order.version)).collect()
    }
}
