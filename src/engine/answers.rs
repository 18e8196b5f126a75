//! The exchange's answers to submits, cancels and queries.

use super::entry::{LostQueries, QueryReason, RecordId, SubmitFate, UnknownAnswer};
use super::evidence::{Listed, count_listed, judge_missing, reconciles};
use super::feed_progress::FeedProgress;
use super::inputs::{
    CancelOutcome, CancelRefusal, EngineOptions, ExchangeOrderState, ExchangeRecord, FeedPlace,
    QueryAnswer, SubmitOutcome,
};
use super::partition::{Engine, Turn, Work};
use super::repair::Before;
use crate::order::{Anomaly, CancelCause, CaseCause, Change, Ending, Order, Status};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// An accepted order counts as lost at the exchange once that has answered "unknown order" for this
/// many times [`EngineOptions::unknown_span_micros`].
const LOST_SPANS: u64 = 15;

impl Engine {
    /// Takes the answer to a submit.
    pub(super) fn submit_answer(
        &mut self,
        order_id: OrderId,
        outcome: SubmitOutcome,
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.submit = match outcome {
                SubmitOutcome::TimedOut => SubmitFate::TimedOut,
                SubmitOutcome::Unknown => SubmitFate::Lost,
                SubmitOutcome::Accepted(_)
                | SubmitOutcome::Refused { .. }
                | SubmitOutcome::NeverSent => SubmitFate::Answered,
            };
            match outcome {
                SubmitOutcome::Accepted(external_order_id) => {
                    work.record(Change::Accepted { external_order_id });
                }
                SubmitOutcome::Refused { reason } => work.record(Change::Rejected { reason }),
                SubmitOutcome::NeverSent => {
                    if work.order().status == Status::Pending {
                        work.record(Change::NotAccepted);
                    }
                }
                // Never submit again: query what became of the first.
                SubmitOutcome::Unknown | SubmitOutcome::TimedOut => {
                    if work.order().status == Status::Pending || may_live(work.order()) {
                        work.entry.query(QueryReason::FollowUp, work.turn.now, work.turn.out);
                    }
                }
            }
            assert!(
                work.order().status != Status::Pending || work.entry.underway.query.is_some(),
                "an answer leaves no order pending, or the exchange is asked about it"
            );
            assert_ne!(
                work.entry.underway.submit,
                SubmitFate::InFlight,
                "an answered submit is not in flight"
            );
        });
    }

    /// Takes the answer to a cancel.
    pub(super) fn cancel_answer(
        &mut self,
        order_id: OrderId,
        outcome: CancelOutcome,
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.cancel_unanswered = false;
            match outcome {
                // The feed may still bring fills from before the cancel. The exchange's record has
                // all of them, so the user's answer is final.
                CancelOutcome::Cancelled if work.order().wants_cancel() => {
                    work.entry.underway.cancel_confirmed = true;
                    work.entry.query_fresh(QueryReason::FollowUp, work.turn.now, work.turn.out);
                }
                CancelOutcome::Cancelled => {
                    work.record(Change::Cancelled { cause: CancelCause::Cancelled });
                    assert!(!work.order().is_open(), "an order that was cancelled is not open");
                }
                // Its last fills may still be in flight; the exchange's record has all of them.
                CancelOutcome::Refused { why: CancelRefusal::AlreadyEnded, .. } => {
                    work.entry.query_fresh(QueryReason::FollowUp, work.turn.now, work.turn.out);
                }
                CancelOutcome::Refused { why: CancelRefusal::UnknownOrder, .. } => {
                    work.alert(Anomaly::UnknownAtExchange);
                }
                CancelOutcome::Refused { why: CancelRefusal::Declined, reason } => {
                    work.record(Change::CancelRejected { reason });
                }
                // A periodic query reconciles it.
                CancelOutcome::Unknown => {}
            }
            assert!(
                !work.entry.underway.cancel_confirmed || work.entry.underway.query.is_some(),
                "after a confirmed cancel the exchange is asked for the last fills"
            );
        });
    }

    /// Takes the exchange's record of an order, queried at `queried_at`.
    pub(super) fn query_answer(
        &mut self,
        order_id: OrderId,
        queried_at: TimestampMicros,
        answer: QueryAnswer,
        turn: &mut Turn<'_>,
    ) {
        let answer = believed(turn.feed, answer);
        self.with_order(order_id, turn, |work| {
            let reason = work.entry.underway.query.take();
            let asked_at = reason.map_or(work.turn.now, |_| work.entry.underway.asked_at);
            assert!(asked_at <= work.turn.now, "a query is asked before it is answered");
            assert_eq!(
                work.turn.answered_at, work.turn.now,
                "an answer breaks the exchange's silence before it is judged"
            );
            work.entry.underway.lost_queries = None;
            let before = Before::of(work.order());
            let is_stale = std::mem::take(&mut work.entry.underway.query_again);
            // Whatever this record leaves unsure schedules its next query itself.
            work.entry.underway.next_query_at = None;
            work.entry.underway.unreconciled &= is_stale;
            let is_behind = is_behind(work.order(), &answer);
            if !is_stale && !reconciles(work, as_of_answer(&answer), is_behind) {
                work.entry.underway.unreconciled = true;
            }
            let is_unreadable = matches!(answer, QueryAnswer::Unreadable { .. });
            work.entry.underway.owes_query &= is_stale || is_unreadable;
            match answer {
                // Asked before the exchange accepted it, as after a take-over. It is asked again.
                QueryAnswer::Unknown { .. }
                    if is_stale && work.order().external_order_id.is_some() => {}
                QueryAnswer::Unknown { as_of } => {
                    work.entry.underway.record_id = None;
                    unknown_at_exchange(work, (queried_at, asked_at), as_of);
                }
                QueryAnswer::Rejected { reason } => work.record(Change::Rejected { reason }),
                QueryAnswer::Known(record) => take_record(work, record, reason),
                QueryAnswer::Unreadable { text } => {
                    work.quarantine_part(&text);
                }
            }
            before.note_repairs(work, reason);
            if is_stale {
                work.entry.query(QueryReason::FollowUp, work.turn.now, work.turn.out);
                assert!(work.entry.underway.query.is_some(), "a stale record is asked for again");
            } else {
                end_confirmed_cancel(work);
            }
            work.keep_asking(is_unreadable);
        });
    }

    /// A query returned without an answer. Waiting orders stay watched, and everything unsure is
    /// queried again.
    pub(super) fn query_lost(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.query = None;
            work.entry.underway.query_again = false;
            // The exchange has confirmed the cancel: do not keep the client waiting for its record,
            // but reconcile the fills that the record may hold.
            work.entry.underway.unreconciled |= work.entry.underway.cancel_confirmed;
            end_confirmed_cancel(work);
            note_lost_query(work);
            work.keep_asking(true);
            assert!(
                !may_live(work.order()) || work.entry.underway.next_query_at.is_some(),
                "an order that failed in doubt is asked about again"
            );
        });
    }
}

