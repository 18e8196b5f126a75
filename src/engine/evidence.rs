//! What the exchange's record of an order proves, and what it leaves in doubt.
//!
//! An execution counts as soon as any source shows it. A record takes one back only if it proves
//! itself: it is complete up to a feed line at or after the one that showed the execution, and its
//! list adds up to its total of filled shares. Any other execution that a record lacks keeps
//! counting, is reported to operators, and is queried again.

use std::collections::BTreeMap;

use super::entry::Shown;
use super::inputs::{ExchangeRecord, FeedPlace};
use super::partition::Work;
use crate::order::{
    Anomaly, Case, CaseCause, CaseDecision, CaseOutcome, Change, Execution, Fill, case_text,
};
use crate::types::{ExecutionId, Shares};

/// Each doubtful record doubles the pause before the next query, at most this many times; an option
/// caps the pause.
const MAX_DOUBLINGS: u32 = 16;

/// The parts of a record that decide about executions that it lacks.
pub(super) struct Listed {
    /// Its distinct executions.
    shares: BTreeMap<ExecutionId, Shares>,
    /// Its total of filled shares.
    filled: Shares,
    /// The line of the current feed session up to which it is complete.
    covers: Option<u64>,
    /// Executions that count here, are missing from it, and are not newer than the query.
    missing: Vec<ExecutionId>,
    /// Whether it lacks executions that may be newer than the query.
    lacks_newer: bool,
}

impl Listed {
    /// Examines a record before its executions are counted.
    pub(super) fn of(work: &Work<'_, '_>, record: &ExchangeRecord) -> Self {
        let shares: BTreeMap<ExecutionId, Shares> = record
            .executions
            .iter()
            .map(|fill| (fill.execution_id.clone(), fill.num_shares))
            .collect();
        let covers = work.turn.feed.covered_by(record.as_of.as_ref());
        let doubt = work.entry.underway.doubt.as_ref();
        // None unless executions came while the query was in flight.
        let newer = doubt.map(|doubt| doubt.counted_meanwhile.as_slice()).unwrap_or_default();
        // `as_of` is better evidence than the time of the query.
        let is_newer = |id: &ExecutionId| covers.is_none() && newer.contains(id);
        let counted = work.entry.tracked.executions().counted_ids();
        let lacking = counted.filter(|id| !shares.contains_key(*id)).cloned();
        let (newer, mut missing): (Vec<_>, Vec<_>) = lacking.partition(is_newer);
        // Decisions must not depend on the order of a hash map.
        missing.sort_unstable();
        assert!(
            missing.is_sorted_by(|one, next| one < next),
            "an execution is missing from a record once"
        );
        let lacks_newer = !newer.is_empty();
        assert!(
            covers.is_none() || !lacks_newer,
            "a record that says how old it is needs no allowance for what may be newer"
        );
        Self { shares, filled: record.filled_shares, covers, missing, lacks_newer }
    }

    /// Total shares of its list. Saturates only for nonsense of the exchange.
    fn sum(&self) -> Shares {
        self.shares.values().fold(0, |sum, shares| sum.saturating_add(*shares))
    }

    /// Whether its list adds up to its total.
    fn is_whole(&self) -> bool {
        self.sum() == self.filled
    }
}

/// Whether a record reconciles an order after a gap in the feed: it must cover the gap. A record
/// without `as_of` may be older; the order is then queried twice more, and nothing waits for that
/// unless the record is known to be behind.
pub(super) fn reconciles(
    work: &mut Work<'_, '_>,
    as_of: Option<&FeedPlace>,
    is_behind: bool,
) -> bool {
    // No gap to cover.
    let Some(reconciling) = work.entry.underway.reconciling.take() else { return true };
    let options = *work.turn.options;
    let (session, sequence) = work.turn.feed.place();
    assert!(reconciling.since <= work.turn.now, "a reconciliation begins before it ends");
    assert!(
        reconciling.feed <= (session, sequence),
        "the feed never goes back: sessions are numbered upwards, and lines within them"
    );
    let covers = work.turn.feed.covered_by(as_of);
    // The current session began after the gap, or is the one with the gap.
    let is_covered =
        covers.is_some_and(|covers| reconciling.feed.0 != session || covers >= reconciling.feed.1);
    let waited = work.turn.now.micros_since(reconciling.since);
    if is_covered || session == 0 {
        return true;
    }
    if as_of.is_some() || is_behind {
        let is_over = waited >= options.unmatched_report_age_micros;
        work.entry.underway.reconciling = Some(reconciling).filter(|_| !is_over);
        return is_over;
    }
    schedule_two_queries(work);
    true
}

