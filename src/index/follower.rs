use std::time::{Duration, Instant};

use super::fjall_store::WRITE_OUT_BYTES;
use super::thread_priority::lower_priority;
use super::{Index, IndexError, IndexMetrics, IndexWriter};
use crate::order::decode;
use crate::shutdown::Shutdown;
use crate::wal::{
    DEFAULT_RESERVE_BYTES, Directory, LogClaim, LogHandle, LogReader, Lsn, Room, Storage,
};

/// Most records of one batch. Changes of one order within a batch are written once, and most orders
/// are created, accepted and filled within a second: so large batches are cheap.
const BATCH_RECORDS: u64 = 32_768;
/// Most payload bytes of one batch: bounds its memory when records are large.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// A batch in the journal of the store: no more than three times its payload, with keys, changes and
/// the removal of what was there.
const BATCH_JOURNAL_BYTES: u64 = 3 * BATCH_BYTES as u64;
// The index stops when less than this is free, and what is under way then must still have room: a
// batch, and two tables that are being written out. A compaction may need more; where it fails the
// store is opened again once there is room.
const _: () = assert!(BATCH_JOURNAL_BYTES + WRITE_OUT_BYTES <= DEFAULT_RESERVE_BYTES);

/// How long records may gather for a batch: as far as reads of the index may be behind the log.
const GATHER_TIME: Duration = Duration::from_millis(250);
/// How long to wait for memory to show what is committed, which it does within a slice or two.
const MEMORY_LAG: Duration = Duration::from_millis(1);
/// How often the index is made durable. What is lost comes again from the log, so this only says how
/// much of the log a start after a crash replays.
const PERSIST_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for the end of the log once a stop was asked for: orders in flight are given
/// their time by the orders thread.
const END_PATIENCE: Duration = Duration::from_secs(30);
/// Most records taken after the stop: what is left is replayed at the next start.
const CATCH_UP_RECORDS: u64 = 1_000_000;
/// How often a failed store is tried again.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
/// Name of the claim on the log.
const CLAIM_NAME: &str = "index";

/// Follows the log with the index: give it the thread `index` and call [`run`](Self::run).
#[derive(Debug)]
pub struct IndexFollower<S: Storage = Directory> {
    index: Index,
    writer: IndexWriter,
    log: LogHandle<S>,
    reader: LogReader<S>,
    claim: LogClaim,
    metrics: IndexMetrics,
    /// Whether the log has refused to be cut, which is told once.
    cut_failed: bool,
}

impl<S: Storage> IndexFollower<S> {
    /// Keeps what the index still needs of the log from now on.
    ///
    /// # Errors
    /// [`IndexError::OtherLog`]; [`IndexError::Log`] where the log begins after the index; what
    /// cannot be read.
    pub fn new(index: Index, log: LogHandle<S>, metrics: IndexMetrics) -> Result<Self, IndexError> {
        let claim = log.claim(CLAIM_NAME, index.durable_position())?;
        let reader = log.reader(index.position())?;
        let writer = IndexWriter::new(index.clone(), log.log_id())?;
        metrics.healthy.set(1);
        Ok(Self { index, writer, log, reader, claim, metrics, cut_failed: false })
    }

