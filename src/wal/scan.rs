//! Scans segments record by record, and classifies bytes that are not records.

use std::io;
use std::sync::Arc;

use super::aligned::AlignedBuffer;
use super::record::{self, RECORD_ALIGNMENT, RecordHeader};
use super::segment::FIRST_BATCH_OFFSET;
use super::shared::Shared;
use super::storage::StorageFile;
use super::{BLOCK_BYTES, Lsn, MAX_RECORD_BYTES, VisitError, block_ceiling, block_floor, to_usize};

/// Size of a window.
const WINDOW_BYTES: usize = 1024 * 1024;
const ZEROS: [u8; BLOCK_BYTES] = [0; BLOCK_BYTES];

const _: () = assert!(WINDOW_BYTES >= 4 * MAX_RECORD_BYTES, "refills are rare");

/// A window on a file that moves forward.
pub(super) struct Window<F> {
    file: F,
    file_bytes: u64,
    buffer: AlignedBuffer,
    start: u64,
    filled: usize,
    /// The open log, and the number of this segment in it, if the segment may still be written.
    written: Option<(Arc<Shared>, u64)>,
}

impl<F: StorageFile> Window<F> {
    pub(super) fn new(file: F) -> io::Result<Self> {
        let file_bytes = file.len()?;
        let buffer = AlignedBuffer::new(WINDOW_BYTES);
        Ok(Self { file, file_bytes, buffer, start: 0, filled: 0, written: None })
    }

    /// A window on a segment that may still be written: takes the newest committed bytes from
    /// memory.
    pub(super) fn of_written_segment(
        file: F,
        shared: Arc<Shared>,
        segment: u64,
    ) -> io::Result<Self> {
        Ok(Self { written: Some((shared, segment)), ..Self::new(file)? })
    }

    /// Continues with another file in the same buffer.
    pub(super) fn change_file(self, file: F) -> io::Result<Self> {
        let file_bytes = file.len()?;
        Ok(Self { file, file_bytes, start: 0, filled: 0, ..self })
    }

    pub(super) fn file_bytes(&self) -> u64 {
        self.file_bytes
    }

    /// Limits the file to a block boundary. Nothing after it is read, so the buffer never holds
    /// bytes from before they were written.
    pub(super) fn end_at(&mut self, end: u64) -> io::Result<()> {
        self.file_bytes = self.file.len()?.min(end);
        Ok(())
    }

    /// The bytes from an offset on: `len` of them, or fewer at the end of the file. Their alignment
    /// in memory is that in the file, up to a block.
    pub(super) fn bytes(&mut self, offset: u64, len: usize) -> io::Result<&[u8]> {
        // Nothing where the file has become shorter than it was.
        let Some(left) = self.file_bytes.checked_sub(offset) else { return Ok(&[]) };
        let len = len.min(to_usize(left));
        let end = offset + len as u64;
        if offset < self.start || end > self.start + self.filled as u64 {
            self.start = block_floor(offset);
            let visible = to_usize(block_ceiling(self.file_bytes - self.start));
            let buffer = self.buffer.as_mut_slice();
            let Some(into) = buffer.get_mut(..visible.min(WINDOW_BYTES)) else {
                unreachable!("the buffer has the size of a window");
            };
            let written = self.written.as_ref();
            let is_recent = written
                .is_some_and(|(shared, segment)| shared.recent.copy(*segment, self.start, into));
            self.filled =
                if is_recent { into.len() } else { self.file.read_at(self.start, into)? };
        }
        assert!(self.start <= offset, "a window begins before what is read from it");
        let from = to_usize(offset - self.start);
        let Some(filled) = self.buffer.as_slice().get(..self.filled) else {
            unreachable!("a read fills at most the buffer");
        };
        // The disk may read less than the file's length promises.
        let rest = filled.get(from..).unwrap_or_default();
        Ok(rest.get(..len).unwrap_or(rest))
    }

