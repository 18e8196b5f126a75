//! Reads all orders of all users, at every step.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::durable::DurableLog;
use super::exchange::Exchange;
use super::invariant::{Checked, Invariant, broken, ensure};
use crate::index::Index;
use crate::oms::CommittedViews;
use crate::order::{Order, Status};
use crate::types::{OrderId, UserId};

/// The orders as last read.
#[derive(Default)]
pub(super) struct Readers {
    seen: BTreeMap<OrderId, Arc<Order>>,
}

impl Readers {
    /// Reads everything, and compares it with earlier reads, with what is durable, and with the
    /// exchange.
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

    /// Orders that were read before must be in memory or in the store.
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

    /// Compares an order with its earlier read.
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

    /// The versions of a user's orders as last read.
    pub(super) fn versions_of(&self, user: &UserId) -> BTreeMap<OrderId, u64> {
        let theirs = self.seen.values().filter(|order| order.user == *user);
        theirs.map(|order| (order.order_id, order.version)).collect()
    }

    /// An order as last read.
    pub(super) fn seen(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        self.seen.get(&order_id)
    }
}

/// Checks the step from an earlier read to this one.
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

/// A read version must be in the durable log.
fn check_durable(durable: &DurableLog, order: &Arc<Order>) -> Checked {
    let recorded = durable.version(order.order_id, order.version);
    ensure(recorded == Some(order), Invariant::SeenIsDurable, || {
        format!("{order:?} is read, durable is {recorded:?}")
    })
}

fn check_failed(exchange: &Exchange, order: &Order) -> Checked {
    // While records lag, an order may be called failed that is open at the exchange: it is found
    // and cancelled later.
    let lives = order.status == Status::Failed
        && exchange.is_accepted(order.order_id)
        && !exchange.may_report_unknown();
    ensure(!lives, Invariant::FailedForGood, || format!("{order:?}"))
}
