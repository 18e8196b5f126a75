//! The comparison at the end of a day: what the exchange's list of a day's executions says of an order.

use super::engines::Engines;
use super::evidence::{count_listed, open_doubtful};
use super::inputs::DayFinding;
use super::outbox::{Effect, Outbox};
use super::partition::Work;
use super::repair_cause::RepairCause;
use crate::order::Execution;
use crate::types::{ExecutionId, OrderId, TimestampMicros};

/// Orders that may be looked up for findings at a time: lookups for lines of the feed wait behind them.
const MAX_WAITING: usize = 64;

impl Engines {
    /// Takes a finding. Listed executions count, whether or not the order has ended: the list is the
    /// exchange's record. Those that it lacks go on counting, as doubtful ones that an operator or a
    /// bust decides. An order that has left memory is looked up in the store.
    pub fn take_finding(&mut self, now: TimestampMicros, finding: DayFinding, out: &mut Outbox) {
        self.advance(now);
        let order_id = finding.order_id;
        if self.has(order_id) {
            return self.apply_finding(&finding, out);
        }
        self.findings.entry(order_id).or_default().push(finding);
        self.look_up_order(order_id, false, out);
    }

    /// Whether so many orders are being looked up for findings that no more are taken for now.
    pub fn has_many_findings(&self) -> bool {
        self.findings.len() >= MAX_WAITING
    }

    /// Takes the findings that waited for an order. It is in memory if the store knows it. `true` if
    /// there were any.
    pub(super) fn deliver_findings(&mut self, order_id: OrderId, out: &mut Outbox) -> bool {
        if self.findings.is_empty() {
            return false;
        }
        let findings = self.findings.remove(&order_id).unwrap_or_default();
        for finding in &findings {
            self.apply_finding(finding, out);
        }
        !findings.is_empty()
    }

    fn apply_finding(&mut self, finding: &DayFinding, out: &mut Outbox) {
        let (now, order_id) = (self.now, finding.order_id);
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.with_order(order_id, turn, |work| apply(work, finding));
        });
    }
}

fn apply(work: &mut Work<'_, '_>, finding: &DayFinding) {
    let DayFinding { trade_date, order_id, listed, unlisted } = finding;
    let counts = |work: &Work<'_, '_>, id: &ExecutionId| {
        matches!(work.entry.tracked.executions().get(id), Some(Execution::Counted { .. }))
    };
    for fill in listed {
        let counted_before = counts(work, &fill.execution_id);
        count_listed(work, vec![fill.clone()]);
        if !counted_before && counts(work, &fill.execution_id) {
            let repaired = Effect::Repaired { order_id: *order_id, cause: RepairCause::DayEnd };
            work.turn.out.effects.push(repaired);
        }
    }
    // What was taken back or decided meanwhile needs no decision.
    let doubtful = unlisted.iter().filter(|id| counts(work, id)).cloned().collect();
    let text = format!("it counts, and the exchange's executions of {trade_date} lack it");
    open_doubtful(work, doubtful, &text);
}

#[cfg(test)]
#[path = "day_end_tests.rs"]
mod tests;
