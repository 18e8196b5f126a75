//! Segment files: name, header block and creation.
//!
//! The header block, little endian: checksum of the rest (8 bytes), magic (8), log format (4),
//! zeros (4), segment number (8), log id (8), file length (8), zeros to the end of the block. The
//! header is durable before the file gets its name: a segment with an unreadable header is damaged,
//! never half made.

use std::io;

use xxhash_rust::xxh3::xxh3_64;

use super::aligned::AlignedBuffer;
use super::storage::{Storage, StorageFile};
use super::{BLOCK_BYTES, WalError};

/// Format version of segments and record headers that this code writes.
pub(super) const LOG_FORMAT: u32 = 1;
/// Offset of the first batch in a segment.
pub(super) const FIRST_BATCH_OFFSET: u64 = BLOCK_BYTES as u64;

const MAGIC: [u8; 8] = *b"longbowW";
const PREFIX: &str = "wal-";
const SUFFIX: &str = ".log";
/// Suffix of a segment that is not complete yet.
const PREPARING_SUFFIX: &str = ".preparing";
/// Digits of the number in a name: enough for any `u64`, so that names sort like numbers.
const NUMBER_DIGITS: usize = 20;
/// Size of one write of zeros: bounds how long a batch's write waits behind it.
const FILL_BYTES: usize = 256 * 1024;

const _: () = assert!(FILL_BYTES.is_multiple_of(BLOCK_BYTES) && FILL_BYTES >= BLOCK_BYTES);

/// The file name of a segment.
pub(super) fn name(number: u64) -> String {
    format!("{PREFIX}{number:0width$}{SUFFIX}", width = NUMBER_DIGITS)
}

/// The number in a segment's file name; `None` for any other file.
pub(super) fn number(name: &str) -> Option<u64> {
    let digits = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
    let canonical = digits.len() == NUMBER_DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if canonical { digits.parse().ok() } else { None }
}

/// Whether the name is that of an incomplete segment.
pub(super) fn is_preparing(name: &str) -> bool {
    name.strip_suffix(PREPARING_SUFFIX).is_some_and(|name| number(name).is_some())
}

/// A segment's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SegmentHeader {
    pub(super) log_format: u32,
    pub(super) number: u64,
    pub(super) log_id: u64,
    pub(super) segment_bytes: u64,
}

impl SegmentHeader {
    pub(super) fn encode(&self) -> [u8; BLOCK_BYTES] {
        let mut block = [0; BLOCK_BYTES];
        block[8..16].copy_from_slice(&MAGIC);
        block[16..20].copy_from_slice(&self.log_format.to_le_bytes());
        block[24..32].copy_from_slice(&self.number.to_le_bytes());
        block[32..40].copy_from_slice(&self.log_id.to_le_bytes());
        block[40..48].copy_from_slice(&self.segment_bytes.to_le_bytes());
        seal(&mut block);
        block
    }

    /// `None` if the block is not an intact header.
    pub(super) fn decode(block: &[u8]) -> Option<Self> {
        let block: &[u8; BLOCK_BYTES] = block.first_chunk()?;
        let checksum = u64::from_le_bytes(block[0..8].try_into().ok()?);
        if checksum != xxh3_64(&block[8..]) || block[8..16] != MAGIC {
            return None;
        }
        Some(Self {
            log_format: u32::from_le_bytes(block[16..20].try_into().ok()?),
            number: u64::from_le_bytes(block[24..32].try_into().ok()?),
            log_id: u64::from_le_bytes(block[32..40].try_into().ok()?),
            segment_bytes: u64::from_le_bytes(block[40..48].try_into().ok()?),
        })
    }
}

/// Writes the checksum of a header block.
pub(super) fn seal(block: &mut [u8; BLOCK_BYTES]) {
    let checksum = xxh3_64(&block[8..]);
    block[0..8].copy_from_slice(&checksum.to_le_bytes());
}

/// Why a segment could not be made.
#[derive(Debug)]
pub(super) enum NotMade {
    /// Nothing exists under its name: it can be made again from scratch.
    Passing(io::Error),
    /// Its name may or may not be durable: the segment cannot be used.
    Unsure(io::Error),
}

impl From<io::Error> for NotMade {
    fn from(error: io::Error) -> Self {
        Self::Passing(error)
    }
}

impl NotMade {
    pub(super) fn into_io(self) -> io::Error {
        match self {
            Self::Passing(error) | Self::Unsure(error) => error,
        }
    }
}

/// Makes segments with one reused buffer, which is all zeros between calls.
#[derive(Debug)]
pub(super) struct SegmentMaker {
    log_id: u64,
    segment_bytes: u64,
    buffer: AlignedBuffer,
}

impl SegmentMaker {
    pub(super) fn new(log_id: u64, segment_bytes: u64) -> Self {
        assert!(segment_bytes > FIRST_BATCH_OFFSET, "a segment has room for batches");
        assert!(segment_bytes.is_multiple_of(BLOCK_BYTES as u64), "a segment is whole blocks");
        Self { log_id, segment_bytes, buffer: AlignedBuffer::new(FILL_BYTES) }
    }

