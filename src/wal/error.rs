//! Errors of the log.

use std::io;
use std::path::PathBuf;

use super::{BLOCK_BYTES, Lsn, MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES};

/// Error of a visitor of recovered records.
pub type VisitError = Box<dyn std::error::Error + Send + Sync>;

/// Errors of the log.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The segment size is not allowed.
    #[error(
        "a log segment of {given} bytes is not allowed: expected a multiple of {BLOCK_BYTES} from \
         {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
    )]
    SegmentBytes {
        /// The configured size.
        given: u64,
    },
    /// Another process has the log open.
    #[error("the log in {} is in use by another process", directory.display())]
    Locked { directory: PathBuf },
    /// An I/O operation failed.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What failed.
        action: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Bytes that were durable no longer match what was written. Nothing is repaired automatically:
    /// cutting the log here would drop acknowledged orders.
    #[error(
        "the log is damaged in {} at byte {offset}, where record {lsn} should be: {reason}; \
         `longbow wal verify` shows what is still readable",
        file.display()
    )]
    Damaged {
        /// The segment, also if it is missing.
        file: PathBuf,
        offset: u64,
        /// The first unreadable record.
        lsn: Lsn,
        reason: String,
    },
    /// The log was written by a newer version.
    #[error("{} has log format {found}, but this version reads only up to {newest}", file.display())]
    Newer {
        /// The segment.
        file: PathBuf,
        found: u32,
        /// The newest format that this version reads.
        newest: u32,
    },
    /// The log was cut beyond a record that is needed.
    #[error(
        "the log in {} begins with record {first}, but records from {needed} are needed; \
         restore the index of this log from a backup that reaches at least record {first}, or \
         the older segments of the log",
        directory.display()
    )]
    CutOff {
        directory: PathBuf,
        /// Its oldest record.
        first: Lsn,
        /// The oldest record that is needed.
        needed: Lsn,
    },
    /// Only unused segments are left.
    #[error(
        "the segments with records are missing in {}: the oldest there is {oldest}, which has \
         no readable record; restore the missing segments, or log and index from one backup",
        directory.display()
    )]
    NoRecords {
        directory: PathBuf,
        /// Its oldest segment.
        oldest: String,
    },
    #[error(
        "there is no log in {}: --data-dir must name the data directory of a server that has run before",
        directory.display()
    )]
    NotThere {
        /// The directory.
        directory: PathBuf,
    },
    /// The log ends before what was derived from it.
    #[error(
        "the log in {} ends with record {last}, but record {known} was once durable in it; restore \
         the missing segments, or an index that ends no later than the log",
        directory.display()
    )]
    LostTail {
        directory: PathBuf,
        /// Its newest record.
        last: Lsn,
        /// The record that it once held.
        known: Lsn,
    },
    /// Removing a segment failed before. Nothing is lost, but the log only grows from then on.
    #[error("the log is no longer truncated, because removing a segment failed")]
    CutFailed,
    /// The visitor of recovery rejected a record.
    #[error("record {lsn} of the log cannot be used")]
    Visit { lsn: Lsn, source: VisitError },
    /// The payload exceeds the limit. Nothing was appended.
    #[error("a log record with a payload of {bytes} bytes is too large: at most {limit}")]
    TooLarge { bytes: usize, limit: usize },
    /// The forming batch is full while the writer has the other one, or the next segment is not
    /// ready yet. Nothing was appended. Transient: `poll_progress` signals the end.
    #[error("the log is busy: the next batch is full")]
    Busy,
    /// The disk and the current segment are full. Nothing was appended. Ends when there is space
    /// again.
    #[error("no space is left on the disk for the log")]
    NoSpace,
    /// A write or sync failed before: what is durable is unknown until the log is recovered.
    #[error("the log has failed and takes no records until it is reopened")]
    Poisoned,
}

impl WalError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}
