//! Repairs: differences that the exchange's record of an order put right, by cause.

use super::entry::{QueryReason, SubmitFate};
use super::outbox::Effect;
use super::partition::Work;
use super::repair_cause::RepairCause;
use crate::order::{Ending, Order, Status};
use crate::types::Shares;

/// The state of an order before an answer, to tell what the answer repaired.
pub(super) struct Before {
    is_undecided: bool,
    is_terminal: bool,
    filled_shares: Shares,
}

impl Before {
    pub(super) fn of(order: &Order) -> Self {
        Self {
            is_undecided: order.external_order_id.is_none() && order.status != Status::Failed,
            is_terminal: order.status.is_terminal(),
            filled_shares: order.filled_shares,
        }
    }

    /// Emits the repairs that the answer made. An answer that merely overtook another one in flight
    /// repaired nothing: so it is with queries that follow a cancel, and with accepts of this run
    /// whose answer is still to come.
    pub(super) fn note_repairs(self, work: &mut Work<'_, '_>, reason: Option<QueryReason>) {
        let order = work.order();
        let is_periodic = reason == Some(QueryReason::Periodic);
        let is_decided = order.external_order_id.is_some() || order.status == Status::Failed;
        assert!(self.is_undecided || is_decided, "what has become of a submit stays known");
        let was_learned = self.is_undecided && is_decided;
        let accepted_before = !self.is_undecided;
        let fills_came = order.filled_shares > self.filled_shares;
        let ended = !self.is_terminal && order.status == Status::Cancelled;
        let submit = match work.entry.underway.submit {
            _ if !was_learned => None,
            _ if order.ending() == Some(Ending::NotAccepted) => Some(RepairCause::NeverAccepted),
            SubmitFate::BeforeThisRun => Some(RepairCause::Crash),
            SubmitFate::Lost => Some(RepairCause::LostReply),
            SubmitFate::TimedOut => Some(RepairCause::Timeout),
            SubmitFate::InFlight | SubmitFate::Answered => None,
        };
        let fill =
            (accepted_before && is_periodic && fills_came).then_some(RepairCause::MissedFill);
        let end = (accepted_before && is_periodic && ended).then_some(RepairCause::MissedCancel);
        let order_id = order.order_id;
        assert!(
            submit.is_none() || (fill.is_none() && end.is_none()),
            "what an order did after its accept is repaired only once that is known"
        );
        for cause in [submit, fill, end].into_iter().flatten() {
            work.turn.out.effects.push(Effect::Repaired { order_id, cause });
        }
    }
}
