//! Lines that the exchange posts, where nodes share users: any node gets them, and a line names its
//! order by the exchange's id alone, which only the order's node knows. So all nodes take all of them.

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::header::HeaderValue;
use http::{Method, StatusCode};

use super::app::App;
use super::call::Call;
use super::fields::not_json;
use super::other_nodes::{OtherNodes, node_call};
use super::peers::Peers;
use super::problem::{HttpResponse, Problem, bytes_response};
use crate::cluster::Peer;
use crate::exchange::webhook::WEBHOOK_PART_LINES;
use crate::exchange::{PostedLines, read_webhook};
use crate::oms::LinesDurable;

/// Path at which a node takes lines that were posted to another one.
pub(super) const POSTED_LINES: &str = "/posted-lines";

/// Records lines wherever they may belong.
///
/// # Errors
/// The body is no batch, or one of the nodes may not have recorded them: they are to be posted again.
pub(super) async fn record(app: &App, body: Vec<u8>) -> Result<HttpResponse, Problem> {
    let posted = read(&body)?;
    match &app.site.peers {
        None => record_here(app, posted).await?,
        Some(peers) => record_on_all(app, peers, body, posted).await?,
    }
    Ok(recorded())
}

async fn record_on_all(
    app: &App,
    peers: &Peers,
    body: Vec<u8>,
    posted: PostedLines,
) -> Result<(), Problem> {
    // Nobody would record those of a user who is between two nodes.
    let members = peers.map().members().ok_or_else(again)?;
    let others = OtherNodes { peers, pool: &app.peer_pool };
    let call = node_call(Method::POST, POSTED_LINES, body)?;
    let there = members.peers.iter().map(|peer| hand_to(others, *peer, &call));
    let (here, there) = join(record_here(app, posted), join_all(there)).await;
    here?;
    if !there.into_iter().all(|is_recorded| is_recorded) {
        return Err(again());
    }
    // A node that has come meanwhile has not heard of them.
    if peers.map().members().as_ref() == Some(&members) { Ok(()) } else { Err(again()) }
}

/// Hands lines to another node. True once it has recorded them.
async fn hand_to(others: OtherNodes<'_>, peer: Peer, call: &Call) -> bool {
    let limit = others.peers.answer_timeout();
    // Without an answer that is told already.
    let Ok(answer) = others.ask_running((peer, limit), call).await else { return false };
    let status = answer.status();
    if status != StatusCode::NO_CONTENT {
        tracing::debug!(%status, node = peer.node_id, "a node has not recorded posted lines");
    }
    status == StatusCode::NO_CONTENT
}

/// Takes lines that another node was given.
pub(super) async fn take(app: &App, body: &[u8]) -> Result<HttpResponse, Problem> {
    record_here(app, read(body)?).await?;
    Ok(recorded())
}

/// The lines in a body.
fn read(body: &[u8]) -> Result<PostedLines, Problem> {
    read_webhook(body).map_err(|error| unreadable(&error))
}

/// All lines were recorded.
fn recorded() -> HttpResponse {
    let json = HeaderValue::from_static("application/json");
    bytes_response(StatusCode::NO_CONTENT, json, Bytes::new())
}

/// The body is not a batch.
fn unreadable(error: &serde_json::Error) -> Problem {
    if error.is_data() {
        let detail = "The body must be an object whose `lines` is a list of feed lines.";
        Problem::field("lines", "invalid_field", detail)
    } else {
        Problem::field("body", "invalid_json", not_json(error))
    }
}

async fn record_here(
    app: &App,
    PostedLines { session, lines }: PostedLines,
) -> Result<(), Problem> {
    for part in lines.into_parts(WEBHOOK_PART_LINES) {
        let commands = app.site.orders.commands();
        let waiting = commands.webhook(&session, part).map_err(|_overloaded| again())?;
        match waiting.await {
            Ok(LinesDurable) => {}
            Err(_gone) => return Err(again()),
        }
    }
    Ok(())
}

fn again() -> Problem {
    Problem::unavailable("unavailable", "Not all lines were recorded. Send the whole batch again.")
}
