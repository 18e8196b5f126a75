//! What the exchange says: answers to what was sent, and reports.

use super::entry::{QueryReason, RecordId, UnknownLook};
use super::evidence::{Listed, count_listed, judge_missing, reconciles};
use super::feed_progress::FeedProgress;
use super::inputs::{
    CancelOutcome, CancelRefusal, EngineOptions, ExchangeOrderState, ExchangeRecord, FeedPlace,
    QueryAnswer, SubmitOutcome,
};
use super::partition::{Engine, Turn, Work};
use super::repair::{Before, SubmitFate};
use crate::order::{Anomaly, CancelCause, CaseCause, Change, Ending, Order, Status};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// How many times as long the exchange has to say that it does not know an order which it had
/// accepted, before its cancel counts as done.
const LOST_SPANS: u64 = 15;

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
                // Stays as it is; the periodic look reconciles it.
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
        let answer = believed(turn.feed, answer);
        self.with_order(order_id, turn, |work| {
            let reason = work.entry.underway.query.take();
            let before = Before::of(work.order());
            let is_old_news = std::mem::take(&mut work.entry.underway.ask_again);
            // What is still open after this record says so again.
            work.entry.underway.look_at = None;
            work.entry.underway.unreconciled &= is_old_news;
            if !is_old_news && !reconciles(work, as_of_answer(&answer)) {
                work.entry.underway.unreconciled = true;
            }
            let is_unreadable = matches!(answer, QueryAnswer::Unreadable { .. });
            match answer {
                QueryAnswer::Unknown { as_of } => {
                    work.entry.underway.record_id = None;
                    unknown_at_exchange(work, asked_at, as_of);
                }
                QueryAnswer::Rejected { reason } => work.record(Change::Rejected { reason }),
                QueryAnswer::Known(record) => take_record(work, record, reason),
                QueryAnswer::Unreadable { text } => work.quarantine_part(&text),
            }
            before.note_repairs(work, reason);
            if is_old_news {
                work.entry.ask(QueryReason::FollowUp, work.turn.out);
            } else {
                end_confirmed_cancel(work);
            }
            work.keep_asking(is_unreadable);
        });
    }

    /// A query came back without an answer. What waits is watched, and all that is unsure is asked for
    /// again.
    pub(super) fn query_lost(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| {
            work.entry.underway.query = None;
            work.entry.underway.ask_again = false;
            // The exchange has confirmed, and nobody is left waiting because its record has not
            // come; fills that it may hold are owed.
            work.entry.underway.unreconciled |= work.entry.underway.cancel_confirmed;
            end_confirmed_cancel(work);
            work.keep_asking(true);
        });
    }
}

/// Records a confirmed cancel that the exchange's record has not brought along.
pub(super) fn end_confirmed_cancel(work: &mut Work<'_, '_>) {
    if work.entry.underway.cancel_confirmed && work.order().wants_cancel() {
        work.record(Change::Cancelled { cause: CancelCause::Cancelled });
    }
}

/// An answer without what it says of how complete it is, where that may mean other lines.
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

impl Work<'_, '_> {
    /// The exchange's first id of the order is the one that it keeps here.
    fn record_accept(&mut self, external_order_id: ExternalOrderId) {
        if self.order().external_order_id.is_none() {
            self.record(Change::Accepted { external_order_id });
        }
    }
}

/// Whether a record is that of the order, although it names another id than the order was accepted
/// under: the first time it may be another order's. One that is told again is believed, since the
/// record was asked for by our own id; operators are told.
fn is_believed(work: &mut Work<'_, '_>, named: &ExternalOrderId) -> bool {
    let now = work.turn.now;
    let before = work.entry.underway.record_id.take().filter(|before| before.id == *named);
    let since = before.map_or(now, |before| before.since);
    let accepted_under = work.order().external_order_id.clone();
    let is_other = accepted_under.as_ref().is_some_and(|known| known != named);
    let is_told_again = now.micros_since(since) >= work.turn.options.unknown_span_micros;
    let believed_other = is_other && is_told_again;
    // Nearly every order has the id that its record names, and to itself: that needs no room.
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
        let known = accepted_under.as_ref().map_or("", |known| known.as_str());
        let text = format!("it was accepted as {known}, and the record has it as {named}");
        work.quarantine_order(CaseCause::OtherExternalId, &text);
    } else {
        let again = now.saturating_add_micros(work.turn.options.unknown_span_micros);
        work.look_again_at(again);
    }
    believed_other
}

