//! The exchange's records of orders.

use compact_str::{CompactString, format_compact};

use super::matched::{contradiction, ours, sort_out};
use super::values::{MAX_EXECUTION_SHARES, case_text_of, executed_shares, reason};
use crate::engine::{ExchangeOrderState, ExchangeRecord, FeedPlace, QueryAnswer};
use crate::exchange::wire::{AsOf, ExchangeStatus, QueryExecution, QueryResult};
use crate::exchange::{
    NamedOrder, Results, Said, UnreadableCause, UnreadableElement, UnreadableSource,
};
use crate::order::Fill;

/// The exchange's record of each order; `None` without a usable one. Elements that cannot be used
/// are added to `unreadable`.
pub(in crate::oms) fn query_answers(
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
    assert_eq!(answers.len(), ids.len(), "every order asked about has an answer, or none");
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
    let Ok(text) = serde_json::to_vec(execution) else {
        unreachable!("an execution that was read can be written: {execution:?}");
    };
    bad_value(order, &problem, &text)
}

fn bad_value(order: Option<NamedOrder>, problem: &str, text: &[u8]) -> UnreadableElement {
    let (source, cause) = (UnreadableSource::Query, UnreadableCause::BadValue);
    UnreadableElement { order, ..UnreadableElement::new(source, cause, problem, text) }
}
