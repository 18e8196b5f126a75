//! What the exchange says: answers to what was sent, and reports.

use std::collections::HashSet;

use super::entry::{Entry, QueryReason};
use super::inputs::{CancelOutcome, CancelRefusal, ExchangeState, QueryAnswer, SubmitOutcome};
use super::partition::{Engine, Turn, Work};
use super::repair::{Before, SubmitFate};
use crate::order::{Anomaly, CancelCause, Change, Fill, Status};
use crate::types::{ExecutionId, ExternalOrderId, OrderId, TimestampMicros};

impl Engine {
    /// The answer to a submit.
    pub(super) fn submit_answer(
        &mut self,
        order_id: OrderId,
        outcome: SubmitOutcome,
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| match outcome {
            SubmitOutcome::Accepted(external_order_id) => {
                work.record(Change::Accepted { external_order_id });
            }
            SubmitOutcome::Refused { reason } => work.record(Change::Rejected { reason }),
            SubmitOutcome::NeverSent => {
                if work.order().status == Status::Pending {
                    work.record(Change::NotAccepted);
                }
            }
            // Never a second submit: the exchange is asked what became of the first.
            SubmitOutcome::Unknown | SubmitOutcome::TimedOut => {
                work.entry.underway.submit = match outcome {
                    SubmitOutcome::TimedOut => SubmitFate::TimedOut,
                    _ => SubmitFate::Lost,
                };
                if work.order().status == Status::Pending {
                    work.entry.ask(QueryReason::FollowUp, work.turn.out);
                }
            }
        });
    }

    /// The answer to a cancel.
    pub(super) fn cancel_answer(
        &mut self,
        order_id: OrderId,
        outcome: CancelOutcome,
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.cancel_unanswered = false;
            match outcome {
                // The feed may still bring fills from before that. Its record has all of them, so
                // that what the user is told is the end of it.
                CancelOutcome::Cancelled if work.order().wants_cancel() => {
                    work.entry.underway.cancel_confirmed = true;
                    work.entry.ask_anew(QueryReason::FollowUp, work.turn.out);
                }
                CancelOutcome::Cancelled => {
                    work.record(Change::Cancelled { cause: CancelCause::Cancelled });
                }
                // Its fills may be on their way: its record has all of them.
                CancelOutcome::Refused { why: CancelRefusal::AlreadyEnded, .. } => {
                    work.entry.ask_anew(QueryReason::FollowUp, work.turn.out);
                }
                CancelOutcome::Refused { why: CancelRefusal::UnknownOrder, .. } => {
                    work.alert(Anomaly::UnknownAtExchange);
                }
                CancelOutcome::Refused { why: CancelRefusal::Declined, reason } => {
                    work.record(Change::CancelRejected { reason });
                }
                // Stays as it is; the periodic look settles it.
                CancelOutcome::Unknown => {}
            }
        });
    }

    /// The exchange's record of an order, asked for at `asked_at`.
    pub(super) fn query_answer(
        &mut self,
        order_id: OrderId,
        asked_at: TimestampMicros,
        answer: QueryAnswer,
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| {
            let reason = work.entry.underway.query.take();
            let before = Before::of(work.order());
            let is_old_news = std::mem::take(&mut work.entry.underway.ask_again);
            work.entry.underway.owes_settlement &= is_old_news;
            match answer {
                QueryAnswer::Unknown => unknown_at_exchange(work, asked_at),
                QueryAnswer::Rejected { reason } => work.record(Change::Rejected { reason }),
                QueryAnswer::Known { external_order_id, state, executions } => {
                    work.entry.underway.unknown_since = None;
                    let missing = missing_executions(work.entry, &executions);
                    known_at_exchange(work, external_order_id, executions);
                    take_missing(work, missing);
                    take_state(work, state, reason);
                }
            }
            before.note_repairs(work, reason);
            if is_old_news {
                work.entry.ask(QueryReason::FollowUp, work.turn.out);
            } else {
                end_confirmed_cancel(work);
            }
        });
    }

    /// A query came back without an answer. What waits is watched and asked for again.
    pub(super) fn query_lost(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.query = None;
            work.entry.underway.ask_again = false;
            // The exchange has confirmed, and nobody is left waiting because its record has not
            // come; fills that it may hold are owed.
            work.entry.underway.owes_settlement |= work.entry.underway.cancel_confirmed;
            end_confirmed_cancel(work);
        });
    }

    /// Something that the exchange reported unasked.
    pub(super) fn report(&mut self, order_id: OrderId, change: Change, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| work.record(change));
    }
}

