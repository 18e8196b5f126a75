//! A batch: the records of one group commit.

use super::aligned::AlignedBuffer;
use super::record::{self, RECORD_ALIGNMENT, RECORD_HEADER_BYTES, RecordHeader};
use super::{BLOCK_BYTES, MAX_BATCH_BYTES};

/// The records of one group commit. Two batches alternate between appender and writer.
#[derive(Debug)]
pub(crate) struct Batch {
    buffer: AlignedBuffer,
    used: usize,
    first_lsn: u64,
    last_lsn: u64,
    /// Whether it is the first batch of the next segment. The appender decides that, because it
    /// must refuse a record for which there is no room.
    pub(super) starts_segment: bool,
}

impl Batch {
    pub(super) fn new() -> Self {
        Self {
            buffer: AlignedBuffer::new(MAX_BATCH_BYTES),
            used: 0,
            first_lsn: 0,
            last_lsn: 0,
            starts_segment: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used == 0
    }

    pub(super) fn clear(&mut self) {
        self.used = 0;
        self.starts_segment = false;
    }

    pub(super) fn first_lsn(&self) -> u64 {
        self.first_lsn
    }

    pub(super) fn last_lsn(&self) -> u64 {
        self.last_lsn
    }

    /// Its size in the file with one more record of `record_bytes`.
    pub(super) fn padded_bytes_with(&self, record_bytes: usize) -> usize {
        (self.used + record_bytes).next_multiple_of(BLOCK_BYTES)
    }

    /// Its size in the file.
    pub(super) fn padded_bytes(&self) -> usize {
        self.padded_bytes_with(0)
    }

    /// Adds a record; fills in the batch of `header`, and [`seal`](Self::seal) its checksums. The
    /// caller has checked that the record fits.
    pub(super) fn push(&mut self, mut header: RecordHeader, payload: &[u8]) {
        let record_bytes = header.record_bytes();
        let record = self.buffer.as_mut_slice().get_mut(self.used..self.used + record_bytes);
        let Some((header_field, rest)) =
            record.and_then(|record| record.split_first_chunk_mut::<RECORD_HEADER_BYTES>())
        else {
            unreachable!("a record fits the batch that it is added to: {record_bytes} bytes");
        };
        assert_eq!(header.payload_bytes as usize, payload.len(), "the header states the length");
        assert!(
            self.used == 0 || header.lsn == self.last_lsn + 1,
            "the records of a batch are numbered without a gap"
        );
        let (payload_field, padding) = rest.split_at_mut(payload.len());
        if self.used == 0 {
            self.first_lsn = header.lsn;
        }
        header.batch_first_lsn = self.first_lsn;
        *header_field = header.encode();
        payload_field.copy_from_slice(payload);
        padding.fill(0);
        self.used += record_bytes;
        self.last_lsn = header.lsn;
        assert!(
            self.used.is_multiple_of(RECORD_ALIGNMENT),
            "records are padded to their alignment"
        );
    }

    /// Chains and checksums all records and pads the batch with zeros. Returns the last checksum.
    pub(super) fn seal(&mut self, previous_checksum: u64, seed: u64) -> u64 {
        assert!(!self.is_empty(), "a batch that is sealed has records");
        let padded_bytes = self.padded_bytes();
        let Some(bytes) = self.buffer.as_mut_slice().get_mut(..padded_bytes) else {
            unreachable!("a padded batch fits its buffer: {padded_bytes} bytes");
        };
        let (mut records, padding) = bytes.split_at_mut(self.used);
        padding.fill(0);
        let mut checksum = previous_checksum;
        let mut next_lsn = self.first_lsn;
        while !records.is_empty() {
            let Some(header) = RecordHeader::decode(records) else {
                unreachable!("a batch is a sequence of whole records");
            };
            assert_eq!(header.lsn, next_lsn, "a batch has the records from its first to its last");
            let (record, rest) = records.split_at_mut(header.record_bytes());
            checksum = record::seal(record, checksum, seed);
            records = rest;
            next_lsn += 1;
        }
        assert_eq!(
            next_lsn,
            self.last_lsn + 1,
            "a batch has the records from its first to its last"
        );
        checksum
    }

    /// The bytes to write: aligned memory, a multiple of the block size.
    pub(super) fn bytes(&self) -> &[u8] {
        let padded_bytes = self.padded_bytes();
        let Some(bytes) = self.buffer.as_slice().get(..padded_bytes) else {
            unreachable!("a padded batch fits its buffer: {padded_bytes} bytes");
        };
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(lsn: u64, payload: &[u8]) -> RecordHeader {
        RecordHeader {
            checksum: 0,
            previous_checksum: 0,
            lsn,
            batch_first_lsn: 0,
            epoch: 1,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            kind: 1,
            format_version: 1,
            partition: 0,
        }
    }

    #[test]
    fn records_are_chained_and_padding_is_zero_in_a_reused_batch() {
        let mut batch = Batch::new();
        batch.push(header(1, &[0xff; 9000]), &[0xff; 9000]);
        batch.seal(0, 5);
        batch.clear();
        assert!(batch.is_empty());

        batch.push(header(2, b"one"), b"one");
        batch.push(header(3, b"two"), b"two");
        let last = batch.seal(42, 5);
        assert_eq!(batch.last_lsn(), 3);
        assert_eq!(batch.bytes().len(), BLOCK_BYTES);
        let (first, payload) = record::read(batch.bytes(), 5).unwrap();
        assert_eq!((first.previous_checksum, first.batch_first_lsn, payload), (42, 2, &b"one"[..]));
        let rest = &batch.bytes()[first.record_bytes()..];
        let (second, payload) = record::read(rest, 5).unwrap();
        assert_eq!(second.previous_checksum, first.checksum);
        assert_eq!((second.checksum, second.batch_first_lsn, payload), (last, 2, &b"two"[..]));
        assert!(rest[second.record_bytes()..].iter().all(|&byte| byte == 0));
    }
}
