//! `GET /v1/feed`: a reader's position among the retained lines.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::faults::{Distortion, Step};
use super::feed_ring::Read;
use super::line::heartbeat;
use super::state::Shared;
use crate::exchange::wire::FeedSession;

/// Time between two heartbeats.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// A reader of the feed: a position, not a queue.
pub(super) struct FeedReader {
    shared: Arc<Shared>,
    /// The session line, until it is sent.
    first: Option<Bytes>,
    /// Sequence of the next line to send.
    position: u64,
    /// Which symbols to send, by index; `None` for all.
    filter: Option<Box<[bool]>>,
    published: watch::Receiver<u64>,
    next_heartbeat: Instant,
    distortion: Distortion,
}

/// Why a feed cannot begin: its position is not retained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gone;

impl FeedReader {
    /// Begins at `from` of `session`; by default at the next line of the current session.
    pub(super) fn new(
        shared: Arc<Shared>,
        session: Option<&str>,
        from: Option<u64>,
        filter: Option<Box<[bool]>>,
    ) -> Result<Self, Gone> {
        let (current, next, can_begin) = shared.look(|state| {
            let next = state.ring.next_sequence();
            let can_begin = state.ring.can_begin_at(from.unwrap_or(next));
            (state.feed_session.to_string(), next, can_begin)
        });
        if session.is_some_and(|session| session != current) || !can_begin {
            return Err(Gone);
        }
        let position = from.unwrap_or(next);
        let first = FeedSession { session: current.into(), sequence: position.saturating_sub(1) };
        let mut first = serde_json::to_vec(&first).unwrap_or_default();
        first.push(b'\n');
        Ok(Self {
            published: shared.subscribe(),
            shared,
            first: Some(first.into()),
            position,
            filter,
            next_heartbeat: Instant::now() + HEARTBEAT,
            distortion: Distortion::default(),
        })
    }

    /// The next bytes to send. An error ends the connection: the reader fell behind the retained
    /// lines, or the exchange stops.
    pub(super) async fn next(&mut self) -> io::Result<Bytes> {
        if let Some(first) = self.first.take() {
            return Ok(first);
        }
        loop {
            match self.distortion.next() {
                Some(Step::Send(lines)) => return Ok(lines),
                Some(Step::Stall(time)) => {
                    sleep(time).await;
                    continue;
                }
                Some(Step::Cut) => return Err(io::Error::other("cut as told")),
                None => {}
            }
            if Instant::now() >= self.next_heartbeat {
                if !self.distortion.is_empty() {
                    self.distortion.release();
                    continue;
                }
                self.next_heartbeat = Instant::now() + HEARTBEAT;
                return Ok(heartbeat(self.position.saturating_sub(1), self.shared.now()).into());
            }
            self.published.borrow_and_update();
            match self.shared.look(|state| state.ring.read(self.position, self.filter.as_deref())) {
                Read::Lines { bytes, next } => {
                    self.position = next;
                    if self.shared.faults.is_active() || !self.distortion.is_empty() {
                        self.distortion.put(&self.shared.faults, &bytes);
                    } else if !bytes.is_empty() {
                        return Ok(bytes);
                    }
                }
                Read::AtEnd => self.wait().await?,
                Read::Gone => {
                    tracing::info!(position = self.position, "a feed reader was too slow");
                    return Err(io::Error::other("too slow to stay within the kept lines"));
                }
            }
        }
    }

    async fn wait(&mut self) -> io::Result<()> {
        tokio::select! {
            changed = self.published.changed() => {
                changed.map_err(|_| io::Error::other("the exchange stops"))
            }
            () = sleep_until(self.next_heartbeat) => Ok(()),
        }
    }
}
