//! Operators' decisions about orders: executions and reports in quarantine, and orders that are
//! stuck.
//!
//! `GET /quarantine`; `POST /quarantine/{orderId}/{case}/book` and `.../discard`; `POST
//! /orders/{orderId}/close`. Each decision names who and why, is durable before it is answered, and
//! is part of the order's history.

use std::fmt;
use std::net::SocketAddr;

use http::{Request, StatusCode};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::Fields;
use super::problem::{HttpResponse, Problem, json_response};
use super::query::Query;
use crate::engine::OperatorReply;
use crate::oms::{ListedCase, Quarantine};
use crate::order::{CaseCause, CaseOutcome, Fill, MAX_CASE_TEXT_BYTES, OperatorAct};
use crate::types::{OrderId, TimestampMicros};

/// Largest body: two texts.
const MAX_BODY_BYTES: usize = 4 * 1024;

/// One case as shown to operators.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Case<'a> {
    order_id: OrderId,
    case: u64,
    user: &'a str,
    cause: CaseCause,
    /// Whether its execution counts until it is decided.
    counts: bool,
    execution: Option<&'a Fill>,
    text: &'a str,
    opened_at: TimestampMicros,
}

impl<'a> Case<'a> {
    fn of(listed: &'a ListedCase) -> Self {
        let ListedCase { order_id, user, open, counts } = listed;
        Self {
            order_id: *order_id,
            case: open.number,
            user: user.as_str(),
            cause: open.case.cause,
            counts: *counts,
            execution: open.case.execution.as_ref(),
            text: &open.case.text,
            opened_at: TimestampMicros::new(open.opened_at_micros),
        }
    }
}

/// `GET /quarantine`.
pub(super) async fn list(site: &Site) -> Result<HttpResponse, Problem> {
    let waiting = site.orders.commands().quarantine().map_err(|_overloaded| busy())?;
    let Quarantine { cases, total } = waiting.await.map_err(|_gone| ending())?;
    let cases: Vec<Case<'_>> = cases.iter().map(Case::of).collect();
    Ok(json_response(StatusCode::OK, &json!({ "cases": cases, "total": total })))
}

/// The decision that a path stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    /// Books or discards the execution of a case.
    Case(OrderId, u64, CaseOutcome),
    /// Closes an order by hand.
    Close(OrderId),
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Case(order_id, case, outcome) => {
                let act = match outcome {
                    CaseOutcome::Booked => "book",
                    CaseOutcome::Discarded => "discard",
                    CaseOutcome::Superseded => "supersede",
                };
                write!(f, "{act} case {case} of order {order_id}")
            }
            Self::Close(order_id) => write!(f, "close order {order_id}"),
        }
    }
}

impl Decision {
    /// The decision that a `POST` to this path makes; `None` for any other path.
    pub(super) fn of_path(segments: &[&str]) -> Option<Self> {
        match segments {
            ["quarantine", order, case, "book"] => {
                Some(Self::Case(order.parse().ok()?, case.parse().ok()?, CaseOutcome::Booked))
            }
            ["quarantine", order, case, "discard"] => {
                Some(Self::Case(order.parse().ok()?, case.parse().ok()?, CaseOutcome::Discarded))
            }
            ["orders", order, "close"] => Some(Self::Close(order.parse().ok()?)),
            _ => None,
        }
    }
}

/// `POST` to one of these paths: answers when the decision is durable.
pub(super) async fn decide(
    site: &Site,
    decision: Decision,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let fields = Fields::parse(&body, &["by", "reason"])?;
    let act = OperatorAct {
        by: text(fields.text("by")?, "by")?.into(),
        reason: text(fields.text("reason")?, "reason")?.into(),
    };
    let (by, reason) = (act.by.as_str(), act.reason.as_str());
    let peer = peer.map(tracing::field::display);
    tracing::warn!(peer, by, reason, %decision, "an operator decides");
    let commands = site.orders.commands();
    let waiting = match decision {
        Decision::Case(order_id, number, outcome) => {
            commands.decide_case((order_id, number), outcome, act)
        }
        Decision::Close(order_id) => commands.close_order(order_id, act),
    };
    match waiting.map_err(|_overloaded| busy())?.await.map_err(|_gone| ending())? {
        OperatorReply::Done(order) => Ok(json_response(StatusCode::OK, &*order)),
        OperatorReply::UnknownOrder => {
            Err(Problem::not_found("No such order is open or has open cases."))
        }
        OperatorReply::UnknownCase => Err(Problem::not_found(
            "The order has no open case with this number; GET /quarantine lists open cases.",
        )),
        OperatorReply::HasEnded(order) => {
            let detail = format!("The order has already ended: it is {}.", order.status);
            Err(Problem::new(StatusCode::CONFLICT, "order_has_ended", detail))
        }
    }
}

/// A text that every decision requires.
fn text<'a>(given: Option<&'a str>, field: &str) -> Result<&'a str, Problem> {
    let wrong = |detail: String| Err(Problem::field(field, "invalid_field", detail));
    match given.filter(|text| !text.trim().is_empty()) {
        None => {
            wrong("The field is missing; name who decides (`by`) and why (`reason`).".to_owned())
        }
        Some(text) if text.len() > MAX_CASE_TEXT_BYTES => {
            let length = text.len();
            wrong(format!(
                "The text has {length} bytes; at most {MAX_CASE_TEXT_BYTES} are allowed."
            ))
        }
        Some(text) => Ok(text),
    }
}

fn busy() -> Problem {
    Problem::unavailable("unavailable", "Other operator decisions are waiting. Try again.")
}

fn ending() -> Problem {
    let detail = "The server is shutting down. After the next start, GET /quarantine shows what was recorded.";
    Problem::unavailable("unavailable", detail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_name_their_decisions() {
        let id = "01935d30-1cf6-7000-8000-000000000070";
        let order_id: OrderId = id.parse().unwrap();
        let book = Decision::Case(order_id, 7, CaseOutcome::Booked);
        assert_eq!(Decision::of_path(&["quarantine", id, "7", "book"]), Some(book));
        let discard = Decision::Case(order_id, 7, CaseOutcome::Discarded);
        assert_eq!(Decision::of_path(&["quarantine", id, "7", "discard"]), Some(discard));
        assert_eq!(Decision::of_path(&["orders", id, "close"]), Some(Decision::Close(order_id)));
        for path in
            [&["quarantine"][..], &["quarantine", "x", "7", "book"], &["orders", "7", "close"]]
        {
            assert_eq!(Decision::of_path(path), None, "{path:?}");
        }
        assert_eq!(Decision::of_path(&["quarantine", id, "7", "book", "again"]), None);
        assert_eq!(Decision::of_path(&["quarantine", id, "-1", "book"]), None);
    }
}
