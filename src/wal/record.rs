//! The layout of a record, little endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0..8 | checksum of the rest, padding included (XXH3, seeded with the log id) |
//! | 8..16 | checksum of the previous record; 0 for the first |
//! | 16..24 | lsn |
//! | 24..32 | lsn of the first record of its batch |
//! | 32..36 | epoch |
//! | 36..40 | payload length |
//! | 40 | kind of the payload |
//! | 41 | format version of the payload |
//! | 42 | user partition |
//! | 43 | flags, 0 |
//! | 44..48 | magic |
//! | 48.. | payload, padded with zeros to 16 bytes |
//!
//! The seed keeps the bytes of a payload, which users control in part, from being taken for a
//! record, and a segment of another log from being taken for one of this log.

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::{MAX_PAYLOAD_BYTES, MAX_RECORD_BYTES};

pub(super) const RECORD_HEADER_BYTES: usize = 48;
/// Records, and so payloads, start on multiples of this, as zero-copy readers require.
pub(super) const RECORD_ALIGNMENT: usize = 16;
const MAGIC: [u8; 4] = *b"LBr1";
/// Highest number of a record. No log comes near it, so the numbers after a record's do not overflow.
const MAX_LSN: u64 = u64::MAX / 2;

const _: () = assert!(RECORD_HEADER_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(MAX_RECORD_BYTES.is_multiple_of(RECORD_ALIGNMENT));
const _: () = assert!(MAX_PAYLOAD_BYTES <= u32::MAX as usize);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RecordHeader {
    pub(super) checksum: u64,
    pub(super) previous_checksum: u64,
    pub(super) lsn: u64,
    pub(super) batch_first_lsn: u64,
    pub(super) epoch: u32,
    pub(super) payload_bytes: u32,
    pub(super) kind: u8,
    pub(super) format_version: u8,
    pub(super) partition: u8,
}

/// Size in the log of a record with a payload of `payload_bytes`.
pub(super) const fn record_bytes(payload_bytes: usize) -> usize {
    RECORD_HEADER_BYTES + payload_bytes.next_multiple_of(RECORD_ALIGNMENT)
}

impl RecordHeader {
    pub(super) fn encode(&self) -> [u8; RECORD_HEADER_BYTES] {
        assert!(self.payload_bytes as usize <= MAX_PAYLOAD_BYTES, "the appender refuses more");
        assert!(
            (1..=self.lsn).contains(&self.batch_first_lsn) && self.lsn <= MAX_LSN,
            "a record belongs to the batch of an earlier record, or begins one"
        );
        let mut bytes = [0; RECORD_HEADER_BYTES];
        bytes[0..8].copy_from_slice(&self.checksum.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.previous_checksum.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.lsn.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.batch_first_lsn.to_le_bytes());
        bytes[32..36].copy_from_slice(&self.epoch.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[40..44].copy_from_slice(&[self.kind, self.format_version, self.partition, 0]);
        bytes[44..48].copy_from_slice(&MAGIC);
        bytes
    }

    /// `None` if the bytes cannot be a header. Does not verify the checksum.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes: &[u8; RECORD_HEADER_BYTES] = bytes.first_chunk()?;
        if bytes[44..48] != MAGIC || bytes[43] != 0 {
            return None;
        }
        let header = Self {
            checksum: u64::from_le_bytes(bytes[0..8].try_into().ok()?),
            previous_checksum: u64::from_le_bytes(bytes[8..16].try_into().ok()?),
            lsn: u64::from_le_bytes(bytes[16..24].try_into().ok()?),
            batch_first_lsn: u64::from_le_bytes(bytes[24..32].try_into().ok()?),
            epoch: u32::from_le_bytes(bytes[32..36].try_into().ok()?),
            payload_bytes: u32::from_le_bytes(bytes[36..40].try_into().ok()?),
            kind: bytes[40],
            format_version: bytes[41],
            partition: bytes[42],
        };
        let is_plausible = header.payload_bytes as usize <= MAX_PAYLOAD_BYTES
            && header.batch_first_lsn >= 1
            && header.batch_first_lsn <= header.lsn
            && header.lsn <= MAX_LSN;
        is_plausible.then_some(header)
    }

    /// Size of the whole record in the log.
    pub(super) const fn record_bytes(&self) -> usize {
        record_bytes(self.payload_bytes as usize)
    }
}

/// Chains a record to its predecessor. Returns its checksum.
pub(super) fn seal(record: &mut [u8], previous_checksum: u64, seed: u64) -> u64 {
    assert!(record.len() >= RECORD_HEADER_BYTES, "a record has a whole header");
    assert!(record.len().is_multiple_of(RECORD_ALIGNMENT), "a record is sealed with its padding");
    let Some((checksum_field, rest)) = record.split_first_chunk_mut::<8>() else {
        unreachable!("a record has a whole header");
    };
    let Some(previous_field) = rest.first_chunk_mut::<8>() else {
        unreachable!("a record has a whole header");
    };
    *previous_field = previous_checksum.to_le_bytes();
    let checksum = xxh3_64_with_seed(rest, seed);
    *checksum_field = checksum.to_le_bytes();
    checksum
}

/// The record at the start of `bytes` and its payload; `None` if there is no intact one.
pub(super) fn read(bytes: &[u8], seed: u64) -> Option<(RecordHeader, &[u8])> {
    let header = RecordHeader::decode(bytes)?;
    let record = bytes.get(..header.record_bytes())?;
    let checksummed = record.get(8..)?;
    if xxh3_64_with_seed(checksummed, seed) != header.checksum {
        return None;
    }
    let payload = record.get(RECORD_HEADER_BYTES..)?.get(..header.payload_bytes as usize)?;
    Some((header, payload))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn sample(payload: &[u8]) -> Vec<u8> {
        let header = RecordHeader {
            checksum: 0,
            previous_checksum: 0,
            lsn: 12,
            batch_first_lsn: 9,
            epoch: 3,
            payload_bytes: u32::try_from(payload.len()).unwrap(),
            kind: 5,
            format_version: 2,
            partition: 63,
        };
        let mut record = header.encode().to_vec();
        record.extend_from_slice(payload);
        record.resize(record_bytes(payload.len()), 0);
        seal(&mut record, 77, 1234);
        record
    }

    #[test]
    fn a_sealed_record_round_trips() {
        let record = sample(b"payload");
        assert_eq!(record.len() % RECORD_ALIGNMENT, 0);
        let (header, payload) = read(&record, 1234).unwrap();
        assert_eq!(payload, b"payload");
        assert_eq!((header.lsn, header.batch_first_lsn, header.epoch), (12, 9, 3));
        assert_eq!((header.kind, header.format_version, header.partition), (5, 2, 63));
        assert_eq!(header.previous_checksum, 77);
    }

    #[test]
    fn a_record_of_another_log_is_not_read() {
        assert!(read(&sample(b"payload"), 4321).is_none());
    }

    #[test]
    fn zeros_are_not_a_record() {
        assert!(read(&[0; 4096], 0).is_none());
    }

    proptest! {
        #[test]
        fn every_flipped_bit_is_detected(
            payload in proptest::collection::vec(any::<u8>(), 0..200),
            position: prop::sample::Index,
            bit in 0..8_u32,
        ) {
            let mut record = sample(&payload);
            let at = position.index(record.len());
            record[at] ^= 1_u8 << bit;
            prop_assert!(read(&record, 1234).is_none());
        }

        #[test]
        fn hostile_bytes_never_panic(
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
            magic: bool,
            small: bool,
        ) {
            if magic && bytes.len() >= 48 {
                bytes[43] = 0;
                bytes[44..48].copy_from_slice(&MAGIC);
            }
            if small && bytes.len() >= 48 {
                bytes[38..40].fill(0);
            }
            prop_assert!(read(&bytes, 1).is_none());
        }

        #[test]
        fn a_truncated_record_is_not_read(payload in proptest::collection::vec(any::<u8>(), 0..100), cut: prop::sample::Index) {
            let record = sample(&payload);
            prop_assert!(read(&record[..cut.index(record.len())], 1234).is_none());
        }
    }
}
