//! Between the exchange's words and the engine's. What is said about one order is turned into what
//! the engine takes; what cannot be understood becomes an unknown outcome, never a guess.

use std::collections::HashMap;

use compact_str::{CompactString, ToCompactString, format_compact};

use crate::engine::{
    CancelOutcome, CancelRefusal, ExchangeState, QueryAnswer, Report, SubmitOutcome,
};
use crate::exchange::wire::{
    CancelResult, ExchangeStatus, FeedLine, FeedLineType, QueryResult, Refusal, SubmitOrder,
    SubmitResult,
};
use crate::order::{Fill, Order, ReportKind};
use crate::types::{ExternalOrderId, MAX_ORDER_SHARES, OrderId, Shares, TimestampMicros};

/// Longest reason that is kept, in bytes. Records are small and an exchange may be wordy.
const MAX_REASON_BYTES: usize = 200;

/// The order as the exchange takes it, with its deadline by the exchange's clock.
pub(super) fn submit_order(order: &Order, submit_before: TimestampMicros) -> SubmitOrder {
    SubmitOrder {
        client_order_id: order.order_id.to_compact_string(),
        side: order.position,
        symbol: order.symbol,
        order_type: order.order_type(),
        limit_price_in_cents: order.limit_price,
        time_in_force: order.time_in_force,
        num_shares: order.num_shares,
        submit_before,
    }
}

/// What became of each of `orders`, by the id in its result: an answer may leave some out or turn
/// their order around.
pub(super) fn submit_outcomes(
    orders: &[SubmitOrder],
    results: Vec<SubmitResult>,
) -> Vec<SubmitOutcome> {
    let mut by_id: HashMap<CompactString, SubmitResult> =
        results.into_iter().map(|result| (result.client_order_id.clone(), result)).collect();
    let outcome = |order: &SubmitOrder| match by_id.remove(&order.client_order_id) {
        Some(SubmitResult { external_order_id: Some(id), error: None, .. }) => {
            SubmitOutcome::Accepted(id)
        }
        Some(SubmitResult { external_order_id: None, error: Some(refusal), .. }) => {
            SubmitOutcome::Refused { reason: reason(&refusal) }
        }
        Some(_) | None => SubmitOutcome::Unknown,
    };
    orders.iter().map(outcome).collect()
}

