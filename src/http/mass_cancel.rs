//! Mass cancel: each node cancels the open orders of its own users, so where users are shared all nodes are
//! asked that have any of those in question.
//!
//! Users move between nodes, and nodes go. So a node says of which user partitions it has looked at all
//! orders: those that it had before and after. It is tried again until there is nobody left, or time is up.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use futures_util::future::{join, join_all};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tracing::field::display;

use super::app::Site;
use super::body::read_body_up_to;
use super::fields::Fields;
use super::operate::{A_BOOLEAN, MAX_BODY_BYTES, check_symbol, text};
use super::other_nodes::{OtherNodes, node_call};
use super::peers::{PeerPool, Peers};
use super::problem::{HttpResponse, Problem, json_response};
use super::query::Query;
use crate::cluster::{NodeId, Peer, Route};
use crate::oms::{CancelScope, MassCancelled};
use crate::runtime::sleep;
use crate::types::{Symbol, USER_PARTITIONS, UserId, UserPartition};

/// The path, for operators and for other nodes.
const PATH: &str = "/mass-cancel";
/// How long other nodes are tried: longer than it takes to take over the users of one that is gone.
const PATIENCE: Duration = Duration::from_secs(5);
/// Pause before those are tried again that nobody had.
const PAUSE: Duration = Duration::from_millis(50);
/// Least time for an attempt. With less left, an answer would only come too late.
const LEAST: Duration = Duration::from_millis(200);

/// The body of `POST /mass-cancel`: `all`, or a user, a symbol, or a user's orders in a symbol.
#[derive(Debug)]
pub(super) struct MassCancel {
    scope: CancelScope,
    by: Option<String>,
    reason: Option<String>,
}

impl MassCancel {
    pub(super) fn read(body: &[u8]) -> Result<Self, Problem> {
        let fields = Fields::parse(body, &["all", "user", "symbol", "by", "reason"])?;
        let is_all = fields.optional("all", A_BOOLEAN, Value::as_bool)?.unwrap_or(false);
        let (user, symbol) = (fields.text("user")?, fields.text("symbol")?);
        if is_all == (user.is_some() || symbol.is_some()) {
            let detail =
                "Name the orders to cancel: {\"all\":true}, or a `user`, a `symbol`, or both.";
            return Err(Problem::field("body", "invalid_field", detail));
        }
        let refused = |field| move |error| Problem::field(field, "invalid_field", error);
        let user = user.map(UserId::new).transpose().map_err(refused("user"))?;
        let symbol = symbol.map(Symbol::in_any_case).transpose().map_err(refused("symbol"))?;
        let scope = CancelScope { user, symbol };
        Ok(Self { scope, by: text(&fields, "by")?, reason: text(&fields, "reason")? })
    }

    /// The same request, for another node.
    fn body(&self) -> Vec<u8> {
        let CancelScope { user, symbol } = &self.scope;
        let user = user.as_ref().map(UserId::as_str);
        let is_all = user.is_none() && symbol.is_none();
        let all = is_all.then_some(true);
        let (by, reason) = (&self.by, &self.reason);
        json!({ "all": all, "user": user, "symbol": symbol, "by": by, "reason": reason })
            .to_string()
            .into_bytes()
    }

    fn log(&self, peer: Option<SocketAddr>, what: &'static str) {
        let Self { scope: CancelScope { user, symbol }, by, reason } = self;
        let (user, symbol) = (user.as_ref().map(UserId::as_str), symbol.map(display));
        let (by, reason, peer) = (by.as_deref(), reason.as_deref(), peer.map(display));
        tracing::warn!(peer, by, reason, user, symbol, "{what}");
    }
}

/// What one node has done.
#[derive(Debug, Serialize, Deserialize)]
struct OfNode {
    asked: u64,
    shown: bool,
    /// User partitions of which it has looked at all orders.
    partitions: Vec<u8>,
}

/// What has been done so far.
struct Sweep {
    asked: u64,
    is_shown: bool,
    /// User partitions that may have orders without a cancel.
    missing: BTreeSet<UserPartition>,
    /// Nodes whose last answer was none, and why.
    silent: BTreeMap<NodeId, String>,
    /// It is about the orders of one user.
    of_user: bool,
}

