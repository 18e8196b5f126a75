//! An order with its executions and open cases, and how it takes changes.

use std::sync::Arc;

use compact_str::CompactString;

use super::case::{
    CaseCause, CaseDecision, CaseOutcome, MAX_OPEN_CASES, OpenCase, OperatorAct, case_text,
};
use super::change::{CancelCause, Change, Changed, Created};
use super::executions::{Execution, Executions};
use super::fill::Fill;
use super::record::Order;
use super::status::{Ending, Status};
use super::table::{Anomaly, Ruling, Step, ruling};
use super::transition::Before;
use crate::money::{Booked, Held, Trade};
use crate::types::{ExecutionId, PriceCents, Shares, TimestampMicros};

/// The contract's reason for an order that the exchange did not accept before its deadline.
const NOT_ACCEPTED: &str = "not accepted in time";
const CANCELLED_UNASKED: &str = "cancelled by the exchange";
const EXPIRED: &str = "expired";
const UNKNOWN: &str = "not known to the exchange";

/// An order with its distinct executions, which tell a repeated fill from a new one.
#[derive(Debug, Clone)]
pub struct TrackedOrder {
    order: Arc<Order>,
    executions: Executions,
    /// Cases awaiting a decision. Nearly always empty.
    cases: Vec<OpenCase>,
}

/// Outcome of [`TrackedOrder::apply`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether the change was applied and belongs in the log.
    pub recorded: bool,
    /// An anomaly for operators.
    pub anomaly: Option<Anomaly>,
}

/// Effect of a change on one execution.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExecutionEffect {
    /// The execution counts.
    Counts(Fill),
    /// The execution is void.
    Void {
        execution_id: ExecutionId,
        /// Whether it counts again if a source shows it again.
        taken_back: bool,
    },
}

/// Effect of a decision on the execution of its case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It counts.
    Count,
    /// It replaces the execution that counts under its id.
    Replace,
    /// The execution that counts under its id stands.
    Stands,
    /// It becomes void.
    Void,
    /// No effect.
    Nothing,
}

impl ExecutionEffect {
    pub fn execution_id(&self) -> &ExecutionId {
        match self {
            Self::Counts(fill) => &fill.execution_id,
            Self::Void { execution_id, .. } => execution_id,
        }
    }
}

impl TrackedOrder {
    /// A new order.
    pub fn new(created: &Created) -> Self {
        let order = Arc::new(Order::new(created));
        Self { order, executions: Executions::default(), cases: Vec::new() }
    }

    /// An order from its stored parts.
    pub(super) fn stored(order: Arc<Order>, executions: Executions, cases: Vec<OpenCase>) -> Self {
        order.assert_status();
        Self { order, executions, cases }
    }

    /// The current version. An `Arc` handed to readers never changes.
    pub fn order(&self) -> &Arc<Order> {
        &self.order
    }

    pub fn executions(&self) -> &Executions {
        &self.executions
    }

    /// What its account reserves for it: a function of its present state alone.
    pub(super) fn held(&self) -> Held {
        // Beyond an account is only what no validated order is: nothing is reserved for it.
        self.order.funds().held().unwrap_or(Held::Nothing)
    }

    /// An execution of this order as far as its account is concerned.
    pub(super) fn trade(&self, num_shares: Shares, price: PriceCents) -> Trade {
        Trade { symbol: self.order.symbol, side: self.order.side, num_shares, price }
    }

    /// The execution of this id and what it booked, if it counts and is in its account.
    pub(super) fn booked_trade(&self, id: &ExecutionId) -> Option<(Trade, Booked)> {
        let (num_shares, price) = self.executions.get(id)?.counted()?;
        Some((self.trade(num_shares, price), self.executions.booked(id)?))
    }

    /// Keeps what an execution that counts did to its account.
    pub(super) fn set_booked(&mut self, execution_id: &ExecutionId, booked: Option<Booked>) {
        self.executions.set_booked(execution_id, booked);
    }

    /// Cases awaiting a decision, oldest first.
    pub fn cases(&self) -> &[OpenCase] {
        &self.cases
    }

    /// Whether the execution of a case counts with the same shares and price.
    pub fn counts(&self, open: &OpenCase) -> bool {
        open.case.execution.as_ref().is_some_and(|fill| {
            let counted = self.executions.get(&fill.execution_id).and_then(Execution::counted);
            counted == Some((fill.num_shares, fill.price))
        })
    }

    /// The open case about an execution.
    pub fn case_of(&self, execution_id: &ExecutionId) -> Option<&OpenCase> {
        let is_about = |open: &&OpenCase| {
            open.case.execution.as_ref().is_some_and(|fill| fill.execution_id == *execution_id)
        };
        self.cases.iter().find(is_about)
    }

