//! The write-ahead log: records are durable here before anybody hears of them. It knows bytes, not
//! events.
//!
//! # On disk
//!
//! A directory of segments `wal-<number>.log`, filled with zeros ahead of use, so that an append
//! never changes a file's size and one `fdatasync` is one flush of the disk. The first block of a
//! segment is its header (`segment.rs`); behind it stand batches of records (`record.rs`):
//!
//! - a batch is what one group commit wrote: it starts on a block boundary and is padded with zeros
//!   to the next, so bytes that were acknowledged are never written again;
//! - a batch lies in one segment; what is left of a segment behind its last batch stays zero;
//! - behind the segment that is written stand the next one and the reserve, with headers and
//!   otherwise zero, so that a full disk takes nothing from the log;
//! - every record names its batch and carries its predecessor's checksum, over batches, segments
//!   and epochs.
//!
//! There is never more than one batch that is written but not synced. From that follows how
//! recovery tells the three apart: zeros are the end; bytes that are no record, with at most
//! records of the same batch behind them, are a torn batch and are cut; with a record of a later
//! batch behind them they were synced once and have rotted, and the log refuses to open.
//!
//! # Threads
//!
//! [`WalAppender`] belongs to the thread that makes records. [`WalWriter::run`] is the `wal` thread:
//! checksums, writes, syncs. It owns a second one, `wal-prepare`, that fills the next segment.
//! Two batch buffers go round between appender and writer: while one is being synced the other one
//! forms. Nothing is allocated for a record. While the writer is idle the appender may write by
//! itself ([`WalAppender::commit_here`]), which saves a lone record two hand-offs between threads.
//!
//! Any other thread may follow the log behind the writer with a [`LogHandle`]: it waits for commits
//! and reads committed records. A follower that keeps them elsewhere takes a [`LogClaim`] and
//! advances it; [`LogHandle::cut`] removes the oldest segments that all claims have passed. The log
//! then begins with a later record than the first, and [`recover`] goes on from a given one.

mod aligned;
mod appender;
mod batch;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
mod inspect;
mod log_start;
mod open;
mod prepare;
mod reader;
mod recent;
mod record;
mod recovery;
mod room;
mod scan;
mod segment;
mod shared;
mod storage;
mod taken;
mod verify;
mod writer;

#[cfg(any(test, fuzzing, feature = "simulation"))]
mod faulty_disk;
#[cfg(any(test, feature = "simulation"))]
mod manual;

#[cfg(test)]
mod fault_model;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod log_tests;

use std::path::PathBuf;

/// The log without threads, on a disk in memory: what a simulation drives.
#[cfg(feature = "simulation")]
pub(crate) mod parts {
    pub(crate) use super::faulty_disk::{Crash, Fault, FaultyDisk};
    pub(crate) use super::manual::ManualWriter;
    pub(crate) use super::recovery::recover_from;
}

pub use appender::{NewRecord, WalAppender};
pub use error::{VisitError, WalError};
pub use handle::{LogClaim, LogHandle, LogId};
pub use inspect::inspect;
pub use log_start::{LogStart, log_start};
pub use open::open;
pub use reader::LogReader;
pub use recovery::{RecordView, Recovery, recover};
pub use room::{FreeRoom, Room};
pub use storage::{Directory, Storage};
pub use verify::{OldDamage, SegmentReport, Verification, verify};
pub use writer::WalWriter;

/// Unit of writing: batches start and end on its multiples. The strictest alignment that `O_DIRECT`
/// asks of files and memory on common disks.
pub const BLOCK_BYTES: usize = 4096;
/// Largest record as it stands in the log: header, payload, padding.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Largest payload of a record.
pub const MAX_PAYLOAD_BYTES: usize = MAX_RECORD_BYTES - record::RECORD_HEADER_BYTES;
/// Largest batch of one group commit. About 5,000 records of 200 bytes: far more than arrive during
/// one sync, and still written in about a millisecond.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Smallest segment: the header and one largest record. For tests; small segments rotate often.
pub const MIN_SEGMENT_BYTES: u64 = (BLOCK_BYTES + MAX_RECORD_BYTES) as u64;
/// Largest segment.
pub const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// Segment size unless configured: some seconds of full load, and filled with zeros in a tenth of one.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// What is kept of the log unless configured: some five million records. What a follower lost that
/// it had called durable can be taken from here again, and so can a look into the past.
pub const DEFAULT_KEEP_BYTES: u64 = 1024 * 1024 * 1024;

