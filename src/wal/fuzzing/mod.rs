//! Entry points of the fuzz targets in `tests/fuzz/`: decode bytes from a disk and check what must
//! hold for any bytes. Panic on a violation.

mod script;

use std::sync::Arc;

use self::script::{Script, Written};
use super::record::{self, RECORD_HEADER_BYTES, RecordHeader};
use super::recovery::{Recovery, recover_from};
use super::segment::{self, SegmentHeader};
use super::{BLOCK_BYTES, MIN_SEGMENT_BYTES, WalError, WalOptions, open};
use crate::testing::FaultyDisk;

/// Id of the log.
const SEED: u64 = 0x4c6f_6e67;
/// Bytes of a record outside its checksum: the checksum itself.
const UNCOVERED_BYTES: usize = 8;

/// Reads a record, as given and with its checksum corrected: an input with a wrong checksum reaches
/// little code.
///
/// # Panics
/// A value is decoded that the bytes do not contain.
pub fn record(data: &[u8]) {
    if let Some((header, payload)) = record::read(data, SEED) {
        assert_matches_bytes(data, &header, payload);
    }
    let mut bytes = data.to_vec();
    let Some(header) = RecordHeader::decode(&bytes) else {
        assert!(record::read(data, SEED).is_none(), "a record has a header");
        return;
    };
    let Some(whole) = bytes.get_mut(..header.record_bytes()) else {
        assert!(record::read(data, SEED).is_none(), "a truncated record is not read");
        return;
    };
    record::seal(whole, header.previous_checksum, SEED);
    let read = record::read(&bytes, SEED);
    assert!(read.is_some(), "a sealed record is intact");
    if let Some((header, payload)) = read {
        assert_matches_bytes(&bytes, &header, payload);
    }
    assert!(record::read(&bytes, SEED + 1).is_none(), "a record of another log is not read");
}

fn assert_matches_bytes(bytes: &[u8], header: &RecordHeader, payload: &[u8]) {
    let covered = UNCOVERED_BYTES..RECORD_HEADER_BYTES;
    assert_eq!(header.encode().get(covered.clone()), bytes.get(covered), "the header");
    let place = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload.len();
    assert_eq!(Some(payload), bytes.get(place), "the payload");
    assert_eq!(payload.len(), header.payload_bytes as usize, "the payload's length");
}

/// Decodes a segment header, as given and with its checksum corrected. Short input is zero-padded.
///
/// # Panics
/// A value is decoded that the bytes do not contain.
pub fn segment_header(data: &[u8]) {
    let _unsealed = SegmentHeader::decode(data);
    let mut block = [0; BLOCK_BYTES];
    for (to, from) in block.iter_mut().zip(data) {
        *to = *from;
    }
    segment::seal(&mut block);
    let Some(header) = SegmentHeader::decode(&block) else { return };
    let again = header.encode();
    assert_eq!(SegmentHeader::decode(&again), Some(header), "a header round-trips");
}

/// Writes a valid log as the input describes, damages it as the input describes, and recovers it.
///
/// # Panics
/// Recovery returns a record that was not written, omits one that a later batch proves to have been
/// durable, or refuses a log in which only the last batch is torn.
pub fn recovery(data: &[u8]) {
    let mut script = Script::new(data);
    let disk = FaultyDisk::default();
    let written = script.write_log(&disk);
    let before = disk.snapshot();
    let damage = script.damage(&disk);
    let expected = written.expect_after(&before, &disk.snapshot(), damage);

    let (visited, outcome) = recover(&disk);
    let prefix = written.records.get(..visited.len());
    assert_eq!(prefix, Some(&visited[..]), "recovered records are a prefix of the written ones");
    match outcome {
        Ok(recovery) => {
            assert!(!expected.must_refuse, "durable records are missing unnoticed");
            assert!(visited.len() >= expected.untouched, "an untouched batch is missing");
            assert_opens_again(&disk, recovery, &visited);
        }
        Err(error) => {
            assert!(!expected.must_open, "a torn last batch is not damage: {error}");
            assert!(matches!(error, WalError::Damaged { .. } | WalError::Newer { .. }), "{error}");
        }
    }
}