    /// Applies the log to the index until the log has ended, or some time after a stop was asked
    /// for. Then it takes what is committed, makes all durable and ends.
    ///
    /// # Errors
    /// Any failure to understand the log. One whose files are out of reach is read again, and a store
    /// that cannot be written is opened again until it can. On a full disk it is not written: a store that fails has to be opened
    /// again, which reads wait for. Orders go on being cancelled and filled meanwhile, and what they
    /// do stays in the log.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), IndexError> {
        lower_priority();
        loop {
            let Err(error) = self.follow(shutdown) else { return Ok(()) };
            self.index.failed(&error);
            self.metrics.healthy.set(0);
            let store_is_well = error.is_out_of_reach();
            if !store_is_well && !error.is_of_the_store() {
                return Err(error);
            }
            let cause: &dyn std::error::Error = &error;
            tracing::error!(cause, "the index does not move: it is tried again");
            self.metrics.failures.inc();
            if !self.try_again(store_is_well, shutdown)? {
                return Ok(());
            }
            self.metrics.healthy.set(1);
            tracing::warn!(position = %self.index.position(), "the index moves again");
        }
    }

    /// Tries until the store is open again, if it has failed, and goes back to what is in it. False
    /// when the process stops before: what is missing is replayed at the next start.
    fn try_again(&mut self, store_is_well: bool, shutdown: &Shutdown) -> Result<bool, IndexError> {
        loop {
            if shutdown.wait_timeout(REOPEN_INTERVAL) {
                return Ok(false);
            }
            self.show_room();
            // On a full disk it would only fail again, and until then what it has can be read.
            if self.log.must_not_fill() {
                continue;
            }
            if store_is_well {
                self.index.is_well();
                break;
            }
            match self.index.reopen() {
                Ok(()) => break,
                Err(error) if error.is_of_the_store() => {
                    let cause: &dyn std::error::Error = &error;
                    tracing::warn!(cause, "the index cannot be opened yet");
                }
                Err(error) => return Err(error),
            }
        }
        self.writer = IndexWriter::new(self.index.clone(), self.log.log_id())?;
        self.reader = self.log.reader(self.index.position())?;
        Ok(true)
    }

    fn follow(&mut self, shutdown: &Shutdown) -> Result<(), IndexError> {
        let mut persist_at = Instant::now() + PERSIST_INTERVAL;
        let mut give_up_at = None;
        loop {
            self.wait_for_batch(persist_at);
            self.show_room();
            let is_held = self.log.must_not_fill();
            if is_held {
                self.rest();
            } else {
                self.apply_batch(self.index.may_follow_to())?;
            }
            let now = Instant::now();
            if now >= persist_at && !is_held {
                self.persist()?;
                persist_at = now + PERSIST_INTERVAL;
            }
            if shutdown.is_requested() {
                give_up_at.get_or_insert(now + END_PATIENCE);
            }
            if self.log.is_poisoned() || give_up_at.is_some_and(|at| now >= at) {
                break;
            }
        }
        let last = self.log.committed().min(Lsn(self.writer.taken().0 + CATCH_UP_RECORDS));
        // Nobody reads memory any more. What is missing after a full disk, the next start replays.
        if !self.log.must_not_fill() {
            while self.writer.taken() < last {
                self.apply_batch(last)?;
            }
            self.persist()?;
        }
        // A log that has failed is the reason of its own thread, which has still to say so.
        shutdown.wait_timeout(END_PATIENCE);
        Ok(())
    }

    /// Lets time pass without touching the disk.
    fn rest(&self) {
        // Nothing has this place: it ends early only with the log.
        self.log.wait(Lsn(u64::MAX), GATHER_TIME);
        self.show_lag();
    }

    fn show_room(&self) {
        let Room { free_bytes, reserve_bytes, trouble, .. } = self.log.room();
        self.metrics.free_bytes.set(free_bytes.cast_signed());
        self.metrics.reserve_bytes.set(reserve_bytes.cast_signed());
        self.metrics.disk_full.set(trouble.is_some().into());
    }

    fn show_lag(&self) {
        let position = self.index.position().0;
        let lag = self.log.committed().0.saturating_sub(position);
        self.metrics.position.set(position.cast_signed());
        self.metrics.lag_records.set(lag.cast_signed());
    }

    /// Waits until there is something, then a little for more. Not beyond the time for the next
    /// persist, so that what was applied does not wait for records that never come.
    fn wait_for_batch(&self, persist_at: Instant) {
        let taken = self.writer.taken();
        let until_persist = persist_at.saturating_duration_since(Instant::now());
        let committed = self.log.wait(taken, until_persist);
        if committed > taken {
            self.log.wait(Lsn(taken.0 + BATCH_RECORDS - 1), GATHER_TIME.min(until_persist));
        }
        if self.index.may_follow_to() <= taken {
            self.log.wait(Lsn(u64::MAX), MEMORY_LAG.min(until_persist));
        }
    }

    /// Takes what is committed up to `last`, as one batch.
    pub(crate) fn apply_batch(&mut self, last: Lsn) -> Result<(), IndexError> {
        let (mut records, mut bytes) = (0, 0);
        while records < BATCH_RECORDS && bytes < BATCH_BYTES && self.writer.taken() < last {
            let Some(record) = self.reader.next_record()? else { break };
            let lsn = record.lsn;
            let event = decode(record.kind, record.format_version, record.payload)
                .map_err(|source| IndexError::Record { lsn, source })?;
            records += 1;
            bytes += record.payload.len();
            self.writer.take(lsn, event)?;
        }
        if records > 0 {
            let began = Instant::now();
            self.writer.commit()?;
            self.metrics.commit_seconds.inc_by(began.elapsed().as_secs_f64());
            self.metrics.batches.inc();
        }
        self.show_lag();
        Ok(())
    }

    /// Makes the index durable, and lets go of what the log was kept for.
    pub(crate) fn persist(&mut self) -> Result<(), IndexError> {
        self.writer.persist()?;
        self.claim.advance(self.index.durable_position());
        if let Err(error) = self.log.note_stored(self.index.durable_position()) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "`longbow wal verify` may not know how far the store is");
        }
        if !self.cut_failed {
            match self.log.cut() {
                Ok(removed) => drop(self.metrics.cut_segments.inc_by(removed)),
                Err(error) => {
                    self.cut_failed = true;
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(error, "the log is not cut any more until the next start");
                }
            }
        }
        let (_, log_bytes) = self.log.kept_segments();
        self.metrics.log_bytes.set(log_bytes.cast_signed());
        Ok(())
    }
}
