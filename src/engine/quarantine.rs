//! The quarantine: reports that do not fit their order are kept as cases, queried, and decided by
//! the exchange's record or by an operator.

use std::sync::Arc;

use compact_str::CompactString;

use super::answers::{may_live, schedule_relook};
use super::engines::Engines;
use super::entry::QueryReason;
use super::inputs::Report;
use super::outbox::{Alert, Effect, Outbox};
use super::partition::{Engine, Turn, Work};
use crate::order::{
    Anomaly, Case, CaseCause, CaseDecision, CaseOutcome, Change, Execution, Fill,
    MAX_CASE_TEXT_BYTES, MAX_OPEN_CASES, OpenCase, OperatorAct, Order, ReportKind, TrackedOrder,
    case_text,
};
use crate::types::{ExternalOrderId, OrderId, Side, Symbol, TimestampMicros};

/// Maximum unknown orders of which an unreadable line is kept.
const MAX_UNREADABLE_OF_UNKNOWN: usize = 1_024;

/// Outcome of an operator's action.
#[derive(Debug, Clone, PartialEq)]
pub enum OperatorReply {
    /// Done: the current version of the order.
    Done(Arc<Order>),
    /// No such order in memory.
    UnknownOrder,
    /// The order has no such open case.
    UnknownCase,
    /// The order is in a terminal state.
    HasEnded(Arc<Order>),
}

impl Work<'_, '_> {
    /// Why an execution does not fit this order, if so.
    pub(super) fn misfit(&self, fill: &Fill, symbol: Option<Symbol>) -> Option<CaseCause> {
        let order = self.order();
        if symbol.is_some_and(|symbol| symbol != order.symbol) {
            return Some(CaseCause::OtherSymbol);
        }
        if fill.num_shares > order.num_shares {
            return Some(CaseCause::LargerThanOrder);
        }
        let limit = order.limit_price?;
        let is_worse = match order.side {
            Side::Buy => fill.price > limit,
            Side::Sell => fill.price < limit,
        };
        is_worse.then_some(CaseCause::BeyondLimit)
    }

    /// Opens a case, unless the same one is open, and queries the order.
    pub(super) fn quarantine(&mut self, cause: CaseCause, execution: Option<Fill>, text: &str) {
        let is_open = self.entry.tracked.cases().iter().any(|open| {
            open.case.cause == cause
                && open.case.execution == execution
                && (execution.is_some() || open.case.text == case_text(text))
        });
        if is_open {
            return;
        }
        if self.open_case(Case { cause, execution, text: case_text(text) }) {
            self.entry.underway.unreconciled = true;
            self.entry.query_fresh(QueryReason::Periodic, self.turn.now, self.turn.out);
        } else {
            let pause = self.turn.options.max_doubt_pause_micros;
            self.schedule_query(self.turn.now.saturating_add_micros(pause));
        }
    }

    /// Opens a case for an execution from a line that names another symbol or may belong to another
    /// order, unless the same execution is known here with the same numbers.
    fn quarantine_claim(&mut self, cause: CaseCause, execution: Option<Fill>, text: &str) {
        let known = execution.as_ref().and_then(|fill| {
            Some((self.entry.tracked.executions().get(&fill.execution_id)?, fill))
        });
        match known {
            Some((Execution::Counted { num_shares, price }, fill))
                if (num_shares, price) != (fill.num_shares, fill.price) =>
            {
                self.quarantine(CaseCause::IdUsedAgain, execution, text);
            }
            Some((Execution::Counted { .. } | Execution::Booked { .. } | Execution::Busted, _)) => {
            }
            Some((Execution::TakenBack, _)) | None => self.quarantine(cause, execution, text),
        }
    }

