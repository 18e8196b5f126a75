use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::request::Parts;
use http::{HeaderValue, Request, Response};

use super::NODE_HEADER;
use super::metrics::PeerMetrics;
use super::pool::Unanswered;
use super::seen::SeenSignatures;
use super::signature::{PeersSecret, Refused, SIGNATURE_HEADER, Signed};
use crate::cluster::{NodeId, PartitionMap, Peer, Route};
use crate::stream::StreamId;
use crate::types::{Clock, LogThrottle, MonotonicMicros, OrderId, UserId, UserPartition};

/// Header with the position that a stream resumes from.
const LAST_EVENT_ID: &str = "last-event-id";

/// Shortest time between two lines about refused requests.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// What a node is given that shares users with others.
#[derive(Debug)]
pub struct PeerOptions {
    /// Its number.
    pub node_id: NodeId,
    /// Who has which users.
    pub map: PartitionMap,
    /// Shared by all nodes.
    pub secret: PeersSecret,
    /// How long to wait for another node's answer.
    pub answer_timeout: Duration,
    /// What is counted.
    pub metrics: PeerMetrics,
}

/// The other nodes, as a node that shares users with them sees them. Clones share it.
#[derive(Debug, Clone)]
pub struct Peers(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    options: PeerOptions,
    node_header: HeaderValue,
    seen: SeenSignatures,
    /// Of requests that this node refuses, and of those of its own that another one does.
    refusals: Mutex<LogThrottle>,
    refused_there: Mutex<LogThrottle>,
    /// The last mass cancel that another node has asked for, and when its log line was due.
    mass_cancel: Mutex<Option<(Vec<u8>, MonotonicMicros)>>,
}

/// Where a request belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Place {
    /// This node answers it.
    Here,
    /// Another one does.
    There(Peer),
    /// A node that does not run, or no node yet.
    Nowhere,
}

impl Peers {
    /// The others of this node.
    pub fn new(options: PeerOptions) -> Self {
        let node_header = HeaderValue::from(options.node_id);
        let throttle = || Mutex::new(LogThrottle::new(LOG_INTERVAL));
        Self(Arc::new(Shared {
            options,
            node_header,
            seen: SeenSignatures::default(),
            refusals: throttle(),
            refused_there: throttle(),
            mass_cancel: Mutex::default(),
        }))
    }

    /// Whether a mass cancel of another node is to be logged: it is asked for many times, until all have
    /// answered.
    pub(in crate::http) fn is_other_mass_cancel(&self, body: &[u8]) -> bool {
        let now = Clock.moment().monotonic;
        let mut last = self.0.mass_cancel.lock().unwrap_or_else(PoisonError::into_inner);
        let is_known = last
            .as_ref()
            .is_some_and(|(known, at)| known == body && now < at.saturating_add(LOG_INTERVAL));
        if !is_known {
            *last = Some((body.to_owned(), now));
        }
        !is_known
    }

    /// Who has which users.
    pub fn map(&self) -> &PartitionMap {
        &self.0.options.map
    }

    /// The number of this node.
    pub fn node_id(&self) -> NodeId {
        self.0.options.node_id
    }

    pub(in crate::http) fn metrics(&self) -> &PeerMetrics {
        &self.0.options.metrics
    }

    pub(in crate::http) fn answer_timeout(&self) -> Duration {
        self.0.options.answer_timeout
    }

    /// The value of [`NODE_HEADER`](super::NODE_HEADER) in this node's answers.
    pub(in crate::http) fn node_header(&self) -> &HeaderValue {
        &self.0.node_header
    }

    /// Checks that an answer is the node's: somebody else may have its address by now.
    ///
    /// # Errors
    /// It is not.
    pub(in crate::http) fn check_answer<B>(
        answer: &Response<B>,
        node: NodeId,
    ) -> Result<(), Unanswered> {
        let named = answer.headers().get(NODE_HEADER);
        match named.and_then(|value| value.to_str().ok()?.parse::<NodeId>().ok()) {
            Some(from) if from == node => Ok(()),
            _ => Err(Unanswered::Unknown("the answer is not that node's".to_owned())),
        }
    }

    /// Counts and logs a request that was refused.
    pub(in crate::http) fn note_refused(&self, error: Refused) {
        self.metrics().refused.inc();
        if let Some(times) = is_due(&self.0.refusals) {
            tracing::warn!(%error, times, "a request on the listener for other nodes was refused");
        }
    }

    /// Logs that another node has refused what this one has passed on.
    pub(in crate::http) fn note_refused_there(&self, node: NodeId) {
        if let Some(times) = is_due(&self.0.refused_there) {
            tracing::error!(
                node,
                times,
                "another node refuses what this one passes on: it began anew a moment ago, or their clocks \
                 differ, as its log says"
            );
        }
    }

    /// Where a request about a user's orders belongs.
    pub(in crate::http) fn place_of_user(&self, user: &UserId) -> Place {
        self.place_of(user.partition())
    }

    /// Where an operator's request about an order belongs.
    pub(in crate::http) fn place_of_order(&self, order_id: OrderId) -> Place {
        self.place_of(order_id.partition())
    }

