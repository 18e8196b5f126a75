use serde_json::{from_value, json};

use super::values::{MAX_EXECUTION_SHARES, MAX_REASON_BYTES, reason};
use super::*;
use crate::engine::{CancelOutcome, CancelRefusal, ExchangeRecord, QueryAnswer, SubmitOutcome};
use crate::exchange::UnreadableElement;
use crate::exchange::wire::{Refusal, SubmitOrder};
use crate::order::ReportKind;
use crate::types::ExternalOrderId;

fn orders(ids: &[&str]) -> Vec<SubmitOrder> {
    let order = |id: &&str| {
        from_value(json!({
            "clientOrderId": id, "side": "buy", "symbol": "IBM", "type": "market",
            "timeInForce": "day", "numShares": 1, "submitBefore": 1,
        }))
    };
    ids.iter().map(|id| order(id).unwrap()).collect()
}

fn submitted(ids: &[&str], results: serde_json::Value) -> Vec<SubmitOutcome> {
    let results = from_value::<Vec<_>>(results).unwrap().into();
    submit_outcomes(&orders(ids), results, &mut Vec::new())
}

fn queried(
    ids: &[CompactString],
    results: serde_json::Value,
) -> (Vec<Option<QueryAnswer>>, Vec<UnreadableElement>) {
    let mut unreadable = Vec::new();
    let results = from_value::<Vec<_>>(results).unwrap().into();
    (query_answers(ids, results, &mut unreadable), unreadable)
}

#[test]
fn submit_results_are_matched_by_id_and_missing_ones_are_unknown() {
    let results = json!([
        {"clientOrderId": "c", "error": {"code": "too_late", "message": "sorry"}},
        {"clientOrderId": "a", "externalOrderId": "X"},
        {"clientOrderId": "d"},
    ]);
    let outcomes = submitted(&["a", "b", "c", "d"], results);
    assert_eq!(outcomes[0], SubmitOutcome::Accepted(ExternalOrderId::new("X").unwrap()));
    assert_eq!(outcomes[1], SubmitOutcome::Unknown);
    assert_eq!(outcomes[2], SubmitOutcome::Refused { reason: "too_late: sorry".into() });
    assert_eq!(outcomes[3], SubmitOutcome::Unknown, "neither accepted nor refused");
}

#[test]
fn contradictions_are_unknown_and_never_a_refusal() {
    let error = json!({"code": "halted", "message": "not now"});
    let accepted =
        |id: &str, external: &str| json!({"clientOrderId": id, "externalOrderId": external});
    let refused = |id: &str| json!({"clientOrderId": id, "error": error});
    let both = json!({"clientOrderId": "a", "externalOrderId": "X", "error": error});
    for results in [
        json!([accepted("a", "X"), refused("a")]),
        json!([refused("a"), accepted("a", "X")]),
        json!([accepted("a", "X"), accepted("a", "Y")]),
        json!([refused("a"), refused("a"), {"clientOrderId": "a"}]),
        json!([both]),
        json!([{"clientOrderId": "a"}]),
        json!([{"clientOrderId": "a", "externalOrderId": null, "error": null}]),
        json!([refused("somebody-else")]),
        json!([]),
    ] {
        assert_eq!(submitted(&["a"], results.clone()), [SubmitOutcome::Unknown], "{results}");
    }
    let twice = json!([refused("a"), refused("a"), accepted("b", "Y"), accepted("not-asked", "Z")]);
    let outcomes = submitted(&["a", "b"], twice);
    assert_eq!(outcomes[0], SubmitOutcome::Refused { reason: "halted: not now".into() });
    assert!(matches!(outcomes[1], SubmitOutcome::Accepted(_)));
    // One id for two orders: at most one of them has it.
    let shared = json!([accepted("a", "X"), accepted("b", "Y"), accepted("c", "X")]);
    let outcomes = submitted(&["a", "b", "c"], shared);
    assert_eq!((&outcomes[0], &outcomes[2]), (&SubmitOutcome::Unknown, &SubmitOutcome::Unknown));
    assert!(matches!(outcomes[1], SubmitOutcome::Accepted(_)));
}

