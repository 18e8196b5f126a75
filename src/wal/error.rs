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
        "the log is damaged in {} at byte {offset}{}: {reason}; \
         `longbow wal verify` shows what is still readable",
        file.display(),
        expected(*lsn)
    )]
    Damaged {
        /// The segment, also if it is missing.
        file: PathBuf,
        offset: u64,
        /// The first unreadable record; 0 if its number is not known.
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
    /// The disk has no room for the first segment.
    #[error(
        "there is no room for the log in {}: its first segment needs {} MiB (--wal-segment-mib), and \
         new orders are accepted once there is room for {} MiB more, the next segment and twice \
         the reserve (--disk-reserve-mib); free space, or set these lower",
        directory.display(),
        segment_bytes >> 20,
        more_bytes >> 20
    )]
    NoRoomToStart {
        directory: PathBuf,
        segment_bytes: u64,
        /// Free bytes beyond that from which new orders are accepted.
        more_bytes: u64,
        source: io::Error,
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

/// Which record should be at a place, if its number is known.
fn expected(lsn: Lsn) -> String {
    if lsn == Lsn(0) { String::new() } else { format!(", where record {lsn} should be") }
}

impl WalError {
    pub(super) fn io(action: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::Io { action, path: path.into(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_named_only_if_its_number_is_known() {
        let damaged = |lsn| WalError::Damaged {
            file: "wal-2.log".into(),
            offset: 0,
            lsn: Lsn(lsn),
            reason: "the file is missing".to_owned(),
        };
        assert!(damaged(7).to_string().contains("byte 0, where record 7 should be: the file"));
        assert!(damaged(0).to_string().contains("byte 0: the file"), "{}", damaged(0));
    }
}
