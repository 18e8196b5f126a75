//! Turns log records into the rows of one transaction. Pure.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use super::account_rows::{AccountWriter, Accounts, Cause, MoneyRows};
use super::days::Day;
use super::rows::{EventRows, ExecutionRow, ExecutionRows, ExternalRows, OrderRows};
use super::working_set::WorkingOrders;
use crate::money::Reservation;
use crate::order::{
    Change, Changed, Event, Execution, ExecutionEffect, FeedPosition, OrderParts, TrackedOrder,
    booking,
};
use crate::types::{ExecutionId, OrderId, TimestampMicros, UserId, UserPartition};
use crate::wal::{LogId, Lsn};

/// The rows of one transaction.
#[derive(Debug, Default)]
pub(super) struct Batch {
    /// The last record of the batch.
    pub(super) last: Lsn,
    /// The partitions whose position advances with it; if empty, all of the server's. Those without
    /// events may advance later: advancing all takes Postgres as long as a few orders.
    pub(super) touched: BTreeSet<UserPartition>,
    /// Whether all partitions that are not held advance with it.
    pub(super) advances_all: bool,
    /// Whether no earlier transaction can have written any of its records: then its events and new
    /// orders are inserted without looking for existing rows.
    pub(super) is_new: bool,
    /// For a copy: what its rows are made from, which decides how they replace existing ones.
    pub(super) copy: Option<Copy>,
    /// Orders that its records create.
    pub(super) new_orders: OrderRows,
    /// Orders that exist already, or may.
    pub(super) orders: OrderRows,
    /// Executions that its records report first.
    pub(super) new_executions: ExecutionRows,
    /// Executions that earlier records reported, or may have.
    pub(super) executions: ExecutionRows,
    pub(super) external: ExternalRows,
    pub(super) events: EventRows,
    /// What it does to accounts.
    pub(super) money: MoneyRows,
    pub(super) feed: Option<(Lsn, FeedPosition)>,
    /// The days of its events, whose partitions must exist.
    pub(super) days: BTreeSet<Day>,
    /// Time from the creation of an order to its first change, for each such order.
    pub(super) outcome_ages_micros: Vec<u64>,
    /// When each event was recorded, for the lag.
    pub(super) recorded_at: Vec<TimestampMicros>,
}

/// The source of a copy's rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Copy {
    /// The log, from the first event of each order.
    Events,
    /// The index, which has only the current state of each order.
    Orders,
}

impl Batch {
    /// Number of rows in all tables.
    pub(super) fn rows(&self) -> usize {
        let orders = self.new_orders.len() + self.orders.len();
        let executions = self.new_executions.len() + self.executions.len();
        orders + executions + self.external.len() + self.events.len() + self.money.len()
    }

    /// Whether there is nothing to write except the position.
    pub(super) fn is_empty(&self) -> bool {
        let moves_money = self.money.len() > 0 || self.money.begins;
        self.events.is_empty() && self.feed.is_none() && !moves_money
    }
}

/// The orders that these events change, without those in the working set and those that the events
/// create.
pub(super) fn missing(events: &[(Lsn, Event)], working: &WorkingOrders) -> Vec<OrderId> {
    let mut made = HashSet::new();
    let mut missing = Vec::new();
    for (_, event) in events {
        match event {
            Event::Created(created) => drop(made.insert(created.order_id)),
            Event::Changed(Changed { order_id, .. }) => {
                if !working.has(order_id) && made.insert(*order_id) {
                    missing.push(*order_id);
                }
            }
            Event::Adopted(adopted) => drop(made.insert(adopted.order.order().order_id)),
            Event::UnmatchedReport(_)
            | Event::FeedPosition(_)
            | Event::CashMoved(_)
            | Event::AccountAdopted(_)
            | Event::AccountsBegun(_) => {}
        }
    }
    missing
}