/// What became of each cancel.
pub(super) fn cancel_outcomes(
    ids: &[ExternalOrderId],
    results: Vec<CancelResult>,
) -> Vec<CancelOutcome> {
    let mut by_id: HashMap<ExternalOrderId, CancelResult> =
        results.into_iter().map(|result| (result.external_order_id.clone(), result)).collect();
    ids.iter().map(|id| by_id.remove(id).map_or(CancelOutcome::Unknown, cancel_outcome)).collect()
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

/// The exchange's record of each order; `None` where it said nothing that can be used.
pub(super) fn query_answers(
    ids: &[CompactString],
    results: Vec<QueryResult>,
) -> Vec<Option<QueryAnswer>> {
    let mut by_id: HashMap<CompactString, QueryResult> =
        results.into_iter().map(|result| (result.client_order_id.clone(), result)).collect();
    ids.iter().map(|id| by_id.remove(id).and_then(query_answer)).collect()
}

fn query_answer(result: QueryResult) -> Option<QueryAnswer> {
    let state = match result.status {
        ExchangeStatus::Unknown => return Some(QueryAnswer::Unknown),
        ExchangeStatus::Rejected => {
            let reason = result.error.as_ref().map_or("rejected".into(), reason);
            return Some(QueryAnswer::Rejected { reason });
        }
        ExchangeStatus::Open => ExchangeState::Open,
        ExchangeStatus::Filled => ExchangeState::Filled,
        ExchangeStatus::Cancelled => ExchangeState::Cancelled,
        ExchangeStatus::Expired => ExchangeState::Expired,
    };
    let executions = result.executions.into_iter().map(|execution| {
        Some(Fill {
            execution_id: execution.execution_id,
            price: execution.price_in_cents,
            num_shares: executed_shares(execution.num_shares)?,
            executed_at: execution.timestamp,
        })
    });
    Some(QueryAnswer::Known {
        external_order_id: result.external_order_id?,
        state,
        executions: executions.collect::<Option<_>>()?,
    })
}

/// Shares of an execution: some, and no more than the largest order has. Whatever says otherwise is
/// not understood; taken for true it would go beyond what an order can count.
fn executed_shares(num_shares: Shares) -> Option<Shares> {
    (1..=MAX_ORDER_SHARES).contains(&num_shares).then_some(num_shares)
}

/// What a feed line says of an order; `None` for a line without one, or without what its type
/// needs.
pub(super) fn report(line: FeedLine) -> Option<Report> {
    let kind = match line.line_type {
        FeedLineType::Trade => ReportKind::Filled(Fill {
            execution_id: line.execution_id?,
            price: line.price_in_cents?,
            num_shares: executed_shares(line.num_shares?)?,
            executed_at: line.timestamp,
        }),
        FeedLineType::Bust => ReportKind::Busted { execution_id: line.execution_id? },
        FeedLineType::Cancelled => ReportKind::Cancelled,
        FeedLineType::Expired => ReportKind::Expired,
        FeedLineType::Heartbeat => return None,
    };
    Some(Report { external_order_id: line.order_id?, kind })
}

/// Our order ids as the exchange knows them.
pub(super) fn client_order_id(order_id: OrderId) -> CompactString {
    order_id.to_compact_string()
}

fn reason(refusal: &Refusal) -> CompactString {
    let mut reason = format_compact!("{}: {}", refusal.code, refusal.message);
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    reason
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{from_value, json};

    fn orders(ids: &[&str]) -> Vec<SubmitOrder> {
        let order = |id: &&str| {
            from_value(json!({
                "clientOrderId": id, "side": "buy", "symbol": "IBM", "type": "market",
                "timeInForce": "day", "numShares": 1, "submitBefore": 1,
            }))
        };
        ids.iter().map(|id| order(id).unwrap()).collect()
    }

    #[test]
    fn submit_results_find_their_orders_and_what_is_missing_is_unknown() {
        let results = json!([
            {"clientOrderId": "c", "error": {"code": "too_late", "message": "sorry"}},
            {"clientOrderId": "a", "externalOrderId": "X"},
            {"clientOrderId": "d"},
        ]);
        let outcomes =
            submit_outcomes(&orders(&["a", "b", "c", "d"]), from_value(results).unwrap());
        assert_eq!(outcomes[0], SubmitOutcome::Accepted(ExternalOrderId::new("X").unwrap()));
        assert_eq!(outcomes[1], SubmitOutcome::Unknown);
        assert_eq!(outcomes[2], SubmitOutcome::Refused { reason: "too_late: sorry".into() });
        assert_eq!(outcomes[3], SubmitOutcome::Unknown, "neither accepted nor refused");
    }

    #[test]
    fn cancel_results_say_whether_the_order_lives() {
        let ids = ["a", "b", "c", "d"].map(|id| ExternalOrderId::new(id).unwrap());
        let error = |code: &str| json!({"code": code, "message": "m"});
        let results = json!([
            {"externalOrderId": "a", "status": "cancelled"},
            {"externalOrderId": "b", "error": error("filled")},
            {"externalOrderId": "c", "error": error("halted")},
        ]);
        let outcomes = cancel_outcomes(&ids, from_value(results).unwrap());
        assert_eq!(outcomes[0], CancelOutcome::Cancelled);
        let why = |outcome: &CancelOutcome| match outcome {
            CancelOutcome::Refused { why, .. } => Some(*why),
            CancelOutcome::Cancelled | CancelOutcome::Unknown => None,
        };
        assert_eq!(why(&outcomes[1]), Some(CancelRefusal::AlreadyEnded));
        assert_eq!(why(&outcomes[2]), Some(CancelRefusal::Declined));
        assert_eq!(outcomes[3], CancelOutcome::Unknown);
    }

    #[test]
    fn a_record_without_the_exchanges_id_says_nothing() {
        let ids = ["a".into(), "b".into(), "c".into()];
        let results = json!([
            {"clientOrderId": "a", "status": "open"},
            {"clientOrderId": "b", "status": "unknown"},
        ]);
        let answers = query_answers(&ids, from_value(results).unwrap());
        assert_eq!(answers, vec![None, Some(QueryAnswer::Unknown), None]);
    }

    #[test]
    fn lines_need_what_their_type_needs() {
        let line = |value| report(from_value(value).unwrap());
        let trade = json!({"sequence": 1, "type": "trade", "executionId": "e", "symbol": "IBM",
            "priceInCents": 5, "numShares": 2, "orderId": "X", "timestamp": 3});
        assert!(matches!(line(trade.clone()).unwrap().kind, ReportKind::Filled(_)));
        for member in ["executionId", "priceInCents", "numShares", "orderId"] {
            let mut less = trade.clone();
            less.as_object_mut().unwrap().remove(member);
            assert_eq!(line(less), None, "without {member}");
        }
    }

    #[test]
    fn executions_of_nothing_or_of_more_than_any_order_has_are_not_understood() {
        for (num_shares, is_understood) in
            [(0, false), (1, true), (MAX_ORDER_SHARES, true), (MAX_ORDER_SHARES + 1, false)]
        {
            let execution = json!({"executionId": "e", "priceInCents": 5, "numShares": num_shares,
                "timestamp": 3});
            let mut line = execution.clone();
            let more = json!({"sequence": 1, "type": "trade", "symbol": "IBM", "orderId": "X"});
            line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            assert_eq!(report(from_value(line).unwrap()).is_some(), is_understood, "{num_shares}");
            let record = json!([{"clientOrderId": "a", "externalOrderId": "X", "status": "open",
                "executions": [execution]}]);
            let answers = query_answers(&["a".into()], from_value(record).unwrap());
            assert_eq!(answers[0].is_some(), is_understood, "{num_shares}");
        }
    }

    #[test]
    fn reasons_are_bounded_at_a_character() {
        let refusal = Refusal { code: "x".into(), message: "ä".repeat(500) };
        let reason = reason(&refusal);
        assert!(reason.len() <= MAX_REASON_BYTES && reason.len() > MAX_REASON_BYTES - 2);
    }
}
