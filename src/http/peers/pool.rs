//! A shard's connections to the other nodes: kept alive, one request at a time on each.

use std::cell::RefCell;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::client::conn::http1::{Builder, SendRequest};

use crate::cluster::Peer;
use crate::runtime::{HyperIo, Task, connect, spawn_local};

/// Longest wait for a connection. A host that is gone does not answer at all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
/// How long the host of the other node may not acknowledge what was sent. A network that is cut drops
/// it.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an idle connection is kept: shorter than the other node keeps it.
const IDLE: Duration = Duration::from_secs(20);
/// Most idle connections to one node: those of a busy moment of one shard.
const MAX_IDLE: usize = 64;
/// Most connections to one node that are in use: at a slow exchange's 150 ms each, 3,400 orders a
/// second of one shard.
const MAX_IN_USE: usize = 512;
/// Most connections, closed by the other node while idle, that one request replaces.
const MAX_STALE_CONNECTIONS: usize = 2;
/// Most bytes of an answer that hyper buffers beyond what was read of it.
const MAX_BUFFER_BYTES: usize = 64 * 1024;

/// Connections to the other nodes.
#[derive(Default)]
pub(in crate::http) struct PeerPool {
    by_address: RefCell<HashMap<SocketAddr, Connections>>,
}

#[derive(Default)]
struct Connections {
    idle: Vec<Idle>,
    in_use: usize,
}

struct Idle {
    link: Link,
    since: Instant,
}

/// An open connection. Dropping it closes it.
pub(in crate::http) struct Link {
    sender: SendRequest<Full<Bytes>>,
    _driving: Task<()>,
}

/// Why a request has no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(in crate::http) enum Unanswered {
    /// Nothing was sent: nothing has happened.
    #[error("the request was not sent: {0}")]
    NotSent(String),
    /// The other node does not have the user any more, or not yet: nothing has happened.
    #[error("that node does not have the user")]
    NotOwner,
    /// The other node has no answers about orders, as it does not hear from its database: nothing has happened.
    #[error("that node does not hear from its database")]
    CutOff,
    /// The other node may have acted on it.
    #[error("the outcome is unknown: {0}")]
    Unknown(String),
}

/// A connection in use, which closes unless it is given back.
pub(in crate::http) struct InUse<'a> {
    pool: &'a PeerPool,
    address: SocketAddr,
    link: Option<Link>,
}

impl PeerPool {
    /// Sends a request to another node and reads the head of its answer. `request` makes it anew, since
    /// a connection may turn out to be closed.
    pub(in crate::http) async fn ask(
        &self,
        peer: Peer,
        request: impl Fn() -> Result<Request<Full<Bytes>>, Unanswered>,
    ) -> Result<(Response<Incoming>, InUse<'_>), Unanswered> {
        let mut in_use = self.enter(peer.address)?;
        let mut stale_connections = 0;
        loop {
            let (mut link, is_new) = match self.take_idle(peer.address) {
                Some(link) if stale_connections < MAX_STALE_CONNECTIONS => (link, false),
                Some(_) | None => (Link::open(peer.address).await?, true),
            };
            match link.send(request()?).await {
                Ok(response) => {
                    in_use.link = Some(link);
                    return Ok((response, in_use));
                }
                Err(Unanswered::NotSent(_)) if !is_new => stale_connections += 1,
                Err(error) => return Err(error),
            }
        }
    }

    fn enter(&self, address: SocketAddr) -> Result<InUse<'_>, Unanswered> {
        let mut connections = self.by_address.borrow_mut();
        let of_node = connections.entry(address).or_default();
        if of_node.in_use >= MAX_IN_USE {
            return Err(Unanswered::NotSent("too many requests wait for that node".to_owned()));
        }
        of_node.in_use += 1;
        Ok(InUse { pool: self, address, link: None })
    }

    /// The connection that was used last: the others grow old and are closed.
    fn take_idle(&self, address: SocketAddr) -> Option<Link> {
        let mut connections = self.by_address.borrow_mut();
        let idle = &mut connections.get_mut(&address)?.idle;
        idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.link.sender.is_closed());
        idle.pop().map(|idle| idle.link)
    }
}

impl InUse<'_> {
    /// Keeps the connection for another request, once the answer was read to its end.
    pub(in crate::http) fn give_back(mut self) {
        let Some(link) = self.link.take() else { return };
        let mut connections = self.pool.by_address.borrow_mut();
        let Some(of_node) = connections.get_mut(&self.address) else { return };
        if of_node.idle.len() < MAX_IDLE {
            of_node.idle.push(Idle { link, since: Instant::now() });
        }
    }
}

impl Drop for InUse<'_> {
    fn drop(&mut self) {
        let mut connections = self.pool.by_address.borrow_mut();
        let Some(of_node) = connections.get_mut(&self.address) else { return };
        of_node.in_use = of_node.in_use.saturating_sub(1);
        // A node that ran is forgotten with its last connection.
        of_node.idle.retain(|idle| idle.since.elapsed() < IDLE && !idle.link.sender.is_closed());
        if of_node.in_use == 0 && of_node.idle.is_empty() {
            connections.remove(&self.address);
        }
    }
}

impl Link {
    /// Connects.
    ///
    /// # Errors
    /// [`NotSent`](Unanswered::NotSent): there is nobody.
    pub(in crate::http) async fn open(address: SocketAddr) -> Result<Self, Unanswered> {
        let not_sent = |error: &dyn std::error::Error| Unanswered::NotSent(error.to_string());
        let stream = connect(address, None, CONNECT_TIMEOUT).await;
        let stream = HyperIo::new(stream.map_err(|error| not_sent(&error))?);
        stream.limit_unacknowledged(UNACKNOWLEDGED_TIMEOUT).map_err(|error| not_sent(&error))?;
        let mut builder = Builder::new();
        builder.max_buf_size(MAX_BUFFER_BYTES);
        let connected = builder.handshake(stream).await;
        let (sender, connection) = connected.map_err(|error| not_sent(&error))?;
        let driving = spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to another node ended");
            }
        });
        Ok(Self { sender, _driving: driving })
    }

    /// Sends a request and reads the head of its answer.
    ///
    /// # Errors
    /// There is none; the error says whether the request was sent.
    pub(in crate::http) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Unanswered> {
        if let Err(error) = self.sender.ready().await {
            return Err(Unanswered::NotSent(error.to_string()));
        }
        self.sender.try_send_request(request).await.map_err(|mut failed| {
            let reason = failed.error().to_string();
            // hyper hands the request back only if nothing of it was written.
            match failed.take_message() {
                Some(_) => Unanswered::NotSent(reason),
                None => Unanswered::Unknown(reason),
            }
        })
    }
}