    /// Opens a case for an unreadable part of the exchange's record, unless the same one is open.
    /// Returns false if the quarantine is full; then the order is queried again nevertheless.
    pub(super) fn quarantine_part(&mut self, text: &str) -> bool {
        let text = case_text(text);
        let is_open = self
            .entry
            .tracked
            .cases()
            .iter()
            .any(|open| open.case.cause == CaseCause::Unreadable && open.case.text == text);
        let case = Case { cause: CaseCause::Unreadable, execution: None, text };
        let is_kept = is_open || self.open_case(case);
        if !is_kept {
            let pause = self.turn.options.max_doubt_pause_micros;
            self.schedule_query(self.turn.now.saturating_add_micros(pause));
        }
        is_kept
    }

    /// Opens a case and alerts operators. Returns false if the quarantine is full.
    pub(super) fn open_case(&mut self, case: Case) -> bool {
        if self.entry.tracked.cases().len() >= MAX_OPEN_CASES || self.turn.is_quarantine_full {
            self.alert(Anomaly::QuarantineFull);
            return false;
        }
        let anomaly = match case.cause {
            CaseCause::Doubtful => Anomaly::DoubtfulExecution,
            CaseCause::OtherSymbol
            | CaseCause::ShortList
            | CaseCause::BeyondLimit
            | CaseCause::LargerThanOrder
            | CaseCause::IdUsedAgain
            | CaseCause::AmbiguousOrder
            | CaseCause::Unreadable
            | CaseCause::OtherExternalId
            | CaseCause::UnknownAtExchange => Anomaly::Quarantined,
        };
        assert!(case.text.len() <= MAX_CASE_TEXT_BYTES, "the text of a case is bounded");
        let open_before = self.entry.tracked.cases().len();
        self.record(Change::CaseOpened(Box::new(case)));
        let open = self.entry.tracked.cases().len();
        assert_eq!(open, open_before + 1, "an opened case is recorded");
        assert!(open <= MAX_OPEN_CASES, "open cases are bounded");
        self.alert(anomaly);
        true
    }

    /// Closes cases of unreadable text once a record of the order is certainly newer than the text:
    /// the record includes whatever the text said.
    pub(super) fn supersede_unreadable(&mut self, covers: Option<u64>) {
        let now = self.turn.now.micros();
        let (session, _) = self.turn.feed.place();
        let is_covered = self.entry.underway.unreadable_after.is_some_and(|(of, sequence)| {
            of == session && covers.is_some_and(|covers| covers > sequence)
        });
        let unreadable = |open: &&OpenCase| open.case.cause == CaseCause::Unreadable;
        let cases = self.entry.tracked.cases().iter().filter(unreadable);
        let ages: Vec<(u64, u64)> =
            // Zero for a case of another node, whose clock may be ahead.
            cases.map(|open| (open.number, now.saturating_sub(open.opened_at_micros))).collect();
        for (number, age_micros) in ages {
            if is_covered || age_micros >= self.turn.options.unmatched_report_age_micros {
                self.supersede(number, "the exchange's record of the order has come since");
            }
        }
        assert!(
            !is_covered || !self.entry.tracked.cases().iter().any(|open| unreadable(&open)),
            "a record that covers a line makes up for it"
        );
    }

    /// Opens a case about the order as a whole, unless one of this cause is open.
    pub(super) fn quarantine_order(&mut self, cause: CaseCause, text: &str) {
        if self.entry.tracked.cases().iter().all(|open| open.case.cause != cause) {
            self.open_case(Case { cause, execution: None, text: case_text(text) });
        }
    }

    /// Closes the case of this cause about the order as a whole: the exchange's record contradicts
    /// it now.
    pub(super) fn supersede_order(&mut self, cause: CaseCause) {
        let open = self.entry.tracked.cases().iter().find(|open| open.case.cause == cause);
        if let Some(number) = open.map(|open| open.number) {
            self.supersede(number, "the exchange's record says otherwise now");
        }
    }

    /// Closes a case that has become moot.
    pub(super) fn supersede(&mut self, number: u64, reason: &'static str) {
        let is_open = |open: &OpenCase| open.number == number;
        assert!(self.entry.tracked.cases().iter().any(is_open), "an open case is superseded");
        let outcome = CaseOutcome::Superseded;
        self.close_case(CaseDecision { number, outcome, by: None, reason: reason.into() });
    }