/// One order about which the exchange keeps silent, while it answers others, holds up no
/// reconciliation for ever: it becomes a case, which is queried again, after a restart too.
fn note_lost_query(work: &mut Work<'_, '_>) {
    let (now, answered_at) = (work.turn.now, work.turn.answered_at);
    let before = work.entry.underway.lost_queries;
    assert!(
        before.is_none_or(|before| before.answered_at <= answered_at),
        "the exchange's last answer is never an earlier one"
    );
    // Between these two the exchange answered nobody: it may have been away.
    let before = before.filter(|before| before.answered_at != answered_at);
    let since = before.map_or(now, |before| before.since);
    assert!(since <= now, "silence begins before it is noted");
    assert!(answered_at <= now, "the exchange has answered before now");
    work.entry.underway.lost_queries = Some(LostQueries { since, answered_at });
    let is_long = now.micros_since(since) >= work.turn.options.unmatched_report_age_micros;
    if is_long
        && work.entry.underway.unreconciled
        && work.quarantine_part("the exchange answers no query about the order")
    {
        work.entry.underway.unreconciled = false;
        work.entry.underway.reconciling = None;
    }
}

/// Records a confirmed cancel that the exchange's record did not include.
pub(super) fn end_confirmed_cancel(work: &mut Work<'_, '_>) {
    if work.entry.underway.cancel_confirmed && work.order().wants_cancel() {
        work.record(Change::Cancelled { cause: CancelCause::Cancelled });
        assert!(!work.order().wants_cancel(), "a confirmed cancel leaves nothing to cancel");
    }
}