    /// Classifies a change for this order: the same change may be new or a repetition.
    pub fn step(&self, change: &Change) -> Step {
        match change {
            Change::Accepted { external_order_id } => match &self.order.external_order_id {
                None => Step::Accepted,
                Some(known) if known == external_order_id => Step::Repeated,
                Some(_) => Step::OtherAccepted,
            },
            Change::Rejected { .. } => Step::Rejected,
            Change::NotAccepted => Step::NotAccepted,
            Change::CancelRequested if self.order.cancel_requested => Step::Repeated,
            Change::CancelRequested => Step::CancelRequested,
            Change::Cancelled { .. } if self.is_known_to_have_ended() => Step::Repeated,
            Change::Cancelled { .. } => Step::Cancelled,
            Change::CancelRejected { .. } => Step::CancelRejected,
            Change::Filled(fill) => match self.executions.get(&fill.execution_id) {
                None | Some(Execution::TakenBack) => Step::Filled,
                Some(Execution::Counted { .. } | Execution::Booked { .. } | Execution::Busted) => {
                    Step::Repeated
                }
            },
            Change::Busted { execution_id } => match self.executions.get(execution_id) {
                Some(Execution::Busted) => Step::Repeated,
                Some(
                    Execution::Counted { .. } | Execution::Booked { .. } | Execution::TakenBack,
                )
                | None => Step::Busted,
            },
            Change::TakenBack { execution_id } => match self.executions.get(execution_id) {
                Some(Execution::Counted { .. }) => Step::TakenBack,
                Some(Execution::Busted | Execution::TakenBack | Execution::Booked { .. })
                | None => Step::Repeated,
            },
            Change::CaseOpened(_) => Step::CaseOpened,
            Change::CaseClosed(decision) => self.decision_step(decision),
            Change::ClosedByOperator(_) => Step::Closed,
        }
    }

    /// The effect of a change, not yet applied, on an execution.
    pub fn effect_of(&self, change: &Change) -> Option<ExecutionEffect> {
        let effect = match (change, self.step(change)) {
            (Change::Filled(fill), Step::Filled) => Some(ExecutionEffect::Counts(fill.clone())),
            (Change::Busted { execution_id }, Step::Busted) => Some(ExecutionEffect::Void {
                execution_id: execution_id.clone(),
                taken_back: false,
            }),
            (Change::TakenBack { execution_id }, Step::TakenBack) => {
                Some(ExecutionEffect::Void { execution_id: execution_id.clone(), taken_back: true })
            }
            (Change::CaseClosed(decision), Step::Filled | Step::CaseClosed) => {
                self.effect_of_decision(decision)
            }
            _ => None,
        };
        if let Some(ExecutionEffect::Counts(fill)) = &effect {
            let counted = self.executions.get(&fill.execution_id).and_then(Execution::counted);
            debug_assert_ne!(
                counted,
                Some((fill.num_shares, fill.price)),
                "an effect changes what counts"
            );
        }
        effect
    }

    fn effect_of_decision(&self, decision: &CaseDecision) -> Option<ExecutionEffect> {
        let open = self.cases.iter().find(|open| open.number == decision.number)?;
        let fill = open.case.execution.as_ref()?;
        match self.verdict(open, decision.outcome) {
            Verdict::Count | Verdict::Replace => Some(ExecutionEffect::Counts(fill.clone())),
            Verdict::Void => {
                let execution_id = fill.execution_id.clone();
                Some(ExecutionEffect::Void { execution_id, taken_back: false })
            }
            Verdict::Stands | Verdict::Nothing => None,
        }
    }

    /// The effect of a decision on the execution of its case.
    fn verdict(&self, open: &OpenCase, outcome: CaseOutcome) -> Verdict {
        // A case about the order as a whole.
        let Some(fill) = &open.case.execution else { return Verdict::Nothing };
        let known = self.executions.get(&fill.execution_id);
        // An execution already counts under this id: the case claims to replace it.
        let is_claim =
            open.case.cause != CaseCause::Doubtful && known.and_then(Execution::counted).is_some();
        match (outcome, known) {
            (CaseOutcome::Superseded, _) | (CaseOutcome::Discarded, Some(Execution::Busted)) => {
                Verdict::Nothing
            }
            (CaseOutcome::Booked, None | Some(Execution::TakenBack)) => Verdict::Count,
            (CaseOutcome::Booked, Some(Execution::Busted)) => Verdict::Nothing,
            (CaseOutcome::Booked, Some(counted)) => {
                let is_same = counted.counted() == Some((fill.num_shares, fill.price));
                if is_same { Verdict::Stands } else { Verdict::Replace }
            }
            (CaseOutcome::Discarded, _) if is_claim => Verdict::Stands,
            (CaseOutcome::Discarded, _) => Verdict::Void,
        }
    }

