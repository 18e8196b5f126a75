//! Follows the log from other threads: progress, committed records, and removal of segments that
//! every follower has passed.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::log::Log;
use super::log_id::LogId;
use super::reader::LogReader;
use super::room::Room;
use super::segment;
use super::storage::{Directory, Storage, remove};
use super::taken;
use super::{Lsn, WalError};

/// Follows the log from any thread. Clones share the log.
pub struct LogHandle<S: Storage = Directory>(Arc<Log<S>>);

/// A follower's claim on the log: keeps everything after the record that it advanced to. Holds
/// until the process ends, even if dropped: a follower that died still needs its records.
#[derive(Debug)]
pub struct LogClaim {
    taken: Arc<AtomicU64>,
}

impl<S: Storage> LogHandle<S> {
    pub(super) fn new(log: Arc<Log<S>>) -> Self {
        Self(log)
    }

    pub fn log_id(&self) -> LogId {
        self.0.log_id
    }

    /// The last durable record; all earlier ones are durable, too.
    pub fn committed(&self) -> Lsn {
        Lsn(self.0.shared.committed().get())
    }

    /// The oldest record of the log; the next record if the log is empty.
    pub fn first_lsn(&self) -> Lsn {
        let next = self.0.shared.committed().get() + 1;
        Lsn(self.0.shared.first_lsn().unwrap_or(next))
    }

    /// Number and bytes of the segments, without prepared ones.
    pub fn kept_segments(&self) -> (usize, u64) {
        self.0.shared.kept()
    }

    /// Whether the log has failed or its writer has ended: nothing more is committed.
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.is_poisoned()
    }

    /// Whether new orders must wait for disk space; see [`room`](Self::room).
    pub fn is_out_of_space(&self) -> bool {
        self.0.shared.is_out_of_space()
    }

    /// Whether other writers to this disk must stop. Reads the free space now, while
    /// [`is_out_of_space`](Self::is_out_of_space) may lag.
    pub fn must_not_fill(&self) -> bool {
        let free_now = || self.0.storage.free_room();
        self.is_out_of_space()
            || free_now().is_ok_and(|free| self.0.reserve.judge(free, false).is_some())
    }

    /// The disk space, checked four times a second.
    pub fn room(&self) -> Room {
        self.0.shared.room()
    }

    /// Blocks until a record after `beyond` is committed, the log is poisoned, or the timeout
    /// passes. Returns the last committed record.
    pub fn wait(&self, beyond: Lsn, timeout: Duration) -> Lsn {
        Lsn(self.0.shared.committed().wait_beyond(beyond.0, timeout))
    }

    /// A reader of the committed records after `after`. Only a [claim](Self::claim) keeps them from
    /// being cut before they are read.
    ///
    /// # Errors
    /// [`WalError::CutOff`] if the log begins after the next record.
    pub fn reader(&self, after: Lsn) -> Result<LogReader<S>, WalError> {
        self.check_reaches(after)?;
        Ok(LogReader::new(Arc::clone(&self.0), after))
    }

    /// Keeps the records after `after` for a follower with this name.
    ///
    /// # Errors
    /// [`WalError::CutOff`] if some of them were cut.
    pub fn claim(&self, name: &'static str, after: Lsn) -> Result<LogClaim, WalError> {
        // Locked, so that nothing is cut between the check and the claim.
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_reaches(after)?;
        let taken = Arc::new(AtomicU64::new(after.0));
        claims.taken.push((name, Arc::clone(&taken)));
        Ok(LogClaim { taken })
    }

    /// Removes the oldest segments that no claim needs, except for the current one and the newest
    /// ones that the options retain. Returns how many. Blocks on the disk: not for the thread of
    /// the writer or the appender. Removes nothing if there are no claims.
    ///
    /// # Errors
    /// [`WalError::Io`] if a segment cannot be removed durably. The log on disk is intact, but
    /// nothing more is removed from then on, because a later removal could become durable before
    /// this one. [`WalError::CutFailed`] if that happened before.
    pub fn cut(&self) -> Result<u64, WalError> {
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.cut_failed {
            return Err(WalError::CutFailed);
        }
        let taken = claims.taken.iter().map(|(_, taken)| taken.load(Ordering::Acquire));
        // Without claims nothing says what may go.
        let Some(through) = taken.min() else { return Ok(0) };
        let mut removed = 0;
        while let Some(number) = self.0.shared.removable(through, self.0.keep_bytes) {
            let result = remove(&*self.0.storage, &segment::name(number));
            claims.cut_failed = result.is_err();
            result?;
            self.0.shared.removed(number);
            removed += 1;
        }
        Ok(removed)
    }

    /// Notes durably, beside the log, that the store has everything up to a record. Writes only
    /// when that record is in another segment than before. [`verify`](super::verify) then knows
    /// which records no start reads.
    ///
    /// # Errors
    /// [`WalError::Io`]; the log is unaffected.
    pub fn note_stored(&self, through: Lsn) -> Result<(), WalError> {
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        // Nothing to note where the log no longer has that record, or never had any.
        let segment = self.0.shared.locate(through.0).ok();
        if segment.is_some() && segment != claims.noted_segment {
            let storage = &*self.0.storage;
            taken::write(storage, self.0.log_id, through).map_err(|error| {
                WalError::io("note the store's position in", storage.path(), error)
            })?;
            claims.noted_segment = segment;
        }
        Ok(())
    }

    fn check_reaches(&self, after: Lsn) -> Result<(), WalError> {
        let (first, needed) = (self.first_lsn(), Lsn(after.0 + 1));
        if first > needed {
            let directory = self.0.storage.path().to_path_buf();
            return Err(WalError::CutOff { directory, first, needed });
        }
        Ok(())
    }
}

impl LogClaim {
    /// The follower no longer needs this record and earlier ones. Never goes back.
    pub fn advance(&self, through: Lsn) {
        self.taken.fetch_max(through.0, Ordering::AcqRel);
    }
}

impl<S: Storage> Clone for LogHandle<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S: Storage> fmt::Debug for LogHandle<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        f.debug_struct("LogHandle")
            .field("log_id", &self.0.log_id)
            .field("committed", &self.committed())
            .field("claims", &claims.taken)
            .finish_non_exhaustive()
    }
}
