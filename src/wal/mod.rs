//! The write-ahead log. A record is durable here before anyone learns of it. The log stores bytes;
//! it does not know events.
//!
//! # On disk
//!
//! A directory of segments `wal-<number>.log`, zero-filled ahead of use: an append never changes a
//! file's size, and one `fdatasync` is one flush of the disk. The first block of a segment is its
//! header (`segment.rs`); batches of records (`record.rs`) follow:
//!
//! - a batch is the unit of group commit: it starts on a block boundary and is padded with zeros to
//!   the next, so acknowledged bytes are never written again;
//! - a batch lies in one segment; the rest of a segment after its last batch stays zero;
//! - the next segment and the reserve exist ahead of the current one, with headers and otherwise
//!   zero, so that a full disk takes nothing from the log;
//! - every record names its batch and carries its predecessor's checksum, across batches, segments
//!   and epochs.
//!
//! At most one batch is written but not synced. That lets recovery tell three cases apart. Zeros
//! are the end of the log. Bytes that are not a record, followed by at most records of the same
//! batch, are a torn batch and are cut. If a record of a later batch follows them, they were synced
//! once and have rotted, and the log refuses to open.
//!
//! # Threads
//!
//! [`WalAppender`] belongs to the thread that makes records. [`WalWriter::run`] is the `wal`
//! thread: checksums, writes, syncs. It owns a second thread, `wal-prepare`, which fills the next
//! segment. Two batch buffers alternate between appender and writer: one forms while the other is
//! being synced. Appending a record allocates nothing. While the writer is idle the appender may
//! write by itself ([`WalAppender::commit_here`]), which saves a lone record two hand-offs between
//! threads.
//!
//! Any other thread may follow the log with a [`LogHandle`]: it waits for commits and reads
//! committed records. A follower that stores them elsewhere takes a [`LogClaim`] and advances it;
//! [`LogHandle::cut`] removes the oldest segments that all claims have passed. The log then begins
//! after record 1, and [`recover`] continues from a given record.

mod aligned;
mod appender;
mod batch;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
mod handle;
mod inspect;
mod log;
mod log_id;
mod log_start;
mod open;
mod prepare;
mod reader;
mod recent;
mod record;
mod record_view;
pub(crate) mod recovery;
mod room;
mod scan;
mod segment;
mod shared;
pub(crate) mod storage;
mod taken;
mod verify;
mod writer;

#[cfg(test)]
mod fault_model;
#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod log_tests;

use std::path::PathBuf;

pub use appender::{NewRecord, WalAppender};
pub use error::{VisitError, WalError};
pub use handle::{LogClaim, LogHandle};
pub use inspect::inspect;
pub use log_id::LogId;
pub use log_start::{LogStart, log_start};
pub use open::open;
pub use reader::LogReader;
pub use record_view::RecordView;
pub use recovery::{Recovery, recover};
pub use room::{FreeRoom, Room};
pub use storage::{Directory, Storage};
pub use verify::{OldDamage, SegmentReport, Verification, verify};
pub use writer::WalWriter;

/// Unit of writing: batches start and end on multiples of it. The strictest alignment that
/// `O_DIRECT` requires of files and memory on common disks.
pub const BLOCK_BYTES: usize = 4096;
/// Maximum size of a record in the log: header, payload, padding.
pub const MAX_RECORD_BYTES: usize = 64 * 1024;
/// Maximum payload of a record.
pub const MAX_PAYLOAD_BYTES: usize = MAX_RECORD_BYTES - record::RECORD_HEADER_BYTES;
/// Maximum batch of one group commit: about 5,000 records of 200 bytes, far more than arrive during
/// one sync, and still written in about a millisecond.
pub const MAX_BATCH_BYTES: usize = 1024 * 1024;
/// Minimum segment: the header and one maximum record. For tests: small segments rotate often.
pub const MIN_SEGMENT_BYTES: u64 = (BLOCK_BYTES + MAX_RECORD_BYTES) as u64;
/// Maximum segment.
pub const MAX_SEGMENT_BYTES: u64 = 1024 * 1024 * 1024;
/// Default segment size: a few seconds of full load, zero-filled in a tenth of a second.
pub const DEFAULT_SEGMENT_BYTES: u64 = 64 * 1024 * 1024;
/// Default retention: some five million records. A follower that lost records it had reported
/// durable can take them from here again, and inspection can look back this far.
pub const DEFAULT_KEEP_BYTES: u64 = 1024 * 1024 * 1024;

/// Default reserve for a full disk: enough for one hour, so that someone can intervene. That is a
/// feed position each second in a batch of its own, and for 100,000 orders open when the disk fills
/// up a cancel request, its outcome and a fill, at 256 bytes each. In a quiet market, where each
/// record is a batch of its own, it is 30,000 records instead of 300,000.
pub const DEFAULT_RESERVE_BYTES: u64 = 128 * 1024 * 1024;

const RESERVED_POSITIONS_BYTES: u64 = 60 * 60 * BLOCK_BYTES as u64;
const RESERVED_ORDERS_BYTES: u64 = 100_000 * 3 * 256;
// Up to a sixteenth of each segment may stay unused, see below.
const _: () = assert!(
    (RESERVED_POSITIONS_BYTES + RESERVED_ORDERS_BYTES) / 15 * 16 <= DEFAULT_RESERVE_BYTES,
    "the reserve lasts for an hour"
);
const _: () = assert!(MAX_RECORD_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(MAX_BATCH_BYTES.is_multiple_of(BLOCK_BYTES));
const _: () = assert!(MAX_BATCH_BYTES >= 16 * MAX_RECORD_BYTES, "a batch is worth its sync");
// A batch that does not fit leaves the rest of the segment unused: at most a sixteenth.
const _: () = assert!(DEFAULT_SEGMENT_BYTES >= 16 * MAX_BATCH_BYTES as u64);
const _: () = assert!(MIN_SEGMENT_BYTES <= DEFAULT_SEGMENT_BYTES);
const _: () = assert!(DEFAULT_SEGMENT_BYTES <= MAX_SEGMENT_BYTES);
const _: () = assert!(usize::BITS == 64, "file offsets are held in memory as usize");

/// Log sequence number: the position of a record. The first record is 1, each next one is one more;
/// 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl std::fmt::Display for Lsn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// Location of the log and size of its files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalOptions {
    /// Directory of the segments; created if missing. One process at a time.
    pub directory: PathBuf,
    /// Size of new segments in bytes: a multiple of [`BLOCK_BYTES`] from [`MIN_SEGMENT_BYTES`] to
    /// [`MAX_SEGMENT_BYTES`]. May change between starts.
    pub segment_bytes: u64,
    /// Bytes of the newest segments that are never cut, whatever the followers have taken.
    pub keep_bytes: u64,
    /// Bytes of segments in the reserve for a full disk, and also the bytes that stay free on the
    /// disk beside it.
    pub reserve_bytes: u64,
}

impl WalOptions {
    /// A log in `directory` with segments of [`DEFAULT_SEGMENT_BYTES`], retention of
    /// [`DEFAULT_KEEP_BYTES`] and no reserve.
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

/// Converts a file offset to `usize`.
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
