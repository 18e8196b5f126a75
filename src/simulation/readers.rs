//! What users read, at every step: all orders of everybody.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::durable::DurableLog;
use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken, ensure};
use crate::index::Index;
use crate::oms::CommittedViews;
use crate::order::{Order, Status};
use crate::types::{OrderId, UserId};

/// What was read last.
#[derive(Default)]
pub(super) struct Readers {
    seen: BTreeMap<OrderId, Arc<Order>>,
}

impl Readers {
    /// Reads everything, and compares it with what was read before, with what is durable and with
    /// what the exchange says.
    pub(super) fn read_all(
        &mut self,
        users: &[UserId],
        (views, index): (&CommittedViews, &Index),
        (durable, exchange): (&DurableLog, &Exchange),
    ) -> Checked {
        let mut in_memory = 0;
        for user in users {
            let Some(view) = views.user(user) else { continue };
            for order in view.orders.values() {
                in_memory += 1;
                ensure(order.user == *user, Invariant::UsersIndependent, || {
                    format!("{user} reads {order:?}")
                })?;
                self.read(order, durable, exchange)?;
            }
        }
        if in_memory < self.seen.len() {
            self.read_forgotten((views, index), durable, exchange)?;
        }
        Ok(())
    }

    /// What has been read is in memory or in the store for good.
    fn read_forgotten(
        &mut self,
        (views, index): (&CommittedViews, &Index),
        durable: &DurableLog,
        exchange: &Exchange,
    ) -> Checked {
        let is_in_memory = |order: &Order| {
            views.user(&order.user).is_some_and(|view| view.orders.contains_key(&order.order_id))
        };
        let forgotten: Vec<Arc<Order>> =
            self.seen.values().filter(|order| !is_in_memory(order)).map(Arc::clone).collect();
        for seen in forgotten {
            let stored = index.order(&seen.user, seen.order_id);
            let stored = stored
                .map_err(|error| broken(Invariant::StoreFollows, format!("{error:?}")))?
                .ok_or_else(|| {
                    broken(Invariant::SeenSurvives, format!("nobody can read {seen:?} any more"))
                })?;
            self.read(stored.order(), durable, exchange)?;
        }
        Ok(())
    }

    /// Compares an order as it is read with what was read before.
    fn read(&mut self, order: &Arc<Order>, durable: &DurableLog, exchange: &Exchange) -> Checked {
        let before = self.seen.get(&order.order_id);
        if before.is_some_and(|before| Arc::ptr_eq(before, order) || before == order) {
            return Ok(());
        }
        check_step(before, order, durable)?;
        check_durable(durable, order)?;
        durable.check_in_postgres(order)?;
        check_failed(exchange, order)?;
        self.seen.insert(order.order_id, Arc::clone(order));
        Ok(())
    }

    /// The versions of a user's orders that were read.
    pub(super) fn versions_of(&self, user: &UserId) -> BTreeMap<OrderId, u64> {
        let theirs = self.seen.values().filter(|order| order.user == *user);
        theirs.map(|order| (order.order_id, order.version)).collect()
    }

    /// An order as it was read last.
    pub(super) fn seen(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        self.seen.get(&order_id)
    }
}

/// From what was read before to what is read now.
fn check_step(before: Option<&Arc<Order>>, order: &Arc<Order>, durable: &DurableLog) -> Checked {
    let Some(before) = before else { return Ok(()) };
    ensure(before.version <= order.version, Invariant::VersionNeverBack, || {
        format!("{before:?} was read, then {order:?}")
    })?;
    let is_same = before.version < order.version || before == order;
    ensure(is_same, Invariant::VersionNeverBack, || {
        format!("one version was read as {before:?} and as {order:?}")
    })?;
    let reopened = before.status.is_terminal() && before.status != order.status;
    let is_refilled = durable.was_refilled_since(order.order_id, before.version);
    let has_cause = is_refilled || before.is_stray();
    ensure(!reopened || has_cause, Invariant::TerminalStays, || {
        format!("{before:?} was read, then {order:?}")
    })
}

/// What is read is a version that the durable log has.
fn check_durable(durable: &DurableLog, order: &Arc<Order>) -> Checked {
    let recorded = durable.version(order.order_id, order.version);
    ensure(recorded == Some(order), Invariant::SeenIsDurable, || {
        format!("{order:?} is read, durable is {recorded:?}")
    })
}

fn check_failed(exchange: &Exchange, order: &Order) -> Checked {
    // Where records lag an order may be called failed that lives: it is found and taken back.
    let lives = order.status == Status::Failed
        && exchange.is_accepted(order.order_id)
        && !exchange.may_seem_unknown();
    ensure(!lives, Invariant::FailedForGood, || format!("{order:?}"))
}