/// The users whose accounts these events may move, or replace, without those in the working set. The orders
/// that the events change are there already.
pub(super) fn missing_accounts(
    events: &[(Lsn, Event)],
    working: &WorkingOrders,
    accounts: &Accounts,
) -> BTreeSet<UserId> {
    let begins = events.iter().any(|(_, event)| matches!(event, Event::AccountsBegun(_)));
    let mut made = HashMap::new();
    let mut users = BTreeSet::new();
    let mut note = |user: &UserId, is_taken: bool| {
        let is_kept = is_taken || begins || accounts.kept.has(user.partition());
        if is_kept && !accounts.working.has(user) {
            users.insert(user.clone());
        }
    };
    for (_, event) in events {
        match event {
            Event::Created(created) => {
                let reserves = created.reservation != Reservation::Nothing;
                made.insert(created.order_id, (&created.user, reserves));
                if reserves {
                    note(&created.user, false);
                }
            }
            Event::Changed(Changed { order_id, change, .. }) => {
                let known = made.get(order_id).copied().or_else(|| {
                    let order = working.get(order_id)?.order();
                    Some((&order.user, order.reservation != Reservation::Nothing))
                });
                if let Some((user, reserves)) = known
                    && (reserves || may_move_shares(change))
                {
                    note(user, false);
                }
            }
            Event::CashMoved(moved) => note(&moved.user, false),
            Event::AccountAdopted(adopted) => note(&adopted.user, true),
            Event::Adopted(adopted) => {
                let order = adopted.order.order();
                let reserves = order.reservation != Reservation::Nothing;
                made.insert(order.order_id, (&order.user, reserves));
            }
            Event::UnmatchedReport(_) | Event::FeedPosition(_) | Event::AccountsBegun(_) => {}
        }
    }
    users
}

/// Whether a change may make an execution count, or void.
fn may_move_shares(change: &Change) -> bool {
    match change {
        Change::Filled(_)
        | Change::Busted { .. }
        | Change::TakenBack { .. }
        | Change::CaseClosed(_) => true,
        Change::Accepted { .. }
        | Change::Rejected { .. }
        | Change::NotAccepted
        | Change::CancelRequested
        | Change::Cancelled { .. }
        | Change::CancelRejected { .. }
        | Change::CaseOpened(_)
        | Change::ClosedByOperator(_) => false,
    }
}

/// An event of an order that neither the log nor Postgres has.
#[derive(Debug, thiserror::Error)]
#[error("record {lsn} changes order {order_id}, which Postgres does not have")]
pub(super) struct UnknownOrder {
    pub(super) lsn: Lsn,
    pub(super) order_id: OrderId,
}

/// What a batch does to executions.
type ExecutionsByOrder = BTreeMap<(OrderId, ExecutionId), ExecutionRow>;

