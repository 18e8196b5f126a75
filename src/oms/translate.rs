//! Translation between the exchange's JSON and the engine's inputs. What cannot be understood
//! becomes an unknown outcome, never a guess.

use std::collections::HashMap;
use std::hash::Hash;

use compact_str::{CompactString, ToCompactString, format_compact};

use crate::engine::{
    CancelOutcome, CancelRefusal, ExchangeOrderState, ExchangeRecord, FeedPlace, QueryAnswer,
    Report, SubmitOutcome,
};
use crate::exchange::wire::{
    AsOf, CancelResult, ExchangeStatus, FeedLine, FeedLineType, QueryExecution, QueryResult,
    Refusal, SubmitOrder, SubmitResult,
};
use crate::exchange::{
    NamedOrder, Results, Said, UnreadableCause, UnreadableElement, UnreadableSource,
};
use crate::order::{Fill, Order, ReportKind, case_text};
use crate::types::{ExternalOrderId, OrderId, Shares, TimestampMicros};

/// Most shares of an execution that is accepted: far more than any order has, and few enough that
/// sums of many such executions do not overflow. Their value may: an order records at most
/// `i64::MAX` cents.
const MAX_EXECUTION_SHARES: Shares = 1_000_000_000_000;
/// Longest reason that is stored, in bytes: records are small, and an exchange may be verbose.
const MAX_REASON_BYTES: usize = 200;

