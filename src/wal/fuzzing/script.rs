//! Interprets a fuzz input as a log and the damage to it.

use std::collections::BTreeMap;
use std::ops::Range;

use super::SEED;
use crate::testing::FaultyDisk;
use crate::wal::batch::Batch;
use crate::wal::record::{self, RecordHeader};
use crate::wal::segment::{self, FIRST_BATCH_OFFSET, SegmentMaker};
use crate::wal::storage::{Storage, StorageFile};
use crate::wal::{BLOCK_BYTES, MIN_SEGMENT_BYTES, RecordView, to_usize};

/// Enough for several minimum segments.
const MAX_BATCHES: u8 = 8;
/// Four maximum records fit a segment.
const MAX_RECORDS_OF_A_BATCH: u8 = 4;
const MAX_CHANGES: u8 = 4;

/// The bytes of all files, by name.
type Files = BTreeMap<String, Vec<u8>>;

/// A record, as appended or as recovered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Written {
    lsn: u64,
    epoch: u32,
    kind: u8,
    format_version: u8,
    partition: u8,
    payload: Vec<u8>,
}

impl Written {
    pub(super) fn of(view: &RecordView<'_>) -> Self {
        Self {
            lsn: view.lsn.0,
            epoch: view.epoch,
            kind: view.kind,
            format_version: view.format_version,
            partition: view.partition,
            payload: view.payload.to_vec(),
        }
    }
}

/// The segment of a batch, and the bytes of each of its records.
struct Placed {
    segment: u64,
    start: usize,
    records: Vec<Range<usize>>,
}

/// The written log.
pub(super) struct WrittenLog {
    pub(super) records: Vec<Written>,
    batches: Vec<Placed>,
}

/// Damage other than overwriting.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Damage {
    /// Intact records may be where they were not written.
    moved: bool,
}

/// What recovery must return.
#[derive(Debug, Clone, Copy)]
pub(super) struct Expected {
    pub(super) must_open: bool,
    pub(super) must_refuse: bool,
    /// Number of records in the batches before the first change.
    pub(super) untouched: usize,
}

/// Reads an input byte by byte, followed by zeros.
pub(super) struct Script<'a> {
    bytes: &'a [u8],
}

impl<'a> Script<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    fn next(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    fn below(&mut self, limit: usize) -> usize {
        let number = usize::from(self.next()) << 16
            | usize::from(self.next()) << 8
            | usize::from(self.next());
        number % limit.max(1)
    }

    /// Writes batches as the `wal` thread does.
    pub(super) fn write_log(&mut self, disk: &FaultyDisk) -> WrittenLog {
        let mut log = WrittenLog { records: Vec::new(), batches: Vec::new() };
        let mut maker = SegmentMaker::new(SEED, MIN_SEGMENT_BYTES);
        let (mut segment, mut offset) = (1, FIRST_BATCH_OFFSET);
        let (mut chain, mut epoch) = (0, 1);
        let mut make = |number| assert!(maker.make(disk, number).is_ok(), "the disk has no limit");
        make(segment);
        let mut batch = Batch::new();
        for _ in 0..=self.next() % MAX_BATCHES {
            epoch += u32::from(self.next() % 2);
            batch.clear();
            let mut sizes = Vec::new();
            for _ in 0..=self.next() % MAX_RECORDS_OF_A_BATCH {
                let written = self.record(log.records.len() as u64 + 1, epoch);
                sizes.push(push(&mut batch, &written));
                log.records.push(written);
            }
            chain = batch.seal(chain, SEED);
            if offset + batch.bytes().len() as u64 > MIN_SEGMENT_BYTES {
                (segment, offset) = (segment + 1, FIRST_BATCH_OFFSET);
                make(segment);
            }
            let written = disk
                .open(&segment::name(segment))
                .and_then(|file| file.write_at(offset, batch.bytes()));
            assert!(written.is_ok(), "the segment is there");
            log.batches.push(placed(segment, to_usize(offset), &sizes));
            offset += batch.bytes().len() as u64;
        }
        if self.next().is_multiple_of(2) {
            make(segment + 1);
        }
        log
    }

    fn record(&mut self, lsn: u64, epoch: u32) -> Written {
        let size = usize::from(self.next());
        let seed = self.next();
        let mut payload = vec![seed; size * size / 8];
        if let Some(start) = payload.first_chunk_mut() {
            // Make each payload unique.
            *start = lsn.to_le_bytes();
        }
        Written { lsn, epoch, kind: seed, format_version: 1, partition: seed % 64, payload }
    }

    /// Damages the files.
    pub(super) fn damage(&mut self, disk: &FaultyDisk) -> Damage {
        let mut damage = Damage::default();
        let names = disk.file_names();
        for _ in 0..self.next() % (MAX_CHANGES + 1) {
            let Some(name) = names.get(self.below(names.len())) else { continue };
            let mut bytes = disk.file_bytes(name);
            self.change(&mut bytes, &mut damage);
            disk.set_file_bytes(name, bytes);
        }
        damage
    }

    fn change(&mut self, bytes: &mut Vec<u8>, damage: &mut Damage) {
        let kind = self.next() % 7;
        let at = self.below(bytes.len());
        let end = (at + 1 + self.below(2 * BLOCK_BYTES)).min(bytes.len());
        let value = self.next();
        match kind {
            0 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << (value % 8)),
            1 => bytes.iter_mut().skip(at).take(1).for_each(|byte| *byte = value),
            2 => bytes.iter_mut().take(end).skip(at).for_each(|byte| *byte = 0),
            3 => bytes.iter_mut().take(end).skip(at).for_each(|byte| *byte = value),
            4 => {
                // A misdirected write, by blocks or unaligned.
                damage.moved = true;
                let unit = if value.is_multiple_of(2) { BLOCK_BYTES } else { 1 };
                let (from, to) = (at / unit * unit, self.below(bytes.len()) / unit * unit);
                let length = (end - at).next_multiple_of(unit);
                let length = length.min(bytes.len() - from).min(bytes.len() - to);
                bytes.copy_within(from..from + length, to);
            }
            5 => {
                damage.moved = true;
                let length = bytes.len();
                bytes.insert(at, value);
                bytes.truncate(length);
            }
            _ => bytes.truncate(at),
        }
    }
}

