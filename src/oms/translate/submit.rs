//! Orders as the exchange takes them, and its answers to them.

use std::collections::HashMap;

use compact_str::ToCompactString;

use super::matched::{contradiction, is_named, ours, sort_out};
use super::values::reason;
use crate::engine::SubmitOutcome;
use crate::exchange::wire::{SubmitOrder, SubmitResult};
use crate::exchange::{Results, Said, UnreadableElement, UnreadableSource};
use crate::order::Order;
use crate::types::{ExternalOrderId, TimestampMicros};

/// The order as sent to the exchange, with its deadline in the exchange's time.
pub(in crate::oms) fn submit_order(order: &Order, submit_before: TimestampMicros) -> SubmitOrder {
    SubmitOrder {
        client_order_id: order.order_id.to_compact_string(),
        side: order.side,
        symbol: order.symbol,
        order_type: order.order_type(),
        limit_price_in_cents: order.limit_price,
        time_in_force: order.time_in_force,
        num_shares: order.num_shares,
        submit_before,
    }
}

/// The outcome of each of `orders`, matched by id: an answer may omit or reorder results. Whatever
/// is doubtful is unknown, never a refusal. Elements that cannot be used are added to `unreadable`.
pub(in crate::oms) fn submit_outcomes(
    orders: &[SubmitOrder],
    answer: Results<SubmitResult>,
    unreadable: &mut Vec<UnreadableElement>,
) -> Vec<SubmitOutcome> {
    let (results, doubted) = (answer.results, answer.unreadable);
    let said = sort_out(orders, results, |id| {
        unreadable.extend(ours(id).map(|order| contradiction(UnreadableSource::Submit, order)));
    });
    let mut outcomes: Vec<SubmitOutcome> = said.into_iter().map(submit_outcome).collect();
    for order in shared_ids(&mut outcomes).into_iter().filter_map(|place| orders.get(place)) {
        let order = ours(&order.client_order_id);
        unreadable.extend(order.map(|order| contradiction(UnreadableSource::Submit, order)));
    }
    for (outcome, order) in outcomes.iter_mut().zip(orders).filter(|_| !doubted.is_empty()) {
        if is_named(&doubted, ours(&order.client_order_id)) {
            *outcome = SubmitOutcome::Unknown;
        }
    }
    assert_eq!(outcomes.len(), orders.len(), "every order has an outcome");
    unreadable.extend(doubted);
    outcomes
}

fn submit_outcome(said: Said<SubmitResult>) -> SubmitOutcome {
    match said {
        Said::This(SubmitResult { external_order_id: Some(id), error: None, .. }) => {
            SubmitOutcome::Accepted(id)
        }
        Said::This(SubmitResult { external_order_id: None, error: Some(refusal), .. }) => {
            SubmitOutcome::Refused { reason: reason(&refusal) }
        }
        Said::This(_) | Said::Nothing | Said::Contradiction => SubmitOutcome::Unknown,
    }
}

/// Turns accepts that give several orders the same id into unknown outcomes, as at most one can be
/// right. Returns the places of these orders.
fn shared_ids(outcomes: &mut [SubmitOutcome]) -> Vec<usize> {
    let id_of = |outcome: &SubmitOutcome| match outcome {
        SubmitOutcome::Accepted(id) => Some(id.clone()),
        _ => None,
    };
    if outcomes.len() < 2 {
        return Vec::new();
    }
    let mut sorted: Vec<&ExternalOrderId> = Vec::with_capacity(outcomes.len());
    for outcome in &*outcomes {
        if let SubmitOutcome::Accepted(id) = outcome {
            sorted.push(id);
        }
    }
    sorted.sort_unstable();
    if sorted.is_sorted_by(|one, next| one < next) {
        return Vec::new();
    }
    let mut count: HashMap<ExternalOrderId, usize> = HashMap::new();
    for id in sorted {
        *count.entry(id.clone()).or_default() += 1;
    }
    let is_shared =
        |outcome: &SubmitOutcome| id_of(outcome).is_some_and(|id| count.get(&id) > Some(&1));
    let shared: Vec<usize> = outcomes
        .iter()
        .enumerate()
        .filter_map(|(place, o)| is_shared(o).then_some(place))
        .collect();
    for outcome in outcomes.iter_mut().filter(|outcome| is_shared(outcome)) {
        *outcome = SubmitOutcome::Unknown;
    }
    assert!(shared.len() > 1, "an id is shared by several orders");
    debug_assert!(!outcomes.iter().any(is_shared), "an id that is shared tells nothing");
    shared
}