/// The order as sent to the exchange, with its deadline in the exchange's time.
pub(super) fn submit_order(order: &Order, submit_before: TimestampMicros) -> SubmitOrder {
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
pub(super) fn submit_outcomes(
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
    shared
}

/// The outcome of each cancel.
pub(super) fn cancel_outcomes(
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
    let outcomes = outcomes.collect();
    unreadable.extend(doubted);
    outcomes
}

/// Sorts results by the things asked for; usually there is one result each, in the same order.
/// Calls `contradicted` for each thing with contradicting results.
fn sort_out<K, A, R>(asked: &[A], results: Vec<R>, mut contradicted: impl FnMut(&K)) -> Vec<Said<R>>
where
    K: Eq + Hash + Clone,
    A: About<K>,
    R: About<K> + PartialEq,
{
    let is_plain = results.len() == asked.len()
        && asked.iter().zip(&results).all(|(asked, result)| asked.id() == result.id());
    if is_plain {
        return results.into_iter().map(Said::This).collect();
    }
    let mut by_id: HashMap<K, Said<R>> = HashMap::with_capacity(results.len());
    for result in results {
        let id = result.id().clone();
        let said = by_id.remove(&id).unwrap_or(Said::Nothing).and(result);
        by_id.insert(id, said);
    }
    let said = asked.iter().map(|asked| {
        let id = asked.id();
        let said = by_id.remove(id).unwrap_or(Said::Nothing);
        if said == Said::Contradiction {
            contradicted(id);
        }
        said
    });
    said.collect()
}

/// Something that refers to an order.
trait About<K> {
    /// The order's id.
    fn id(&self) -> &K;
}

impl<K> About<K> for K {
    fn id(&self) -> &K {
        self
    }
}

impl About<CompactString> for SubmitOrder {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

impl About<CompactString> for SubmitResult {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

impl About<ExternalOrderId> for CancelResult {
    fn id(&self) -> &ExternalOrderId {
        &self.external_order_id
    }
}

impl About<CompactString> for QueryResult {
    fn id(&self) -> &CompactString {
        &self.client_order_id
    }
}

fn ours(id: &CompactString) -> Option<NamedOrder> {
    id.parse().ok().map(NamedOrder::Ours)
}

fn contradiction(source: UnreadableSource, order: NamedOrder) -> UnreadableElement {
    let problem = "the answer contradicts itself about this item";
    let found = UnreadableElement::new(source, UnreadableCause::Contradiction, problem, b"");
    UnreadableElement { order: Some(order), ..found }
}

fn is_named(unreadable: &[UnreadableElement], order: Option<NamedOrder>) -> bool {
    order.is_some() && unreadable.iter().any(|found| found.order == order)
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

/// The exchange's record of each order; `None` without a usable one. Elements that cannot be used
/// are added to `unreadable`.
pub(super) fn query_answers(
    ids: &[CompactString],
    answer: Results<QueryResult>,
    unreadable: &mut Vec<UnreadableElement>,
) -> Vec<Option<QueryAnswer>> {
    let said = sort_out(ids, answer.results, |id| {
        unreadable.extend(ours(id).map(|order| contradiction(UnreadableSource::Query, order)));
    });
    unreadable.extend(answer.unreadable);
    let answers = said.into_iter().map(|said| match said {
        Said::This(result) => query_answer(result, unreadable),
        Said::Nothing | Said::Contradiction => None,
    });
    let answers: Vec<Option<QueryAnswer>> = answers.collect();
    let or_unreadable = |(id, answer): (&CompactString, Option<QueryAnswer>)| {
        answer.or_else(|| {
            let order = ours(id)?;
            let found = unreadable.iter().find(|found| found.order.as_ref() == Some(&order))?;
            Some(QueryAnswer::Unreadable { text: case_text_of(found) })
        })
    };
    ids.iter().zip(answers).map(or_unreadable).collect()
}

fn query_answer(
    result: QueryResult,
    unreadable: &mut Vec<UnreadableElement>,
) -> Option<QueryAnswer> {
    let as_of = result.as_of.map(|AsOf { session, sequence }| FeedPlace { session, sequence });
    let state = match result.status {
        ExchangeStatus::Unknown => return Some(QueryAnswer::Unknown { as_of }),
        ExchangeStatus::Rejected => {
            let reason = result.error.as_ref().map_or("rejected".into(), reason);
            return Some(QueryAnswer::Rejected { reason });
        }
        ExchangeStatus::Open => ExchangeOrderState::Open,
        ExchangeStatus::Filled => ExchangeOrderState::Filled,
        ExchangeStatus::Cancelled => ExchangeOrderState::Cancelled,
        ExchangeStatus::Expired => ExchangeOrderState::Expired,
    };
    let order = ours(&result.client_order_id);
    let Some(external_order_id) = result.external_order_id else {
        unreadable.push(bad_value(order, "a known order without `externalOrderId`", b""));
        return None;
    };
    let mut executions = Vec::with_capacity(result.executions.len());
    for execution in result.executions {
        match executed_shares(execution.num_shares) {
            Some(num_shares) => executions.push(Fill {
                execution_id: execution.execution_id,
                price: execution.price_in_cents,
                num_shares,
                executed_at: execution.timestamp,
            }),
            None => unreadable.push(impossible(order.clone(), &execution)),
        }
    }
    let of_order = unreadable.iter().filter(|found| found.order == order);
    Some(QueryAnswer::Known(ExchangeRecord {
        external_order_id,
        state,
        filled_shares: result.filled_shares,
        executions,
        unreadable: of_order.map(case_text_of).collect(),
        as_of,
    }))
}

fn impossible(order: Option<NamedOrder>, execution: &QueryExecution) -> UnreadableElement {
    let problem = format_compact!(
        "numShares: {}; allowed: 1 to {MAX_EXECUTION_SHARES}",
        execution.num_shares
    );
    let text = serde_json::to_vec(execution).unwrap_or_default();
    bad_value(order, &problem, &text)
}

fn bad_value(order: Option<NamedOrder>, problem: &str, text: &[u8]) -> UnreadableElement {
    let (source, cause) = (UnreadableSource::Query, UnreadableCause::BadValue);
    UnreadableElement { order, ..UnreadableElement::new(source, cause, problem, text) }
}

/// The text of an unreadable element that is stored with its order.
pub(super) fn case_text_of(found: &UnreadableElement) -> CompactString {
    case_text(&format!("{}: {}", found.problem, found.text))
}

/// The shares of an execution, if it has any and not too many to add up. Whether they fit the order
/// is the engine's decision.
fn executed_shares(num_shares: Shares) -> Option<Shares> {
    (1..=MAX_EXECUTION_SHARES).contains(&num_shares).then_some(num_shares)
}

/// The report of a line about an order; `None` for a line without an order, or without the fields
/// that its type needs. `posted_in`: the session that a posted line names.
pub(super) fn report(line: FeedLine, posted_in: Option<CompactString>) -> Option<Report> {
    let kind = match line.line_type {
        // A trade without its symbol may belong to another order.
        FeedLineType::Trade if line.symbol.is_none() => return None,
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
    Some(Report {
        external_order_id: line.order_id?,
        kind,
        symbol: line.symbol,
        sequence: Some(line.sequence),
        posted_in,
    })
}

/// Our order id as the exchange knows it.
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
        let twice =
            json!([refused("a"), refused("a"), accepted("b", "Y"), accepted("not-asked", "Z")]);
        let outcomes = submitted(&["a", "b"], twice);
        assert_eq!(outcomes[0], SubmitOutcome::Refused { reason: "halted: not now".into() });
        assert!(matches!(outcomes[1], SubmitOutcome::Accepted(_)));
        // One id for two orders: at most one of them has it.
        let shared = json!([accepted("a", "X"), accepted("b", "Y"), accepted("c", "X")]);
        let outcomes = submitted(&["a", "b", "c"], shared);
        assert_eq!(
            (&outcomes[0], &outcomes[2]),
            (&SubmitOutcome::Unknown, &SubmitOutcome::Unknown)
        );
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
        let (answers, unreadable) =
            queried(&[id.into()], json!([record("open"), record("filled")]));
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
}
