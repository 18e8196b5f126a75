//! Passes requests on to the nodes that they belong to, and their answers back.

use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_lite::future::or;
use http::header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING};
use http::{Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;

use super::call::Call;
use super::peers::{Link, PeerPool, Peers, Place, Unanswered};
use super::problem::{HttpResponse, Problem};
use super::relay::{Counted, Relay, Relays};
use super::reply::Reply;
use crate::cluster::{NodeId, Peer};
use crate::runtime::{sleep, timeout};
use crate::stream::StreamPermit;

/// Code of the answer to a request that was passed on to a node that does not have the user.
pub(super) const NOT_OWNER: &str = "not_owner";
/// Member of the answer to a request that was passed on to a node that does not hear from its database.
const CUT_OFF: &str = "cutOff";
/// Longest answer: a page of 500 orders, each with the longest ids.
const MAX_ANSWER_BYTES: usize = 4 * 1024 * 1024;
/// Time between two looks whether the other node still has what a request is about.
const LOOK: Duration = Duration::from_millis(100);
/// How much longer than that its answer is waited for: it may be on the way.
const GRACE: Duration = Duration::from_millis(500);

/// What came of a request that was passed on.
pub(super) enum Passed {
    /// The other node's answer.
    Answer(HttpResponse),
    /// This node has become the one to answer.
    BackHere,
}

/// A request to another node, and whether it may be made twice.
pub(super) struct Passing<'a> {
    pub pool: &'a PeerPool,
    pub peers: &'a Peers,
    pub call: &'a Call,
    pub is_repeatable: bool,
}

impl Passing<'_> {
    /// Passes a request on to a node, and once more where it may be repeated and its answer was lost: by
    /// then perhaps to another node. `place` says where it belongs.
    ///
    /// # Errors
    /// There is no answer; the error says whether anything may have happened.
    pub(super) async fn pass_on(
        &self,
        first: Peer,
        place: impl Fn() -> Place,
    ) -> Result<Passed, Unanswered> {
        let metrics = self.peers.metrics();
        metrics.passed_on.inc();
        // The client waits for both attempts together.
        let limit = self.peers.answer_timeout();
        let until = Instant::now() + limit;
        let first_limit = if self.is_repeatable { limit / 2 } else { limit };
        let mut outcome = self.ask_while((first, first_limit), &place).await;
        if self.is_repeatable && matches!(outcome, Err(Unanswered::Unknown(_))) {
            match place() {
                Place::Here => return Ok(Passed::BackHere),
                Place::There(peer) => {
                    metrics.repeated.inc();
                    // Nothing done this time leaves the first time as unknown as it was.
                    outcome = match self
                        .ask_while((peer, until.saturating_duration_since(Instant::now())), &place)
                        .await
                    {
                        Ok(answer) if answer.status() != StatusCode::SERVICE_UNAVAILABLE => {
                            Ok(answer)
                        }
                        Ok(_) => Err(Unanswered::Unknown("it could not be repeated".to_owned())),
                        Err(error) => Err(Unanswered::Unknown(error.to_string())),
                    };
                }
                Place::Nowhere => {}
            }
        }
        if let Err(error) = &outcome {
            metrics.unanswered.inc();
            tracing::debug!(%error, node = first.node_id, "a request passed on has no answer");
        }
        outcome.map(Passed::Answer)
    }

    /// Waits for a node's answer for as long as the request belongs there, within a time limit.
    async fn ask_while(
        &self,
        (peer, limit): (Peer, Duration),
        place: &impl Fn() -> Place,
    ) -> Result<HttpResponse, Unanswered> {
        let moved = async {
            loop {
                sleep(LOOK).await;
                if place() != Place::There(peer) {
                    sleep(GRACE).await;
                    return Err(Unanswered::Unknown("another node has the user by now".to_owned()));
                }
            }
        };
        let answered = timeout(limit, or(self.ask(peer), moved)).await;
        answered.unwrap_or_else(|| Err(Unanswered::Unknown(format!("no answer within {limit:?}"))))
    }

    async fn ask(&self, peer: Peer) -> Result<HttpResponse, Unanswered> {
        let (response, in_use) =
            self.pool.ask(peer, || request(self.peers, self.call, peer)).await?;
        let answer = read_answer(self.peers, response, peer.node_id).await;
        // With any other error the answer was not read to its end.
        if matches!(answer, Ok(_) | Err(Unanswered::NotOwner | Unanswered::CutOff)) {
            in_use.give_back();
        }
        answer
    }
}

