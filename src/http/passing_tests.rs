//! Passes requests on to nodes that are listeners in the same executor, and misbehave as they are told.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_lite::AsyncReadExt;
use http::header::{CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::body::read_body;
use super::call::Call;
use super::connection::serve_connection;
use super::limits::HttpLimits;
use super::metrics::HttpMetrics;
use super::passing::{Passed, Passing, cut_off, relay, told_cut_off};
use super::peers::{
    NODE_HEADER, PeerMetrics, PeerOptions, PeerPool, Peers, PeersSecret, Place, Unanswered,
};
use super::problem::{HttpResponse, Problem, bytes_response};
use super::relay::{RelayLimits, Relays};
use super::reply::Reply;
use crate::cluster::{NodeId, PartitionMap, Peer, Route};
use crate::runtime::{
    ExecutorOptions, HyperIo, accept, adopt_listener, bound_address, connect, listen, run, sleep,
    spawn_local,
};
use crate::shutdown::{Shutdown, StopReason};
use crate::stream::{StreamQuotas, stream_head};
use crate::types::{USER_PARTITIONS, UserId};

/// The node that passes on.
const OURS: NodeId = 1;
/// Of every other node.
const EPOCH: i64 = 8;

fn in_executor<F: Future<Output = ()> + 'static>(test: F) {
    run(ExecutorOptions::default(), test).unwrap();
}

fn peers_of(node_id: NodeId, secret: u8) -> Peers {
    peers_waiting(node_id, secret, Duration::from_secs(20))
}

fn peers_waiting(node_id: NodeId, secret: u8, answer_timeout: Duration) -> Peers {
    let map = PartitionMap::unknown();
    map.joined(EPOCH);
    Peers::new(PeerOptions {
        node_id,
        map,
        secret: PeersSecret::new(vec![secret; 32]),
        answer_timeout,
        metrics: PeerMetrics::default(),
    })
}

/// What another node does with the next request, in turn; the last for good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Does {
    Answers,
    /// Takes the request and closes the connection.
    HangsUp,
    Hangs,
    HasHandedOver,
    /// Does not hear from its database.
    IsCutOff,
    /// Sends this as a stream and ends.
    Streams(&'static str),
}

/// What a request was, with its user, and its body.
type Seen = (String, Vec<u8>);

/// Another node.
struct Node {
    peer: Peer,
    /// The requests that it has got.
    seen: Rc<RefCell<Vec<Seen>>>,
    connections: Rc<Cell<u32>>,
}

fn node(node_id: NodeId, secret: u8, does: &[Does]) -> Node {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let socket = listen(any, false).unwrap();
    let address = bound_address(&socket, any).unwrap();
    let listener = adopt_listener(socket);
    let seen: Rc<RefCell<Vec<Seen>>> = Rc::default();
    let connections: Rc<Cell<u32>> = Rc::default();
    let (peers, does) = (peers_of(node_id, secret), does.to_vec());
    let (noted, counted) = (Rc::clone(&seen), Rc::clone(&connections));
    spawn_local(async move {
        loop {
            let stream = accept(&listener).await.unwrap();
            counted.set(counted.get() + 1);
            let (peers, noted, does) = (peers.clone(), Rc::clone(&noted), does.clone());
            spawn_local(async move {
                let handle = |request| {
                    let (peers, noted, does) = (peers.clone(), Rc::clone(&noted), does.clone());
                    async move { reply(&peers, &noted, &does, request).await }
                };
                let limits = HttpLimits::keeping(Duration::from_secs(60));
                serve_connection(stream, limits, HttpMetrics::default(), None, handle).await;
            })
            .detach();
        }
    })
    .detach();
    Node { peer: Peer { node_id, epoch: EPOCH, address }, seen, connections }
}

async fn reply(
    peers: &Peers,
    seen: &RefCell<Vec<Seen>>,
    does: &[Does],
    request: Request<Incoming>,
) -> Reply {
    let (head, body) = read_body(request).await.unwrap();
    let mut reply = match peers.user_of(&head, &body) {
        Err(_) => Reply::Response(text(StatusCode::UNAUTHORIZED, "no")),
        Ok(user) => {
            let times = seen.borrow().len();
            seen.borrow_mut().push((format!("{user} {} {}", head.method, head.uri), body));
            let node = u16::try_from(peers.node_id()).ok();
            let stream = |text: &str| [stream_head(node).as_slice(), text.as_bytes()].concat();
            match does.get(times).or(does.last()).unwrap() {
                Does::Answers => Reply::Response(text(StatusCode::CREATED, "fine")),
                Does::HangsUp => Reply::Bytes(Vec::new()),
                Does::Hangs => pending().await,
                Does::HasHandedOver => {
                    Reply::Response(Problem::unavailable("not_owner", "gone").into_response())
                }
                Does::IsCutOff => {
                    let problem = told_cut_off(cut_off("Orders"));
                    Reply::Response(problem.into_response())
                }
                Does::Streams(text) => Reply::Bytes(stream(text)),
            }
        }
    };
    reply.name_node(peers);
    reply
}

