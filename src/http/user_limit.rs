//! The limit of one user's streams over all nodes, each of which counts its own.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use serde::{Deserialize, Serialize};

use super::app::App;
use super::peers::{PeerPool, Peers, Unanswered};
use super::problem::{HttpResponse, json_response};
use crate::cluster::Peer;
use crate::runtime::timeout;
use crate::stream::NoRoom;
use crate::types::UserId;

/// Path at which a node tells the others how many streams of a user it has.
pub(super) const OPEN_STREAMS: &str = "/open-streams";
/// A node asks the others once it has this part of the limit itself: most users never have. So all
/// together may have that much more than the limit for each other node.
const PART_UNASKED: usize = 16;
/// Longest wait for the others. One that does not answer counts as having none.
const PATIENCE: Duration = Duration::from_secs(1);
/// Longest answer.
const MAX_ANSWER_BYTES: usize = 1_024;

/// What a node tells.
#[derive(Debug, Serialize, Deserialize)]
struct OpenStreams {
    streams: usize,
}

/// Checks that a user may have one more stream, as far as the other nodes know.
///
/// # Errors
/// The user has as many as one may. That is counted.
pub(super) async fn check(app: &App, user: &UserId) -> Result<(), NoRoom> {
    let Some(peers) = &app.site.peers else { return Ok(()) };
    let quotas = &app.site.streams.quotas;
    let (ours, most) = (quotas.open_of(user), quotas.most_per_user());
    let others = peers.map().peers();
    if ours < most / PART_UNASKED || others.is_empty() {
        return Ok(());
    }
    let asked = others.into_iter().map(|peer| async move {
        let answer = timeout(PATIENCE, ask(&app.peer_pool, peers, peer, user)).await;
        answer.and_then(Result::ok).map_or(0, |OpenStreams { streams }| streams)
    });
    let theirs: usize = join_all(asked).await.into_iter().fold(0, usize::saturating_add);
    if ours.saturating_add(theirs) < most { Ok(()) } else { Err(quotas.refuse_user()) }
}

async fn ask(
    pool: &PeerPool,
    peers: &Peers,
    peer: Peer,
    user: &UserId,
) -> Result<OpenStreams, Unanswered> {
    let not_sent = |error: http::Error| Unanswered::NotSent(error.to_string());
    let (head, ()) = Request::get(OPEN_STREAMS).body(()).map_err(not_sent)?.into_parts();
    let request =
        || peers.signed((peer, user), &head, b"", Full::new(Bytes::new())).map_err(not_sent);
    let (response, in_use) = pool.ask(peer, request).await?;
    let unknown = |error: &dyn std::fmt::Display| Unanswered::Unknown(error.to_string());
    let body = Limited::new(response.into_body(), MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| unknown(&error))?.to_bytes();
    in_use.give_back();
    serde_json::from_slice(&body).map_err(|error| unknown(&error))
}

/// The answer to a node that asks.
pub(super) fn open_streams(app: &App, user: &UserId) -> HttpResponse {
    let streams = app.site.streams.quotas.open_of(user);
    json_response(StatusCode::OK, &OpenStreams { streams })
}
