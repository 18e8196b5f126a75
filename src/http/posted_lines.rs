//! Lines that the exchange posts, where nodes share users: any node gets them, and a line names its
//! order by the exchange's id alone, which only the order's node knows. So all nodes take all of them.

use bytes::Bytes;
use futures_util::future::{join, join_all};
use http::header::HeaderValue;
use http::request::Parts;
use http::{Request, StatusCode};
use http_body_util::Full;

use super::app::App;
use super::fields::not_json;
use super::peers::{PeerPool, Peers, Unanswered};
use super::problem::{HttpResponse, Problem, bytes_response};
use crate::cluster::Peer;
use crate::exchange::webhook::WEBHOOK_PART_LINES;
use crate::exchange::{PostedLines, read_webhook};
use crate::oms::LinesDurable;
use crate::runtime::timeout;
use crate::types::UserId;

/// Path at which a node takes lines that were posted to another one.
pub(super) const POSTED_LINES: &str = "/posted-lines";
/// What is passed on is signed for a user. Lines are no user's, and theirs is not read.
const SIGNED_FOR: &str = "exchange";

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
    let body = Bytes::from(body);
    let there = members.peers.iter().map(|peer| hand_to(app, peers, *peer, &body));
    let (here, there) = join(record_here(app, posted), join_all(there)).await;
    here?;
    if !there.into_iter().all(|is_recorded| is_recorded) {
        return Err(again());
    }
    // A node that has come meanwhile has not heard of them.
    if peers.map().members().as_ref() == Some(&members) { Ok(()) } else { Err(again()) }
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

/// Hands lines to another node. True once it has recorded them.
async fn hand_to(app: &App, peers: &Peers, peer: Peer, body: &Bytes) -> bool {
    let metrics = peers.metrics();
    metrics.passed_on.inc();
    let limit = peers.answer_timeout();
    let asked = timeout(limit, ask(&app.peer_pool, peers, peer, body)).await;
    let asked =
        asked.unwrap_or_else(|| Err(Unanswered::Unknown(format!("no answer within {limit:?}"))));
    match asked {
        Ok(StatusCode::NO_CONTENT) => true,
        Ok(status) => {
            if status == StatusCode::UNAUTHORIZED {
                peers.note_refused_there(peer.node_id);
            }
            tracing::debug!(%status, node = peer.node_id, "a node has not recorded posted lines");
            false
        }
        Err(error) => {
            metrics.unanswered.inc();
            tracing::debug!(%error, node = peer.node_id, "posted lines passed on have no answer");
            false
        }
    }
}

async fn ask(
    pool: &PeerPool,
    peers: &Peers,
    peer: Peer,
    body: &Bytes,
) -> Result<StatusCode, Unanswered> {
    let not_sent = |error: &dyn std::fmt::Display| Unanswered::NotSent(error.to_string());
    let user = UserId::new(SIGNED_FOR).map_err(|error| not_sent(&error))?;
    let head = Request::post(POSTED_LINES).body(()).map_err(|error| not_sent(&error))?;
    let (head, ()): (Parts, ()) = head.into_parts();
    let request = || {
        let signed = peers.signed((peer, &user), &head, body, Full::new(body.clone()));
        signed.map_err(|error| not_sent(&error))
    };
    let (response, in_use) = pool.ask(peer, request).await?;
    Peers::check_answer(&response, peer.node_id)?;
    let status = response.status();
    if status == StatusCode::NO_CONTENT {
        in_use.give_back();
    }
    Ok(status)
}

fn again() -> Problem {
    Problem::unavailable("unavailable", "Not all lines were recorded. Send the whole batch again.")
}
