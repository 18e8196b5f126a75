//! The `wal-prepare` thread: keeps one segment ready ahead of the writer, so that no append waits
//! for space, and after it the reserve, for a full disk.
//!
//! A segment of the reserve is complete, allocated and durable under its name, so using it asks
//! nothing of the disk. When it becomes the next segment, it is zero-filled like any other, and a
//! new one is allocated after the rest of the reserve. When that fails, new orders must wait, and
//! the remaining segments are left to cancels and fills.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::room::{self, FreeRoom, Reserve, Room};
use super::segment::{NotMade, SegmentMaker};
use super::shared::Shared;
use super::storage::Storage;

/// Interval between checks of the free space, and so the delay before a full disk is noticed.
const CHECK_INTERVAL: Duration = Duration::from_millis(250);
/// Interval between retries of a failed segment.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Makes the segments that the writer requests, and maintains the reserve.
pub(crate) struct Preparer<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) maker: SegmentMaker,
    pub(super) shared: Arc<Shared>,
    /// Numbers of the segments to make. Closed when the writer ends.
    pub(crate) requests: Receiver<u64>,
    /// The segments made, or the error that ended the thread. A full disk is not an error; it is
    /// waited out.
    pub(super) prepared: Sender<io::Result<S::File>>,
    pub(super) reserve: Reserve,
    /// The reserve, by number.
    pub(super) ahead: VecDeque<S::File>,
    /// Number of the newest segment.
    pub(super) newest: u64,
    /// The requested segment that is not made yet.
    pub(crate) wanted: Option<u64>,
    /// Whether the work has ended: the disk failed or the writer ended.
    pub(super) has_ended: bool,
}

/// Outcome of one attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attempt {
    /// Nothing is missing.
    Done,
    /// Something cannot be made at present.
    Waits,
    /// The disk failed or the writer ended.
    Ended,
}

/// Why a segment could not be made.
enum Obstacle {
    /// Transient.
    Passing(String),
    /// The disk failed or the writer ended.
    End,
}

impl<S: Storage> Preparer<S> {
    /// Runs until the writer ends or the disk fails.
    pub(super) fn run(mut self) {
        let mut retry_at = Instant::now();
        // Check at once: a disk that is full at the start is noticed before the first order.
        let mut wait = Duration::ZERO;
        loop {
            match self.requests.recv_timeout(wait) {
                Ok(number) => {
                    assert!(self.wanted.is_none(), "the writer requests one segment at a time");
                    self.wanted = Some(number);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            wait = CHECK_INTERVAL;
            let now = Instant::now();
            if now >= retry_at || self.is_whole() {
                match self.attempt() {
                    Attempt::Done => {}
                    Attempt::Waits => retry_at = now + RETRY_INTERVAL,
                    Attempt::Ended => return,
                }
            }
        }
    }

    /// Whether nothing is missing.
    pub(crate) fn is_whole(&self) -> bool {
        self.has_ended || (self.wanted.is_none() && self.ahead.len() >= self.reserve.segments)
    }

    /// Makes what is missing and publishes the state of the disk.
    pub(crate) fn attempt(&mut self) -> Attempt {
        if self.has_ended {
            return Attempt::Ended;
        }
        self.check();
        let free = self.storage.free_room();
        // Without the free space, whatever fails is explained without it.
        let made = self.make_missing(free.as_ref().ok().copied());
        self.check();
        let was_short = self.shared.is_out_of_space();
        let trouble = match (made, &free) {
            (Err(Obstacle::End), _) => {
                self.has_ended = true;
                return Attempt::Ended;
            }
            (Err(Obstacle::Passing(trouble)), _) => Some(trouble),
            (Ok(()), Ok(free)) => self.reserve.judge(*free, was_short),
            (Ok(()), Err(error)) => {
                Some(format!("the free space of the disk cannot be read: {error}"))
            }
        };
        let trouble = trouble.or_else(|| self.missing_directory());
        if trouble.is_some() != was_short {
            let directory = self.storage.path().display();
            match &trouble {
                Some(trouble) => tracing::error!(
                    %directory,
                    trouble,
                    "new orders are refused; cancels and fills continue from the reserve"
                ),
                None => {
                    tracing::warn!(%directory, "the disk has space again: new orders are accepted")
                }
            }
        }
        let attempt = if self.is_whole() { Attempt::Done } else { Attempt::Waits };
        self.shared.set_room(Room {
            // What cannot be read counts as none.
            free_bytes: free.map_or(0, |free| free.bytes),
            reserve_bytes: self.ahead.len() as u64 * self.reserve.segment_bytes,
            least_free_bytes: self.reserve.least_free_bytes,
            trouble,
        });
        attempt
    }

    /// Checks how the segments ahead relate.
    fn check(&self) {
        assert!(
            self.ahead.len() <= self.reserve.segments,
            "no more segments are kept ahead than the reserve has"
        );
        assert!(
            self.wanted.is_none_or(|number| number + self.ahead.len() as u64 == self.newest + 1),
            "the segment that the writer wants comes before those of the reserve"
        );
    }

    /// Reports a log whose directory is no longer under its path.
    fn missing_directory(&self) -> Option<String> {
        let path = self.storage.path();
        self.storage.is_gone().then(|| {
            format!("{} is gone: new records will be lost when this process ends", path.display())
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
        // Read it again: the segment made above took some.
        // An unreadable disk is reported by the caller, or at the next check.
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
            free.bytes -= self.reserve.segment_bytes;
        }
        assert!(self.is_whole(), "what is missing is made, or something prevents it");
        Ok(())
    }

    fn hand_over(&mut self, number: u64, file: S::File) -> Result<(), Obstacle> {
        assert_eq!(
            self.wanted.take(),
            Some(number),
            "only a segment that is wanted is handed over"
        );
        self.newest = self.newest.max(number);
        // Send the file before publishing its number: whoever reads the number finds the file.
        self.prepared.send(Ok(file)).map_err(|_gone| Obstacle::End)?;
        self.shared.set_ready_segment(number, self.ahead.len());
        Ok(())
    }

    fn obstacle(&self, failed: NotMade, free: Option<FreeRoom>) -> Obstacle {
        match failed {
            NotMade::Passing(error) => Obstacle::Passing(room::cannot_make(&error, free)),
            NotMade::Unsure(error) => {
                // Fails if the writer has ended.
                let _writer_ended = self.prepared.send(Err(error));
                Obstacle::End
            }
        }
    }
}
