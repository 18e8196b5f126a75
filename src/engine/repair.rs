//! What the exchange's record of an order put right here, and how it had come to be wrong.

use super::entry::QueryReason;
use super::outbox::Effect;
use super::partition::Work;
use crate::order::{Ending, Order, Status};
use crate::types::Shares;

/// Why an order here was not what it is at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum RepairCause {
    /// The exchange's answer to the submit got lost or could not be read.
    LostReply,
    /// It did not come in time.
    Timeout,
    /// This process ended before it came.
    Crash,
    /// An execution was never reported.
    MissedFill,
    /// That the order has ended was never reported.
    MissedCancel,
    /// The exchange has not accepted the order and never will.
    NeverAccepted,
}

/// What this run knows of an order's submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SubmitFate {
    /// It belongs to an earlier run.
    #[default]
    BeforeThisRun,
    /// It is on its way, or its answer is known.
    Fine,
    /// It has no answer.
    Lost,
    /// It had none in time.
    TimedOut,
}

/// What of an order an answer may put right.
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

    /// Notes what the answer has put right. An answer that only overtook what was on its way has
    /// repaired nothing: that is so for what follows a cancel, and for accepts of this run whose
    /// answer is still to come.
    pub(super) fn note_repairs(self, work: &mut Work<'_, '_>, reason: Option<QueryReason>) {
        let order = work.order();
        let is_look = reason == Some(QueryReason::PeriodicLook);
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
        let fill = (accepted_before && is_look && fills_came).then_some(RepairCause::MissedFill);
        let end = (accepted_before && is_look && ended).then_some(RepairCause::MissedCancel);
        let order_id = order.order_id;
        for cause in [submit, fill, end].into_iter().flatten() {
            work.turn.out.effects.push(Effect::Repaired { order_id, cause });
        }
    }
}