/// Drops an answer's `as_of` if it cannot be trusted; see [`FeedProgress::believed`].
fn believed(feed: &FeedProgress, answer: QueryAnswer) -> QueryAnswer {
    match answer {
        QueryAnswer::Unknown { as_of } => QueryAnswer::Unknown { as_of: feed.believed(as_of) },
        QueryAnswer::Known(record) => {
            let as_of = feed.believed(record.as_of);
            QueryAnswer::Known(ExchangeRecord { as_of, ..record })
        }
        answer @ (QueryAnswer::Rejected { .. } | QueryAnswer::Unreadable { .. }) => answer,
    }
}

fn as_of_answer(answer: &QueryAnswer) -> Option<&FeedPlace> {
    match answer {
        QueryAnswer::Unknown { as_of } => as_of.as_ref(),
        QueryAnswer::Known(record) => record.as_of.as_ref(),
        QueryAnswer::Rejected { .. } | QueryAnswer::Unreadable { .. } => None,
    }
}

/// Whether an answer that does not say how old it is shows less than is known already: it is of a
/// replica that lags.
fn is_behind(order: &Order, answer: &QueryAnswer) -> bool {
    match answer {
        QueryAnswer::Unknown { as_of: None } => order.external_order_id.is_some(),
        QueryAnswer::Known(record) if record.as_of.is_none() => {
            let has_ended = matches!(order.status, Status::Filled | Status::Cancelled);
            record.filled_shares < order.filled_shares
                || has_ended && record.state == ExchangeOrderState::Open
        }
        QueryAnswer::Unknown { .. }
        | QueryAnswer::Known(_)
        | QueryAnswer::Rejected { .. }
        | QueryAnswer::Unreadable { .. } => false,
    }
}

impl Work<'_, '_> {
    /// Records the exchange's id; the first one stays.
    fn record_external_id(&mut self, external_order_id: ExternalOrderId) {
        if self.order().external_order_id.is_none() {
            self.record(Change::Accepted { external_order_id });
        }
        let order = self.order();
        assert!(
            order.external_order_id.is_some(),
            "an order with a record at the exchange has its id"
        );
        assert_ne!(order.status, Status::Pending, "an accepted order is not pending");
    }
}

/// Whether to take a record that names another id than the order was accepted under. It may belong
/// to another order, so the first such record is not taken. A repeated one is, because the query
/// went by our own id; operators are alerted.
fn is_believed(work: &mut Work<'_, '_>, named: &ExternalOrderId) -> bool {
    let now = work.turn.now;
    let before = work.entry.underway.record_id.take().filter(|before| before.id == *named);
    let since = before.map_or(now, |before| before.since);
    assert!(since <= now, "a record comes before it is repeated");
    let accepted_under = work.order().external_order_id.clone();
    let is_other = accepted_under.as_ref().is_some_and(|known| known != named);
    let is_repeated = now.micros_since(since) >= work.turn.options.unknown_span_micros;
    let believed_other = is_other && is_repeated;
    // Nearly every record names the order's own, unshared id: keep nothing then.
    if is_other || work.entry.underway.shares_external_id {
        let record_id = RecordId { id: named.clone(), since, is_other: believed_other };
        work.entry.underway.record_id = Some(Box::new(record_id));
    }
    if !is_other {
        work.supersede_order(CaseCause::OtherExternalId);
        return true;
    }
    work.alert(Anomaly::SecondExternalId);
    if believed_other {
        let Some(known) = accepted_under else {
            unreachable!("only an accepted order has another id than it was accepted under");
        };
        let text = format!("it was accepted as {known}, and the record has it as {named}");
        work.quarantine_order(CaseCause::OtherExternalId, &text);
    } else {
        let again = now.saturating_add_micros(work.turn.options.unknown_span_micros);
        work.schedule_query(again);
    }
    believed_other
}