#[test]
fn an_unreadable_result_makes_only_its_order_unknown() {
    let id = "01930000-0000-7000-8000-00000000002a";
    let body = json!({"results": [
        {"clientOrderId": id, "externalOrderId": 7},
        {"clientOrderId": id, "error": {"code": "halted", "message": "not now"}},
        {"clientOrderId": "b", "externalOrderId": "Y"},
    ]});
    let answer = crate::exchange::read_results(body.to_string().as_bytes()).unwrap();
    let mut unreadable = Vec::new();
    let outcomes = submit_outcomes(&orders(&[id, "b"]), answer, &mut unreadable);
    assert_eq!(outcomes[0], SubmitOutcome::Unknown);
    assert!(matches!(outcomes[1], SubmitOutcome::Accepted(_)));
    assert_eq!(unreadable.len(), 1);
}

#[test]
fn contradicting_records_are_unreadable() {
    let id = "01930000-0000-7000-8000-00000000002a";
    let record =
        |status: &str| json!({"clientOrderId": id, "externalOrderId": "X", "status": status});
    let (answers, unreadable) = queried(&[id.into()], json!([record("open"), record("filled")]));
    assert!(matches!(answers[..], [Some(QueryAnswer::Unreadable { .. })]));
    assert_eq!(unreadable.len(), 1);
    let (answers, unreadable) = queried(&[id.into()], json!([record("open"), record("open")]));
    assert!(answers[0].is_some() && unreadable.is_empty());
}

#[test]
fn cancel_results_tell_whether_the_order_is_open() {
    let ids = ["a", "b", "c", "d"].map(|id| ExternalOrderId::new(id).unwrap());
    let error = |code: &str| json!({"code": code, "message": "m"});
    let results = json!([
        {"externalOrderId": "a", "status": "cancelled"},
        {"externalOrderId": "b", "error": error("filled")},
        {"externalOrderId": "c", "error": error("halted")},
    ]);
    let results = from_value::<Vec<_>>(results).unwrap().into();
    let outcomes = cancel_outcomes(&ids, results, &mut Vec::new());
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
fn a_record_without_the_exchanges_id_is_unusable() {
    let ids = ["a".into(), "b".into(), "c".into()];
    let results = json!([
        {"clientOrderId": "a", "status": "open"},
        {"clientOrderId": "b", "status": "unknown"},
    ]);
    let (answers, unreadable) = queried(&ids, results);
    assert_eq!(answers, vec![None, Some(QueryAnswer::Unknown { as_of: None }), None]);
    assert_eq!(unreadable.len(), 1);
}

#[test]
fn lines_need_the_fields_of_their_type() {
    let line = |value| report(from_value(value).unwrap(), None);
    let trade = json!({"sequence": 1, "type": "trade", "executionId": "e", "symbol": "IBM",
        "priceInCents": 5, "numShares": 2, "orderId": "X", "timestamp": 3});
    assert!(matches!(line(trade.clone()).unwrap().kind, ReportKind::Filled(_)));
    for member in ["executionId", "symbol", "priceInCents", "numShares", "orderId"] {
        let mut less = trade.clone();
        less.as_object_mut().unwrap().remove(member);
        assert_eq!(line(less), None, "without {member}");
    }
}

#[test]
fn executions_of_no_shares_or_too_many_are_unreadable() {
    for (num_shares, is_understood) in
        [(0, false), (1, true), (MAX_EXECUTION_SHARES, true), (MAX_EXECUTION_SHARES + 1, false)]
    {
        let execution = json!({"executionId": "e", "priceInCents": 5, "numShares": num_shares,
            "timestamp": 3});
        let mut line = execution.clone();
        let more = json!({"sequence": 1, "type": "trade", "symbol": "IBM", "orderId": "X"});
        line.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        assert_eq!(
            report(from_value(line).unwrap(), None).is_some(),
            is_understood,
            "{num_shares}"
        );
        let mut good = execution.clone();
        (good["executionId"], good["numShares"]) = (json!("good"), json!(1));
        let record = json!([{"clientOrderId": "a", "externalOrderId": "X", "status": "open",
            "executions": [execution, good]}]);
        let (answers, unreadable) = queried(&["a".into()], record);
        let Some(QueryAnswer::Known(ExchangeRecord { executions, .. })) = &answers[0] else {
            panic!("one execution makes the whole record unreadable: {answers:?}")
        };
        assert_eq!(executions.len(), 1 + usize::from(is_understood), "{num_shares}");
        assert_eq!(unreadable.is_empty(), is_understood, "{num_shares}");
    }
}

#[test]
fn reasons_are_bounded_at_a_character() {
    let refusal = Refusal { code: "x".into(), message: "ä".repeat(500) };
    let reason = reason(&refusal);
    assert!(reason.len() <= MAX_REASON_BYTES && reason.len() > MAX_REASON_BYTES - 2);
}