    /// Records the decision of an open case.
    pub(super) fn close_case(&mut self, decision: CaseDecision) {
        let number = decision.number;
        let open_before = self.entry.tracked.cases().len();
        self.record(Change::CaseClosed(Box::new(decision)));
        let open = self.entry.tracked.cases();
        assert_eq!(open.len() + 1, open_before, "a decision closes one case");
        assert!(open.iter().all(|open| open.number != number), "a decided case is closed");
    }

    /// Schedules the next query while anything about the order is unsure, however the last query
    /// ended. The pause grows with the age of what is unsure.
    pub(super) fn keep_asking(&mut self, is_lost: bool) {
        let (now, options) = (self.turn.now, *self.turn.options);
        let is_due_anyway = self.entry.underway.next_query_at.is_some();
        let needs_query =
            |open: &&OpenCase| !is_due_anyway || open.case.cause != CaseCause::Doubtful;
        let cases = self.entry.tracked.cases().iter().filter(needs_query);
        let newest_case = cases.map(|open| open.opened_at_micros).max();
        let doubt = self.entry.underway.doubt.as_ref().and_then(|doubt| doubt.missing_since);
        let doubt = doubt.filter(|_| !is_due_anyway);
        let is_owed = self.entry.underway.owes_query || may_live(self.order());
        let owed = Some(self.order().updated_at).filter(|_| is_lost && is_owed);
        let unknown = self.entry.underway.unknown.map(|look| look.since).filter(|_| is_lost);
        let unsure_since = [newest_case.map(TimestampMicros::new), doubt, owed, unknown];
        let Some(since) = unsure_since.into_iter().flatten().max() else {
            // Nothing is unsure.
            let has_cases = !self.entry.tracked.cases().is_empty();
            assert!(is_due_anyway || !has_cases, "an order with open cases is asked about again");
            return;
        };
        let age = now.micros_since(since);
        let pause = if is_lost { age / 4 } else { age }.max(options.grace_micros);
        self.schedule_query(now.saturating_add_micros(pause.min(options.max_doubt_pause_micros)));
    }
}

impl Engine {
    /// Takes an unsolicited report.
    pub(super) fn report(&mut self, order_id: OrderId, report: Report, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| {
            let Report { kind, symbol, sequence, external_order_id, posted_in } = report;
            if let (ReportKind::Filled(fill), Some(sequence)) = (&kind, sequence) {
                let (number, _) = work.turn.feed.place();
                let is_in_session =
                    posted_in.is_none_or(|session| work.turn.feed.is_current(&session));
                let lines = &mut work.entry.underway.lines;
                if is_in_session {
                    lines.note_line(&fill.execution_id, (number, sequence));
                } else {
                    // As far as the feed has shown, its line is still to come.
                    lines.note_record(&fill.execution_id, number);
                }
            }
            if symbol.is_some_and(|symbol| symbol != work.order().symbol) {
                let named = symbol.map_or_else(String::new, |symbol| symbol.to_string());
                let text = format!("a line of {external_order_id} in {named}");
                return work.quarantine_claim(CaseCause::OtherSymbol, fill_of(kind), &text);
            }
            match kind {
                ReportKind::Filled(fill) => take_fill(work, fill),
                ReportKind::Busted { .. } | ReportKind::Cancelled | ReportKind::Expired => {
                    let voided_case = match &kind {
                        ReportKind::Busted { execution_id } => {
                            work.entry.tracked.case_of(execution_id).map(|open| open.number)
                        }
                        _ => None,
                    };
                    work.record(kind.into_change());
                    if let Some(number) = voided_case {
                        work.supersede(number, "the exchange has declared it void");
                    }
                }
            }
        });
    }

    /// Quarantines a line that cannot be parsed, or that may be about another order.
    pub(super) fn quarantine(
        &mut self,
        order_id: OrderId,
        cause: CaseCause,
        (execution, text): (Option<Fill>, &str),
        turn: &mut Turn<'_>,
    ) {
        self.with_order(order_id, turn, |work| {
            if cause == CaseCause::Unreadable {
                work.entry.underway.unreadable_after = Some(work.turn.feed.place());
            }
            work.quarantine_claim(cause, execution, text);
        });
    }

    fn decide_case(
        &mut self,
        order_id: OrderId,
        decision: CaseDecision,
        turn: &mut Turn<'_>,
    ) -> OperatorReply {
        let Some(tracked) = self.tracked(order_id) else { return OperatorReply::UnknownOrder };
        if !tracked.cases().iter().any(|open| open.number == decision.number) {
            return OperatorReply::UnknownCase;
        }
        let decided = self.with_order(order_id, turn, |work| {
            let events_before = work.turn.out.events.len();
            work.close_case(decision);
            assert!(
                work.turn.out.events.len() > events_before,
                "a decision of an open case is recorded"
            );
            Arc::clone(work.order())
        });
        let Some(order) = decided else { unreachable!("order {order_id} is in memory") };
        OperatorReply::Done(order)
    }

    fn close_order(
        &mut self,
        order_id: OrderId,
        act: OperatorAct,
        turn: &mut Turn<'_>,
    ) -> OperatorReply {
        let closed = self.with_order(order_id, turn, |work| {
            if work.order().status.is_terminal() {
                return OperatorReply::HasEnded(Arc::clone(work.order()));
            }
            work.record(Change::ClosedByOperator(Box::new(act)));
            assert!(work.order().status.is_terminal(), "a closed order has ended");
            schedule_relook(work);
            OperatorReply::Done(Arc::clone(work.order()))
        });
        closed.unwrap_or(OperatorReply::UnknownOrder)
    }
}

