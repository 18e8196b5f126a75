//! Reports about orders that are not known (yet).

use std::collections::{BTreeMap, HashMap};

use compact_str::CompactString;
use smallvec::SmallVec;

use super::inputs::Report;
use crate::order::UnmatchedReport;
use crate::types::{ExternalOrderId, Symbol, TimestampMicros};

/// Maximum number of unmatched reports: 3 s of 10,400 orders/s that all fill before their accept
/// arrives, more than a request to the exchange may take. Beyond that the oldest are discarded: an
/// exchange may report foreign orders without end.
pub const MAX_UNMATCHED_REPORTS: usize = 32_768;

/// Maximum number of reports of one order that a new one is compared with, to detect duplicates.
const MAX_COMPARED: usize = 256;

/// Reports about orders that are not known (yet): a fill can arrive before the answer to the submit
/// of its order.
#[derive(Debug, Default)]
pub(super) struct UnmatchedReports {
    /// In order of arrival.
    by_age: BTreeMap<u64, Unmatched>,
    by_external_id: HashMap<ExternalOrderId, SmallVec<[u64; 1]>>,
    next_number: u64,
    /// The first report not yet looked up in the store.
    first_not_looked_up: u64,
    overflow: Overflow,
}

/// Reports discarded for lack of room.
#[derive(Debug, Default)]
struct Overflow {
    /// Number since it was last taken.
    count: usize,
    /// Time of arrival of the newest ever discarded.
    newest: Option<TimestampMicros>,
}

/// Whether the log already has a report.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LogState {
    /// The log has it.
    Logged,
    /// It must be logged.
    Unlogged,
}

#[derive(Debug)]
struct Unmatched {
    line: UnmatchedLine,
    is_logged: bool,
}

/// A report, with the parts of its line that are not logged.
#[derive(Debug, Clone)]
pub(super) struct UnmatchedLine {
    pub(super) report: UnmatchedReport,
    symbol: Option<Symbol>,
    sequence: Option<u64>,
    posted_in: Option<CompactString>,
}

impl UnmatchedLine {
    pub(super) fn new(report: Report, received_at: TimestampMicros) -> Self {
        let Report { external_order_id, kind, symbol, sequence, posted_in } = report;
        let report = UnmatchedReport { external_order_id, kind, received_at };
        Self { report, symbol, sequence, posted_in }
    }
}

impl From<UnmatchedReport> for UnmatchedLine {
    fn from(report: UnmatchedReport) -> Self {
        Self { report, symbol: None, sequence: None, posted_in: None }
    }
}

impl UnmatchedReports {
    /// Keeps a report. Discards the oldest one if there is no room.
    pub(super) fn add(&mut self, line: UnmatchedLine, is_logged: bool) {
        if self.by_age.len() >= MAX_UNMATCHED_REPORTS
            && let Some(oldest) = self.remove_oldest_if(|_| true)
        {
            self.overflow.count += 1;
            self.overflow.newest = self.overflow.newest.max(Some(oldest.line.report.received_at));
        }
        let number = self.next_number;
        self.next_number += 1;
        let of_order =
            self.by_external_id.entry(line.report.external_order_id.clone()).or_default();
        assert!(of_order.last().is_none_or(|last| *last < number), "reports are kept by age");
        of_order.push(number);
        self.by_age.insert(number, Unmatched { line, is_logged });
        self.assert_invariants();
    }

    fn assert_invariants(&self) {
        assert!(self.by_age.len() <= MAX_UNMATCHED_REPORTS, "unmatched reports are bounded");
        assert!(self.by_external_id.len() <= self.by_age.len(), "an id has at least one report");
        assert_eq!(
            self.by_external_id.is_empty(),
            self.by_age.is_empty(),
            "every report is indexed by its id"
        );
        assert!(self.first_not_looked_up <= self.next_number, "what comes is not looked up yet");
    }

    /// Takes the number of reports discarded for lack of room since the last call.
    pub(super) fn take_overflow_count(&mut self) -> usize {
        std::mem::take(&mut self.overflow.count)
    }