/// Applies the exchange's record of an order.
fn take_record(work: &mut Work<'_, '_>, record: ExchangeRecord, reason: Option<QueryReason>) {
    if !is_believed(work, &record.external_order_id) {
        return;
    }
    work.entry.underway.unknown = None;
    work.supersede_order(CaseCause::UnknownAtExchange);
    let covers = work.turn.feed.covered_by(record.as_of.as_ref());
    let listed = Listed::of(work, &record);
    let ExchangeRecord { external_order_id, state, executions, unreadable, .. } = record;
    let is_other =
        work.order().external_order_id.as_ref().is_some_and(|known| *known != external_order_id);
    assert!(
        !is_other || work.entry.underway.record_id.as_ref().is_some_and(|named| named.is_other),
        "a record under another id is believed only once it was repeated"
    );
    work.record_external_id(external_order_id);
    count_listed(work, executions);
    if is_other {
        // It adds its executions, and proves nothing about the order that was accepted.
        return;
    }
    assert!(work.order().external_order_id.is_some(), "an order with a record has its id");
    judge_missing(work, listed);
    take_state(work, state, reason);
    if unreadable.is_empty() {
        work.supersede_unreadable(covers);
    }
    for text in unreadable {
        work.quarantine_part(&text);
    }
}

fn take_state(work: &mut Work<'_, '_>, state: ExchangeOrderState, reason: Option<QueryReason>) {
    match state {
        ExchangeOrderState::Open => {
            let underway = &mut work.entry.underway;
            let is_cancel_in_progress = underway.cancel_unanswered || underway.cancel_confirmed;
            if reason == Some(QueryReason::Periodic) && !is_cancel_in_progress {
                // A pending cancel did not arrive, or its outcome was lost: send it again.
                underway.cancel_sent = false;
            }
        }
        ExchangeOrderState::Filled => {
            if work.order().shares_left() > 0 {
                work.alert(Anomaly::Contradiction);
            }
        }
        ExchangeOrderState::Cancelled => {
            work.record(Change::Cancelled { cause: CancelCause::Cancelled });
            assert!(!work.order().is_open(), "an order that has ended at the exchange is not open");
        }
        ExchangeOrderState::Expired => {
            work.record(Change::Cancelled { cause: CancelCause::Expired });
            assert!(!work.order().is_open(), "an order that has ended at the exchange is not open");
        }
    }
}

/// The exchange does not know the order. Records lag, so an order fails only after two agreeing
/// queries and with the exchange's own clock past the deadline. It is queried again later.
fn unknown_at_exchange(
    work: &mut Work<'_, '_>,
    (queried_at, asked_at): (TimestampMicros, TimestampMicros),
    as_of: Option<FeedPlace>,
) {
    let span = work.turn.options.unknown_span_micros;
    match work.order().status {
        Status::Pending => {
            let never_after = never_accepted_after(work);
            if queried_at <= never_after {
                work.entry.underway.unknown = None;
                // The time of a query may lag ours for as long as the exchange's clock is in doubt.
                let now = work.turn.now;
                let passes_at = never_after.saturating_add_micros(now.micros_since(queried_at) + 1);
                let latest = now.max(never_after).saturating_add_micros(span);
                let again = passes_at.min(latest);
                assert!(again >= now, "an order whose deadline lies ahead is asked about later");
                work.schedule_query(again);
            } else if confirms_unknown(work, (asked_at, as_of.as_ref()), span) {
                work.record(Change::NotAccepted);
                assert!(
                    may_live(work.order()),
                    "an order that failed in doubt is asked about again"
                );
                schedule_relook(work);
            }
        }
        Status::PendingCancel => {
            work.alert(Anomaly::UnknownAtExchange);
            // The exchange accepted it once: its record lags, or it lost the order.
            if confirms_unknown(work, (asked_at, as_of.as_ref()), span.saturating_mul(LOST_SPANS)) {
                work.record(Change::Cancelled { cause: CancelCause::Unknown });
                assert_eq!(work.order().status, Status::Cancelled, "a lost order is cancelled");
            }
        }
        Status::Failed => schedule_relook(work),
        Status::Submitted | Status::PartiallyFilled => {
            work.alert(Anomaly::UnknownAtExchange);
            if confirms_unknown(work, (asked_at, as_of.as_ref()), span.saturating_mul(LOST_SPANS)) {
                let text = "it had accepted the order, and says that it does not know it";
                work.quarantine_order(CaseCause::UnknownAtExchange, text);
            }
        }
        Status::Filled | Status::Cancelled => {}
    }
}

