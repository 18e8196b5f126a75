use std::collections::{BTreeMap, HashMap};

use smallvec::SmallVec;

use super::inputs::Report;
use crate::order::HeldReport;
use crate::types::{ExternalOrderId, Symbol, TimestampMicros};

/// Most reports about unknown orders that are kept: 3 s of 10,400 orders/s that all fill before
/// their accept is in, which is more than a request to the exchange may take. Of more the oldest are
/// given up: an exchange may report orders of others without end.
pub const MAX_HELD_REPORTS: usize = 32_768;

/// Reports of one order that a report is compared with, to keep the same one once.
const MAX_COMPARED: usize = 256;

/// Reports about orders that nobody here knows (yet): a fill can be here before the answer to the
/// submit that it belongs to.
#[derive(Debug, Default)]
pub(super) struct HeldReports {
    /// In the order in which they came.
    by_age: BTreeMap<u64, Held>,
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
struct Held {
    line: HeldLine,
    is_logged: bool,
}

/// A report that is kept, with what of its line is not logged.
#[derive(Debug, Clone)]
pub(super) struct HeldLine {
    pub(super) report: HeldReport,
    symbol: Option<Symbol>,
    sequence: Option<u64>,
}

impl HeldLine {
    pub(super) fn new(report: Report, received_at: TimestampMicros) -> Self {
        let Report { external_order_id, kind, symbol, sequence } = report;
        Self { report: HeldReport { external_order_id, kind, received_at }, symbol, sequence }
    }
}

impl From<HeldReport> for HeldLine {
    fn from(report: HeldReport) -> Self {
        Self { report, symbol: None, sequence: None }
    }
}

impl HeldReports {
    /// Keeps a report. Without room the oldest one goes.
    pub(super) fn hold(&mut self, line: HeldLine, is_logged: bool) {
        if self.by_age.len() >= MAX_HELD_REPORTS
            && let Some(oldest) = self.remove_oldest(|_| true)
        {
            self.given_up.count += 1;
            self.given_up.newest = self.given_up.newest.max(Some(oldest.line.report.received_at));
        }
        let number = self.next_number;
        self.next_number += 1;
        self.by_external_id.entry(line.report.external_order_id.clone()).or_default().push(number);
        self.by_age.insert(number, Held { line, is_logged });
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
    pub(super) fn hold_logged(&mut self, line: &HeldLine) -> Kept {
        let numbers = self.by_external_id.get(&line.report.external_order_id);
        // Those who bring a report twice do so within a while; an order of somebody else may have
        // thousands.
        for number in numbers.into_iter().flatten().rev().take(MAX_COMPARED) {
            if let Some(held) = self.by_age.get_mut(number)
                && held.line.report.kind == line.report.kind
            {
                let was_logged = std::mem::replace(&mut held.is_logged, true);
                return if was_logged { Kept::Logged } else { Kept::Unlogged };
            }
        }
        self.hold(line.clone(), true);
        Kept::Unlogged
    }

    /// Takes what was reported of an order whose id is known now, oldest first.
    pub(super) fn take(&mut self, id: &ExternalOrderId) -> Vec<Report> {
        let numbers = self.by_external_id.remove(id).unwrap_or_default();
        let reports = numbers.iter().filter_map(|number| self.by_age.remove(number));
        let report = |HeldLine { report, symbol, sequence }| Report {
            external_order_id: report.external_order_id,
            kind: report.kind,
            symbol,
            sequence,
        };
        reports.map(|held| report(held.line)).collect()
    }

    /// Ids of reports that came before `received_before` and are still here, each report once, at
    /// most so many at a time.
    pub(super) fn unclaimed(
        &mut self,
        received_before: TimestampMicros,
        limit: usize,
    ) -> Vec<ExternalOrderId> {
        let mut ids = Vec::new();
        for (number, held) in self.by_age.range(self.first_unasked..) {
            if ids.len() == limit || held.line.report.received_at > received_before {
                break;
            }
            ids.push(held.line.report.external_order_id.clone());
            self.first_unasked = number + 1;
        }
        ids
    }

    /// Gives up what came before `received_before`, and says how many that were.
    pub(super) fn expire(&mut self, received_before: TimestampMicros) -> usize {
        let is_too_old = |held: &Held| held.line.report.received_at < received_before;
        let mut expired = 0;
        while self.remove_oldest(is_too_old).is_some() {
            expired += 1;
        }
        expired
    }

    /// Takes out the oldest report where it is such a one.
    fn remove_oldest(&mut self, is_such: impl FnOnce(&Held) -> bool) -> Option<Held> {
        let oldest = self.by_age.first_entry().filter(|oldest| is_such(oldest.get()))?;
        let (number, held) = oldest.remove_entry();
        let id = &held.line.report.external_order_id;
        if let Some(numbers) = self.by_external_id.get_mut(id) {
            // It is the oldest of its order as well, and so the first.
            if numbers.first() == Some(&number) {
                numbers.remove(0);
            }
            if numbers.is_empty() {
                self.by_external_id.remove(id);
            }
        }
        Some(held)
    }

    /// What the log does not have yet, oldest first; from then on it counts as logged.
    pub(super) fn take_unlogged(&mut self) -> Vec<HeldReport> {
        let unlogged = self.by_age.values_mut().filter(|held| !held.is_logged);
        unlogged
            .map(|held| {
                held.is_logged = true;
                held.line.report.clone()
            })
            .collect()
    }

    /// Ids that reports are kept of, oldest first, possibly repeated.
    pub(super) fn ids(&self) -> Vec<ExternalOrderId> {
        self.by_age.values().map(|held| held.line.report.external_order_id.clone()).collect()
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

    fn held_line(id: usize, at: u64) -> HeldLine {
        report(id, at).into()
    }

    fn report(id: usize, at: u64) -> HeldReport {
        HeldReport {
            external_order_id: ExternalOrderId::new(&format!("x{id}")).unwrap(),
            kind: ReportKind::Cancelled,
            received_at: TimestampMicros::new(at),
        }
    }

    #[test]
    fn reports_are_kept_until_taken_or_too_old() {
        let mut held = HeldReports::default();
        held.hold(held_line(1, 10), false);
        held.hold(held_line(2, 20), false);
        held.hold(held_line(1, 30), true);
        assert_eq!(held.take_unlogged().len(), 2);
        assert_eq!(held.take_unlogged().len(), 0, "each is logged once");
        assert_eq!(held.take(&report(1, 0).external_order_id).len(), 2);
        assert_eq!(held.take(&report(1, 0).external_order_id).len(), 0);
        assert_eq!(held.expire(TimestampMicros::new(20)), 0);
        assert_eq!(held.expire(TimestampMicros::new(21)), 1);
        assert_eq!(held.len(), 0);
    }

    #[test]
    fn each_report_is_asked_about_once_and_not_too_early() {
        let mut held = HeldReports::default();
        for (id, at) in [(1, 10), (2, 20), (3, 30)] {
            held.hold(held_line(id, at), false);
        }
        let id = |number| report(number, 0).external_order_id;
        assert_eq!(held.take(&id(1)).len(), 1, "claimed in time");
        assert_eq!(held.unclaimed(TimestampMicros::new(20), 9), [id(2)]);
        assert_eq!(held.unclaimed(TimestampMicros::new(20), 9), []);
        held.hold(held_line(2, 31), false);
        assert_eq!(held.unclaimed(TimestampMicros::new(99), 1), [id(3)]);
        assert_eq!(held.unclaimed(TimestampMicros::new(99), 1), [id(2)]);
    }

    #[test]
    fn the_same_report_is_kept_and_logged_once() {
        let mut held = HeldReports::default();
        held.hold(held_line(1, 10), false);
        assert_eq!(held.hold_logged(&held_line(1, 11)), Kept::Unlogged, "by the webhook");
        assert_eq!(held.hold_logged(&held_line(1, 12)), Kept::Logged, "again");
        assert_eq!(held.hold_logged(&held_line(2, 12)), Kept::Unlogged);
        assert_eq!(held.take_unlogged(), Vec::new());
        assert_eq!(held.len(), 2);
    }

    #[test]
    fn there_is_room_for_so_many_and_then_the_oldest_goes() {
        let mut held = HeldReports::default();
        for number in 0..MAX_HELD_REPORTS {
            held.hold(held_line(number, 1 + number as u64), false);
        }
        assert_eq!(held.take_given_up(), 0);
        assert!(!held.may_have_given_up(TimestampMicros::new(1)));
        held.hold(held_line(7, 100_000), false);
        assert_eq!(held.hold_logged(&held_line(MAX_HELD_REPORTS, 100_000)), Kept::Unlogged);
        assert_eq!(
            (held.len(), held.take_given_up(), held.take_given_up()),
            (MAX_HELD_REPORTS, 2, 0)
        );
        assert_eq!(held.take(&report(0, 0).external_order_id), [], "the oldest went");
        assert_eq!(held.take(&report(2, 0).external_order_id).len(), 1);
        assert_eq!(held.take(&report(7, 0).external_order_id).len(), 2);
        // Of orders that were there when the second came, and not of later ones.
        assert!(held.may_have_given_up(TimestampMicros::new(2)));
        assert!(!held.may_have_given_up(TimestampMicros::new(3)));
    }
}
