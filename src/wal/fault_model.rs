//! A model of the log on a faulty disk: processes that use it, and what it must hold after each.

use std::sync::Arc;
use std::task::{Context, Waker};

use proptest::prelude::*;

use super::open::open;
use super::recovery::{Recovery, recover_from};
use super::segment::{FIRST_BATCH_OFFSET, SegmentMaker};
use super::writer::LogFile;
use super::*;
use crate::testing::{Crash, Fault, FaultyDisk, ManualWriter};

pub(super) type Payloads = Vec<Vec<u8>>;

pub(super) const OPTIONS_BYTES: u64 = MIN_SEGMENT_BYTES;

pub(super) fn recovered(disk: &FaultyDisk) -> Result<(Recovery<FaultyDisk>, Payloads), WalError> {
    recovered_after(disk, 0)
}

/// Recovers the records after `after`.
pub(super) fn recovered_after(
    disk: &FaultyDisk,
    after: usize,
) -> Result<(Recovery<FaultyDisk>, Payloads), WalError> {
    let mut payloads = Payloads::new();
    let after = after as u64;
    let recovery = recover_from(Arc::new(disk.clone()), Some(Lsn(after)), &mut |record| {
        payloads.push(record.payload.to_vec());
        assert_eq!(record.lsn, Lsn(after + payloads.len() as u64));
        Ok(())
    })?;
    Ok((recovery, payloads))
}

/// One run of a process with the log open.
pub(super) struct Life {
    pub(super) appender: WalAppender,
    pub(super) handle: LogHandle<FaultyDisk>,
    writer: ManualWriter<FaultyDisk>,
}

impl Life {
    pub(super) fn start(recovery: Recovery<FaultyDisk>) -> Result<Self, WalError> {
        Self::start_with_reserve(recovery, 0)
    }

    pub(super) fn start_with_reserve(
        recovery: Recovery<FaultyDisk>,
        reserve_bytes: u64,
    ) -> Result<Self, WalError> {
        let options = WalOptions {
            segment_bytes: OPTIONS_BYTES,
            keep_bytes: 0,
            reserve_bytes,
            ..WalOptions::new("")
        };
        let (appender, writer) = open(options, recovery)?;
        let handle = writer.handle();
        Ok(Self { appender, handle, writer: ManualWriter::new(writer) })
    }

    pub(super) fn append(&mut self, payload: &[u8]) -> Result<Lsn, WalError> {
        self.appender.append(NewRecord { partition: 1, kind: 2, format_version: 1, payload })
    }

    pub(super) fn write(&mut self) -> Result<(), WalError> {
        self.writer.write()
    }

    pub(super) fn prepare(&mut self) {
        self.writer.prepare();
    }

    pub(super) fn append_and_commit(&mut self, payload: &[u8]) {
        self.prepare();
        let lsn = self.append(payload).unwrap();
        assert!(self.appender.flush());
        self.write().unwrap();
        assert_eq!(self.appender.committed(), lsn);
    }

    /// A maker of segments of this log with another size.
    pub(super) fn maker_of(&self, segment_bytes: u64) -> SegmentMaker {
        SegmentMaker::new(self.log(|log| log.log_id), segment_bytes)
    }

    /// Inspects the open segment.
    fn log<T>(&self, look: impl FnOnce(&LogFile<FaultyDisk>) -> T) -> T {
        self.writer.writer.hold.0.with(|log| Ok(look(log))).unwrap()
    }

    pub(super) fn into_parts(self) -> (WalAppender, WalWriter<FaultyDisk>) {
        (self.appender, self.writer.writer)
    }

    pub(super) fn has_progress(&self, seen: Lsn) -> bool {
        let mut context = Context::from_waker(Waker::noop());
        self.appender.poll_progress(&mut context, seen).is_ready()
    }
}

#[derive(Debug, Clone)]
pub(super) enum Step {
    Append(usize),
    Flush,
    /// The appender commits by itself, if the writer is idle.
    CommitHere,
    Write,
    Prepare,
    /// A follower takes this many 255ths of the committed records, and the log is cut up to there.
    Cut(u8),
    /// A follower reads as far as it can.
    Read,
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0_usize..1200).prop_map(Step::Append),
        1 => (5_000_usize..30_000).prop_map(Step::Append),
        3 => Just(Step::Flush),
        2 => Just(Step::CommitHere),
        3 => Just(Step::Write),
        1 => Just(Step::Prepare),
        1 => any::<u8>().prop_map(Step::Cut),
        1 => Just(Step::Read),
    ]
}

#[derive(Debug, Clone)]
pub(super) struct LifeStory {
    pub(super) steps: Vec<Step>,
    pub(super) fault_after: u64,
    pub(super) fault: Fault,
    pub(super) crash: Crash,
    pub(super) seed: u64,
}

pub(super) fn life_story() -> impl Strategy<Value = LifeStory> {
    let fault = prop_oneof![3 => Just(Fault::Crash), 1 => Just(Fault::Error)];
    let crash = prop_oneof![Just(Crash::Kill), Just(Crash::PowerLoss)];
    let steps = proptest::collection::vec(step(), 0..120);
    (steps, 1_u64..70, fault, crash, any::<u64>()).prop_map(
        |(steps, fault_after, fault, crash, seed)| LifeStory {
            steps,
            fault_after,
            fault,
            crash,
            seed,
        },
    )
}

pub(super) fn payload(lsn: u64, bytes: usize) -> Vec<u8> {
    let mut payload = lsn.to_le_bytes().to_vec();
    payload.resize(bytes.max(8), u8::try_from(lsn % 255).unwrap() + 1);
    payload
}

