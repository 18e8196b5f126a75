use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::inputs::Report;
use crate::order::UnmatchedReport;
use crate::types::{ExternalOrderId, Symbol, TimestampMicros};

/// Most reports about unknown orders that are kept: 3 s of 10,400 orders/s that all fill before
/// their accept is in, which is more than a request to the exchange may take. Of more the oldest are
/// given up: an exchange may report orders of others without end.
pub const MAX_UNMATCHED_REPORTS: usize = 32_768;

/// Reports of one order that a report is compared with, to keep the same one once.
const MAX_COMPARED: usize = 256;

/// Reports about orders that nobody here knows (yet): a fill can be here before the answer to the
/// submit that it belongs to.
#[derive(Debug, Default)]
pub(super) struct UnmatchedReports {
    /// In the order in which they came.
    by_age: BTreeMap<u64, Unmatched>,
    by_external_id: HashMap<ExternalOrderId, SmallVec<[u64; 1]>>,
    next_number: u64,
    /// The first report that the store has not been asked about.
    first_unasked: u64,
    given_up: GivenUp,
}

/// What is not kept any more although its time was not over.
#[derive(Debug, Default)]
struct GivenUp {
    /// How many since this was last asked.
    count: usize,
    /// When the newest of all of them came.
    newest: Option<TimestampMicros>,
}

/// What became of a report that shall be kept and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kept {
    /// The log has it already.
    Logged,
    /// It is kept, and the log has to be told.
    Unlogged,
}

#[derive(Debug)]
struct Unmatched {
    line: UnmatchedLine,
    is_logged: bool,
}

/// A report that is kept, with what of its line is not logged.
#[derive(Debug, Clone)]
pub(super) struct UnmatchedLine {
    pub(super) report: UnmatchedReport,
    symbol: Option<Symbol>,
    sequence: Option<u64>,
}

impl UnmatchedLine {
    pub(super) fn new(report: Report, received_at: TimestampMicros) -> Self {
        let Report { external_order_id, kind, symbol, sequence } = report;
        Self { report: UnmatchedReport { external_order_id, kind, received_at }, symbol, sequence }
    }
}

impl From<UnmatchedReport> for UnmatchedLine {
    fn from(report: UnmatchedReport) -> Self {
        Self { report, symbol: None, sequence: None }
    }
}

