//! Repairs: differences that the exchange's record of an order put right, by cause.

use super::entry::QueryReason;
use super::outbox::Effect;
use super::partition::Work;
use crate::order::{Ending, Order, Status};
use crate::types::Shares;

/// Why an order here differed from the exchange's record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RepairCause {
    /// The answer to the submit was lost or could not be parsed.
    LostReply,
    /// The answer to the submit did not come in time.
    Timeout,
    /// This process ended before the answer came.
    Crash,
    /// An execution was never reported.
    MissedFill,
    /// The end of the order was never reported.
    MissedCancel,
    /// The exchange never accepted the order, and never will.
    NeverAccepted,
}

/// What this run knows about an order's submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SubmitFate {
    /// An earlier run submitted it.
    #[default]
    BeforeThisRun,
    /// In flight or answered.
    Fine,
    /// The answer was lost.
    Lost,
    /// No answer in time.
    TimedOut,
}

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
            SubmitFate::Fine => None,
        };
        let fill =
            (accepted_before && is_periodic && fills_came).then_some(RepairCause::MissedFill);
        let end = (accepted_before && is_periodic && ended).then_some(RepairCause::MissedCancel);
        let order_id = order.order_id;
        for cause in [submit, fill, end].into_iter().flatten() {
            work.turn.out.effects.push(Effect::Repaired { order_id, cause });
        }
    }
}