/// Opens a stream at the node that has the user.
///
/// # Errors
/// The node does not answer.
pub(super) async fn relay(
    peers: &Peers,
    (relays, permits): (&Rc<Relays>, [StreamPermit; 2]),
    call: &Call,
    from: Peer,
) -> Result<Reply, Unanswered> {
    let metrics = peers.metrics();
    metrics.passed_on.inc();
    let opening = async {
        let mut link = Link::open(from.address).await?;
        let response = link.send(request(peers, call, from)?).await?;
        if response.status() != StatusCode::OK {
            return read_answer(peers, response, from.node_id).await.map(Reply::Response);
        }
        Peers::check_answer(&response, from.node_id)?;
        Ok(Reply::Relay(Box::new(Relay {
            body: response.into_body(),
            from,
            user: call.user.clone(),
            peers: peers.clone(),
            counted: Counted::new(relays, peers),
            _kept: (link, permits),
        })))
    };
    let limit = peers.answer_timeout();
    let opened = timeout(limit, opening).await;
    let opened =
        opened.unwrap_or_else(|| Err(Unanswered::Unknown(format!("no answer in {limit:?}"))));
    opened.inspect_err(|error| {
        metrics.unanswered.inc();
        tracing::debug!(%error, node = from.node_id, "a stream cannot be relayed");
    })
}

fn request(peers: &Peers, call: &Call, peer: Peer) -> Result<Request<Full<Bytes>>, Unanswered> {
    let sent = Full::new(Bytes::copy_from_slice(&call.body));
    let signed = peers.signed((peer, &call.user), &call.head, &call.body, sent);
    signed.map_err(|error| Unanswered::NotSent(error.to_string()))
}

/// An answer as its client gets it.
async fn read_answer(
    peers: &Peers,
    response: Response<Incoming>,
    from: NodeId,
) -> Result<HttpResponse, Unanswered> {
    Peers::check_answer(&response, from)?;
    let (mut head, body) = response.into_parts();
    if head.status == StatusCode::UNAUTHORIZED {
        // The client was authenticated here. It is this node that is not known there.
        peers.note_refused_there(from);
        return Err(Unanswered::NotSent("the other node does not know this one".to_owned()));
    }
    let body = Limited::new(body, MAX_ANSWER_BYTES).collect().await;
    let body = body.map_err(|error| Unanswered::Unknown(error.to_string()))?.to_bytes();
    if head.status == StatusCode::SERVICE_UNAVAILABLE
        && let Some(refusal) = refusal(&body)
    {
        return Err(refusal);
    }
    // What belongs to the connection between the nodes, and what hyper adds itself.
    for name in [CONNECTION, TRANSFER_ENCODING, CONTENT_LENGTH] {
        head.headers.remove(name);
    }
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = head.status;
    *answer.headers_mut() = head.headers;
    Ok(answer)
}

/// What a problem document says of the node itself: that it does not have the user, or has no answers.
fn refusal(document: &[u8]) -> Option<Unanswered> {
    let document: serde_json::Value = serde_json::from_slice(document).ok()?;
    if document.get(CUT_OFF).is_some_and(|is_cut_off| is_cut_off == true) {
        return Some(Unanswered::CutOff);
    }
    document.get("code").is_some_and(|code| code == NOT_OWNER).then_some(Unanswered::NotOwner)
}

/// The answer of a node that does not hear from the database, which alone says who has which users.
pub(super) fn cut_off(orders: &str) -> Problem {
    let detail = format!(
        "{orders} cannot be taken or read right now: the server does not hear from its database. \
         Nothing was recorded. Try again."
    );
    Problem::unavailable("unavailable", detail)
}

/// The same to another node, which may know better.
pub(super) fn told_cut_off(problem: Problem) -> Problem {
    problem.with(CUT_OFF, true)
}
