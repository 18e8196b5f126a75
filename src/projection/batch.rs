//! From records of the log to the rows of one transaction: pure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::days::Day;
use super::rows::{EventRows, ExecutionRow, ExecutionRows, ExternalRows, OrderRows};
use super::working_set::WorkingSet;
use crate::order::{
    Change, Changed, Event, ExecutionEffect, FeedPosition, OrderParts, TrackedOrder,
};
use crate::types::{ExecutionId, OrderId, TimestampMicros, UserPartition};
use crate::wal::{LogId, Lsn};

/// The rows of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The last record that it covers.
    pub(super) last: Lsn,
    /// The partitions that take note of that; if there are none, all of the server. Those that nothing
    /// has happened to may take note later: to move all takes Postgres as long as a few orders.
    pub(super) touched: BTreeSet<UserPartition>,
    /// Whether these are all that go on.
    pub(super) notes_all: bool,
    /// Whether nobody can have written any of its records before: its events and new orders need
    /// not be looked for in the tables.
    pub(super) is_new: bool,
    /// Where it is not what follows from what is there: how it takes the place of that.
    pub(super) copy: Option<Copy>,
    /// Orders that its records made.
    pub(super) new_orders: OrderRows,
    /// Orders that were there before, or may have been.
    pub(super) orders: OrderRows,
    /// Executions that its records tell of for the first time.
    pub(super) new_executions: ExecutionRows,
    /// Executions that earlier records have told of, or may have.
    pub(super) executions: ExecutionRows,
    pub(super) external: ExternalRows,
    pub(super) events: EventRows,
    pub(super) feed: Option<(Lsn, FeedPosition)>,
    /// The days that events are of: their partitions have to be there.
    pub(super) days: BTreeSet<Day>,
    /// How long after its creation the first change of an order came.
    pub(super) outcome_ages_micros: Vec<u64>,
    /// When each event was noted, for the lag.
    pub(super) noted_at: Vec<TimestampMicros>,
}

/// What rows of a copy are made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// The log, from the beginning of each order.
    Events,
    /// The index, which has each order as it stands.
    Orders,
}

impl Batch {
    /// Rows of all tables.
    pub(super) fn rows(&self) -> usize {
        let orders = self.new_orders.len() + self.orders.len();
        let executions = self.new_executions.len() + self.executions.len();
        orders + executions + self.external.len() + self.events.len()
    }

    /// Whether there is nothing to write but how far the log was read.
    pub(super) fn is_empty(&self) -> bool {
        self.events.is_empty() && self.feed.is_none()
    }
}

/// The orders that these events change and that are neither in the working set nor made by them.
pub(super) fn missing(events: &[(Lsn, Event)], working: &WorkingSet) -> Vec<OrderId> {
    let mut made = HashSet::new();
    let mut missing = Vec::new();
    for (_, event) in events {
        match event {
            Event::Created(created) => drop(made.insert(created.order_id)),
            Event::Changed(Changed { order_id, .. }) => {
                if !working.has(*order_id) && made.insert(*order_id) {
                    missing.push(*order_id);
                }
            }
            Event::UnmatchedReport(_) | Event::FeedPosition(_) => {}
        }
    }
    missing
}

/// An event about an order that neither the log nor Postgres has told of.
#[derive(Debug, thiserror::Error)]
#[error("record {lsn} changes order {order_id}, which Postgres does not have")]
pub(super) struct UnknownOrder {
    pub(super) lsn: Lsn,
    pub(super) order_id: OrderId,
}

/// What a batch does to executions.
type ExecutionsByOrder = BTreeMap<(OrderId, ExecutionId), ExecutionRow>;

/// Takes note of what a change has done to an execution that its order knew before, or did not.
fn note_effect(
    executions: &mut ExecutionsByOrder,
    order_id: OrderId,
    (effect, was_known): (ExecutionEffect, bool),
    at: TimestampMicros,
) {
    let first = ExecutionRow { was_known, recorded_at: at, ..ExecutionRow::default() };
    let row = executions.entry((order_id, effect.execution_id().clone())).or_insert(first);
    match effect {
        ExecutionEffect::Counts(fill) => {
            row.counted = Some((fill.num_shares, fill.price.cents(), fill.executed_at));
            row.busted_at = None;
            row.taken_back = false;
        }
        ExecutionEffect::Void { taken_back, .. } => {
            row.busted_at = Some(at);
            row.taken_back = taken_back;
        }
    }
}

/// Applies events to the working set and makes rows of what comes out. The changes of one order
/// become one row of `orders`, and one row each of `order_events`. Up to `written` somebody may have
/// written them before.
pub(super) fn build(
    log_id: LogId,
    events: &[(Lsn, Event)],
    working: &mut WorkingSet,
    written: Lsn,
) -> Result<Batch, UnknownOrder> {
    let is_new = events.first().is_some_and(|(lsn, _)| *lsn > written);
    let mut batch = Batch { is_new, ..Batch::default() };
    let mut changed = BTreeSet::new();
    let mut made = HashSet::new();
    let mut executions: ExecutionsByOrder = BTreeMap::new();
    let mut external = BTreeMap::new();
    for (lsn, event) in events {
        let lsn = *lsn;
        batch.last = lsn;
        let after = match event {
            Event::Created(created) => {
                working.insert(TrackedOrder::new(created), lsn);
                made.insert(created.order_id);
                created.order_id
            }
            Event::Changed(change) => {
                let order_id = change.order_id;
                let order = working.change(order_id, lsn);
                let order = order.ok_or(UnknownOrder { lsn, order_id })?;
                let is_first = order.order().version == 1;
                let effect = order.effect_of(&change.change).map(|effect| {
                    let was_known = order.executions().get(effect.execution_id()).is_some();
                    (effect, was_known)
                });
                if !order.apply(change).recorded {
                    continue;
                }
                if is_first {
                    let age = change.at.micros_since(order.order().created_at);
                    batch.outcome_ages_micros.push(age);
                }
                if let Change::Accepted { external_order_id } = &change.change {
                    external.entry(external_order_id).or_insert(order_id);
                }
                if let Some(effect) = effect {
                    note_effect(&mut executions, order_id, effect, change.at);
                }
                order_id
            }
            Event::FeedPosition(position) => {
                batch.feed = Some((lsn, position.clone()));
                continue;
            }
            Event::UnmatchedReport(_) => continue,
        };
        changed.insert(after);
        batch.touched.insert(after.partition());
        let order = working.get(after).ok_or(UnknownOrder { lsn, order_id: after })?;
        batch.days.insert(Day::of(event.at()));
        batch.noted_at.push(event.at());
        batch.events.push((log_id, lsn), event, order);
    }
    let unknown = |order_id| UnknownOrder { lsn: batch.last, order_id };
    for order_id in changed {
        let order = working.get(order_id).ok_or_else(|| unknown(order_id))?;
        let status = order.order().status.into_str();
        let is_made = is_new && made.contains(&order_id);
        let rows = if is_made { &mut batch.new_orders } else { &mut batch.orders };
        rows.push(&OrderParts::of_order(order.order()), status, order.cases());
    }
    for ((order_id, id), row) in &executions {
        let order = working.get(*order_id).ok_or_else(|| unknown(*order_id))?;
        let owner = (&order.order().user, *order_id);
        let rows = if row.was_known { &mut batch.executions } else { &mut batch.new_executions };
        rows.push(owner, id, row);
    }
    for (id, order_id) in external {
        let order = working.get(order_id).ok_or_else(|| unknown(order_id))?;
        batch.external.push(id.as_str(), &order.order().user, order_id);
    }
    Ok(batch)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
