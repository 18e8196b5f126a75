use std::io;
use std::path::PathBuf;

use super::{BLOCK_BYTES, Lsn, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

/// What a visitor of recovered records may fail with.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// What can go wrong in the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// A segment size that is not allowed.
    #[error(
        "a log segment of {given} bytes is not allowed: expected a multiple of {BLOCK_BYTES} from \
         {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
    )]
    SegmentBytes {
        /// The size that was asked for.
        given: u64,
    },
    /// Another process has the log open.
    #[error("the log in {} is in use by another process", directory.display())]
    Locked {
        /// The directory of the log.
        directory: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Bytes that were durable once are not what was written. Nothing is repaired by itself: a cut
    /// here would drop orders that were acknowledged.
    #[error(
        "the log is damaged in {} at byte {offset}, where record {lsn} should be: {reason}; \
         `longbow wal verify` shows what is still readable",
        file.display()
    )]
    Damaged {
        /// The segment, or the directory where a segment is missing.
        file: PathBuf,
        /// Where in it.
        offset: u64,
        /// The first record that cannot be read.
        lsn: Lsn,
        /// What was found there.
        reason: String,
    },
    /// The log was written by a newer version.
    #[error("{} has log format {found}, this version reads up to {newest}", file.display())]
    Newer {
        /// The segment.
        file: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        newest: u32,
    },
    /// The beginning of the log was cut off, and more of it is needed.
    #[error(
        "the log in {} begins with record {first}, but the records from {needed} on are needed; \
         restore the index of this log from a backup that goes up to record {first} at least, or \
         the older segments of the log",
        directory.display()
    )]
    CutOff {
        /// The directory of the log.
        directory: PathBuf,
        /// Its oldest record.
        first: Lsn,
        /// The oldest record that is needed.
        needed: Lsn,
    },
    /// Segments that were prepared are there, and none that was written.
    #[error(
        "the segments with records are missing in {}: what is there begins with {oldest}, which has \
         none that can be read; restore the missing segments, or log and index from one backup",
        directory.display()
    )]
    NoRecords {
        /// The directory of the log.
        directory: PathBuf,
        /// Its oldest segment.
        oldest: String,
    },
    /// There is no log.
    #[error(
        "there is no log in {}: --data-dir names the data directory of a server that was started once",
        directory.display()
    )]
    NotThere {
        /// Where it would be.
        directory: PathBuf,
    },
    /// The log does not reach as far as what was made from it.
    #[error(
        "the log in {} ends with record {last}, but record {known} was durable in it once; restore \
         the missing segments, or an index that goes no further than the log",
        directory.display()
    )]
    LostTail {
        /// The directory of the log.
        directory: PathBuf,
        /// Its newest record.
        last: Lsn,
        /// What it held once.
        known: Lsn,
    },
    /// A segment could not be removed before. Nothing is lost, but the log only grows from then on.
    #[error("the log is not cut any more, because a segment could not be removed before")]
    CutFailed,
    /// The visitor of recovery refused a record.
    #[error("record {lsn} of the log cannot be used")]
    Visit {
        /// The record.
        lsn: Lsn,
        /// Why not.
        source: VisitError,
    },
    /// A payload over the limit. Nothing was appended.
    #[error("a log record with a payload of {bytes} bytes is too large: at most {limit}")]
    TooLarge {
        /// Size of the payload.
        bytes: usize,
        /// What is allowed.
        limit: usize,
    },
    /// The forming batch is full and the writer still has the last one, or the next segment is not
    /// ready yet. Nothing was appended; passes by itself, `poll_progress` tells when.
    #[error("the log is busy: the next batch is full")]
    Busy,
    /// The disk is full and so is the current segment. Nothing was appended; passes by itself when
    /// there is room again.
    #[error("no space is left on the disk for the log")]
    NoSpace,
    /// A write or a sync failed before: what is durable is not known until the log is recovered.
    #[error("the log has failed and takes no more records until it is opened again")]
    Poisoned,
}

impl WalError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
