//! The `wal-prepare` thread: one segment ahead of the writer, so that no append waits for space; and
//! behind that the reserve, for a disk on which nothing is free any more.
//!
//! A segment of the reserve is a whole one, allocated and durable under its name, so that using it
//! asks the disk for nothing. It is filled with zeros when it becomes the next one, as any other, and
//! a new one is allocated behind it. Where that cannot be, new orders are to wait, and what is there
//! is left to what has to go on.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::room::{self, FreeRoom, Reserve, Room};
use super::segment::{NotMade, SegmentMaker};
use super::shared::Shared;
use super::storage::Storage;

/// How often the room on the disk is looked at: how late a full disk may be known as one.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// How often a segment is tried again that could not be made.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Makes each segment that the writer asks for, and keeps the reserve.
pub(super) struct Preparer<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) maker: SegmentMaker,
    pub(super) shared: Arc<Shared>,
    /// Numbers of the segments to make. Closed when the writer ends.
    pub(super) requests: Receiver<u64>,
    /// What was made, or why nothing can be any more. A full disk is no reason, it is waited for.
    pub(super) prepared: Sender<io::Result<S::File>>,
    pub(super) reserve: Reserve,
    /// The reserve, in the order of its numbers.
    pub(super) ahead: VecDeque<S::File>,
    /// The newest segment that there is.
    pub(super) newest: u64,
    /// What the writer has asked for and not got.
    pub(super) wanted: Option<u64>,
    /// Whether nothing can be made any more.
    pub(super) has_ended: bool,
}

/// How one round of work went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Everything is there.
    Done,
    /// Something cannot be made now.
    Waits,
    /// The disk failed or the writer is gone.
    Ended,
}

/// Why there is not what should be.
enum Obstacle {
    /// It may pass.
    Passing(String),
    /// The disk failed or the writer is gone.
    End,
}

impl<S: Storage> Preparer<S> {
    /// Works until the writer is gone or the disk fails.
    pub(super) fn run(mut self) {
        let mut try_at = Instant::now();
        // A disk that is full at the start is known as one before the first order.
        let mut patience = Duration::ZERO;
        loop {
            match self.requests.recv_timeout(patience) {
                // The writer asks for no other segment before it has this one.
                Ok(number) => self.wanted = Some(number),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            patience = LOOK_INTERVAL;
            let now = Instant::now();
            if now >= try_at || self.is_whole() {
                match self.attempt() {
                    Attempt::Done => {}
                    Attempt::Waits => try_at = now + RETRY_INTERVAL,
                    Attempt::Ended => return,
                }
            }
        }
    }

    /// Whether there is nothing to make.
    pub(super) fn is_whole(&self) -> bool {
        self.has_ended || (self.wanted.is_none() && self.ahead.len() >= self.reserve.segments)
    }

    /// Makes what is missing, and says how the room is.
    pub(super) fn attempt(&mut self) -> Attempt {
        if self.has_ended {
            return Attempt::Ended;
        }
        let free = self.storage.free_room();
        let made = self.make_missing(free.as_ref().ok().copied());
        let was_short = self.shared.is_out_of_space();
        let trouble = match (made, &free) {
            (Err(Obstacle::End), _) => {
                self.has_ended = true;
                return Attempt::Ended;
            }
            (Err(Obstacle::Passing(trouble)), _) => Some(trouble),
            (Ok(()), Ok(free)) => self.reserve.judge(*free, was_short),
            (Ok(()), Err(error)) => Some(format!("the disk cannot be looked at: {error}")),
        };
        let trouble = trouble.or_else(|| self.missing());
        if trouble.is_some() != was_short {
            let directory = self.storage.path().display();
            match &trouble {
                Some(trouble) => tracing::error!(
                    %directory,
                    trouble,
                    "new orders are refused; cancels and fills go on from what is reserved"
                ),
                None => tracing::warn!(%directory, "there is room again: new orders are taken"),
            }
        }
        let attempt = if self.is_whole() { Attempt::Done } else { Attempt::Waits };
        self.shared.set_room(Room {
            free_bytes: free.map_or(0, |free| free.bytes),
            reserve_bytes: self.ahead.len() as u64 * self.reserve.segment_bytes,
            least_free_bytes: self.reserve.least_free_bytes,
            trouble,
        });
        attempt
    }

    /// Says so when the log is not where it was.
    fn missing(&self) -> Option<String> {
        let path = self.storage.path();
        self.storage.is_gone().then(|| {
            format!("{} is gone: what is recorded now is lost with this process", path.display())
        })
    }

    fn make_missing(&mut self, free: Option<FreeRoom>) -> Result<(), Obstacle> {
        if let Some(number) = self.wanted {
            let file = match self.ahead.front() {
                Some(file) => {
                    let filled = self.maker.fill_ahead(file);
                    filled.map_err(|error| Obstacle::Passing(room::cannot_make(&error, free)))?;
                    self.ahead.pop_front()
                }
                None => None,
            };
            let file = match file {
                Some(file) => file,
                None => {
                    let made = self.maker.make(&*self.storage, number);
                    made.map_err(|error| self.obstacle(error, free))?
                }
            };
            self.hand_over(number, file)?;
        }
        // What was made just now has taken from it.
        let Ok(mut free) = self.storage.free_room() else { return Ok(()) };
        while self.ahead.len() < self.reserve.segments {
            if !self.reserve.allows_another(free) {
                let full = io::ErrorKind::StorageFull.into();
                return Err(Obstacle::Passing(room::cannot_make(&full, Some(free))));
            }
            let allocated = self.maker.allocate(&*self.storage, self.newest + 1);
            let file = allocated.map_err(|error| self.obstacle(error, Some(free)))?;
            self.newest += 1;
            self.ahead.push_back(file);
            self.shared.set_reserve_segments(self.ahead.len());
            free.bytes = free.bytes.saturating_sub(self.reserve.segment_bytes);
        }
        Ok(())
    }

    fn hand_over(&mut self, number: u64, file: S::File) -> Result<(), Obstacle> {
        self.wanted = None;
        self.newest = self.newest.max(number);
        // First the file, then the news: who reads the number finds the file in the channel.
        self.prepared.send(Ok(file)).map_err(|_gone| Obstacle::End)?;
        self.shared.set_ready_segment(number, self.ahead.len());
        Ok(())
    }

    fn obstacle(&self, failed: NotMade, free: Option<FreeRoom>) -> Obstacle {
        match failed {
            NotMade::Passing(error) => Obstacle::Passing(room::cannot_make(&error, free)),
            NotMade::Unsure(error) => {
                // The writer may be gone.
                let _unheard = self.prepared.send(Err(error));
                Obstacle::End
            }
        }
    }
}