impl UnmatchedReports {
    /// Keeps a report. Without room the oldest one goes.
    pub(super) fn hold(&mut self, line: UnmatchedLine, is_logged: bool) {
        if self.by_age.len() >= MAX_UNMATCHED_REPORTS
            && let Some(oldest) = self.remove_oldest(|_| true)
        {
            self.given_up.count += 1;
            self.given_up.newest = self.given_up.newest.max(Some(oldest.line.report.received_at));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.by_external_id.entry(line.report.external_order_id.clone()).or_default().push(number);
        self.by_age.insert(number, Unmatched { line, is_logged });
    }

    /// How many reports were given up for want of room since this was last asked.
    pub(super) fn take_given_up(&mut self) -> usize {
        std::mem::take(&mut self.given_up.count)
    }

    /// Whether something that was given up for want of room may have been about an order that has
    /// existed since then.
    pub(super) fn may_have_given_up(&self, created_at: TimestampMicros) -> bool {
        self.given_up.newest.is_some_and(|newest| created_at <= newest)
    }

    /// Keeps a report that is about to be logged. The same one again, as feed and webhook both bring
    /// it, is kept once.
    pub(super) fn hold_logged(&mut self, line: &UnmatchedLine) -> Kept {
        let numbers = self.by_external_id.get(&line.report.external_order_id);
        // Those who bring a report twice do so within a while; an order of somebody else may have
        // thousands.
        for number in numbers.into_iter().flatten().rev().take(MAX_COMPARED) {
            if let Some(unmatched) = self.by_age.get_mut(number)
                && unmatched.line.report.kind == line.report.kind
            {
                let was_logged = std::mem::replace(&mut unmatched.is_logged, true);
                return if was_logged { Kept::Logged } else { Kept::Unlogged };
            }
        }
        self.hold(line.clone(), true);
        Kept::Unlogged
    }

    /// Whether something was reported of an order with this id.
    pub(super) fn has(&self, id: &ExternalOrderId) -> bool {
        self.by_external_id.contains_key(id)
    }

    /// Takes what was reported of an order whose id is known now, oldest first.
    pub(super) fn take(&mut self, id: &ExternalOrderId) -> Vec<Report> {
        let numbers = self.by_external_id.remove(id).unwrap_or_default();
        let reports = numbers.iter().filter_map(|number| self.by_age.remove(number));
        let report = |UnmatchedLine { report, symbol, sequence }| Report {
            external_order_id: report.external_order_id,
            kind: report.kind,
            symbol,
            sequence,
        };
        reports.map(|unmatched| report(unmatched.line)).collect()
    }

    /// Ids of reports that came before `received_before` and are still here, each report once, at
    /// most so many at a time.
    pub(super) fn unclaimed(
        &mut self,
        received_before: TimestampMicros,
        limit: usize,
    ) -> Vec<ExternalOrderId> {
        let mut ids = Vec::new();
        for (number, unmatched) in self.by_age.range(self.first_unasked..) {
            if ids.len() == limit || unmatched.line.report.received_at > received_before {
                break;
            }
            ids.push(unmatched.line.report.external_order_id.clone());
            self.first_unasked = number + 1;
        }
        ids
    }

    /// Gives up what came before `received_before`, and says how many that were.
    pub(super) fn expire(&mut self, received_before: TimestampMicros) -> usize {
        let is_too_old =
            |unmatched: &Unmatched| unmatched.line.report.received_at < received_before;
        let mut expired = 0;
        while self.remove_oldest(is_too_old).is_some() {
            expired += 1;
        }
        expired
    }

    /// Takes out the oldest report where it is such a one.
    fn remove_oldest(&mut self, is_such: impl FnOnce(&Unmatched) -> bool) -> Option<Unmatched> {
        let oldest = self.by_age.first_entry().filter(|oldest| is_such(oldest.get()))?;
        let (number, unmatched) = oldest.remove_entry();
        let id = &unmatched.line.report.external_order_id;
        if let Some(numbers) = self.by_external_id.get_mut(id) {
            // It is the oldest of its order as well, and so the first.
            if numbers.first() == Some(&number) {
                numbers.remove(0);
            }
            if numbers.is_empty() {
                self.by_external_id.remove(id);
            }
        }
        Some(unmatched)
    }

    /// What the log does not have yet, oldest first; from then on it counts as logged.
    pub(super) fn take_unlogged(&mut self) -> Vec<UnmatchedReport> {
        let unlogged = self.by_age.values_mut().filter(|unmatched| !unmatched.is_logged);
        unlogged
            .map(|unmatched| {
                unmatched.is_logged = true;
                unmatched.line.report.clone()
            })
            .collect()
    }

    /// Ids that reports are kept of, oldest first, possibly repeated.
    pub(super) fn ids(&self) -> Vec<ExternalOrderId> {
        self.by_age
            .values()
            .map(|unmatched| unmatched.line.report.external_order_id.clone())
            .collect()
    }

    /// Reports kept.
    pub(super) fn len(&self) -> usize {
        self.by_age.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::ReportKind;

    fn unmatched_line(id: usize, at: u64) -> UnmatchedLine {
        report(id, at).into()
    }

    fn report(id: usize, at: u64) -> UnmatchedReport {
        UnmatchedReport {
            external_order_id: ExternalOrderId::new(&format!("x{id}")).unwrap(),
            kind: ReportKind::Cancelled,
            received_at: TimestampMicros::new(at),
        }
    }

    #[test]
    fn reports_are_kept_until_taken_or_too_old() {
        let mut unmatched = UnmatchedReports::default();
        unmatched.hold(unmatched_line(1, 10), false);
        unmatched.hold(unmatched_line(2, 20), false);
        unmatched.hold(unmatched_line(1, 30), true);
        assert_eq!(unmatched.take_unlogged().len(), 2);
        assert_eq!(unmatched.take_unlogged().len(), 0, "each is logged once");
        assert_eq!(unmatched.take(&report(1, 0).external_order_id).len(), 2);
        assert_eq!(unmatched.take(&report(1, 0).external_order_id).len(), 0);
        assert_eq!(unmatched.expire(TimestampMicros::new(20)), 0);
        assert_eq!(unmatched.expire(TimestampMicros::new(21)), 1);
        assert_eq!(unmatched.len(), 0);
    }

    #[test]
    fn each_report_is_asked_about_once_and_not_too_early() {
        let mut unmatched = UnmatchedReports::default();
        for (id, at) in [(1, 10), (2, 20), (3, 30)] {
            unmatched.hold(unmatched_line(id, at), false);
        }
        let id = |number| report(number, 0).external_order_id;
        assert_eq!(unmatched.take(&id(1)).len(), 1, "claimed in time");
        assert_eq!(unmatched.unclaimed(TimestampMicros::new(20), 9), [id(2)]);
        assert_eq!(unmatched.unclaimed(TimestampMicros::new(20), 9), []);
        unmatched.hold(unmatched_line(2, 31), false);
        assert_eq!(unmatched.unclaimed(TimestampMicros::new(99), 1), [id(3)]);
        assert_eq!(unmatched.unclaimed(TimestampMicros::new(99), 1), [id(2)]);
    }

    #[test]
    fn the_same_report_is_kept_and_logged_once() {
        let mut unmatched = UnmatchedReports::default();
        unmatched.hold(unmatched_line(1, 10), false);
        assert_eq!(unmatched.hold_logged(&unmatched_line(1, 11)), Kept::Unlogged, "by the webhook");
        assert_eq!(unmatched.hold_logged(&unmatched_line(1, 12)), Kept::Logged, "again");
        assert_eq!(unmatched.hold_logged(&unmatched_line(2, 12)), Kept::Unlogged);
        assert_eq!(unmatched.take_unlogged(), Vec::new());
        assert_eq!(unmatched.len(), 2);
    }

    #[test]
    fn there_is_room_for_so_many_and_then_the_oldest_goes() {
        let mut unmatched = UnmatchedReports::default();
        for number in 0..MAX_UNMATCHED_REPORTS {
            unmatched.hold(unmatched_line(number, 1 + number as u64), false);
        }
        assert_eq!(unmatched.take_given_up(), 0);
        assert!(!unmatched.may_have_given_up(TimestampMicros::new(1)));
        unmatched.hold(unmatched_line(7, 100_000), false);
        assert_eq!(
            unmatched.hold_logged(&unmatched_line(MAX_UNMATCHED_REPORTS, 100_000)),
            Kept::Unlogged
        );
        assert_eq!(
            (unmatched.len(), unmatched.take_given_up(), unmatched.take_given_up()),
            (MAX_UNMATCHED_REPORTS, 2, 0)
        );
        assert_eq!(unmatched.take(&report(0, 0).external_order_id), [], "the oldest went");
        assert_eq!(unmatched.take(&report(2, 0).external_order_id).len(), 1);
        assert_eq!(unmatched.take(&report(7, 0).external_order_id).len(), 2);
        // Of orders that were there when the second came, and not of later ones.
        assert!(unmatched.may_have_given_up(TimestampMicros::new(2)));
        assert!(!unmatched.may_have_given_up(TimestampMicros::new(3)));
    }
}
