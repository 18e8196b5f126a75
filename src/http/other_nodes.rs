//! What operators ask of other nodes, and what nodes hand each other, over the connections between nodes.
//! Only what this node signs is answered there, and no client's request is passed on to these paths.

use std::time::{Duration, Instant};

use http::{Method, Request};

use super::call::Call;
use super::passing::{Passed, Passing};
use super::peers::{PeerPool, Peers, Place, Unanswered};
use super::problem::{HttpResponse, Problem};
use crate::cluster::Peer;
use crate::runtime::timeout;
use crate::types::UserId;

/// In the place of a user, in what is signed: these requests are no user's, and it is not read.
const NO_USER: &str = "node";

/// The other nodes, as such a request reaches them.
#[derive(Clone, Copy)]
pub(super) struct OtherNodes<'a> {
    pub peers: &'a Peers,
    pub pool: &'a PeerPool,
}

/// A request to other nodes.
///
/// # Errors
/// The path is none.
pub(super) fn node_call(method: Method, path: &str, body: Vec<u8>) -> Result<Call, Problem> {
    let request = Request::builder().method(method).uri(path).body(());
    let request = request.map_err(|error| Problem::not_found(error.to_string()))?;
    let Ok(user) = UserId::new(NO_USER) else { unreachable!("{NO_USER} is a name") };
    let (head, ()) = request.into_parts();
    Ok(Call { user, head, body, arrived: Instant::now(), is_passed_on: false })
}

impl OtherNodes<'_> {
    /// Asks a node for as long as `place` says that the request belongs there, and for this time at most.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn ask(
        self,
        (peer, limit): (Peer, Duration),
        call: &Call,
        place: impl Fn() -> Place,
    ) -> Result<HttpResponse, Unanswered> {
        let passing = Passing { pool: self.pool, peers: self.peers, call, is_repeatable: false };
        match timeout(limit, passing.pass_on(peer, place)).await {
            Some(Ok(Passed::Answer(answer))) => Ok(answer),
            Some(Ok(Passed::BackHere)) => Err(Unanswered::NotOwner),
            Some(Err(error)) => Err(error),
            None => {
                let seconds = limit.as_secs_f64();
                Err(Unanswered::Unknown(format!("no answer within {seconds:.1} s")))
            }
        }
    }

    /// Asks a node for as long as it runs.
    ///
    /// # Errors
    /// There is no answer.
    pub(super) async fn ask_running(
        self,
        (peer, limit): (Peer, Duration),
        call: &Call,
    ) -> Result<HttpResponse, Unanswered> {
        let place = || match self.peers.map().peer(peer.node_id) {
            Some(peer) => Place::There(peer),
            None => Place::Nowhere,
        };
        self.ask((peer, limit), call, place).await
    }
}