fn schedule_two_queries(work: &mut Work<'_, '_>) {
    let [first, second, ..] = work.turn.options.relook_pauses_micros;
    assert!(first <= second, "the second of two queries is not before the first");
    work.schedule_query(work.turn.now.saturating_add_micros(first));
    work.entry.underway.extra_query_at = Some(work.turn.now.saturating_add_micros(second));
}

/// Counts the executions of a record. One that does not fit the order counts too, since the
/// exchange confirms it; operators are alerted.
pub(super) fn count_listed(work: &mut Work<'_, '_>, executions: Vec<Fill>) {
    for fill in executions {
        let open = work.entry.tracked.case_of(&fill.execution_id);
        if let Some(open) = open.filter(|open| open.case.cause != CaseCause::IdUsedAgain) {
            let is_misfit = open.case.cause != CaseCause::Doubtful;
            // A record confirms what a line said only with the same numbers.
            let is_confirmed =
                open.case.execution.as_ref().is_some_and(|heard| heard.is_same(&fill));
            let (outcome, reason) = if is_confirmed {
                (CaseOutcome::Booked, "the exchange's record shows it")
            } else {
                (CaseOutcome::Superseded, "the exchange's record shows it with other numbers")
            };
            let number = open.number;
            work.close_case(CaseDecision { number, outcome, by: None, reason: reason.into() });
            if is_misfit && is_confirmed {
                work.alert(Anomaly::MisfitConfirmed);
            }
        }
        match work.entry.tracked.executions().get(&fill.execution_id) {
            None | Some(Execution::TakenBack) => {
                let is_misfit = work.misfit(&fill, None).is_some();
                let (session, _) = work.turn.feed.place();
                work.entry.underway.lines.note_record(&fill.execution_id, session);
                let events_before = work.turn.out.events.len();
                work.record(Change::Filled(fill));
                assert!(work.turn.out.events.len() > events_before, "a new execution is recorded");
                if is_misfit {
                    work.alert(Anomaly::MisfitConfirmed);
                }
            }
            Some(Execution::Counted { num_shares, price }) => {
                if (num_shares, price) != (fill.num_shares, fill.price) {
                    work.quarantine(CaseCause::IdUsedAgain, Some(fill), "in the exchange's record");
                }
            }
            // An operator decided what counts under this id.
            Some(Execution::Booked { .. } | Execution::Busted) => {}
        }
    }
}

/// Takes back the executions that the record proves void, and doubts those that it lacks without
/// proof.
pub(super) fn judge_missing(work: &mut Work<'_, '_>, mut listed: Listed) {
    if listed.lacks_newer {
        let again = work.turn.now.saturating_add_micros(work.turn.options.grace_micros);
        work.schedule_query(again);
    }
    let missing = std::mem::take(&mut listed.missing);
    let (proven, mut doubtful): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| is_proven_void(work, &listed, id));
    if is_explained_by(work, &listed, &doubtful) {
        take_back(work, std::mem::take(&mut doubtful));
        // A fit is no proof: if the list was truncated, a later record shows the executions again.
        schedule_two_queries(work);
    }
    take_back(work, proven);
    // A truncated list with the same total does not contradict what counts here.
    let contradicts = listed.filled.max(listed.sum()) < work.order().filled_shares;
    let is_short = listed.sum() < listed.filled && work.order().filled_shares < listed.filled;
    assert!(
        !(contradicts && is_short),
        "a record has more filled shares than count here, or fewer"
    );
    if !is_short {
        work.supersede_order(CaseCause::ShortList);
    }
    if (doubtful.is_empty() || !contradicts) && !is_short {
        work.entry.underway.doubt = None;
        return;
    }
    assert!(
        is_short || (contradicts && !doubtful.is_empty()),
        "an order is in doubt about executions that the record lacks, or that it does not list"
    );
    let covers = listed.covers.is_some() && listed.is_whole();
    let is_old = keep_in_doubt(work, covers);
    if is_old && contradicts {
        open_doubtful(work, doubtful, "it counts, and the exchange's record lacks it");
    }
    if is_old && is_short {
        let text = format!(
            "the exchange's record has {} shares filled and lists executions of {}; {} count here",
            listed.filled,
            listed.sum(),
            work.order().filled_shares
        );
        work.quarantine_order(CaseCause::ShortList, &text);
    }
}