    /// Whether a report discarded for lack of room may have been about an order created at this
    /// time.
    pub(super) fn may_have_overflowed(&self, created_at: TimestampMicros) -> bool {
        self.overflow.newest.is_some_and(|newest| created_at <= newest)
    }

    /// Keeps a report that is about to be logged. A duplicate, as feed and webhook deliver it, is
    /// kept once.
    pub(super) fn add_logged(&mut self, line: &UnmatchedLine) -> LogState {
        let numbers = self.by_external_id.get(&line.report.external_order_id);
        // Duplicates arrive close together; a foreign order may have thousands of reports.
        for number in numbers.into_iter().flatten().rev().take(MAX_COMPARED) {
            let Some(unmatched) = self.by_age.get_mut(number) else {
                unreachable!("every number in the index is one of a report");
            };
            if unmatched.line.report.kind == line.report.kind {
                let was_logged = std::mem::replace(&mut unmatched.is_logged, true);
                return if was_logged { LogState::Logged } else { LogState::Unlogged };
            }
        }
        self.add(line.clone(), true);
        LogState::Unlogged
    }

    /// Whether there is a report with this id.
    pub(super) fn has(&self, id: &ExternalOrderId) -> bool {
        self.by_external_id.contains_key(id)
    }

    /// Takes the reports with this id, oldest first.
    pub(super) fn take(&mut self, id: &ExternalOrderId) -> Vec<Report> {
        // Nearly no order has any.
        let numbers = self.by_external_id.remove(id).unwrap_or_default();
        let reports = numbers.iter().map(|number| match self.by_age.remove(number) {
            Some(unmatched) => unmatched,
            None => unreachable!("every number in the index is one of a report"),
        });
        let report = |UnmatchedLine { report, symbol, sequence, posted_in }| Report {
            external_order_id: report.external_order_id,
            kind: report.kind,
            symbol,
            sequence,
            posted_in,
        };
        let reports: Vec<Report> = reports.map(|unmatched| report(unmatched.line)).collect();
        debug_assert!(
            reports.iter().all(|report| report.external_order_id == *id),
            "a report is indexed by its own id"
        );
        self.assert_invariants();
        reports
    }

    /// Ids of reports received up to `received_before` that were not returned before, at most
    /// `limit`.
    pub(super) fn not_looked_up(
        &mut self,
        received_before: TimestampMicros,
        limit: usize,
    ) -> Vec<ExternalOrderId> {
        let mut ids = Vec::new();
        for (number, unmatched) in self.by_age.range(self.first_not_looked_up..) {
            if ids.len() == limit || unmatched.line.report.received_at > received_before {
                break;
            }
            ids.push(unmatched.line.report.external_order_id.clone());
            self.first_not_looked_up = number + 1;
        }
        assert!(ids.len() <= limit, "look-ups are bounded");
        self.assert_invariants();
        ids
    }

    /// Discards reports received before `received_before`. Returns how many.
    pub(super) fn expire(&mut self, received_before: TimestampMicros) -> usize {
        let is_too_old =
            |unmatched: &Unmatched| unmatched.line.report.received_at < received_before;
        let mut expired = 0;
        while self.remove_oldest_if(is_too_old).is_some() {
            expired += 1;
        }
        expired
    }

    /// Removes the oldest report if the predicate holds for it.
    fn remove_oldest_if(
        &mut self,
        predicate: impl FnOnce(&Unmatched) -> bool,
    ) -> Option<Unmatched> {
        let oldest = self.by_age.first_entry().filter(|oldest| predicate(oldest.get()))?;
        let (number, unmatched) = oldest.remove_entry();
        let id = &unmatched.line.report.external_order_id;
        let Some(numbers) = self.by_external_id.get_mut(id) else {
            unreachable!("every report is indexed by its id");
        };
        assert_eq!(numbers.first(), Some(&number), "the oldest report is the first of its id");
        numbers.remove(0);
        if numbers.is_empty() {
            self.by_external_id.remove(id);
        }
        self.assert_invariants();
        Some(unmatched)
    }

    /// Takes the reports that the log does not have yet, oldest first, and marks them as logged.
    pub(super) fn take_unlogged(&mut self) -> Vec<UnmatchedReport> {
        let unlogged = self.by_age.values_mut().filter(|unmatched| !unmatched.is_logged);
        unlogged
            .map(|unmatched| {
                unmatched.is_logged = true;
                unmatched.line.report.clone()
            })
            .collect()
    }

