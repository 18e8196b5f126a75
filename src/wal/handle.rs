//! Following the log from other threads: progress, committed records, and cutting off what every
//! follower has taken.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::open::remove;
use super::reader::LogReader;
use super::room::{Reserve, Room};
use super::segment;
use super::shared::Shared;
use super::storage::{Directory, Storage};
use super::taken;
use super::{Lsn, WalError};

/// Which log: drawn when its first segment is made, in the header of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LogId(pub u64);

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// The open log as its followers see it.
pub(super) struct Log<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) log_id: LogId,
    keep_bytes: u64,
    reserve: Reserve,
    claims: Mutex<Claims>,
}

/// Who still needs which records.
#[derive(Debug, Default)]
struct Claims {
    /// Name of the follower, and the last record that it can do without.
    taken: Vec<(&'static str, Arc<AtomicU64>)>,
    cut_failed: bool,
    /// The segment of what was last noted of the store.
    noted_segment: Option<u64>,
}

impl<S: Storage> Log<S> {
    pub(super) fn new(
        storage: Arc<S>,
        shared: Arc<Shared>,
        log_id: LogId,
        (keep_bytes, reserve): (u64, Reserve),
    ) -> Self {
        Self { storage, shared, log_id, keep_bytes, reserve, claims: Mutex::default() }
    }
}

/// Reads the log behind its writer, from any thread. Clones are the same log.
pub struct LogHandle<S: Storage = Directory>(Arc<Log<S>>);

/// What a follower still needs of the log: everything behind the record that it advanced to. Holds
/// until the process ends, also when it is dropped: a follower that died still needs its records.
#[derive(Debug)]
pub struct LogClaim {
    taken: Arc<AtomicU64>,
}

impl<S: Storage> LogHandle<S> {
    pub(super) fn new(log: Arc<Log<S>>) -> Self {
        Self(log)
    }

    /// Which log it is.
    pub fn log_id(&self) -> LogId {
        self.0.log_id
    }

    /// The last durable record; everything before it is durable too.
    pub fn committed(&self) -> Lsn {
        Lsn(self.0.shared.committed().get())
    }

    /// The oldest record that is still there; the next one in a log without records.
    pub fn first_lsn(&self) -> Lsn {
        let next = self.0.shared.committed().get() + 1;
        Lsn(self.0.shared.first_lsn().unwrap_or(next))
    }

    /// Number and bytes of the segments that are there, without those prepared for later.
    pub fn kept_segments(&self) -> (usize, u64) {
        self.0.shared.kept()
    }

    /// Whether the log has failed, or its writer has ended: nothing more will be committed.
    pub fn is_poisoned(&self) -> bool {
        self.0.shared.is_poisoned()
    }

    /// Whether new records should wait for room on the disk; see [`room`](Self::room).
    pub fn is_out_of_space(&self) -> bool {
        self.0.shared.is_out_of_space()
    }

    /// Whether whoever writes beside the log should not: looks at the disk now, where
    /// [`is_out_of_space`](Self::is_out_of_space) may be some time late.
    pub fn must_not_fill(&self) -> bool {
        let looked = || self.0.storage.free_room();
        self.is_out_of_space()
            || looked().is_ok_and(|free| self.0.reserve.judge(free, false).is_some())
    }

    /// The room on the disk, looked at four times a second.
    pub fn room(&self) -> Room {
        self.0.shared.room()
    }

    /// Blocks until a record after `beyond` is committed, until nothing more will be, or until the
    /// timeout. Returns what is committed.
    pub fn wait(&self, beyond: Lsn, timeout: Duration) -> Lsn {
        Lsn(self.0.shared.committed().wait_beyond(beyond.0, timeout))
    }

    /// A reader of the committed records after `after`. Only a [claim](Self::claim) keeps them from
    /// being cut off before they are read.
    ///
    /// # Errors
    /// [`WalError::CutOff`] where the log begins after the next record.
    pub fn reader(&self, after: Lsn) -> Result<LogReader<S>, WalError> {
        self.check_reaches(after)?;
        Ok(LogReader::new(Arc::clone(&self.0), after))
    }

    /// Keeps the records after `after` for a follower of this name.
    ///
    /// # Errors
    /// [`WalError::CutOff`] where they are not all there any more.
    pub fn claim(&self, name: &'static str, after: Lsn) -> Result<LogClaim, WalError> {
        // Nothing is cut off between the look and the claim.
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        self.check_reaches(after)?;
        let taken = Arc::new(AtomicU64::new(after.0));
        claims.taken.push((name, Arc::clone(&taken)));
        Ok(LogClaim { taken })
    }

    /// Removes the oldest segments whose records no claim needs, but for the current one and as many
    /// of the newest as the options say. Blocks on the disk: not for the thread of the writer or the
    /// appender. Without any claim nothing is removed.
    ///
    /// # Errors
    /// [`WalError::Io`] when a segment cannot be removed durably: what is on disk is whole, but from
    /// then on nothing more is removed, because the next removal could become durable before this
    /// one. [`WalError::CutFailed`] when that has happened before.
    pub fn cut(&self) -> Result<u64, WalError> {
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
        if claims.cut_failed {
            return Err(WalError::CutFailed);
        }
        let taken = claims.taken.iter().map(|(_, taken)| taken.load(Ordering::Acquire));
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

    /// Notes beside the log that the store has everything up to a record, durably, where that is in
    /// another segment than before: [`verify`](super::verify) then knows what no start reads.
    ///
    /// # Errors
    /// [`WalError::Io`]; the log is none the worse.
    pub fn note_stored(&self, through: Lsn) -> Result<(), WalError> {
        let mut claims = self.0.claims.lock().unwrap_or_else(PoisonError::into_inner);
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
    /// The follower can do without this record and all before it. Never goes back.
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
