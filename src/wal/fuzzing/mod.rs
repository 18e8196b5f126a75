//! What the fuzz targets in `tests/fuzz/` call: the readers of bytes that come back from a disk, each with
//! what must hold whatever the bytes are. A broken promise is a panic.

mod script;

use std::sync::Arc;

use self::script::{Script, Written};
use super::faulty_disk::FaultyDisk;
use super::record::{self, RECORD_HEADER_BYTES, RecordHeader};
use super::recovery::{Recovery, recover_from};
use super::segment::{self, SegmentHeader};
use super::{BLOCK_BYTES, MIN_SEGMENT_BYTES, WalError, WalOptions, open};

/// Stands for the id of a log.
const SEED: u64 = 0x4c6f_6e67;
/// Bytes of a record that its checksum does not cover: the checksum.
const UNCOVERED_BYTES: usize = 8;

/// A record's bytes, as they are and with the checksum that they should have had: an input without
/// the right one reaches little.
///
/// # Panics
/// When something is read that does not stand there.
pub fn record(data: &[u8]) {
    if let Some((header, payload)) = record::read(data, SEED) {
        assert_is_what_stands_there(data, &header, payload);
    }
    let mut bytes = data.to_vec();
    let Some(header) = RecordHeader::decode(&bytes) else {
        assert!(record::read(data, SEED).is_none(), "a record has a header");
        return;
    };
    let Some(whole) = bytes.get_mut(..header.record_bytes()) else {
        assert!(record::read(data, SEED).is_none(), "a record that is cut short is none");
        return;
    };
    record::seal(whole, header.previous_checksum, SEED);
    let read = record::read(&bytes, SEED);
    assert!(read.is_some(), "a sealed record is intact");
    if let Some((header, payload)) = read {
        assert_is_what_stands_there(&bytes, &header, payload);
    }
    assert!(record::read(&bytes, SEED + 1).is_none(), "a record of another log is none");
}

fn assert_is_what_stands_there(bytes: &[u8], header: &RecordHeader, payload: &[u8]) {
    let covered = UNCOVERED_BYTES..RECORD_HEADER_BYTES;
    assert_eq!(header.encode().get(covered.clone()), bytes.get(covered), "the header");
    let place = RECORD_HEADER_BYTES..RECORD_HEADER_BYTES + payload.len();
    assert_eq!(Some(payload), bytes.get(place), "the payload");
    assert_eq!(payload.len(), header.payload_bytes as usize, "the payload's length");
}

/// A segment's header block, as it is and with the right checksum; short input is padded with zeros.
///
/// # Panics
/// When something is read that does not stand there.
pub fn segment_header(data: &[u8]) {
    let _as_it_is = SegmentHeader::decode(data);
    let mut block = [0; BLOCK_BYTES];
    for (to, from) in block.iter_mut().zip(data) {
        *to = *from;
    }
    segment::seal(&mut block);
    let Some(header) = SegmentHeader::decode(&block) else { return };
    let again = header.encode();
    assert_eq!(SegmentHeader::decode(&again), Some(header), "a header comes back");
}

/// A valid log that the input describes, changed as the input says, and recovered.
///
/// # Panics
/// When recovery shows a record that was not written, leaves out one that a later batch proves to
/// have been durable, or refuses a log of which only the last batch is torn.
pub fn recovery(data: &[u8]) {
    let mut script = Script::new(data);
    let disk = FaultyDisk::default();
    let written = script.write_log(&disk);
    let before = disk.snapshot();
    let damage = script.damage(&disk);
    let expected = written.expect_after(&before, &disk.snapshot(), damage);

    let (visited, outcome) = recover(&disk);
    let prefix = written.records.get(..visited.len());
    assert_eq!(prefix, Some(&visited[..]), "only what was written, in its order, from the start");
    match outcome {
        Ok(recovery) => {
            assert!(!expected.must_refuse, "records that were durable are gone unseen");
            assert!(visited.len() >= expected.untouched, "an untouched batch is missing");
            assert_opens_again(&disk, recovery, &visited);
        }
        Err(error) => {
            assert!(!expected.must_open, "a torn last batch is no damage: {error}");
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

/// Opening cuts what is torn: afterwards the same records are there and nothing else.
fn assert_opens_again(disk: &FaultyDisk, recovery: Recovery<FaultyDisk>, visited: &[Written]) {
    let options = WalOptions { segment_bytes: MIN_SEGMENT_BYTES, ..WalOptions::new("memory") };
    let opened = open(options, recovery);
    assert!(opened.is_ok(), "a recovered log opens: {opened:?}");
    drop(opened);
    let (again, outcome) = recover(disk);
    assert_eq!(again, visited, "a cut takes nothing but torn bytes");
    assert_eq!(outcome.map(|recovery| recovery.torn_bytes).ok(), Some(0), "all of them");
}

/// Inputs: records of several sizes, and what lacks a byte of one.
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

/// Inputs: a header of this log, and one from the future.
#[cfg(test)]
pub fn segment_header_seeds() -> Vec<Vec<u8>> {
    let seed = |log_format| {
        let header =
            SegmentHeader { log_format, number: 2, log_id: SEED, segment_bytes: MIN_SEGMENT_BYTES };
        // Zeros follow.
        header.encode().into_iter().take(48).collect()
    };
    vec![seed(segment::LOG_FORMAT), seed(segment::LOG_FORMAT + 1)]
}

/// Inputs: logs of one and of several segments, untouched, torn, rotten and with a stray write.
#[cfg(test)]
pub fn recovery_seeds() -> Vec<Vec<u8>> {
    // As `Script` reads them: batches; for each its epoch and records, each with size and seed.
    let small = [&[2_u8][..], &[0, 1, 10, 1, 40, 2], &[1, 0, 90, 3], &[0, 1, 7, 4, 8, 5], &[1]];
    let large: Vec<&[u8]> =
        [&[7_u8][..]].into_iter().chain([&[0_u8, 1, 255, 1, 240, 2][..]; 8]).collect();
    let changes: [&[u8]; 7] = [
        &[0],
        // One change: of which file, what, where (3 bytes), how much (3 bytes), with which value.
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
