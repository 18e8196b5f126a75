//! What the exchange's record of an order proves, and what it leaves in doubt.
//!
//! An execution counts as soon as any source shows it. A record takes one back only where it proves
//! itself: it is complete up to a feed line at or after the one that showed the execution, and the
//! shares that it says are filled are the sum of its list. Anything else that a record lacks goes on
//! counting, is told to operators, and is asked about again.

use std::collections::BTreeMap;

use super::inputs::ExchangeRecord;
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
}

impl Listed {
    /// Looks at a record before what it shows is counted.
    pub(super) fn of(work: &Work<'_, '_>, record: &ExchangeRecord) -> Self {
        let shares: BTreeMap<ExecutionId, Shares> = record
            .executions
            .iter()
            .map(|fill| (fill.execution_id.clone(), fill.num_shares))
            .collect();
        let doubt = work.entry.underway.doubt.as_ref();
        let newer = doubt.map(|doubt| doubt.counted_meanwhile.as_slice()).unwrap_or_default();
        let counted = work.entry.tracked.executions().counted_ids();
        let missing = counted.filter(|id| !shares.contains_key(*id) && !newer.contains(id));
        let mut missing: Vec<ExecutionId> = missing.cloned().collect();
        // What is decided must not depend on how they are kept.
        missing.sort_unstable();
        let covers = work.turn.feed.covered_by(record.as_of.as_ref());
        Self { shares, filled: record.filled_shares, covers, missing }
    }

    fn sum(&self) -> Shares {
        self.shares.values().fold(0, |sum, shares| sum.saturating_add(*shares))
    }

    /// Whether its list is all that it says is filled.
    fn is_whole(&self) -> bool {
        self.sum() == self.filled
    }
}

/// Counts what a record shows. What does not fit the order counts as well, since the exchange says
/// it twice, and is told to operators.
pub(super) fn count_listed(work: &mut Work<'_, '_>, executions: Vec<Fill>) {
    for fill in executions {
        let open = work.entry.tracked.case_of(&fill.execution_id);
        if let Some(open) = open.filter(|open| open.case.cause != CaseCause::IdUsedAgain) {
            let is_misfit = open.case.cause != CaseCause::Doubtful;
            let decision = CaseDecision {
                number: open.number,
                outcome: CaseOutcome::Booked,
                by: None,
                reason: "the exchange's record shows it".into(),
            };
            work.record(Change::CaseClosed(Box::new(decision)));
            if is_misfit {
                work.alert(Anomaly::MisfitConfirmed);
            }
        }
        match work.entry.tracked.executions().get(&fill.execution_id) {
            None | Some(Execution::TakenBack) => {
                let is_misfit = work.misfit(&fill, None).is_some();
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
            Some(Execution::Busted) => {}
        }
    }
}

/// Takes back what the record proves void, and keeps in doubt what it lacks without a proof.
pub(super) fn judge_missing(work: &mut Work<'_, '_>, mut listed: Listed) {
    let missing = std::mem::take(&mut listed.missing);
    let (proven, mut doubtful): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|id| is_proven_void(work, &listed, id));
    if is_explained_by(work, &listed, &doubtful) {
        take_back(work, std::mem::take(&mut doubtful));
    }
    take_back(work, proven);
    // A list that is cut short and says the same total does not contradict what counts here.
    let contradicts = listed.filled.max(listed.sum()) < work.order().filled_shares;
    let is_short = listed.sum() < listed.filled && work.order().filled_shares < listed.filled;
    if (doubtful.is_empty() || !contradicts) && !is_short {
        work.entry.underway.doubt = None;
        return;
    }
    keep_in_doubt(work, if contradicts { doubtful } else { Vec::new() });
}

/// Whether the record is complete up to the line that showed the execution, or a later one, and does
/// not have it.
fn is_proven_void(work: &Work<'_, '_>, listed: &Listed, id: &ExecutionId) -> bool {
    let (session, _) = work.turn.feed.place();
    let line = work.entry.underway.lines.line_of(id, session);
    let covers_line = line.zip(listed.covers).is_some_and(|(line, covers)| covers >= line);
    covers_line && listed.is_whole()
}

/// Whether an order over its size is so by just these executions, and the record fits the order.
fn is_explained_by(work: &Work<'_, '_>, listed: &Listed, doubtful: &[ExecutionId]) -> bool {
    let order = work.order();
    let too_much = order.filled_shares.saturating_sub(order.num_shares);
    let executions = work.entry.tracked.executions();
    let shares = doubtful.iter().fold(0, |sum: Shares, id| match executions.get(id) {
        Some(Execution::Counted { num_shares, .. }) => sum.saturating_add(num_shares),
        Some(Execution::Busted | Execution::TakenBack) | None => sum,
    });
    too_much > 0 && shares == too_much && listed.is_whole() && listed.filled <= order.num_shares
}

fn take_back(work: &mut Work<'_, '_>, executions: Vec<ExecutionId>) {
    for execution_id in executions {
        let open = work.entry.tracked.case_of(&execution_id).map(|open| open.number);
        work.record(Change::TakenBack { execution_id });
        work.alert(Anomaly::TakenBack);
        if let Some(number) = open {
            let decision = CaseDecision {
                number,
                outcome: CaseOutcome::Superseded,
                by: None,
                reason: "the exchange's record proves it void".into(),
            };
            work.record(Change::CaseClosed(Box::new(decision)));
        }
    }
}

/// Asks again, less and less often; what is in doubt long enough is told to operators, once each.
fn keep_in_doubt(work: &mut Work<'_, '_>, doubtful: Vec<ExecutionId>) {
    let (now, options) = (work.turn.now, *work.turn.options);
    let doubt = work.entry.underway.doubt.get_or_insert_default();
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