    /// The record at an offset, if intact.
    pub(super) fn record(
        &mut self,
        offset: u64,
        seed: u64,
    ) -> io::Result<Option<(RecordHeader, &[u8])>> {
        Ok(record::read(self.bytes(offset, MAX_RECORD_BYTES)?, seed))
    }

    /// Whether all bytes in `from..to` are zero.
    pub(super) fn is_zero(&mut self, from: u64, to: u64) -> io::Result<bool> {
        assert!(from <= to, "a range ends after it begins");
        let mut offset = from;
        while offset < to {
            let len = to_usize((to - offset).min(BLOCK_BYTES as u64));
            let bytes = self.bytes(offset, len)?;
            if bytes.is_empty() || ZEROS.get(..bytes.len()) != Some(bytes) {
                return Ok(false);
            }
            offset += bytes.len() as u64;
        }
        Ok(true)
    }
}

/// The state of the chain, which the next record must follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chain {
    /// Number of the next record; `None` before the first record of a log whose beginning was cut.
    pub(super) next_lsn: Option<u64>,
    pub(super) checksum: u64,
    pub(super) epoch: u32,
    batch_first_lsn: u64,
}

impl Chain {
    /// The chain before the first record of a log whose oldest segment has this number.
    pub(super) fn start(oldest_segment: u64) -> Self {
        let next_lsn = (oldest_segment == 1).then_some(1);
        Self { next_lsn, checksum: 0, epoch: 0, batch_first_lsn: 0 }
    }

    fn is_followed_by(&self, header: &RecordHeader, place: BatchBoundary) -> bool {
        let starts_batch = header.batch_first_lsn == header.lsn;
        let continues_batch =
            header.batch_first_lsn == self.batch_first_lsn && header.epoch == self.epoch;
        let fits_batch = match place {
            BatchBoundary::StartsBatch => starts_batch,
            BatchBoundary::ContinuesBatch => continues_batch,
            BatchBoundary::Either => starts_batch || continues_batch,
        };
        let follows = match self.next_lsn {
            Some(lsn) => header.lsn == lsn && header.previous_checksum == self.checksum,
            None => true,
        };
        fits_batch && follows && header.epoch >= self.epoch
    }

    fn advance(&mut self, header: &RecordHeader) {
        assert!(self.next_lsn.is_none_or(|lsn| lsn == header.lsn), "no record is passed over");
        assert!(
            self.batch_first_lsn <= header.batch_first_lsn && self.epoch <= header.epoch,
            "neither batches nor epochs go back"
        );
        self.next_lsn = Some(header.lsn + 1);
        self.checksum = header.checksum;
        self.epoch = header.epoch;
        self.batch_first_lsn = header.batch_first_lsn;
    }
}

/// What a record at an offset must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchBoundary {
    /// After zeros, or first in a segment.
    StartsBatch,
    /// Right after a record, within a block.
    ContinuesBatch,
    /// Right after a record that fills its block.
    Either,
}

/// Why a scan failed.
pub(super) enum ScanError {
    Io(io::Error),
    Visit { lsn: Lsn, source: VisitError },
}

impl From<io::Error> for ScanError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// How the records of a segment end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// Zeros from here to the end of the file.
    Zeros { at: u64 },
    /// Bytes that are not a record.
    Bad(BadBytes),
    /// An intact record that does not belong here. No crash leaves that.
    Misfit { at: u64, lsn: u64 },
}

/// Bytes that are not a record, where one should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BadBytes {
    pub(super) at: u64,
    /// A later record whose batch starts at or after this one proves that these bytes were synced.
    /// `None`: any later record does.
    pub(super) later_batch_from: Option<u64>,
}