/// Takes the exchange's record of an order.
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
    work.record_accept(external_order_id);
    count_listed(work, executions);
    if is_other {
        // It adds what it shows, and proves nothing about the order that was accepted.
        return;
    }
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
            if reason == Some(QueryReason::PeriodicLook) && !is_cancel_in_progress {
                // A cancel that is still wanted did not get there, or its outcome got lost.
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
        }
        ExchangeOrderState::Expired => {
            work.record(Change::Cancelled { cause: CancelCause::Expired });
        }
    }
}

/// The exchange has no such order. Records lag, so that it takes two looks that agree, and the
/// exchange's own clock past the deadline, before an order is called failed. It is looked at again
/// after that.
fn unknown_at_exchange(
    work: &mut Work<'_, '_>,
    asked_at: TimestampMicros,
    as_of: Option<FeedPlace>,
) {
    let span = work.turn.options.unknown_span_micros;
    match work.order().status {
        Status::Pending => {
            let never_after = never_accepted_after(work);
            if asked_at <= never_after {
                work.entry.underway.unknown = None;
                work.look_again_at(never_after.saturating_add_micros(1));
            } else if agrees_with_first_look(work, as_of.as_ref(), span) {
                work.record(Change::NotAccepted);
                look_at_failed_again(work);
            }
        }
        Status::PendingCancel => {
            work.alert(Anomaly::UnknownAtExchange);
            // It was there once: whoever says that it is not is late, or has lost it.
            if agrees_with_first_look(work, as_of.as_ref(), span.saturating_mul(LOST_SPANS)) {
                work.record(Change::Cancelled { cause: CancelCause::Unknown });
            }
        }
        Status::Failed => look_at_failed_again(work),
        Status::Submitted | Status::PartiallyFilled => {
            work.alert(Anomaly::UnknownAtExchange);
            if agrees_with_first_look(work, as_of.as_ref(), span.saturating_mul(LOST_SPANS)) {
                let text = "it had accepted the order, and says that it does not know it";
                work.quarantine_order(CaseCause::UnknownAtExchange, text);
            }
        }
        Status::Filled | Status::Cancelled => {}
    }
}

/// The last moment at which the exchange may still accept an order. When it was asked is told in
/// the same clock, with what is known of the exchange's.
fn never_accepted_after(work: &Work<'_, '_>) -> TimestampMicros {
    work.order().submit_before.saturating_add_micros(work.turn.options.clock_tolerance_micros)
}

/// Whether this is the second look at which the exchange does not know an order, long enough after
/// the first, from a record that is not older than that. Otherwise it is asked again.
fn agrees_with_first_look(work: &mut Work<'_, '_>, as_of: Option<&FeedPlace>, span: u64) -> bool {
    let now = work.turn.now;
    let (session, sequence) = work.turn.feed.place();
    let first = work
        .entry
        .underway
        .unknown
        .filter(|first| first.feed.0 == session)
        .unwrap_or(UnknownLook { since: now, feed: (session, sequence) });
    work.entry.underway.unknown = Some(first);
    let waited = now.micros_since(first.since);
    let is_newer = match (as_of, work.turn.feed.covered_by(as_of)) {
        (None, _) => true,
        (Some(_), Some(covers)) => covers >= first.feed.1,
        // Complete up to a line of a session that is not being read: it may be any age. Where all
        // records of so long a time are, they say nothing of how complete they are.
        (Some(_), None) => session == 0 || waited >= work.turn.options.unmatched_report_age_micros,
    };
    let is_second = waited >= span;
    if !(is_second && is_newer) {
        work.look_again_at(now.saturating_add_micros(span));
    }
    is_second && is_newer
}

/// When an order that was called failed is asked about next: the exchange may have had it all along.
fn look_at_failed_again(work: &mut Work<'_, '_>) {
    if work.order().ending() != Some(Ending::NotAccepted) {
        return;
    }
    if let Some(at) = next_relook(work.order(), work.turn.now, work.turn.options) {
        work.look_again_at(at);
    }
}

/// The first of the times at which a failed order is looked at again that is still to come.
pub(super) fn next_relook(
    order: &Order,
    now: TimestampMicros,
    options: &EngineOptions,
) -> Option<TimestampMicros> {
    let failed_at = order.updated_at;
    let mut times =
        options.relook_pauses_micros.iter().map(|pause| failed_at.saturating_add_micros(*pause));
    times.find(|at| *at > now)
}