/// Records the effect of a change on an execution, and whether its order knew that before.
fn record_effect(
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

/// Applies events to the working set and builds the rows. All changes of one order become one row
/// of `orders` and one row each of `order_events`. Records up to `written` may have been written
/// before.
pub(super) fn build(
    log_id: LogId,
    events: &[(Lsn, Event)],
    (working, accounts): (&mut WorkingOrders, &mut Accounts),
    written: Lsn,
) -> Result<Batch, UnknownOrder> {
    let is_new = events.first().is_some_and(|(lsn, _)| *lsn > written);
    let mut batch = Batch { is_new, ..Batch::default() };
    let mut changed = BTreeSet::new();
    let mut made = HashSet::new();
    let mut executions: ExecutionsByOrder = BTreeMap::new();
    let mut external = BTreeMap::new();
    let mut money = AccountWriter::new(accounts, log_id);
    for (lsn, event) in events {
        let lsn = *lsn;
        batch.last = lsn;
        let mut voided = None;
        let after = match event {
            Event::Created(created) => {
                let mut order = TrackedOrder::new(created);
                let cause = Cause { execution_id: None, counted: (false, false) };
                let effect = booking::created(&order);
                money.book((lsn, event.at()), &mut order, (effect, &cause));
                working.insert(created.order_id, order, lsn);
                made.insert(created.order_id);
                created.order_id
            }
            Event::Changed(change) => {
                let order_id = change.order_id;
                let order = working.change(&order_id, lsn);
                let order = order.ok_or(UnknownOrder { lsn, order_id })?;
                let is_first = order.order().version == 1;
                let effect = order.effect_of(&change.change).map(|effect| {
                    let known = order.executions().get(effect.execution_id());
                    if let ExecutionEffect::Void { .. } = effect {
                        voided = known.and_then(Execution::counted);
                    }
                    (effect, known.is_some())
                });
                let was_counted = effect.as_ref().is_some_and(|(effect, _)| {
                    let known = order.executions().get(effect.execution_id());
                    known.and_then(Execution::counted).is_some()
                });
                let (applied, moved) = booking::apply(order, change);
                if !applied.recorded {
                    continue;
                }
                let told = effect.as_ref().map(|(effect, _)| effect);
                let counts = matches!(told, Some(ExecutionEffect::Counts(_)));
                let execution_id = told.map(ExecutionEffect::execution_id);
                let cause = Cause { execution_id, counted: (was_counted, counts) };
                money.book((lsn, change.at), order, (moved, &cause));
                if is_first {
                    let age = change.at.micros_since(order.order().created_at);
                    batch.outcome_ages_micros.push(age);
                }
                if let Change::Accepted { external_order_id } = &change.change {
                    external.entry(external_order_id).or_insert(order_id);
                }
                if let Some(effect) = effect {
                    record_effect(&mut executions, order_id, effect, change.at);
                }
                order_id
            }
            Event::FeedPosition(position) => {
                batch.feed = Some((lsn, position.clone()));
                continue;
            }
            // Postgres has it already: it came from there.
            Event::Adopted(adopted) => {
                working.insert(adopted.order.order().order_id, adopted.order.clone(), lsn);
                continue;
            }
            Event::CashMoved(moved) => {
                if money.move_cash(lsn, moved) {
                    batch.touched.insert(moved.user.partition());
                    batch.days.insert(Day::of(moved.at));
                    batch.recorded_at.push(moved.at);
                }
                continue;
            }
            Event::AccountAdopted(adopted) => {
                if money.adopt(lsn, adopted) {
                    batch.touched.insert(adopted.user.partition());
                }
                continue;
            }
            Event::AccountsBegun(_) => {
                money.begin();
                continue;
            }
            Event::UnmatchedReport(_) => continue,
        };
        changed.insert(after);
        batch.touched.insert(after.partition());
        let order = working.get(&after).ok_or(UnknownOrder { lsn, order_id: after })?;
        batch.days.insert(Day::of(event.at()));
        batch.recorded_at.push(event.at());
        batch.events.push((log_id, lsn), event, order, voided);
    }
    batch.money = money.finish();
    let last = batch.last;
    let unknown = |order_id| UnknownOrder { lsn: last, order_id };
    for order_id in changed {
        let order = working.get(&order_id).ok_or_else(|| unknown(order_id))?;
        let status = order.order().status.into_str();
        let is_made = is_new && made.contains(&order_id);
        let rows = if is_made { &mut batch.new_orders } else { &mut batch.orders };
        rows.push(&OrderParts::of_order(order.order()), status, order.cases());
    }
    for ((order_id, id), row) in &executions {
        let order = working.get(order_id).ok_or_else(|| unknown(*order_id))?;
        let rows = if row.was_known { &mut batch.executions } else { &mut batch.new_executions };
        rows.push(order, id, row);
    }
    for (id, order_id) in external {
        let order = working.get(&order_id).ok_or_else(|| unknown(order_id))?;
        batch.external.push(id.as_str(), &order.order().user, order_id);
    }
    Ok(batch)
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod tests;