/// The last moment at which the exchange may accept an order. The time of a query is told in the
/// same clock, corrected by what is known of the exchange's clock.
fn never_accepted_after(work: &Work<'_, '_>) -> TimestampMicros {
    let order = work.order();
    let never_after =
        order.submit_before.saturating_add_micros(work.turn.options.clock_tolerance_micros);
    assert!(never_after >= order.submit_before, "no order is given up before its deadline");
    never_after
}

/// Whether this "unknown order" confirms an earlier one: asked for at least `span` after it, and
/// from a record that is not older. Otherwise schedules another query. How late an answer comes
/// says nothing about the time between the two lookups.
fn confirms_unknown(
    work: &mut Work<'_, '_>,
    (asked_at, as_of): (TimestampMicros, Option<&FeedPlace>),
    span: u64,
) -> bool {
    let now = work.turn.now;
    let (session, sequence) = work.turn.feed.place();
    let first = work
        .entry
        .underway
        .unknown
        .filter(|first| first.feed.0 == session)
        // The first one, or the first in this session.
        .unwrap_or(UnknownAnswer { since: now, feed: (session, sequence) });
    assert!(first.since <= now, "an answer comes before it is confirmed");
    assert!(first.feed.1 <= sequence, "the feed never goes back within a session");
    work.entry.underway.unknown = Some(first);
    let waited = asked_at.micros_since(first.since);
    let is_newer = match (as_of, work.turn.feed.covered_by(as_of)) {
        (None, _) => true,
        (Some(_), Some(covers)) => covers >= first.feed.1,
        // Complete up to a line of another session: of unknown age. If all records of this long a
        // span are like that, `as_of` is no evidence either way.
        (Some(_), None) => session == 0 || waited >= work.turn.options.unmatched_report_age_micros,
    };
    let is_second = waited >= span;
    if !(is_second && is_newer) {
        // One that was asked for a little too early costs no second span.
        let from = if is_second { now } else { first.since };
        work.schedule_query(from.saturating_add_micros(span));
    }
    is_second && is_newer
}

/// Whether the order is called failed although the exchange may have it.
pub(super) fn may_live(order: &Order) -> bool {
    order.ending().is_some_and(Ending::may_live_at_exchange)
}

/// Schedules the next query about a failed order: the exchange may have had it all along.
pub(super) fn schedule_relook(work: &mut Work<'_, '_>) {
    if !may_live(work.order()) {
        return;
    }
    if let Some(at) = next_relook(work.order(), work.turn.now, work.turn.options) {
        work.schedule_query(at);
    }
}

/// The next of the times at which a failed order is queried again; `None` after the last.
pub(super) fn next_relook(
    order: &Order,
    now: TimestampMicros,
    options: &EngineOptions,
) -> Option<TimestampMicros> {
    assert!(may_live(order), "only an order that failed in doubt is asked about again");
    let failed_at = order.updated_at;
    let mut times =
        options.relook_pauses_micros.iter().map(|pause| failed_at.saturating_add_micros(*pause));
    times.find(|at| *at > now)
}