    /// Ids of all reports, oldest first, possibly repeated.
    pub(super) fn ids(&self) -> Vec<ExternalOrderId> {
        self.by_age
            .values()
            .map(|unmatched| unmatched.line.report.external_order_id.clone())
            .collect()
    }

    /// Number of reports.
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
        unmatched.add(unmatched_line(1, 10), false);
        unmatched.add(unmatched_line(2, 20), false);
        unmatched.add(unmatched_line(1, 30), true);
        assert_eq!(unmatched.take_unlogged().len(), 2);
        assert_eq!(unmatched.take_unlogged().len(), 0, "each is logged once");
        assert_eq!(unmatched.take(&report(1, 0).external_order_id).len(), 2);
        assert_eq!(unmatched.take(&report(1, 0).external_order_id).len(), 0);
        assert_eq!(unmatched.expire(TimestampMicros::new(20)), 0);
        assert_eq!(unmatched.expire(TimestampMicros::new(21)), 1);
        assert_eq!(unmatched.len(), 0);
    }

    #[test]
    fn each_report_is_looked_up_once_and_not_too_early() {
        let mut unmatched = UnmatchedReports::default();
        for (id, at) in [(1, 10), (2, 20), (3, 30)] {
            unmatched.add(unmatched_line(id, at), false);
        }
        let id = |number| report(number, 0).external_order_id;
        assert_eq!(unmatched.take(&id(1)).len(), 1, "claimed in time");
        assert_eq!(unmatched.not_looked_up(TimestampMicros::new(20), 9), [id(2)]);
        assert_eq!(unmatched.not_looked_up(TimestampMicros::new(20), 9), []);
        unmatched.add(unmatched_line(2, 31), false);
        assert_eq!(unmatched.not_looked_up(TimestampMicros::new(99), 1), [id(3)]);
        assert_eq!(unmatched.not_looked_up(TimestampMicros::new(99), 1), [id(2)]);
    }

    #[test]
    fn a_duplicate_report_is_kept_and_logged_once() {
        let mut unmatched = UnmatchedReports::default();
        unmatched.add(unmatched_line(1, 10), false);
        assert_eq!(
            unmatched.add_logged(&unmatched_line(1, 11)),
            LogState::Unlogged,
            "from the webhook"
        );
        assert_eq!(unmatched.add_logged(&unmatched_line(1, 12)), LogState::Logged, "again");
        assert_eq!(unmatched.add_logged(&unmatched_line(2, 12)), LogState::Unlogged);
        assert_eq!(unmatched.take_unlogged(), Vec::new());
        assert_eq!(unmatched.len(), 2);
    }

    #[test]
    fn the_oldest_report_is_discarded_when_full() {
        let mut unmatched = UnmatchedReports::default();
        for number in 0..MAX_UNMATCHED_REPORTS {
            unmatched.add(unmatched_line(number, 1 + number as u64), false);
        }
        assert_eq!(unmatched.take_overflow_count(), 0);
        assert!(!unmatched.may_have_overflowed(TimestampMicros::new(1)));
        unmatched.add(unmatched_line(7, 100_000), false);
        assert_eq!(
            unmatched.add_logged(&unmatched_line(MAX_UNMATCHED_REPORTS, 100_000)),
            LogState::Unlogged
        );
        assert_eq!(
            (unmatched.len(), unmatched.take_overflow_count(), unmatched.take_overflow_count()),
            (MAX_UNMATCHED_REPORTS, 2, 0)
        );
        assert_eq!(unmatched.take(&report(0, 0).external_order_id), [], "the oldest was discarded");
        assert_eq!(unmatched.take(&report(2, 0).external_order_id).len(), 1);
        assert_eq!(unmatched.take(&report(7, 0).external_order_id).len(), 2);
        // Only for orders that existed when the second report arrived.
        assert!(unmatched.may_have_overflowed(TimestampMicros::new(2)));
        assert!(!unmatched.may_have_overflowed(TimestampMicros::new(3)));
    }
}