type Outcome = Result<Recovery<FaultyDisk>, WalError>;

fn recover(disk: &FaultyDisk) -> (Vec<Written>, Outcome) {
    let mut visited = Vec::new();
    let outcome = recover_from(Arc::new(disk.clone()), None, &mut |view| {
        visited.push(Written::of(&view));
        Ok(())
    });
    (visited, outcome)
}

/// Opening cuts the torn tail and keeps exactly the visited records.
fn assert_opens_again(disk: &FaultyDisk, recovery: Recovery<FaultyDisk>, visited: &[Written]) {
    let options = WalOptions { segment_bytes: MIN_SEGMENT_BYTES, ..WalOptions::new("memory") };
    let opened = open(options, recovery);
    assert!(opened.is_ok(), "a recovered log opens: {opened:?}");
    drop(opened);
    let (again, outcome) = recover(disk);
    assert_eq!(again, visited, "a cut removes only torn bytes");
    assert_eq!(
        outcome.map(|recovery| recovery.torn_bytes).ok(),
        Some(0),
        "a cut removes all torn bytes"
    );
}

/// Seed inputs: records of several sizes, and a truncated one.
#[cfg(test)]
pub fn record_seeds() -> Vec<Vec<u8>> {
    let seed = |payload: &[u8]| {
        let header = RecordHeader {
            checksum: 0,
            previous_checksum: 9,
            lsn: 7,
            batch_first_lsn: 5,
            epoch: 1,
            payload_bytes: u32::try_from(payload.len()).unwrap_or(u32::MAX),
            kind: 2,
            format_version: 1,
            partition: 3,
        };
        let mut bytes = [&header.encode(), payload].concat();
        bytes.resize(record::record_bytes(payload.len()), 0);
        record::seal(&mut bytes, 9, SEED);
        bytes
    };
    let mut seeds: Vec<_> = [0, 1, 16, 200].map(|length| seed(&vec![7; length])).into();
    seeds.push(seed(b"cut").into_iter().take(60).collect());
    seeds
}

/// Seed inputs: a header of this format, and one of a newer format.
#[cfg(test)]
pub fn segment_header_seeds() -> Vec<Vec<u8>> {
    let seed = |log_format| {
        let header =
            SegmentHeader { log_format, number: 2, log_id: SEED, segment_bytes: MIN_SEGMENT_BYTES };
        // The rest is zeros.
        header.encode().into_iter().take(48).collect()
    };
    vec![seed(segment::LOG_FORMAT), seed(segment::LOG_FORMAT + 1)]
}

/// Seed inputs: logs of one and of several segments, intact, torn, rotten and with a stray write.
#[cfg(test)]
pub fn recovery_seeds() -> Vec<Vec<u8>> {
    // In the format of `Script`: batches; for each its epoch and records, each with size and seed.
    let small = [&[2_u8][..], &[0, 1, 10, 1, 40, 2], &[1, 0, 90, 3], &[0, 1, 7, 4, 8, 5], &[1]];
    let large: Vec<&[u8]> =
        [&[7_u8][..]].into_iter().chain([&[0_u8, 1, 255, 1, 240, 2][..]; 8]).collect();
    let changes: [&[u8]; 7] = [
        &[0],
        // One change: file, kind, offset (3 bytes), length (3 bytes), value.
        &[1, 0, 0, 0, 0, 0, 0x30, 0x40, 0, 0, 0, 5],
        &[1, 0, 0, 0, 1, 0, 0x10, 0x10, 0, 0, 0, 9],
        &[1, 0, 0, 0, 2, 0, 0x10, 0x00, 0, 0x10, 0, 0],
        &[1, 0, 0, 1, 4, 0, 0x10, 0x00, 0, 0x10, 0, 0, 0, 0x20, 0],
        &[1, 0, 0, 0, 5, 0, 0x10, 0x08, 0, 0, 0, 1],
        &[1, 0, 0, 0, 6, 0, 0x20, 0x08, 0, 0, 0, 1],
    ];
    let logs = [small.concat(), large.concat()];
    logs.iter().flat_map(|log| changes.map(|change| [log, change].concat())).collect()
}
