//! Operators' decisions about orders: executions and reports in quarantine, and orders that are
//! stuck.
//!
//! `GET /quarantine`; `POST /quarantine/{orderId}/{case}/book` and `.../discard`; `POST
//! /orders/{orderId}/close`. Each decision names who and why, is durable before it is answered, and
//! is part of the order's history. Where nodes share the users, the list has the cases of all of them, and a
//! decision is passed on to the node that has the order.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::field::display;

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::Fields;
use super::other_nodes::{OtherNodes, node_call};
use super::passing::{cut_off, told_cut_off};
use super::peers::{PeerPool, Peers, Place, Unanswered};
use super::problem::{HttpResponse, Problem, json_response};
use super::query::Query;
use crate::cluster::NodeId;
use crate::engine::OperatorReply;
use crate::oms::{ListedCase, MAX_LISTED_CASES, Quarantine};
use crate::order::{CaseCause, CaseOutcome, Fill, MAX_CASE_TEXT_BYTES, OperatorAct};
use crate::types::{OrderId, TimestampMicros};

/// Largest body: two texts.
const MAX_BODY_BYTES: usize = 4 * 1024;
/// The path of the list, for operators and for other nodes.
const LIST: &str = "/quarantine";
/// How long another node's part of the list is waited for.
const LIST_PATIENCE: Duration = Duration::from_secs(5);

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

/// Open cases as they are listed.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Cases {
    cases: Vec<Value>,
    total: usize,
    /// Nodes that have not said which ones they have.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    unanswered: Vec<NodeId>,
}

/// `GET /quarantine`: the cases of all nodes.
pub(super) async fn list(site: &Site, pool: &PeerPool) -> Result<HttpResponse, Problem> {
    let mut all = list_here(site).await?;
    let Some(peers) = &site.peers else { return Ok(json_response(StatusCode::OK, &all)) };
    let others = OtherNodes { peers, pool };
    let call = &node_call(Method::GET, LIST, Vec::new())?;
    let asked = peers.map().peers().into_iter().map(|peer| async move {
        let answer = others.ask_running((peer, LIST_PATIENCE), call).await.ok();
        let listed = answer.filter(|answer| answer.status() == StatusCode::OK);
        let Some(listed) = listed else { return Err(peer.node_id) };
        let Ok(body) = listed.into_body().collect().await;
        serde_json::from_slice::<Cases>(&body.to_bytes()).map_err(|_| peer.node_id)
    });
    for listed in join_all(asked).await {
        match listed {
            Ok(Cases { cases, total, .. }) => {
                all.cases.extend(cases);
                all.total = all.total.saturating_add(total);
            }
            Err(node) => all.unanswered.push(node),
        }
    }
    all.cases.truncate(MAX_LISTED_CASES);
    Ok(json_response(StatusCode::OK, &all))
}

async fn list_here(site: &Site) -> Result<Cases, Problem> {
    let waiting = site.orders.commands().quarantine().map_err(|_overloaded| busy())?;
    let Quarantine { cases, total } = waiting.await.map_err(|_gone| ending())?;
    let shown = cases.iter().map(|listed| serde_json::to_value(Case::of(listed)));
    let cases = shown.collect::<Result<_, _>>().map_err(|error| {
        tracing::error!(%error, "a case cannot be shown");
        Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "A case cannot be shown.")
    })?;
    Ok(Cases { cases, total, unanswered: Vec::new() })
}

/// The answer to another node: the cases of this one.
pub(super) async fn list_for_peer(site: &Site) -> Result<HttpResponse, Problem> {
    Ok(json_response(StatusCode::OK, &list_here(site).await?))
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

    fn order_id(self) -> OrderId {
        match self {
            Self::Case(order_id, ..) | Self::Close(order_id) => order_id,
        }
    }

    fn log(self, act: &OperatorAct, peer: Option<SocketAddr>) {
        let (by, reason, peer) = (act.by.as_str(), act.reason.as_str(), peer.map(display));
        tracing::warn!(peer, by, reason, decision = %self, "an operator decides");
    }
}

/// `POST` to one of these paths: answers when the decision is durable, at the node that has the order.
pub(super) async fn decide(
    (site, pool): (&Site, &PeerPool),
    decision: Decision,
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let act = act(&body)?;
    decision.log(&act, peer);
    let Some(peers) = &site.peers else { return carry_out(site, decision, act).await };
    let place = || peers.place_of_order(decision.order_id());
    match place() {
        Place::Here => carry_out_or_leave(site, peers, decision, act).await,
        Place::Nowhere if peers.map().has_lapsed() => Err(cut_off(DECISIONS)),
        Place::Nowhere => Err(not_owner("has no node yet")),
        Place::There(node) => {
            let call = node_call(Method::POST, request.uri.path(), body)?;
            let limit = peers.answer_timeout();
            let asked = OtherNodes { peers, pool }.ask((node, limit), &call, place).await;
            asked.map_err(|error| match error {
                Unanswered::CutOff => cut_off(DECISIONS),
                Unanswered::NotOwner => not_owner("is being handed over to another node"),
                Unanswered::NotSent(_) => not_owner("is of a node that cannot be reached"),
                Unanswered::Unknown(_) => {
                    let detail = "The node that has the order does not answer. The decision may be recorded: look \
                                  at GET /quarantine and at the order.";
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "outcome_unknown", detail)
                }
            })
        }
    }
}

/// The answer to another node, which was asked for a decision about an order of this one.
pub(super) async fn decide_for_peer(
    site: &Site,
    peers: &Peers,
    decision: Decision,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    let act = act(body)?;
    decision.log(&act, None);
    carry_out_or_leave(site, peers, decision, act).await
}

/// Carries a decision out if this node has the order.
async fn carry_out_or_leave(
    site: &Site,
    peers: &Peers,
    decision: Decision,
    act: OperatorAct,
) -> Result<HttpResponse, Problem> {
    let is_here = || peers.place_of_order(decision.order_id()) == Place::Here;
    if !is_here() {
        return Err(if peers.map().has_lapsed() {
            told_cut_off(cut_off(DECISIONS))
        } else {
            not_owner("is being handed over to another node")
        });
    }
    let done = carry_out(site, decision, act).await;
    match done {
        // It may have gone just before.
        Err(problem) if problem.code() == "not_found" && !is_here() => {
            Err(not_owner("is being handed over to another node"))
        }
        done => done,
    }
}

async fn carry_out(
    site: &Site,
    decision: Decision,
    act: OperatorAct,
) -> Result<HttpResponse, Problem> {
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

/// Who decides, and why.
fn act(body: &[u8]) -> Result<OperatorAct, Problem> {
    let fields = Fields::parse(body, &["by", "reason"])?;
    Ok(OperatorAct {
        by: text(fields.text("by")?, "by")?.into(),
        reason: text(fields.text("reason")?, "reason")?.into(),
    })
}

/// What an operator cannot have from a node that is cut off.
const DECISIONS: &str = "Decisions about orders";

/// Nothing has happened, as no node has the order at the moment.
fn not_owner(order_is: &str) -> Problem {
    let detail = format!("The order {order_is}. Nothing was recorded. Try again.");
    Problem::unavailable("not_owner", detail)
}

/// A text that every decision of an operator requires.
pub(super) fn text<'a>(given: Option<&'a str>, field: &str) -> Result<&'a str, Problem> {
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
