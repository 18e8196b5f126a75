//! Streams of users whom another node has: that node's bytes, event by event, on the client's socket.

use std::cell::Cell;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures_lite::future::or;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use rand::RngExt;

use crate::cluster::Peer;
use crate::metrics::Gauge;
use crate::runtime::{HyperIo, sleep, timeout};
use crate::shutdown::Shutdown;
use crate::stream::{RETRY_MS, StreamPermit, goodbye, stream_head};
use crate::types::UserId;

use super::peers::{Link, Peers, Place};

/// Time between two looks whether the stream is still that node's, or this one stops.
const LOOK: Duration = Duration::from_secs(1);
/// Longest event that is relayed: more than any that a node sends.
const MAX_EVENT_BYTES: usize = 64 * 1024;
/// Heartbeats that a stream may lack. Then the other node has lost the connection without a word that
/// arrived: nothing is sent there, so no other time limit runs.
const MISSED_HEARTBEATS: u32 = 3;

/// The relayed streams of one shard.
#[derive(Debug)]
pub struct Relays {
    open: Cell<usize>,
    shutdown: Shutdown,
    limits: RelayLimits,
}

/// How long either side may be silent.
#[derive(Debug, Clone, Copy)]
pub struct RelayLimits {
    /// How long a client may take nothing.
    pub stall: Duration,
    /// After how much silence of a stream there is a heartbeat, unless its beginning tells another time.
    pub heartbeat: Duration,
}

impl Relays {
    /// None yet.
    pub fn new(shutdown: Shutdown, limits: RelayLimits) -> Rc<Self> {
        Rc::new(Self { open: Cell::new(0), shutdown, limits })
    }

    /// Waits until all have ended, once a stop is requested.
    pub async fn ended(&self) {
        const POLL: Duration = Duration::from_millis(1);
        while self.open.get() > 0 {
            sleep(POLL).await;
        }
    }
}

/// A stream on its way from another node to a client.
pub(super) struct Relay {
    pub body: Incoming,
    pub from: Peer,
    pub user: UserId,
    pub peers: Peers,
    pub counted: Counted,
    /// The connection to the other node, and room for both connections.
    pub _kept: (Link, [StreamPermit; 2]),
}

/// Counts a relay for as long as it is open.
pub(super) struct Counted {
    relays: Rc<Relays>,
    gauge: Gauge,
}

impl Counted {
    pub(super) fn new(relays: &Rc<Relays>, peers: &Peers) -> Self {
        let gauge = peers.metrics().relays.clone();
        relays.open.set(relays.open.get() + 1);
        gauge.inc();
        Self { relays: Rc::clone(relays), gauge }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.relays.open.set(self.relays.open.get().saturating_sub(1));
        self.gauge.dec();
    }
}

/// What a relay has to act on.
enum Step {
    Bytes(Bytes),
    /// The other node has ended the stream, or its connection broke.
    Ended,
    /// The client hung up.
    Left,
    /// It is time for a look.
    Look,
}

impl Relay {
    /// Relays until either side ends or falls silent, or another node has the user. A client that is still
    /// there is told to come back.
    pub(super) async fn run(mut self, mut io: HyperIo) {
        let mut events = WholeEvents::default();
        if !self.send(&mut io, &stream_head(u16::try_from(self.from.node_id).ok())).await {
            return;
        }
        let mut last_look = Instant::now();
        let (mut last_bytes, mut heartbeat) = (last_look, self.counted.relays.limits.heartbeat);
        loop {
            match self.step(&mut io).await {
                Step::Bytes(bytes) => {
                    let Some(whole) = events.take_whole(&bytes) else { break };
                    heartbeat = told_heartbeat(&whole).unwrap_or(heartbeat);
                    if !whole.is_empty() && !self.send(&mut io, &whole).await {
                        return;
                    }
                    last_bytes = Instant::now();
                }
                Step::Look => {}
                Step::Ended => break,
                Step::Left => return,
            }
            if last_look.elapsed() >= LOOK {
                last_look = Instant::now();
                let is_silent = last_bytes.elapsed() >= heartbeat.saturating_mul(MISSED_HEARTBEATS);
                if is_silent || self.is_over() {
                    break;
                }
            }
        }
        if !events.has_goodbye
            && self.send(&mut io, &goodbye(rand::rng().random_range(RETRY_MS))).await
        {
            io.end().await;
        }
    }