/// `POST /mass-cancel`: answers when every cancel is recorded; the exchange is told meanwhile.
pub(super) async fn mass_cancel(
    (site, pool): (&Site, &PeerPool),
    request: Request<Incoming>,
    peer: Option<SocketAddr>,
) -> Result<HttpResponse, Problem> {
    let (request, body) = read_body_up_to(MAX_BODY_BYTES, request).await?;
    Query::none(&request.uri)?;
    let mass_cancel = MassCancel::read(&body)?;
    if let Some(symbol) = mass_cancel.scope.symbol {
        check_symbol(site, symbol, "symbol")?;
    }
    mass_cancel.log(peer, "a mass cancel was requested");
    let (asked, is_shown) = match &site.peers {
        None => {
            let MassCancelled { asked, is_shown } = cancel_here(site, &mass_cancel.scope).await?;
            (asked, is_shown)
        }
        Some(peers) => {
            let sweep = sweep_all((site, OtherNodes { peers, pool }), &mass_cancel).await?;
            if !sweep.missing.is_empty() {
                return Err(sweep.partial());
            }
            (sweep.asked, sweep.is_shown)
        }
    };
    let (by, peer) = (mass_cancel.by, peer.map(display));
    tracing::warn!(peer, by, asked, "a mass cancel is recorded");
    let answer = if is_shown {
        json!({ "asked": asked })
    } else {
        // Recorded and being sent; readers see it once Postgres has it.
        json!({ "asked": asked, "shown": false })
    };
    Ok(json_response(StatusCode::ACCEPTED, &answer))
}

/// The answer to another node: what this one has done.
pub(super) async fn for_peer(
    site: &Site,
    peers: &Peers,
    body: &[u8],
) -> Result<HttpResponse, Problem> {
    let mass_cancel = MassCancel::read(body)?;
    if peers.is_other_mass_cancel(body) {
        mass_cancel.log(None, "a mass cancel was requested through another node");
    }
    let done = sweep_here(site, peers, &mass_cancel.scope).await?;
    Ok(json_response(StatusCode::OK, &done))
}

/// Whether it is another node's request.
pub(super) fn is_at(method: &Method, path: &str) -> bool {
    method == Method::POST && path == PATH
}

async fn cancel_here(site: &Site, scope: &CancelScope) -> Result<MassCancelled, Problem> {
    let busy = || Problem::unavailable("unavailable", "Other mass cancels are waiting. Try again.");
    let waiting = site.orders.commands().mass_cancel(scope.clone());
    let ending = |_gone| {
        let detail = "The server is shutting down. Some cancels may not have been requested.";
        Problem::unavailable("unavailable", detail)
    };
    waiting.map_err(|_overloaded| busy())?.await.map_err(ending)
}

async fn sweep_here(site: &Site, peers: &Peers, scope: &CancelScope) -> Result<OfNode, Problem> {
    let is_here = |partition: &UserPartition| peers.map().route(*partition) == Route::Here;
    let mut partitions: Vec<_> = UserPartition::all().filter(is_here).collect();
    let MassCancelled { asked, is_shown } = cancel_here(site, scope).await?;
    // What was handed over meanwhile may have left before it was looked at.
    partitions.retain(is_here);
    let partitions = partitions.into_iter().map(UserPartition::get).collect();
    Ok(OfNode { asked, shown: is_shown, partitions })
}

