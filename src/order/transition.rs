//! What a change may do to an order: checked with each change, in release builds too.

use super::record::Order;
use super::status::Status;
use super::table::Step;
use crate::types::{Shares, TimestampMicros};

/// What a change of an order is compared with.
#[derive(Clone, Copy)]
pub(super) struct Before {
    pub(super) status: Status,
    pub(super) version: u64,
    updated_at: TimestampMicros,
    filled_shares: Shares,
    is_accepted: bool,
}

impl Before {
    pub(super) fn of(order: &Order) -> Self {
        let Order { status, version, updated_at, filled_shares, .. } = *order;
        let is_accepted = order.external_order_id.is_some();
        Self { status, version, updated_at, filled_shares, is_accepted }
    }

    /// What a change may do to an order, whatever the exchange, an operator or the log says.
    pub(super) fn assert_allows(self, order: &Order, step: Step, recorded: bool) {
        let version = self.version + u64::from(recorded);
        assert_eq!(order.version, version, "a version grows by one with each recorded change");
        assert!(!(recorded && step == Step::Repeated), "a repetition is not recorded");
        assert!(order.updated_at >= self.updated_at, "the time of an order never goes back");
        let is_about_executions = match step {
            Step::Filled | Step::Busted | Step::TakenBack | Step::CaseClosed => true,
            Step::Accepted
            | Step::OtherAccepted
            | Step::Rejected
            | Step::NotAccepted
            | Step::CancelRequested
            | Step::Cancelled
            | Step::CancelRejected
            | Step::CaseOpened
            | Step::Closed
            | Step::Repeated => false,
        };
        assert!(
            (recorded && is_about_executions) || order.filled_shares == self.filled_shares,
            "filled shares change only by executions"
        );
        assert!(
            is_about_executions || !self.status.is_terminal() || order.status.is_terminal(),
            "a terminal state stays terminal but for executions: {step:?}"
        );
        assert!(
            !self.is_accepted || order.external_order_id.is_some(),
            "the exchange's id of an order stays"
        );
    }
}