/// Whether the record lacks the execution although it is complete up to the line that showed it. If
/// the line is unknown, because the execution is from an earlier session or run, this takes two
/// such records, the second of which covers everything that the feed had brought at the first, and
/// an order that has been quiet: an execution that was posted to us may be ahead of its line.
fn is_proven_void(work: &Work<'_, '_>, listed: &Listed, id: &ExecutionId) -> bool {
    let (session, sequence) = work.turn.feed.place();
    // Without these it is no proof.
    let (Some(covers), true) = (listed.covers, listed.is_whole()) else { return false };
    match work.entry.underway.lines.shown(id, session) {
        Shown::ByLine(line) => covers >= line,
        Shown::ByRecord => false,
        Shown::Before => {
            let doubt = work.entry.underway.doubt.as_ref();
            let quiet_micros = work.turn.now.micros_since(work.order().updated_at);
            if quiet_micros < work.turn.options.doubt_age_micros {
                return false;
            }
            doubt.and_then(|doubt| doubt.covered_since).is_some_and(|(since, feed)| {
                assert!(since <= work.turn.now, "a record comes before the one that confirms it");
                assert!(feed <= (session, sequence), "the feed never goes back");
                let waited = work.turn.now.micros_since(since);
                let is_second = waited >= work.turn.options.unknown_span_micros;
                is_second && feed.0 == session && covers >= feed.1
            })
        }
    }
}

/// Whether exactly these executions over-fill the order, and the record fits the order without
/// them. Never for an execution shown by a line after what the record covers: the record is older.
fn is_explained_by(work: &Work<'_, '_>, listed: &Listed, doubtful: &[ExecutionId]) -> bool {
    let (session, _) = work.turn.feed.place();
    let is_newer = |id: &ExecutionId| match work.entry.underway.lines.shown(id, session) {
        Shown::ByLine(line) => listed.covers.is_some_and(|covers| covers < line),
        Shown::ByRecord | Shown::Before => false,
    };
    if doubtful.iter().any(is_newer) {
        return false;
    }
    let order = work.order();
    // Zero unless it is over-filled.
    let excess = order.filled_shares.saturating_sub(order.num_shares);
    let executions = work.entry.tracked.executions();
    let counted = doubtful.iter().filter_map(|id| executions.get(id)?.counted());
    let shares = counted.fold(0, |sum: Shares, (shares, _)| sum.saturating_add(shares));
    let is_explained =
        excess > 0 && shares == excess && listed.is_whole() && listed.filled <= order.num_shares;
    assert!(!is_explained || !doubtful.is_empty(), "an over-fill is explained by executions");
    is_explained
}

fn take_back(work: &mut Work<'_, '_>, executions: Vec<ExecutionId>) {
    for execution_id in executions {
        let open = work.entry.tracked.case_of(&execution_id).map(|open| open.number);
        let filled_before = work.order().filled_shares;
        assert!(
            matches!(
                work.entry.tracked.executions().get(&execution_id),
                Some(Execution::Counted { .. })
            ),
            "only what counts is taken back"
        );
        work.record(Change::TakenBack { execution_id });
        assert!(work.order().filled_shares <= filled_before, "what is taken back counts no more");
        work.alert(Anomaly::TakenBack);
        if let Some(number) = open {
            work.supersede(number, "the exchange's record proves it void");
        }
    }
}

/// Queries again with growing pauses. Returns whether the order has been in doubt for so long that
/// operators have to know.
fn keep_in_doubt(work: &mut Work<'_, '_>, is_whole_and_covers: bool) -> bool {
    let (now, options) = (work.turn.now, *work.turn.options);
    let feed = work.turn.feed.place();
    let doubt = work.entry.underway.doubt.get_or_insert_default();
    if is_whole_and_covers && doubt.covered_since.is_none_or(|(_, (session, _))| session != feed.0)
    {
        doubt.covered_since = Some((now, feed));
    }
    let since = *doubt.missing_since.get_or_insert(now);
    assert!(since <= now, "doubt begins before it is noted");
    assert!(
        doubt.covered_since.is_none_or(|(covered_since, _)| covered_since <= now),
        "a record comes before it is judged"
    );
    let pause = options.grace_micros.saturating_mul(1 << doubt.records.min(MAX_DOUBLINGS));
    doubt.records = doubt.records.saturating_add(1);
    work.schedule_query(now.saturating_add_micros(pause.min(options.max_doubt_pause_micros)));
    now.micros_since(since) >= options.doubt_age_micros
}

/// Opens a case, once each, for executions that count and are doubtful.
pub(super) fn open_doubtful(work: &mut Work<'_, '_>, doubtful: Vec<ExecutionId>, text: &str) {
    for execution_id in doubtful {
        if work.entry.tracked.case_of(&execution_id).is_some() {
            continue;
        }
        let counted = work.entry.tracked.executions().get(&execution_id);
        let Some(Execution::Counted { num_shares, price }) = counted else {
            unreachable!("a doubtful execution counts until it is taken back: {counted:?}");
        };
        let executed_at = work.order().updated_at;
        let fill = Fill { execution_id, price, num_shares, executed_at };
        let text = case_text(text);
        work.open_case(Case { cause: CaseCause::Doubtful, execution: Some(fill), text });
    }
}