    /// A decision may count an execution or void it; most do neither.
    fn decision_step(&self, decision: &CaseDecision) -> Step {
        // Decided already, or never opened: an operator gives any number.
        let Some(open) = self.cases.iter().find(|open| open.number == decision.number) else {
            return Step::Repeated;
        };
        match self.verdict(open, decision.outcome) {
            Verdict::Count | Verdict::Replace => Step::Filled,
            Verdict::Void | Verdict::Stands | Verdict::Nothing => Step::CaseClosed,
        }
    }

    /// A failed order records an end at the exchange only if it is live there.
    fn is_known_to_have_ended(&self) -> bool {
        self.order.status == Status::Failed && !self.order.is_stray()
    }

    /// Applies a change, both live and in recovery.
    pub fn apply(&mut self, changed: &Changed) -> Applied {
        debug_assert_eq!(changed.order_id, self.order.order_id, "a change is about its own order");
        let before = Before::of(&self.order);
        let step = self.step(&changed.change);
        let (recorded, mut anomaly) = match ruling(before.status, step) {
            Ruling::Record => (true, None),
            Ruling::RecordAndAlert(anomaly) => (true, Some(anomaly)),
            Ruling::Nothing => (false, None),
            Ruling::Alert(anomaly) => (false, Some(anomaly)),
        };
        if recorded {
            let over_filled_before = self.order.filled_shares > self.order.num_shares;
            self.change(&changed.change, changed.at);
            assert_eq!(self.order.version, before.version, "a change makes one version");
            let order = Arc::make_mut(&mut self.order);
            order.updated_at = order.updated_at.max(changed.at);
            order.version += 1;
            order.refresh_status();
            if order.status == Status::Filled {
                // Nothing is left to cancel.
                order.cancel_requested = false;
            }
            if !over_filled_before && order.filled_shares > order.num_shares {
                anomaly = anomaly.or(Some(Anomaly::OverFill));
            }
        }
        self.assert_invariants();
        before.assert_allows(&self.order, step, recorded);
        Applied { recorded, anomaly }
    }

    fn change(&mut self, change: &Change, at: TimestampMicros) {
        match change {
            Change::Filled(fill) => self.count(fill),
            Change::Busted { execution_id } => self.void(execution_id, Execution::Busted),
            Change::Accepted { external_order_id } => {
                Arc::make_mut(&mut self.order).external_order_id = Some(external_order_id.clone());
            }
            Change::Rejected { reason } => self.end(Ending::Rejected, Some(reason.clone())),
            Change::NotAccepted => self.end(Ending::NotAccepted, Some(NOT_ACCEPTED.into())),
            Change::CancelRequested => Arc::make_mut(&mut self.order).cancel_requested = true,
            Change::CancelRejected { .. } => {
                Arc::make_mut(&mut self.order).cancel_requested = false;
            }
            Change::Cancelled { cause } => self.cancel(*cause),
            Change::TakenBack { execution_id } => self.void(execution_id, Execution::TakenBack),
            Change::CaseOpened(case) => self.cases.push(OpenCase {
                number: self.order.version + 1,
                opened_at_micros: at.micros(),
                case: (**case).clone(),
            }),
            Change::CaseClosed(decision) => self.decide(decision),
            Change::ClosedByOperator(act) => self.close(act),
        }
    }

    fn decide(&mut self, decision: &CaseDecision) {
        let Some(place) = self.cases.iter().position(|open| open.number == decision.number) else {
            unreachable!("a decision is recorded only for an open case: {decision}");
        };
        let open = self.cases.remove(place);
        let verdict = self.verdict(&open, decision.outcome);
        // A case about the order as a whole has no execution.
        let Some(fill) = open.case.execution else { return };
        match verdict {
            Verdict::Count => self.count(&fill),
            Verdict::Replace => {
                self.void(&fill.execution_id, Execution::TakenBack);
                self.count(&fill);
            }
            Verdict::Void => self.void(&fill.execution_id, Execution::Busted),
            Verdict::Stands | Verdict::Nothing => {}
        }
        self.pin_if_booked(&fill.execution_id, decision);
    }

    /// An execution booked by an operator: no record takes it back, and no other claim replaces it.
    fn pin_if_booked(&mut self, execution_id: &ExecutionId, decision: &CaseDecision) {
        if decision.by.is_some() {
            self.executions.pin(execution_id);
        }
    }