fn text(status: StatusCode, text: &'static str) -> HttpResponse {
    let kind = HeaderValue::from_static("text/odd");
    let mut response = bytes_response(status, kind, Bytes::from_static(text.as_bytes()));
    response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("7"));
    response
}

fn call(method: Method, target: &str, body: &[u8]) -> Call {
    let request = Request::builder().method(method).uri(target).body(()).unwrap();
    Call {
        user: UserId::new("alice").unwrap(),
        head: request.into_parts().0,
        body: body.to_vec(),
        arrived: std::time::Instant::now(),
        is_passed_on: false,
    }
}

/// The node that passes on.
struct Ours {
    pool: PeerPool,
    peers: Peers,
}

impl Ours {
    fn new() -> Self {
        Self { pool: PeerPool::default(), peers: peers_of(OURS, 7) }
    }

    /// One that waits for an answer for this long.
    fn waiting(answer_timeout: Duration) -> Self {
        Self { pool: PeerPool::default(), peers: peers_waiting(OURS, 7, answer_timeout) }
    }

    async fn pass_on(
        &self,
        call: &Call,
        is_repeatable: bool,
        first: Peer,
        place: impl Fn() -> Place,
    ) -> Result<Passed, Unanswered> {
        let passing = Passing { pool: &self.pool, peers: &self.peers, call, is_repeatable };
        passing.pass_on(first, place).await
    }

    /// Where the request stays where it was.
    async fn ask(&self, call: &Call, is_repeatable: bool, peer: Peer) -> Result<u16, Unanswered> {
        self.pass_on(call, is_repeatable, peer, || Place::There(peer)).await.map(status)
    }
}

fn status(passed: Passed) -> u16 {
    match passed {
        Passed::Answer(answer) => answer.status().as_u16(),
        Passed::BackHere => 0,
    }
}

fn is_unknown(outcome: &Result<u16, Unanswered>) -> bool {
    matches!(outcome, Err(Unanswered::Unknown(_)))
}

#[test]
fn an_answer_comes_back_as_it_was_over_a_connection_that_is_kept() {
    in_executor(async {
        let (ours, other) = (Ours::new(), node(3, 7, &[Does::Answers]));
        let post = call(Method::POST, "/order?x=1", b"{}");
        let passed = ours.pass_on(&post, false, other.peer, || Place::There(other.peer)).await;
        let Ok(Passed::Answer(answer)) = passed else { panic!("not answered") };
        assert_eq!(answer.status(), StatusCode::CREATED);
        assert_eq!(answer.headers()[CONTENT_TYPE], "text/odd");
        assert_eq!(answer.headers()[RETRY_AFTER], "7");
        assert_eq!(answer.headers()[NODE_HEADER], "3");
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "fine");
        // `HEAD` is made a `GET`, whose body tells the length.
        let head = call(Method::HEAD, "/orders", b"");
        assert_eq!(ours.ask(&head, true, other.peer).await, Ok(201));
        let seen = [("alice POST /order?x=1", "{}"), ("alice GET /orders", "")];
        let seen = seen.map(|(what, body)| (what.to_owned(), body.as_bytes().to_vec()));
        assert_eq!(*other.seen.borrow(), seen);
        assert_eq!(other.connections.get(), 1);
    });
}

#[test]
fn a_request_whose_answer_is_lost_is_repeated_once_where_that_is_safe() {
    in_executor(async {
        let ours = Ours::new();
        let (get, post) = (call(Method::GET, "/orders", b""), call(Method::POST, "/order", b"{}"));
        for (request, is_repeatable, does, requests, expected) in [
            (&get, true, &[Does::HangsUp, Does::Answers][..], 2, Some(201)),
            (&get, true, &[Does::HangsUp], 2, None),
            (&post, true, &[Does::HangsUp, Does::Answers], 2, Some(201)),
            (&post, false, &[Does::HangsUp, Does::Answers], 1, None),
        ] {
            let other = node(3, 7, does);
            let outcome = ours.ask(request, is_repeatable, other.peer).await;
            assert_eq!(outcome.as_ref().ok().copied(), expected, "{does:?}");
            assert!(expected.is_some() || is_unknown(&outcome), "{outcome:?}");
            assert_eq!(other.seen.borrow().len(), requests, "{does:?}");
        }
    });
}