fn take_fill(work: &mut Work<'_, '_>, fill: Fill) {
    match work.entry.tracked.executions().get(&fill.execution_id) {
        // An operator decided what counts under this id, or the exchange that nothing does.
        Some(Execution::Booked { .. } | Execution::Busted) => {}
        Some(Execution::Counted { num_shares, price }) => {
            if (num_shares, price) != (fill.num_shares, fill.price) {
                work.quarantine(CaseCause::IdUsedAgain, Some(fill), "on the feed");
            }
        }
        None | Some(Execution::TakenBack) => match work.misfit(&fill, None) {
            Some(cause) => {
                let text = format!("{} shares at {} cents", fill.num_shares, fill.price.cents());
                work.quarantine(cause, Some(fill), &text);
            }
            None => {
                let open = work.entry.tracked.case_of(&fill.execution_id).map(|open| open.number);
                let events_before = work.turn.out.events.len();
                work.record(Change::Filled(fill));
                assert!(work.turn.out.events.len() > events_before, "a new execution is recorded");
                if let Some(number) = open {
                    work.supersede(number, "a line that fits the order shows it");
                }
            }
        },
    }
}

fn fill_of(kind: ReportKind) -> Option<Fill> {
    match kind {
        ReportKind::Filled(fill) => Some(fill),
        ReportKind::Busted { .. } | ReportKind::Cancelled | ReportKind::Expired => None,
    }
}

impl Engines {
    /// Takes a line that names an order and cannot be parsed: queries the order. An order that is
    /// not in memory is looked up in the store, and may still be accepted.
    pub fn unreadable(
        &mut self,
        now: TimestampMicros,
        external_order_id: &ExternalOrderId,
        text: &str,
        out: &mut Outbox,
    ) {
        if self.is_ambiguous(external_order_id) {
            let orders = self.ambiguous.get(external_order_id).cloned().unwrap_or_default();
            return orders.into_iter().for_each(|id| self.unreadable_of(now, id, text, out));
        }
        let known = self.by_external_id.get(external_order_id).copied();
        if let Some(order_id) = known.filter(|order_id| self.has(*order_id)) {
            self.note_used_late(external_order_id, order_id);
            return self.unreadable_of(now, order_id, text, out);
        }
        self.advance(now);
        if self.unreadable_of_unknown.len() >= MAX_UNREADABLE_OF_UNKNOWN {
            out.effects.push(Effect::Alert(Alert::UnreadableOfUnknown));
            return;
        }
        let id = external_order_id.clone();
        self.unreadable_of_unknown.insert(id.clone(), (case_text(text), self.now));
        assert!(
            self.unreadable_of_unknown.len() <= MAX_UNREADABLE_OF_UNKNOWN,
            "unreadable lines about unknown orders are bounded"
        );
        if self.ids_looked_up.insert(id.clone()) {
            out.effects.push(Effect::LookUpExternalId(id));
        }
    }