    fn close(&mut self, act: &OperatorAct) {
        assert!(!self.order.status.is_terminal(), "only an order that has not ended is closed");
        let is_unaccepted = self.order.status == Status::Pending;
        let ending =
            if is_unaccepted { Ending::FailedByOperator } else { Ending::ClosedByOperator };
        self.end(ending, Some(case_text(&format!("closed by {}: {}", act.by, act.reason))));
    }

    fn count(&mut self, fill: &Fill) {
        let execution = Execution::Counted { num_shares: fill.num_shares, price: fill.price };
        let before = self.executions.set(fill.execution_id.clone(), execution);
        assert!(before.and_then(Execution::counted).is_none(), "an execution counts once");
        assert_ne!(before, Some(Execution::Busted), "a busted execution never counts again");
        let order = Arc::make_mut(&mut self.order);
        // Saturates only for a nonsensical report from the exchange.
        order.filled_shares = order.filled_shares.saturating_add(fill.num_shares);
        let value = value_cents(fill.num_shares, fill.price.cents());
        order.filled_value_cents = order.filled_value_cents.saturating_add(value);
        if order.ending.is_some_and(|ending| !ending.is_failure()) {
            // A late fill: the fills determine the status until the exchange's record decides.
            order.ending = None;
            order.reason = None;
        }
    }

    fn void(&mut self, execution_id: &ExecutionId, void: Execution) {
        assert!(void.counted().is_none(), "a void execution does not count");
        let before = self.executions.set(execution_id.clone(), void);
        if let Some((num_shares, price)) = before.and_then(Execution::counted) {
            let order = Arc::make_mut(&mut self.order);
            debug_assert!(order.filled_shares >= num_shares, "the sum has what counts");
            // Nothing can be subtracted from a sum that saturated: it is made again from the rest.
            // The subtractions saturate only for a damaged store, whose sums fit no executions.
            order.filled_shares = match order.filled_shares {
                Shares::MAX => self.executions.counted_shares(),
                shares => shares.saturating_sub(num_shares),
            };
            order.filled_value_cents = match order.filled_value_cents {
                i64::MAX => self.executions.counted_value_cents(),
                value => value.saturating_sub(value_cents(num_shares, price.cents())),
            };
        }
    }

    fn cancel(&mut self, cause: CancelCause) {
        if self.order.status == Status::Failed {
            assert!(self.order.is_stray(), "a failed order ends only where it is live");
            Arc::make_mut(&mut self.order).taken_back = true;
            return;
        }
        assert!(!self.order.status.is_terminal(), "an order ends at the exchange once");
        match cause {
            CancelCause::Cancelled if self.order.cancel_requested || self.order.user_cancelled => {
                self.end(Ending::CancelledByUser, None);
            }
            CancelCause::Cancelled => {
                self.end(Ending::CancelledByExchange, Some(CANCELLED_UNASKED.into()));
            }
            CancelCause::Expired => self.end(Ending::Expired, Some(EXPIRED.into())),
            CancelCause::Unknown => self.end(Ending::CancelledByUser, Some(UNKNOWN.into())),
        }
    }

    fn end(&mut self, ending: Ending, reason: Option<CompactString>) {
        let order = Arc::make_mut(&mut self.order);
        assert!(order.ending.is_none(), "an order ends once");
        assert!(!order.status.is_terminal(), "an order in a terminal state does not end");
        order.ending = Some(ending);
        order.user_cancelled |= ending == Ending::CancelledByUser;
        order.reason = reason;
        order.cancel_requested = false;
    }

    fn assert_invariants(&self) {
        debug_assert!(self.cases.len() <= MAX_OPEN_CASES, "open cases are bounded");
        debug_assert_eq!(
            self.order.filled_shares,
            self.executions.counted_shares(),
            "filled shares equal the sum of the distinct executions"
        );
        debug_assert_eq!(
            self.order.filled_value_cents,
            self.executions.counted_value_cents(),
            "the filled value equals the sum of the distinct executions"
        );
        assert!(
            !(self.order.cancel_requested && self.order.status.is_terminal()),
            "an order in a terminal state has no pending cancel"
        );
        assert!(
            !self.order.taken_back || self.order.status == Status::Failed,
            "only a failed order is taken back at the exchange"
        );
    }
}

/// Saturates only for a nonsensical report from the exchange, which is recorded at the maximum
/// value.
fn value_cents(num_shares: Shares, price_cents: i64) -> i64 {
    let value = i128::from(num_shares) * i128::from(price_cents);
    i64::try_from(value).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "tracked_tests.rs"]
mod tests;