    async fn step(&mut self, io: &mut HyperIo) -> Step {
        let body = &mut self.body;
        let reading = async {
            match body.frame().await {
                Some(Ok(frame)) => Step::Bytes(frame.into_data().unwrap_or_default()),
                Some(Err(_)) | None => Step::Ended,
            }
        };
        let leaving = async {
            io.ended().await;
            Step::Left
        };
        let looking = async {
            sleep(LOOK).await;
            Step::Look
        };
        or(reading, or(leaving, looking)).await
    }

    fn is_over(&self) -> bool {
        self.counted.relays.shutdown.is_requested()
            || self.peers.place_of_user(&self.user) != Place::There(self.from)
    }

    async fn send(&self, io: &mut HyperIo, bytes: &[u8]) -> bool {
        let sent = timeout(self.counted.relays.limits.stall, io.send_all(bytes)).await;
        matches!(sent, Some(Ok(())))
    }
}

/// Holds an event back until it is whole: one that is cut would reach the client in part.
#[derive(Debug, Default)]
struct WholeEvents {
    /// What was not taken yet.
    rest: BytesMut,
    /// The last event was a goodbye.
    has_goodbye: bool,
}

impl WholeEvents {
    /// The events, and comments between them, that are whole by now. None where one is too long.
    fn take_whole(&mut self, bytes: &[u8]) -> Option<Bytes> {
        self.rest.extend_from_slice(bytes);
        let mut whole = 0;
        while let Some(length) = first_block(self.rest.get(whole..).unwrap_or_default()) {
            let block = self.rest.get(whole..).unwrap_or_default();
            if !block.starts_with(b":") {
                self.has_goodbye = block.starts_with(b"event: goodbye\n");
            }
            whole += length;
        }
        let taken = self.rest.split_to(whole).freeze();
        (self.rest.len() <= MAX_EVENT_BYTES).then_some(taken)
    }
}

/// The heartbeat of a stream, if these events are its first.
fn told_heartbeat(events: &[u8]) -> Option<Duration> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Open {
        heartbeat_ms: u64,
    }
    let open = events.strip_prefix(b"event: open\n")?;
    let data = open.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"data: "))?;
    let Open { heartbeat_ms } = serde_json::from_slice(data).ok()?;
    Some(Duration::from_millis(heartbeat_ms))
}

/// The length of a comment line or of an event with the empty line that ends it, if it is whole.
fn first_block(bytes: &[u8]) -> Option<usize> {
    let end: &[u8] = if bytes.starts_with(b":") { b"\n" } else { b"\n\n" };
    let at = bytes.windows(end.len()).position(|window| window == end)?;
    Some(at + end.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_events_are_relayed_however_the_bytes_are_cut() {
        let text =
            b"event: open\nretry: 7\ndata: {}\n\n: hb\n: hb\nevent: order\ndata: {}\nid: 1.2\n\n\
                     : hb\nevent: goodbye\ndata: {}\nretry: 5\n\nevent: order\ndata: cut";
        let whole = text.len() - b"event: order\ndata: cut".len();
        for cut in 1..text.len() {
            let mut events = WholeEvents::default();
            let mut out = Vec::new();
            for part in text.chunks(cut) {
                let taken = events.take_whole(part).unwrap();
                out.extend_from_slice(&taken);
                let ends = out.is_empty() || out.ends_with(b"\n\n") || out.ends_with(b": hb\n");
                assert!(ends, "{}", String::from_utf8_lossy(&out));
            }
            assert_eq!(out, text[..whole], "in parts of {cut}");
            assert!(events.has_goodbye);
        }
    }

    #[test]
    fn a_goodbye_counts_only_as_the_last_event() {
        let mut events = WholeEvents::default();
        events.take_whole(b"event: goodbye\ndata: {}\n\n").unwrap();
        assert!(events.has_goodbye);
        events.take_whole(b": hb\n").unwrap();
        assert!(events.has_goodbye);
        events.take_whole(b"event: order\ndata: \"event: goodbye\"\n\n").unwrap();
        assert!(!events.has_goodbye);
    }

    #[test]
    fn an_event_without_end_is_not_kept() {
        let mut events = WholeEvents::default();
        let part = [b'x'; 1024];
        let taken = (0..100).take_while(|_| events.take_whole(&part).is_some()).count();
        assert_eq!(taken, MAX_EVENT_BYTES / part.len());
    }
}