#[test]
fn a_request_that_never_left_or_was_refused_has_done_nothing() {
    in_executor(async {
        let ours = Ours::new();
        let post = call(Method::POST, "/order", b"{}");
        let gone = Peer { node_id: 3, epoch: EPOCH, address: "127.0.0.1:1".parse().unwrap() };
        let with_another_key = node(3, 8, &[Does::Answers]);
        // What was meant for the process before it is not for this one.
        let begun_anew = Peer { epoch: EPOCH - 1, ..node(3, 7, &[Does::Answers]).peer };
        let named_otherwise = Peer { node_id: 4, ..node(3, 7, &[Does::Answers]).peer };
        for peer in [gone, with_another_key.peer, begun_anew] {
            let outcome = ours.ask(&post, true, peer).await;
            assert!(matches!(outcome, Err(Unanswered::NotSent(_))), "{outcome:?}");
        }
        assert!(with_another_key.seen.borrow().is_empty());
        // Who answers is not the node that was asked.
        assert!(is_unknown(&ours.ask(&post, false, named_otherwise).await));
    });
}

#[test]
fn a_node_that_does_not_answer_is_asked_again_within_the_same_time() {
    in_executor(async {
        let ours = Ours::waiting(Duration::from_secs(1));
        let get = call(Method::GET, "/orders", b"");
        let once = node(3, 7, &[Does::Hangs, Does::Answers]);
        assert_eq!(ours.ask(&get, true, once.peer).await, Ok(201));
        let never = node(3, 7, &[Does::Hangs]);
        assert!(is_unknown(&ours.ask(&get, true, never.peer).await));
        assert_eq!(never.seen.borrow().len(), 2);
    });
}

#[test]
fn a_node_that_hangs_is_left_once_another_has_the_user() {
    in_executor(async {
        let ours = Ours::new();
        let (frozen, next) = (node(3, 7, &[Does::Hangs]), node(4, 7, &[Does::Answers]));
        let post = call(Method::POST, "/order", b"{}");
        let since = std::time::Instant::now();
        let moves_to = |next: Place| {
            let frozen = Place::There(frozen.peer);
            move || if since.elapsed() < Duration::from_millis(50) { frozen } else { next }
        };
        let to_another = moves_to(Place::There(next.peer));
        let outcome = ours.pass_on(&post, true, frozen.peer, to_another).await;
        assert_eq!(outcome.map(status), Ok(201));
        assert_eq!((frozen.seen.borrow().len(), next.seen.borrow().len()), (1, 1));
        let outcome = ours.pass_on(&post, true, frozen.peer, moves_to(Place::Here)).await;
        assert!(matches!(outcome, Ok(Passed::BackHere)));
        let outcome = ours.pass_on(&post, true, frozen.peer, moves_to(Place::Nowhere)).await;
        assert!(is_unknown(&outcome.map(status)));
        let outcome = ours.pass_on(&post, false, frozen.peer, moves_to(Place::Here)).await;
        assert!(is_unknown(&outcome.map(status)), "what may have been done is not done again");
    });
}

#[test]
fn a_node_that_is_cut_off_from_its_database_has_done_nothing() {
    in_executor(async {
        let (ours, post) = (Ours::new(), call(Method::POST, "/order", b"{}"));
        let other = node(3, 7, &[Does::IsCutOff]);
        for _ in 0..2 {
            assert_eq!(ours.ask(&post, true, other.peer).await, Err(Unanswered::CutOff));
        }
        assert_eq!(other.connections.get(), 1, "it was read to its end");
    });
}

#[test]
fn a_node_that_has_handed_the_user_over_has_done_nothing() {
    in_executor(async {
        let (ours, post) = (Ours::new(), call(Method::POST, "/order", b"{}"));
        let other = node(3, 7, &[Does::HasHandedOver]);
        let outcome = ours.ask(&post, true, other.peer).await;
        assert_eq!(outcome, Err(Unanswered::NotOwner));
        // Unless it is the second that was asked.
        let lost = node(3, 7, &[Does::HangsUp, Does::HasHandedOver]);
        assert!(is_unknown(&ours.ask(&post, true, lost.peer).await));
    });
}