/// What is kept ready for a full disk unless configured: an hour, in which somebody comes. That is a
/// feed position each second in a batch of its own, and 100,000 orders that are open when the disk
/// runs full, each with a cancel asked for, its outcome and a fill at 256 bytes. In a quiet market,
/// where each record is a batch of its own, it is 30,000 records instead of 300,000.
pub const DEFAULT_RESERVE_BYTES: u64 = 128 * 1024 * 1024;

const RESERVED_POSITIONS_BYTES: u64 = 60 * 60 * BLOCK_BYTES as u64;
const RESERVED_ORDERS_BYTES: u64 = 100_000 * 3 * 256;
// A sixteenth of each segment may stay unused, see below.
const _: () = assert!(
    (RESERVED_POSITIONS_BYTES + RESERVED_ORDERS_BYTES) / 15 * 16 <= DEFAULT_RESERVE_BYTES,
    "the reserve carries an hour"
);
const _: () = assert!(MAX_RECORD_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(MAX_BATCH_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(MAX_BATCH_BYTES >= 16 * MAX_RECORD_BYTES, "a batch is worth its sync");
// A batch that does not fit leaves the rest of its segment unused: at most a sixteenth.
const _: () = assert!(DEFAULT_SEGMENT_BYTES >= 16 * MAX_BATCH_BYTES as u64);
const _: () = assert!(MIN_SEGMENT_BYTES <= DEFAULT_SEGMENT_BYTES);
const _: () = assert!(DEFAULT_SEGMENT_BYTES <= MAX_SEGMENT_BYTES);
const _: () = assert!(usize::BITS == 64, "file offsets are held in memory as usize");

/// Place of a record in the log: the first record is 1, each next one is one more. 0 is nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Where the log is and how it is cut into files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// Directory of the segments; made when it does not exist. One process at a time.
    pub directory: PathBuf,
    /// Size of the segments made from now on, in bytes: a multiple of [`BLOCK_BYTES`] from
    /// [`MIN_SEGMENT_BYTES`] to [`MAX_SEGMENT_BYTES`]. May change from one start to the next.
    pub segment_bytes: u64,
    /// Bytes of the newest segments that are never cut off, whatever the followers have taken.
    pub keep_bytes: u64,
    /// Bytes of segments that are kept ready for a full disk, and of the disk that are left free
    /// beside them.
    pub reserve_bytes: u64,
}

impl WalOptions {
    /// The log in `directory` with segments of [`DEFAULT_SEGMENT_BYTES`], of which
    /// [`DEFAULT_KEEP_BYTES`] are kept, without a reserve.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            segment_bytes: DEFAULT_SEGMENT_BYTES,
            keep_bytes: DEFAULT_KEEP_BYTES,
            reserve_bytes: 0,
        }
    }

    fn check(&self) -> Result<(), WalError> {
        let allowed = (MIN_SEGMENT_BYTES..=MAX_SEGMENT_BYTES).contains(&self.segment_bytes)
            && self.segment_bytes.is_multiple_of(BLOCK_BYTES as u64);
        if allowed { Ok(()) } else { Err(WalError::SegmentBytes { given: self.segment_bytes }) }
    }
}

/// A file offset as a position in memory.
#[expect(clippy::cast_possible_truncation, reason = "usize has 64 bits, asserted above")]
const fn to_usize(offset: u64) -> usize {
    offset as usize
}

/// The next block boundary at or after an offset.
const fn block_ceiling(offset: u64) -> u64 {
    offset.next_multiple_of(BLOCK_BYTES as u64)
}

/// The block boundary at or before an offset.
const fn block_floor(offset: u64) -> u64 {
    offset - offset % BLOCK_BYTES as u64
}
