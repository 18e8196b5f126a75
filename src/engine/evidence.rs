//! What the exchange's record of an order proves, and what it leaves in doubt.
//!
//! An execution counts as soon as any source shows it. A record takes one back only where it proves
//! itself: it is complete up to a feed line at or after the one that showed the execution, and the
//! shares that it says are filled are the sum of its list. Anything else that a record lacks goes on
//! counting, is told to operators, and is asked about again.

use std::collections::BTreeMap;

use super::entry::Shown;
use super::inputs::{ExchangeRecord, FeedPlace};
use super::partition::Work;
use crate::order::{Anomaly, Case, CaseCause, CaseDecision, CaseOutcome, Change, Execution, Fill};
use crate::types::{ExecutionId, Shares};

/// A record that cannot be taken whole doubles the pause before the next question so many times at
/// most; the longest pause is an option.
const MAX_DOUBLINGS: u32 = 16;

/// What of a record decides about executions that it lacks.
pub(super) struct Listed {
    /// The distinct executions of its list.
    shares: BTreeMap<ExecutionId, Shares>,
    /// Shares filled as it says.
    filled: Shares,
    /// Up to which line of the feed session that is being read it is complete.
    covers: Option<u64>,
    /// Executions that count here, that it lacks, and that are not newer than the question.
    missing: Vec<ExecutionId>,
    /// Whether it lacks others that are.
    lacks_newer: bool,
}

impl Listed {
    /// Looks at a record before what it shows is counted.
    pub(super) fn of(work: &Work<'_, '_>, record: &ExchangeRecord) -> Self {
        let shares: BTreeMap<ExecutionId, Shares> = record
            .executions
            .iter()
            .map(|fill| (fill.execution_id.clone(), fill.num_shares))
            .collect();
        let covers = work.turn.feed.covered_by(record.as_of.as_ref());
        let doubt = work.entry.underway.doubt.as_ref();
        let newer = doubt.map(|doubt| doubt.counted_meanwhile.as_slice()).unwrap_or_default();
        // How complete it is tells more than when it was asked for.
        let is_newer = |id: &ExecutionId| covers.is_none() && newer.contains(id);
        let counted = work.entry.tracked.executions().counted_ids();
        let lacking = counted.filter(|id| !shares.contains_key(*id)).cloned();
        let (newer, mut missing): (Vec<_>, Vec<_>) = lacking.partition(is_newer);
        // What is decided must not depend on how they are kept.
        missing.sort_unstable();
        let lacks_newer = !newer.is_empty();
        Self { shares, filled: record.filled_shares, covers, missing, lacks_newer }
    }

    fn sum(&self) -> Shares {
        self.shares.values().fold(0, |sum, shares| sum.saturating_add(*shares))
    }

    /// Whether its list is all that it says is filled.
    fn is_whole(&self) -> bool {
        self.sum() == self.filled
    }
}

/// Whether a record reconciles an order after a gap of the feed: it has to cover the gap. One that does
/// not say how complete it is may be older; then the order is asked about twice more, and nothing
/// waits for that.
pub(super) fn reconciles(work: &mut Work<'_, '_>, as_of: Option<&FeedPlace>) -> bool {
    let Some(reconciling) = work.entry.underway.reconciling.take() else { return true };
    let options = *work.turn.options;
    let (session, _) = work.turn.feed.place();
    let covers = work.turn.feed.covered_by(as_of);
    // The session that is being read has begun after the gap, or is the one with the gap.
    let is_covered =
        covers.is_some_and(|covers| reconciling.feed.0 != session || covers >= reconciling.feed.1);
    let waited = work.turn.now.micros_since(reconciling.since);
    if is_covered || session == 0 {
        return true;
    }
    if as_of.is_some() {
        let is_over = waited >= options.unmatched_report_age_micros;
        work.entry.underway.reconciling = Some(reconciling).filter(|_| !is_over);
        return is_over;
    }
    look_twice_more(work);
    true
}

fn look_twice_more(work: &mut Work<'_, '_>) {
    let [first, second, ..] = work.turn.options.relook_pauses_micros;
    work.look_again_at(work.turn.now.saturating_add_micros(first));
    work.entry.underway.extra_look = Some(work.turn.now.saturating_add_micros(second));
}

/// Counts what a record shows. What does not fit the order counts as well, since the exchange says
/// it twice, and is told to operators.
pub(super) fn count_listed(work: &mut Work<'_, '_>, executions: Vec<Fill>) {
    for fill in executions {
        let open = work.entry.tracked.case_of(&fill.execution_id);
        if let Some(open) = open.filter(|open| open.case.cause != CaseCause::IdUsedAgain) {
            let is_misfit = open.case.cause != CaseCause::Doubtful;
            // What a line said of it is confirmed only where the record says the same.
            let is_confirmed =
                open.case.execution.as_ref().is_some_and(|heard| heard.is_same(&fill));
            let (outcome, reason) = if is_confirmed {
                (CaseOutcome::Booked, "the exchange's record shows it")
            } else {
                (CaseOutcome::Superseded, "the exchange's record shows it with other numbers")
            };
            let number = open.number;
            let decision = CaseDecision { number, outcome, by: None, reason: reason.into() };
            work.record(Change::CaseClosed(Box::new(decision)));
            if is_misfit && is_confirmed {
                work.alert(Anomaly::MisfitConfirmed);
            }
        }
        match work.entry.tracked.executions().get(&fill.execution_id) {
            None | Some(Execution::TakenBack) => {
                let is_misfit = work.misfit(&fill, None).is_some();
                let (session, _) = work.turn.feed.place();
                work.entry.underway.lines.note_record(&fill.execution_id, session);
                work.record(Change::Filled(fill));
                if is_misfit {
                    work.alert(Anomaly::MisfitConfirmed);
                }
            }
            Some(Execution::Counted { num_shares, price }) => {
                if (num_shares, price) != (fill.num_shares, fill.price) {
                    work.quarantine(CaseCause::IdUsedAgain, Some(fill), "in the exchange's record");
                }
            }
            // An operator has decided what counts under this id.
            Some(Execution::Booked { .. } | Execution::Busted) => {}
        }
    }
}