/// Visits the records of a segment while they follow the chain.
pub(super) fn scan_records<F: StorageFile>(
    window: &mut Window<F>,
    chain: &mut Chain,
    seed: u64,
    mut visit: impl FnMut(&RecordHeader, &[u8]) -> Result<(), VisitError>,
) -> Result<End, ScanError> {
    assert!(window.file_bytes() >= FIRST_BATCH_OFFSET, "the segment's header was read");
    assert!(
        window.file_bytes().is_multiple_of(BLOCK_BYTES as u64),
        "the segment's header states whole blocks"
    );
    let mut at = FIRST_BATCH_OFFSET;
    let mut place = BatchBoundary::StartsBatch;
    loop {
        assert!(at <= window.file_bytes(), "a record ends within its file");
        if let Some((header, payload)) = window.record(at, seed)? {
            if chain.is_followed_by(&header, place) {
                visit(&header, payload)
                    .map_err(|source| ScanError::Visit { lsn: Lsn(header.lsn), source })?;
                chain.advance(&header);
                at += header.record_bytes() as u64;
                let in_block = !at.is_multiple_of(BLOCK_BYTES as u64);
                place =
                    if in_block { BatchBoundary::ContinuesBatch } else { BatchBoundary::Either };
                continue;
            }
            // A higher number: a later record of the batch that should be here, whose start is
            // missing.
            return Ok(match chain.next_lsn {
                Some(lsn) if header.lsn > lsn => End::Bad(bad_bytes(at, chain)),
                _ => End::Misfit { at, lsn: header.lsn },
            });
        }
        let boundary = block_ceiling(at);
        if !window.is_zero(at, boundary)? {
            return Ok(End::Bad(bad_bytes(at, chain)));
        }
        if boundary == at {
            let all_zero = window.is_zero(at, window.file_bytes())?;
            return Ok(if all_zero { End::Zeros { at } } else { End::Bad(bad_bytes(at, chain)) });
        }
        at = boundary;
        place = BatchBoundary::StartsBatch;
    }
}

fn bad_bytes(at: u64, chain: &Chain) -> BadBytes {
    // On a block boundary the bytes may be the first record of the next batch, so that number alone
    // proves nothing. Within a block they are the rest of the last batch, and a batch starts with
    // that number only if the last one was complete and synced.
    let own_batch = u64::from(at.is_multiple_of(BLOCK_BYTES as u64));
    let later_batch_from = chain.next_lsn.map(|lsn| lsn + own_batch);
    assert!(at.is_multiple_of(RECORD_ALIGNMENT as u64), "records are padded to their alignment");
    BadBytes { at, later_batch_from }
}

/// What follows the end of the records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Remains {
    /// The first record that proves that the bad bytes were synced, and its offset.
    pub(super) proof: Option<(u64, RecordHeader)>,
    /// End of the last non-zero bytes; the start if all are zero.
    pub(super) end: u64,
}

/// Searches everything after bad bytes for records, at every offset where one could be.
pub(super) fn scan_remains<F: StorageFile>(
    window: &mut Window<F>,
    bad: BadBytes,
    seed: u64,
) -> io::Result<Remains> {
    assert!(bad.at <= window.file_bytes(), "bad bytes lie within their file");
    let mut remains = Remains { proof: None, end: bad.at };
    let mut at = bad.at;
    while at < window.file_bytes() {
        let next_block = block_floor(at) + BLOCK_BYTES as u64;
        if window.is_zero(at, next_block)? {
            at = next_block;
            continue;
        }
        while at < next_block {
            if let Some((header, _)) = window.record(at, seed)? {
                let is_later = bad.later_batch_from.is_none_or(|lsn| header.batch_first_lsn >= lsn);
                if is_later && remains.proof.is_none() {
                    remains.proof = Some((at, header));
                }
            }
            let unit = window.bytes(at, RECORD_ALIGNMENT)?;
            if unit.is_empty() {
                return Ok(remains);
            }
            if unit.iter().any(|&byte| byte != 0) {
                remains.end = at + RECORD_ALIGNMENT as u64;
            }
            at += RECORD_ALIGNMENT as u64;
        }
    }
    assert!(
        (bad.at..=window.file_bytes()).contains(&remains.end),
        "what remains begins with the bad bytes and ends within the file"
    );
    Ok(remains)
}