fn push(batch: &mut Batch, written: &Written) -> usize {
    let header = RecordHeader {
        checksum: 0,
        previous_checksum: 0,
        lsn: written.lsn,
        batch_first_lsn: 0,
        epoch: written.epoch,
        payload_bytes: u32::try_from(written.payload.len()).unwrap_or(u32::MAX),
        kind: written.kind,
        format_version: written.format_version,
        partition: written.partition,
    };
    batch.push(header, &written.payload);
    record::record_bytes(written.payload.len())
}

fn placed(segment: u64, start: usize, sizes: &[usize]) -> Placed {
    let mut at = start;
    let mut records = Vec::new();
    for size in sizes {
        records.push(at..at + size);
        at += size;
    }
    Placed { segment, start, records }
}

impl WrittenLog {
    /// What recovery must return after `before` has become `after`.
    pub(super) fn expect_after(&self, before: &Files, after: &Files, damage: Damage) -> Expected {
        let mut first_changed = self.batches.len();
        let mut frame_changed = false;
        for (name, old) in before {
            let new = after.get(name).map(Vec::as_slice).unwrap_or_default();
            let Some(at) = first_difference(old, new) else { continue };
            frame_changed |= old.len() != new.len() || at < BLOCK_BYTES;
            let number = segment::number(name).unwrap_or_default();
            first_changed = first_changed.min(self.batch_at(number, at));
        }
        let proven = self.batches.iter().skip(first_changed + 1).any(|batch| {
            let name = segment::name(batch.segment);
            let bytes = |files: &Files, place: &Range<usize>| {
                files.get(&name).and_then(|file| file.get(place.clone())).map(<[u8]>::to_vec)
            };
            batch.records.iter().any(|place| bytes(before, place) == bytes(after, place))
        });
        let untouched = self.batches.iter().take(first_changed).map(|batch| batch.records.len());
        let only_last = first_changed + 1 >= self.batches.len();
        Expected {
            must_open: only_last && !damage.moved && !frame_changed,
            must_refuse: proven || frame_changed,
            untouched: untouched.sum(),
        }
    }

    /// The batch at an offset, or the one before it.
    fn batch_at(&self, segment: u64, at: usize) -> usize {
        let is_before = |batch: &&Placed| (batch.segment, batch.start) <= (segment, at);
        self.batches.iter().take_while(is_before).count().saturating_sub(1)
    }
}

fn first_difference(old: &[u8], new: &[u8]) -> Option<usize> {
    // Much faster for equal files, which most are.
    if old == new {
        return None;
    }
    let differs = old.iter().zip(new).position(|(old, new)| old != new);
    differs.or((old.len() != new.len()).then_some(old.len().min(new.len())))
}