/// Takes back what the record proves void, and keeps in doubt what it lacks without a proof.
pub(super) fn judge_missing(work: &mut Work<'_, '_>, mut listed: Listed) {
    if listed.lacks_newer {
        let again = work.turn.now.saturating_add_micros(work.turn.options.grace_micros);
        work.look_again_at(again);
    }
    let missing = std::mem::take(&mut listed.missing);
    let (proven, mut doubtful): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| is_proven_void(work, &listed, id));
    if is_explained_by(work, &listed, &doubtful) {
        take_back(work, std::mem::take(&mut doubtful));
        // That fits, and proves nothing: a list that was cut short shows them when it comes again.
        look_twice_more(work);
    }
    take_back(work, proven);
    // A list that is cut short and says the same total does not contradict what counts here.
    let contradicts = listed.filled.max(listed.sum()) < work.order().filled_shares;
    let is_short = listed.sum() < listed.filled && work.order().filled_shares < listed.filled;
    if (doubtful.is_empty() || !contradicts) && !is_short {
        work.entry.underway.doubt = None;
        return;
    }
    let covers = listed.covers.is_some() && listed.is_whole();
    keep_in_doubt(work, if contradicts { doubtful } else { Vec::new() }, covers);
}

/// Whether the record is complete up to the line that showed the execution, or a later one, and does
/// not have it. An execution of an earlier session, or of an earlier run, whose line is not known any
/// more, takes two such records, the second of which covers all that the feed had brought at the first.
fn is_proven_void(work: &Work<'_, '_>, listed: &Listed, id: &ExecutionId) -> bool {
    let (session, _) = work.turn.feed.place();
    let (Some(covers), true) = (listed.covers, listed.is_whole()) else { return false };
    match work.entry.underway.lines.shown(id, session) {
        Shown::ByLine(line) => covers >= line,
        Shown::ByRecord => false,
        Shown::Before => {
            let doubt = work.entry.underway.doubt.as_ref();
            doubt.and_then(|doubt| doubt.covered_since).is_some_and(|(since, feed)| {
                let waited = work.turn.now.micros_since(since);
                let is_second = waited >= work.turn.options.unknown_span_micros;
                is_second && feed.0 == session && covers >= feed.1
            })
        }
    }
}

/// Whether an order over its size is so by just these executions, and the record fits the order. Not
/// by one that a line behind what the record covers has shown: the record is older than that.
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
    let too_much = order.filled_shares.saturating_sub(order.num_shares);
    let executions = work.entry.tracked.executions();
    let counted = doubtful.iter().filter_map(|id| executions.get(id)?.counted());
    let shares = counted.fold(0, |sum: Shares, (shares, _)| sum.saturating_add(shares));
    too_much > 0 && shares == too_much && listed.is_whole() && listed.filled <= order.num_shares
}

fn take_back(work: &mut Work<'_, '_>, executions: Vec<ExecutionId>) {
    for execution_id in executions {
        let open = work.entry.tracked.case_of(&execution_id).map(|open| open.number);
        work.record(Change::TakenBack { execution_id });
        work.alert(Anomaly::TakenBack);
        if let Some(number) = open {
            work.supersede(number, "the exchange's record proves it void");
        }
    }
}

/// Asks again, less and less often; what is in doubt long enough is told to operators, once each.
fn keep_in_doubt(work: &mut Work<'_, '_>, doubtful: Vec<ExecutionId>, is_whole_and_covers: bool) {
    let (now, options) = (work.turn.now, *work.turn.options);
    let feed = work.turn.feed.place();
    let doubt = work.entry.underway.doubt.get_or_insert_default();
    if is_whole_and_covers && doubt.covered_since.is_none_or(|(_, (session, _))| session != feed.0)
    {
        doubt.covered_since = Some((now, feed));
    }
    let since = *doubt.missing_since.get_or_insert(now);
    let pause = options.grace_micros.saturating_mul(1 << doubt.looks.min(MAX_DOUBLINGS));
    doubt.looks = doubt.looks.saturating_add(1);
    work.look_again_at(now.saturating_add_micros(pause.min(options.max_doubt_pause_micros)));
    if now.micros_since(since) < options.doubt_age_micros {
        return;
    }
    for execution_id in doubtful {
        if work.entry.tracked.case_of(&execution_id).is_some() {
            continue;
        }
        let counted = work.entry.tracked.executions().get(&execution_id);
        if let Some(Execution::Counted { num_shares, price }) = counted {
            let executed_at = work.order().updated_at;
            let fill = Fill { execution_id, price, num_shares, executed_at };
            let text = "it counts, and the exchange's record lacks it".into();
            let case = Case { cause: CaseCause::Doubtful, execution: Some(fill), text };
            work.open_case(case);
        }
    }
}