async fn sweep_all(
    (site, others): (&Site, OtherNodes<'_>),
    mass_cancel: &MassCancel,
) -> Result<Sweep, Problem> {
    let scope = &mass_cancel.scope;
    let missing = match &scope.user {
        Some(user) => BTreeSet::from([user.partition()]),
        None => UserPartition::all().collect(),
    };
    let of_user = scope.user.is_some();
    let mut sweep = Sweep { asked: 0, is_shown: true, missing, silent: BTreeMap::new(), of_user };
    let call = node_call(Method::POST, PATH, mass_cancel.body())?;
    let until = Instant::now() + PATIENCE;
    loop {
        let (is_here, peers) = sweep.places(others.peers);
        let left = until.saturating_duration_since(Instant::now());
        let ours = async {
            let done =
                if is_here { Some(sweep_here(site, others.peers, scope).await) } else { None };
            done.map(|done| done.map_err(|problem| problem.detail().to_owned()))
        };
        let call = &call;
        let theirs = join_all(peers.into_iter().map(|peer| async move {
            let answer = others.ask_running((peer, left), call).await;
            let answer = answer.map_err(|error| error.to_string());
            (
                peer.node_id,
                match answer {
                    Ok(answer) => of_node(answer).await,
                    Err(error) => Err(error),
                },
            )
        }));
        let (ours, theirs) = join(ours, theirs).await;
        if let Some(ours) = ours {
            sweep.note(others.peers.node_id(), ours);
        }
        for (node, done) in theirs {
            sweep.note(node, done);
        }
        if sweep.missing.is_empty() || Instant::now() + PAUSE + LEAST > until {
            return Ok(sweep);
        }
        sleep(PAUSE).await;
    }
}

/// Another node's answer.
async fn of_node(answer: HttpResponse) -> Result<OfNode, String> {
    let (head, body) = answer.into_parts();
    let Ok(body) = body.collect().await.map(http_body_util::Collected::to_bytes);
    match head.status {
        StatusCode::OK => serde_json::from_slice(&body).map_err(|error| error.to_string()),
        status => {
            let document = serde_json::from_slice::<Value>(&body).unwrap_or_default();
            let detail = document.get("detail").and_then(Value::as_str).map(str::to_owned);
            Err(detail.unwrap_or_else(|| format!("it answers {status}")))
        }
    }
}

impl Sweep {
    /// Where those are that are missing: here, and at which others.
    fn places(&self, peers: &Peers) -> (bool, Vec<Peer>) {
        let (mut is_here, mut others) = (false, Vec::new());
        for partition in &self.missing {
            match peers.map().route(*partition) {
                Route::Here => is_here = true,
                Route::Peer(peer) if !others.contains(&peer) => others.push(peer),
                Route::Peer(_) | Route::Nowhere => {}
            }
        }
        (is_here, others)
    }

    fn note(&mut self, node: NodeId, done: Result<OfNode, String>) {
        match done {
            Ok(OfNode { asked, shown, partitions }) => {
                self.silent.remove(&node);
                self.asked = self.asked.saturating_add(asked);
                self.is_shown &= shown;
                self.missing.retain(|missing| !partitions.contains(&missing.get()));
            }
            Err(reason) => {
                // It is tried again many times.
                if !self.silent.contains_key(&node) {
                    tracing::warn!(node, reason, "a node has not cancelled its orders");
                }
                self.silent.insert(node, reason);
            }
        }
    }

    /// The answer when there are orders left that may have no cancel.
    fn partial(&self) -> Problem {
        let Self { asked, is_shown, missing, silent, of_user } = self;
        let nodes: Vec<NodeId> = silent.keys().copied().collect();
        let recorded = match is_shown {
            _ if *asked == 0 => "No cancel is recorded.".to_owned(),
            true => format!("Cancels of {asked} orders are recorded."),
            false => format!(
                "Cancels of {asked} orders wait for Postgres, and are lost if their node ends before."
            ),
        };
        let left = match of_user {
            true => "Orders of the user may be without one".to_owned(),
            false => {
                let count = missing.len();
                format!("Orders in {count} of {USER_PARTITIONS} user partitions may be without one")
            }
        };
        let reasons = silent.iter().map(|(node, reason)| format!("node {node}: {reason}"));
        let reasons: Vec<String> = reasons.collect();
        let reasons = match reasons.is_empty() {
            true => "no node holds a lease for them".to_owned(),
            false => reasons.join("; "),
        };
        let detail = format!("{recorded} {left} ({reasons}). Send the same request again.");
        tracing::error!(asked, ?nodes, partitions = missing.len(), "a mass cancel is not complete");
        Problem::unavailable("partly_cancelled", detail)
            .with("asked", asked)
            .with("nodes", nodes)
            .with("partitions", missing.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sweep(is_shown: bool, of_user: bool) -> Sweep {
        let missing = UserPartition::all().take(if of_user { 1 } else { 3 }).collect();
        Sweep { asked: 15, is_shown, missing, silent: BTreeMap::new(), of_user }
    }

    #[test]
    fn a_partial_answer_says_what_is_recorded_and_what_is_not() {
        let mut of_all = sweep(true, false);
        of_all.note(2, Err("the request was not sent: refused".to_owned()));
        assert_eq!(
            of_all.partial().detail(),
            "Cancels of 15 orders are recorded. Orders in 3 of 64 user partitions may be without one (node 2: \
             the request was not sent: refused). Send the same request again."
        );
        of_all.asked = 0;
        assert!(of_all.partial().detail().starts_with("No cancel is recorded. Orders in"));
        of_all.note(2, Ok(OfNode { asked: 1, shown: true, partitions: vec![0] }));
        assert!(of_all.silent.is_empty());
        assert_eq!(
            sweep(false, true).partial().detail(),
            "Cancels of 15 orders wait for Postgres, and are lost if their node ends before. Orders of the user \
             may be without one (no node holds a lease for them). Send the same request again."
        );
    }
}