    /// Makes a zero-filled segment. Its name appears only once all of it is durable; the name is
    /// durable when this returns. A failed attempt leaves nothing under a segment's name.
    pub(super) fn make<S: Storage>(
        &mut self,
        storage: &S,
        number: u64,
    ) -> Result<S::File, NotMade> {
        // Do not fill the disk to the last byte just to find that it is full: others share it.
        if storage.free_room()?.bytes < self.segment_bytes {
            return Err(NotMade::Passing(io::ErrorKind::StorageFull.into()));
        }
        self.make_by(storage, number, Self::fill)
    }

    /// Makes a segment whose space is allocated but not written: usable at once, and faster after
    /// [`fill_ahead`](Self::fill_ahead).
    pub(super) fn allocate<S: Storage>(
        &mut self,
        storage: &S,
        number: u64,
    ) -> Result<S::File, NotMade> {
        self.make_by(storage, number, |maker, file| {
            file.allocate(maker.segment_bytes)?;
            let Some(block) = maker.buffer.as_slice().first_chunk::<BLOCK_BYTES>() else {
                unreachable!("the buffer holds a header block");
            };
            file.write_at(0, block)?;
            file.sync()
        })
    }

    fn make_by<S: Storage>(
        &mut self,
        storage: &S,
        number: u64,
        fill: impl FnOnce(&mut Self, &S::File) -> io::Result<()>,
    ) -> Result<S::File, NotMade> {
        let name = name(number);
        let preparing = format!("{name}{PREPARING_SUFFIX}");
        self.write_header(number);
        let made = storage.create(&preparing).and_then(|file| {
            fill(self, &file)?;
            storage.rename(&preparing, &name)?;
            Ok(file)
        });
        self.buffer.as_mut_slice().fill(0);
        if made.is_err() {
            // Give the space back. A failure here changes nothing.
            let _ = storage.remove(&preparing);
        }
        let file = made?;
        storage.sync().map_err(NotMade::Unsure)?;
        Ok(file)
    }

    /// Writes the zeros of an allocated segment. Needs no further space.
    pub(super) fn fill_ahead<F: StorageFile>(&mut self, file: &F) -> io::Result<()> {
        self.write_from(file, FIRST_BATCH_OFFSET)
    }

    fn write_header(&mut self, number: u64) {
        assert!(number >= 1, "segments are numbered from 1 on");
        debug_assert!(
            self.buffer.as_slice().iter().all(|&byte| byte == 0),
            "the buffer is all zeros between calls"
        );
        let header = SegmentHeader {
            log_format: LOG_FORMAT,
            number,
            log_id: self.log_id,
            segment_bytes: self.segment_bytes,
        };
        let Some(block) = self.buffer.as_mut_slice().first_chunk_mut() else {
            unreachable!("the buffer holds a header block");
        };
        *block = header.encode();
    }

    fn fill<F: StorageFile>(&mut self, file: &F) -> io::Result<()> {
        self.write_from(file, 0)
    }

    /// Writes the buffer, then zeros.
    fn write_from<F: StorageFile>(&mut self, file: &F, from: u64) -> io::Result<()> {
        assert!(from <= FIRST_BATCH_OFFSET, "a segment is filled from its header on, or after it");
        let mut offset = from;
        while offset < self.segment_bytes {
            let left = super::to_usize(self.segment_bytes - offset);
            let bytes = self.buffer.as_slice();
            // The last write is a shorter one.
            let bytes = bytes.get(..left).unwrap_or(bytes);
            let written = bytes.len() as u64;
            file.write_at(offset, bytes)?;
            if offset == 0 {
                self.buffer.as_mut_slice().fill(0);
            }
            offset += written;
        }
        assert_eq!(offset, self.segment_bytes, "a segment is filled up to its end");
        file.sync()
    }
}

/// The numbers of all segments, in order.
pub(super) fn segment_numbers<S: Storage>(storage: &S) -> Result<Vec<u64>, WalError> {
    let names = storage.names().map_err(|error| WalError::io("list", storage.path(), error))?;
    let mut numbers: Vec<u64> = names.iter().filter_map(|name| number(name)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_round_trip_and_sort() {
        for number_ in [1, 42, u64::MAX] {
            assert_eq!(number(&name(number_)), Some(number_));
        }
        assert!(name(9) < name(10));
        for other in ["wal.lock", "wal-1.log", "wal-0000000000000000000x.log", &name(7)[1..]] {
            assert_eq!(number(other), None, "{other}");
        }
        assert!(is_preparing(&format!("{}.preparing", name(3))));
        assert!(!is_preparing(&name(3)) && !is_preparing("x.preparing"));
    }

    #[test]
    fn a_header_round_trips_and_every_flipped_bit_is_detected() {
        let header = SegmentHeader { log_format: 1, number: 7, log_id: 99, segment_bytes: 1 << 20 };
        let block = header.encode();
        assert_eq!(SegmentHeader::decode(&block), Some(header));
        assert_eq!(SegmentHeader::decode(&block[..100]), None);
        for at in [0, 8, 20, 31, 47, 48, BLOCK_BYTES - 1] {
            let mut flipped = block;
            flipped[at] ^= 4;
            assert_eq!(SegmentHeader::decode(&flipped), None, "byte {at}");
        }
    }
}