/// Records a confirmed cancel that the exchange's record has not brought along.
pub(super) fn end_confirmed_cancel(work: &mut Work<'_, '_>) {
    if work.entry.underway.cancel_confirmed && work.order().wants_cancel() {
        work.record(Change::Cancelled { cause: CancelCause::Cancelled });
    }
}

fn known_at_exchange(
    work: &mut Work<'_, '_>,
    external_order_id: ExternalOrderId,
    executions: Vec<Fill>,
) {
    work.record(Change::Accepted { external_order_id });
    for fill in executions {
        work.record(Change::Filled(fill));
    }
}

/// Executions that count here and are not in the exchange's record, which has all that count there
/// and is not older than they are.
fn missing_executions(entry: &Entry, executions: &[Fill]) -> Vec<ExecutionId> {
    let recorded: HashSet<&ExecutionId> =
        executions.iter().map(|fill| &fill.execution_id).collect();
    let newer = entry.underway.doubt.as_ref().map(|doubt| doubt.counted_meanwhile.as_slice());
    let newer = newer.unwrap_or_default();
    let counted = entry.tracked.executions().counted_ids();
    let missing = counted.filter(|id| !recorded.contains(id) && !newer.contains(id));
    let mut missing: Vec<ExecutionId> = missing.cloned().collect();
    // What is decided must not depend on how they are kept.
    missing.sort_unstable();
    missing
}

/// An execution that the exchange no longer has was taken back, and the line that said so got lost.
/// That is believed when it is still so at a second look, a grace later.
fn take_missing(work: &mut Work<'_, '_>, missing: Vec<ExecutionId>) {
    if missing.is_empty() {
        work.entry.underway.doubt = None;
        return;
    }
    let now = work.turn.now;
    let doubt = work.entry.underway.doubt.get_or_insert_default();
    let since = *doubt.missing_since.get_or_insert(now);
    if now.micros_since(since) < work.turn.options.grace_micros {
        work.entry.underway.owes_settlement = true;
        return;
    }
    doubt.missing_since = None;
    for execution_id in missing {
        work.record(Change::Busted { execution_id });
    }
}

fn take_state(work: &mut Work<'_, '_>, state: ExchangeState, reason: Option<QueryReason>) {
    match state {
        ExchangeState::Open => {
            let underway = &mut work.entry.underway;
            let is_cancel_in_progress = underway.cancel_unanswered || underway.cancel_confirmed;
            if reason == Some(QueryReason::PeriodicLook) && !is_cancel_in_progress {
                // A cancel that is still wanted did not get there, or its outcome got lost.
                underway.cancel_sent = false;
            }
        }
        ExchangeState::Filled => {
            if work.order().shares_left() > 0 {
                work.alert(Anomaly::Contradiction);
            }
        }
        ExchangeState::Cancelled => {
            work.record(Change::Cancelled { cause: CancelCause::Cancelled });
        }
        ExchangeState::Expired => {
            work.record(Change::Cancelled { cause: CancelCause::Expired });
        }
    }
}

/// The exchange has no such order. That is final for an order that it has not accepted by its
/// deadline; for one that it had accepted it needs a second look, a grace later.
fn unknown_at_exchange(work: &mut Work<'_, '_>, asked_at: TimestampMicros) {
    let order = work.order();
    let tolerance = work.turn.options.clock_tolerance_micros;
    let never_after = order.submit_before.saturating_add_micros(tolerance);
    match order.status {
        Status::Pending => {
            if asked_at > never_after {
                work.record(Change::NotAccepted);
            }
        }
        Status::PendingCancel => {
            let now = work.turn.now;
            let since = *work.entry.underway.unknown_since.get_or_insert(now);
            work.alert(Anomaly::UnknownAtExchange);
            if now.micros_since(since) >= work.turn.options.grace_micros {
                work.record(Change::Cancelled { cause: CancelCause::Unknown });
            }
        }
        Status::Submitted | Status::PartiallyFilled | Status::Failed => {
            work.alert(Anomaly::UnknownAtExchange);
        }
        Status::Filled | Status::Cancelled => {}
    }
}