/// What the log must hold: `history` up to `durable`, and possibly more of it.
#[derive(Debug, Default)]
pub(super) struct Model {
    history: Payloads,
    durable: usize,
    /// What a follower has taken durably: the log may begin after it.
    taken: usize,
}

impl Model {
    /// Checks what is recovered after the follower's position, and that every later start recovers
    /// the same. The recovered records become the history.
    pub(super) fn check(&mut self, disk: &FaultyDisk) -> Recovery<FaultyDisk> {
        let (recovery, behind) =
            recovered_after(disk, self.taken).expect("a crash never makes the log unreadable");
        let mut recovered = self.history[..self.taken].to_vec();
        recovered.extend(behind);
        assert!(recovered.len() >= self.durable, "no committed record is lost");
        assert!(recovered.len() <= self.history.len(), "no record is invented");
        assert!(self.history.starts_with(&recovered), "records match what was appended");
        assert_eq!(recovery.next_lsn.0, recovered.len() as u64 + 1);
        let cut = to_usize(recovery.first_lsn.0 - 1);
        assert!(cut <= self.taken, "nothing is cut before the follower has taken it");
        for after in [cut, (cut + recovered.len()) / 2, recovered.len()] {
            let (again, behind) =
                recovered_after(disk, after).expect("the same log was recovered before");
            assert_eq!(behind, recovered[after..]);
            assert_eq!((again.next_lsn, again.epoch), (recovery.next_lsn, recovery.epoch));
            assert_eq!(again.torn_bytes, recovery.torn_bytes);
        }
        let too_late = recovered_after(disk, recovered.len() + 1);
        assert!(matches!(too_late, Err(WalError::LostTail { .. })));
        if cut > 0 {
            let too_early = recovered_after(disk, cut - 1);
            assert!(matches!(too_early, Err(WalError::CutOff { .. })));
        }
        self.history = recovered;
        recovery
    }

    /// Runs until the fault or the end of the story.
    pub(super) fn live(&mut self, disk: &FaultyDisk, story: &LifeStory) {
        let recovery = self.check(disk);
        disk.fail_after(story.fault_after, story.fault, story.seed);
        let reserve_bytes = story.seed % 3 * OPTIONS_BYTES;
        let Ok(mut life) = Life::start_with_reserve(recovery, reserve_bytes) else { return };
        // From now on effects may depend on everything recovered.
        self.durable = self.history.len();
        let claim = life.handle.claim("model", Lsn(self.taken as u64)).unwrap();
        let mut reader = life.handle.reader(Lsn(self.taken as u64)).unwrap();
        for step in &story.steps {
            match step {
                Step::Append(bytes) => self.append(&mut life, *bytes),
                Step::Flush => drop(life.appender.flush()),
                Step::Prepare => life.prepare(),
                Step::CommitHere => {
                    if life.appender.commit_here().is_err() {
                        assert!(life.appender.is_poisoned(), "nothing is written after a failure");
                        return;
                    }
                    self.durable = to_usize(life.appender.committed().0);
                }
                Step::Write => {
                    if life.write().is_err() {
                        // The writer thread ends, which drops the writer.
                        return;
                    }
                    self.durable = to_usize(life.appender.committed().0);
                }
                Step::Read => self.read(&mut reader),
                Step::Cut(share) => {
                    self.read(&mut reader);
                    self.taken += (self.durable - self.taken) * usize::from(*share) / 255;
                    claim.advance(Lsn(self.taken as u64));
                    // The log continues even if it cannot be cut.
                    drop(life.handle.cut());
                }
            }
        }
    }

    fn append(&mut self, life: &mut Life, bytes: usize) {
        let payload = payload(self.history.len() as u64 + 1, bytes);
        match life.append(&payload) {
            Ok(lsn) => {
                self.history.push(payload);
                assert_eq!(lsn.0, self.history.len() as u64);
            }
            Err(WalError::Busy | WalError::NoSpace | WalError::Poisoned) => {}
            Err(error) => panic!("{error}"),
        }
    }

    /// Exactly the committed records can be read.
    fn read(&self, reader: &mut LogReader<FaultyDisk>) {
        while let Some(record) = reader.next_record().unwrap() {
            assert_eq!(record.payload, self.history[to_usize(record.lsn.0) - 1]);
        }
        assert_eq!(to_usize(reader.position().0), self.durable);
    }
}

/// A log with known records over several segments.
pub(super) struct Written {
    pub(super) disk: FaultyDisk,
    pub(super) payloads: Payloads,
    /// File, start and end (padding included) of each batch, and the index of its first record.
    pub(super) batches: Vec<(String, usize, usize, usize)>,
}

/// Writes batches of records with the given sizes.
pub(super) fn written(batches: &[Vec<usize>]) -> Written {
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    let mut written = Written { disk, payloads: Vec::new(), batches: Vec::new() };
    for sizes in batches {
        let first = written.payloads.len();
        life.prepare();
        for &size in sizes {
            let payload = payload(written.payloads.len() as u64 + 1, size);
            life.append(&payload).unwrap();
            written.payloads.push(payload);
        }
        assert!(life.appender.flush());
        let at = |life: &Life| life.log(|log| (log.number, log.offset));
        let (number, offset) = at(&life);
        life.write().unwrap();
        let (new_number, end) = at(&life);
        let start = if new_number == number { offset } else { FIRST_BATCH_OFFSET };
        let (start, end) = (to_usize(start), to_usize(end));
        written.batches.push((segment::name(new_number), start, end, first));
    }
    life.prepare();
    written
}

pub(super) fn batch_sizes() -> impl Strategy<Value = Vec<Vec<usize>>> {
    let small = proptest::collection::vec(8_usize..900, 1..20);
    let large = proptest::collection::vec(8_usize..12_000, 1..5);
    proptest::collection::vec(prop_oneof![small, large], 2..12)
}
