//! The exchange's answers to cancels.

use super::matched::{contradiction, is_named, sort_out};
use super::values::reason;
use crate::engine::{CancelOutcome, CancelRefusal};
use crate::exchange::wire::{CancelResult, ExchangeStatus};
use crate::exchange::{NamedOrder, Results, Said, UnreadableElement, UnreadableSource};
use crate::types::ExternalOrderId;

/// The outcome of each cancel.
pub(in crate::oms) fn cancel_outcomes(
    ids: &[ExternalOrderId],
    answer: Results<CancelResult>,
    unreadable: &mut Vec<UnreadableElement>,
) -> Vec<CancelOutcome> {
    let named = |id: &ExternalOrderId| NamedOrder::Theirs(id.clone());
    let (results, doubted) = (answer.results, answer.unreadable);
    let said = sort_out(ids, results, |id| {
        unreadable.push(contradiction(UnreadableSource::Cancel, named(id)));
    });
    let outcomes = said.into_iter().zip(ids).map(|(said, id)| match said {
        Said::This(result) if doubted.is_empty() || !is_named(&doubted, Some(named(id))) => {
            cancel_outcome(result)
        }
        Said::This(_) | Said::Nothing | Said::Contradiction => CancelOutcome::Unknown,
    });
    let outcomes: Vec<CancelOutcome> = outcomes.collect();
    assert_eq!(outcomes.len(), ids.len(), "every cancel has an outcome");
    unreadable.extend(doubted);
    outcomes
}

fn cancel_outcome(result: CancelResult) -> CancelOutcome {
    match (result.status, result.error) {
        (Some(ExchangeStatus::Cancelled), None) => CancelOutcome::Cancelled,
        (_, Some(refusal)) => {
            let why = match refusal.code.as_str() {
                "filled" | "already_cancelled" | "expired" => CancelRefusal::AlreadyEnded,
                "unknown" => CancelRefusal::UnknownOrder,
                _ => CancelRefusal::Declined,
            };
            CancelOutcome::Refused { why, reason: reason(&refusal) }
        }
        (_, None) => CancelOutcome::Unknown,
    }
}