    /// Quarantines the unreadable line that arrived before the order's id was known.
    pub(super) fn deliver_unreadable(
        &mut self,
        id: &ExternalOrderId,
        order_id: OrderId,
        out: &mut Outbox,
    ) {
        if self.unreadable_of_unknown.is_empty() {
            return;
        }
        // Nearly no line is unreadable.
        let Some((text, _)) = self.unreadable_of_unknown.remove(id) else { return };
        let (engine, mut turn) = self.engine_and_turn(order_id, out);
        engine.quarantine(order_id, CaseCause::Unreadable, (None, text.as_str()), &mut turn);
    }

    /// Discards unreadable lines about orders that are still unknown.
    pub(super) fn expire_unreadable(&mut self, out: &mut Outbox) {
        let (now, age) = (self.now, self.options.unmatched_report_age_micros);
        let before = self.unreadable_of_unknown.len();
        self.unreadable_of_unknown.retain(|_, (_, at)| now.micros_since(*at) <= age);
        if self.unreadable_of_unknown.len() < before {
            out.effects.push(Effect::Alert(Alert::UnreadableOfUnknown));
        }
    }

    /// Takes an unreadable line about an order of ours.
    pub fn unreadable_of(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        text: &str,
        out: &mut Outbox,
    ) {
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.quarantine(order_id, CaseCause::Unreadable, (None, text), turn);
        });
    }

    /// All open cases, with their orders.
    pub fn open_cases(&self) -> impl Iterator<Item = (&TrackedOrder, &OpenCase)> {
        self.partitions().iter().flat_map(|engine| {
            let tracked = engine.lists.cases.iter().map(|id| match engine.tracked(*id) {
                Some(tracked) => tracked,
                None => unreachable!("order {id} has an open case and is in memory"),
            });
            tracked.flat_map(|tracked| tracked.cases().iter().map(move |open| (tracked, open)))
        })
    }

    /// Number of open cases.
    pub fn open_case_count(&self) -> usize {
        self.open_cases().count()
    }

    /// Applies an operator's decision about a case.
    pub fn decide_case(
        &mut self,
        now: TimestampMicros,
        (order_id, number): (OrderId, u64),
        (outcome, act): (CaseOutcome, OperatorAct),
        out: &mut Outbox,
    ) -> OperatorReply {
        let decision =
            CaseDecision { number, outcome, by: Some(act.by), reason: case_text(&act.reason) };
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.decide_case(order_id, decision, turn)
        })
    }

    /// Closes an order for an operator.
    pub fn close_order(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        act: OperatorAct,
        out: &mut Outbox,
    ) -> OperatorReply {
        let act = OperatorAct { by: act.by, reason: case_text(&act.reason) };
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.close_order(order_id, act, turn)
        })
    }

    /// Quarantines a line under an id that several orders share: their records tell whose it is.
    pub(super) fn quarantine_ambiguous(
        &mut self,
        now: TimestampMicros,
        report: Report,
        out: &mut Outbox,
    ) {
        let Some(orders) = self.ambiguous.get(&report.external_order_id).cloned() else {
            unreachable!("several orders share the id of an ambiguous line");
        };
        assert!(orders.len() > 1, "an ambiguous id is shared");
        let text: CompactString = case_text(&format!("{:?}", report.kind));
        let fill = fill_of(report.kind);
        for order_id in orders {
            let execution = fill.clone();
            self.turn(now, order_id.partition(), out, |engine, turn| {
                engine.quarantine(
                    order_id,
                    CaseCause::AmbiguousOrder,
                    (execution, text.as_str()),
                    turn,
                );
            });
        }
    }
}