/// Has a client read a stream that is relayed, to its end.
async fn relayed(peers: Peers, from: Peer, shutdown: Shutdown) -> (String, Rc<Relays>) {
    let any: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let socket = listen(any, false).unwrap();
    let address = bound_address(&socket, any).unwrap();
    let listener = adopt_listener(socket);
    let (stall, heartbeat) = (Duration::from_secs(5), Duration::from_secs(3_600));
    let relays = Relays::new(shutdown, RelayLimits { stall, heartbeat });
    let kept = Rc::clone(&relays);
    spawn_local(async move {
        let io = HyperIo::new(accept(&listener).await.unwrap());
        let quotas = Arc::new(StreamQuotas::new(10, 10));
        let call = call(Method::GET, "/orders/stream", b"");
        let permits = [(); 2].map(|()| quotas.reserve_relay().unwrap());
        match relay(&peers, (&kept, permits), &call, from).await {
            Ok(Reply::Relay(relay)) => relay.run(io).await,
            Ok(_) | Err(_) => panic!("not relayed"),
        }
    })
    .detach();
    let mut client = connect(address, None, Duration::from_secs(5)).await.unwrap();
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).await.unwrap();
    (String::from_utf8(bytes).unwrap(), relays)
}

/// Another node that opens a stream and then says nothing until it is left.
fn silent_node(event: &'static str) -> Peer {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        assert!(stream.read(&mut request).unwrap() > 0);
        stream.write_all(&stream_head(Some(3))).unwrap();
        stream.write_all(event.as_bytes()).unwrap();
        while stream.read(&mut request).is_ok_and(|read| read > 0) {}
    });
    Peer { node_id: 3, epoch: EPOCH, address }
}

/// The map of a node whose peer has all users.
fn all_at(peer: Peer) -> PartitionMap {
    let map = PartitionMap::unknown();
    map.set([Route::Peer(peer); USER_PARTITIONS], vec![peer]);
    map
}

fn with_map(map: &PartitionMap) -> Peers {
    Peers::new(PeerOptions {
        node_id: OURS,
        map: map.clone(),
        secret: PeersSecret::new(vec![7; 32]),
        answer_timeout: Duration::from_secs(20),
        metrics: PeerMetrics::default(),
    })
}

#[test]
fn a_relayed_stream_ends_with_a_goodbye_however_it_ends() {
    in_executor(async {
        let head = String::from_utf8(stream_head(Some(3))).unwrap();
        for (sent, arrives) in [
            ("event: order\ndata: 1\n\nevent: order\nda", "event: order\ndata: 1\n\n"),
            ("", ""),
            ("event: order\ndata: 1\n\n: hb\n", "event: order\ndata: 1\n\n: hb\n"),
        ] {
            let other = node(3, 7, &[Does::Streams(sent)]);
            let peers = with_map(&all_at(other.peer));
            let (text, relays) = relayed(peers.clone(), other.peer, Shutdown::new()).await;
            let rest = text.strip_prefix(&head).unwrap().strip_prefix(arrives).unwrap();
            assert!(rest.starts_with("event: goodbye\ndata: {}\nretry: "), "{rest}");
            assert_eq!(rest.matches("\n\n").count(), 1);
            relays.ended().await;
            assert_eq!(peers.metrics().relays.get(), 0);
        }
        let goodbye = "event: goodbye\ndata: {}\nretry: 5\n\n";
        let other = node(3, 7, &[Does::Streams(goodbye)]);
        let (text, _) = relayed(with_map(&all_at(other.peer)), other.peer, Shutdown::new()).await;
        assert_eq!(text, format!("{head}{goodbye}"), "only one");
    });
}

#[test]
fn a_relay_ends_when_the_node_has_been_silent_for_some_heartbeats() {
    in_executor(async {
        let open = "event: open\nretry: 7\ndata: {\"streamId\":\"1\",\"heartbeatMs\":20}\n\n: hb\n";
        let peer = silent_node(open);
        let (text, _) = relayed(with_map(&all_at(peer)), peer, Shutdown::new()).await;
        let (_, rest) = text.split_once(open).unwrap();
        assert!(rest.starts_with("event: goodbye\ndata: {}\nretry: "), "{text}");
    });
}

#[test]
fn a_relay_ends_when_the_user_moves_or_the_node_stops() {
    in_executor(async {
        let event = "event: order\ndata: 1\n\n";
        let is_right = |text: &str| {
            text.contains(event) && text.trim_end().lines().last().unwrap().starts_with("retry: ")
        };
        let peer = silent_node(event);
        let map = all_at(peer);
        let moved = map.clone();
        spawn_local(async move {
            sleep(Duration::from_millis(100)).await;
            moved.set([Route::Nowhere; USER_PARTITIONS], Vec::new());
        })
        .detach();
        let (text, _) = relayed(with_map(&map), peer, Shutdown::new()).await;
        assert!(is_right(&text));
        let peer = silent_node(event);
        let shutdown = Shutdown::new();
        shutdown.request(StopReason::Requested);
        let (text, _) = relayed(with_map(&all_at(peer)), peer, shutdown).await;
        assert!(is_right(&text));
    });
}