    fn place_of(&self, partition: UserPartition) -> Place {
        match self.map().route(partition) {
            Route::Here => Place::Here,
            Route::Peer(peer) => Place::There(peer),
            Route::Nowhere => Place::Nowhere,
        }
    }

    /// Where a request about a stream belongs. An id without a node names no stream of a node that has
    /// others, which is for this node to say.
    pub(in crate::http) fn place_of_stream(&self, id: &str) -> Place {
        match StreamId::parse(id).and_then(|id| id.node).and_then(|node| node.try_into().ok()) {
            Some(node) if node != self.node_id() => {
                self.map().peer(node).map_or(Place::Nowhere, Place::There)
            }
            Some(_) | None => Place::Here,
        }
    }

    /// A request as it is passed on to another node for a user.
    pub(in crate::http) fn signed<B>(
        &self,
        (peer, user): (Peer, &UserId),
        head: &Parts,
        body: &[u8],
        sent: B,
    ) -> http::Result<Request<B>> {
        let signed = signed_parts(head, body, (peer.node_id, peer.epoch));
        let secret = &self.0.options.secret;
        let signature = secret.sign(&signed, (self.node_id(), user), Clock.now());
        let mut request = Request::builder()
            .method(signed.method)
            .uri(signed.target)
            .header(http::header::HOST, peer.address.to_string())
            .header(SIGNATURE_HEADER, signature);
        if let Some(id) = head.headers.get(LAST_EVENT_ID) {
            request = request.header(LAST_EVENT_ID, id);
        }
        request.body(sent)
    }

    /// The user of a request that another node has passed on.
    ///
    /// # Errors
    /// It is not signed, or not as it should be.
    pub(in crate::http) fn user_of(&self, head: &Parts, body: &[u8]) -> Result<UserId, Refused> {
        let header = signature_of(head)?;
        let now = Clock.now();
        let signed = signed_parts(head, body, (self.node_id(), self.map().epoch()));
        let (user, code) = self.0.options.secret.verify(header.as_bytes(), &signed, now)?;
        if self.0.seen.is_new(code, now) { Ok(user) } else { Err(Refused::Seen) }
    }
}

/// How often something happened since it was last logged, if it is to be logged again.
fn is_due(throttle: &Mutex<LogThrottle>) -> Option<u64> {
    let mut throttle = throttle.lock().unwrap_or_else(PoisonError::into_inner);
    throttle.note(Clock.moment().monotonic)
}

/// The signature of a request, unchecked.
///
/// # Errors
/// There is none, or more than one.
pub(in crate::http) fn signature_of(head: &Parts) -> Result<&HeaderValue, Refused> {
    let mut headers = head.headers.get_all(SIGNATURE_HEADER).iter();
    match (headers.next(), headers.next()) {
        (Some(header), None) => Ok(header),
        _ => Err(Refused::Missing),
    }
}

fn signed_parts<'a>(head: &'a Parts, body: &'a [u8], to: (NodeId, i64)) -> Signed<'a> {
    // `HEAD` is passed on like `GET`: its answer has the length of the body.
    let method = if head.method == http::Method::HEAD { "GET" } else { head.method.as_str() };
    let target = head.uri.path_and_query().map_or("/", |target| target.as_str());
    let last_event_id = head.headers.get(LAST_EVENT_ID).map_or(&b""[..], HeaderValue::as_bytes);
    Signed { method, target, last_event_id, body, to }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::USER_PARTITIONS;

    #[test]
    fn users_and_streams_are_found_by_partition_and_node() {
        let peer = Peer { node_id: 3, epoch: 8, address: "127.0.0.1:7".parse().unwrap() };
        let map = PartitionMap::unknown();
        let peers = Peers::new(PeerOptions {
            node_id: 1,
            map: map.clone(),
            secret: PeersSecret::new(vec![7; 32]),
            answer_timeout: Duration::from_secs(5),
            metrics: PeerMetrics::default(),
        });
        let user = UserId::new("alice").unwrap();
        assert_eq!(peers.place_of_user(&user), Place::Nowhere);
        map.set([Route::Here; USER_PARTITIONS], vec![peer]);
        map.serve_until(MonotonicMicros::new(u64::MAX));
        map.set_route(user.partition(), Route::Peer(peer));
        assert_eq!(peers.place_of_user(&user), Place::There(peer));
        let another = ["bob", "carol"].map(|name| UserId::new(name).unwrap());
        assert!(another.iter().any(|user| peers.place_of_user(user) == Place::Here));
        for (id, place) in [
            ("0003003fdeadbeef00000007", Place::There(peer)),
            ("0001003fdeadbeef00000007", Place::Here),
            ("0004003fdeadbeef00000007", Place::Nowhere),
            ("ffff003fdeadbeef00000007", Place::Here),
            ("003fdeadbeef00000007", Place::Here),
            ("nonsense", Place::Here),
        ] {
            assert_eq!(peers.place_of_stream(id), place, "{id}");
        }
        let logged = [b"one", b"one", b"two", b"one"].map(|body| peers.is_other_mass_cancel(body));
        assert_eq!(logged, [true, false, true, true], "what is repeated is logged once");
    }
}
