//! The thread `index`: applies the log to the store, persists it, and cuts the log up to there.

use std::time::{Duration, Instant};

use super::fjall_store::WRITE_OUT_BYTES;
use super::thread_priority::lower_priority;
use super::{Index, IndexError, IndexMetrics, IndexWriter};
use crate::order::decode;
use crate::shutdown::Shutdown;
use crate::wal::{
    DEFAULT_RESERVE_BYTES, Directory, LogClaim, LogHandle, LogReader, Lsn, Room, Storage,
};

/// Most records in one batch. Changes of one order within a batch are written once, and most orders
/// are created, accepted and filled within a second, so large batches are cheap.
const BATCH_RECORDS: u64 = 32_768;
/// Most payload bytes in one batch: bounds its memory when records are large.
const BATCH_BYTES: usize = 16 * 1024 * 1024;
/// A batch in the store's journal: at most three times its payload, with keys, changes and
/// removals.
const BATCH_JOURNAL_BYTES: u64 = 3 * BATCH_BYTES as u64;
// The index stops when less than the reserve is free, and what is in progress must still fit: a
// batch, and two memtables being flushed. A compaction may need more; if it fails, the store is
// reopened once there is room.
const _: () = assert!(BATCH_JOURNAL_BYTES + WRITE_OUT_BYTES <= DEFAULT_RESERVE_BYTES);

/// How long records may gather for a batch: the most that reads of the index lag behind the log.
const GATHER_TIME: Duration = Duration::from_millis(250);
/// How long to wait for memory to show what is committed, which takes a slice or two.
const MEMORY_LAG: Duration = Duration::from_millis(1);
/// How often the index is made durable. Lost batches are replayed from the log, so this only bounds
/// the replay after a crash.
const PERSIST_INTERVAL: Duration = Duration::from_secs(1);
/// How long to wait for the end of the log after a stop was requested: the orders thread gives
/// orders in flight their time.
const END_TIMEOUT: Duration = Duration::from_secs(30);
/// Most records applied after the stop; the next start replays the rest.
const CATCH_UP_RECORDS: u64 = 1_000_000;
/// How often a failed store is retried.
const REOPEN_INTERVAL: Duration = Duration::from_secs(1);
const CLAIM_NAME: &str = "index";

/// Follows the log with the index. Run [`run`](Self::run) on the thread `index`.
#[derive(Debug)]
pub struct IndexFollower<S: Storage = Directory> {
    index: Index,
    writer: IndexWriter,
    log: LogHandle<S>,
    reader: LogReader<S>,
    claim: LogClaim,
    metrics: IndexMetrics,
    /// Whether the log failed to be cut; logged once.
    cut_failed: bool,
}

impl<S: Storage> IndexFollower<S> {
    /// Claims what the index still needs of the log, from now on.
    ///
    /// # Errors
    /// [`IndexError::OtherLog`]; [`IndexError::Log`] if the log begins after the index; read
    /// errors.
    pub fn new(index: Index, log: LogHandle<S>, metrics: IndexMetrics) -> Result<Self, IndexError> {
        let claim = log.claim(CLAIM_NAME, index.durable_position())?;
        let reader = log.reader(index.position())?;
        let writer = IndexWriter::new(index.clone(), log.log_id())?;
        metrics.healthy.set(1);
        Ok(Self { index, writer, log, reader, claim, metrics, cut_failed: false })
    }

    /// Applies the log to the index until the log ends, or for some time after a stop was
    /// requested. Then applies what is committed, makes it durable and returns.
    ///
    /// # Errors
    /// Any log record that cannot be applied. Log files out of reach are retried, and a store that
    /// refuses writes is reopened until it works. On a full disk the store is not written: a failed
    /// store would have to be reopened, and reads wait for that. Orders can still be cancelled and
    /// filled meanwhile; their records stay in the log.
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), IndexError> {
        lower_priority();
        loop {
            let Err(error) = self.follow(shutdown) else { return Ok(()) };
            self.index.failed(&error);
            self.metrics.healthy.set(0);
            let store_works = error.is_out_of_reach();
            if !store_works && !error.is_of_the_store() {
                return Err(error);
            }
            let cause: &dyn std::error::Error = &error;
            tracing::error!(cause, "the index has stopped; retrying");
            self.metrics.failures.inc();
            if !self.retry(store_works, shutdown)? {
                return Ok(());
            }
            self.metrics.healthy.set(1);
            tracing::warn!(position = %self.index.position(), "the index is following the log again");
        }
    }

    /// Retries until the store is open again, if it failed, and resumes from its position. False if
    /// the process stops first: the next start replays the rest.
    fn retry(&mut self, store_works: bool, shutdown: &Shutdown) -> Result<bool, IndexError> {
        loop {
            if shutdown.wait_timeout(REOPEN_INTERVAL) {
                return Ok(false);
            }
            self.show_room();
            // On a full disk the store would only fail again; until then its content can be read.
            if self.log.must_not_fill() {
                continue;
            }
            if store_works {
                self.index.is_well();
                break;
            }
            match self.index.reopen() {
                Ok(()) => break,
                Err(error) if error.is_of_the_store() => {
                    let cause: &dyn std::error::Error = &error;
                    tracing::warn!(cause, "the index cannot be reopened yet");
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
            let is_paused = self.log.must_not_fill();
            if is_paused {
                self.pause();
            } else {
                self.apply_batch(self.index.may_follow_to())?;
            }
            let now = Instant::now();
            if now >= persist_at && !is_paused {
                self.persist()?;
                persist_at = now + PERSIST_INTERVAL;
            }
            if shutdown.is_requested() {
                give_up_at.get_or_insert(now + END_TIMEOUT);
            }
            if self.log.is_poisoned() || give_up_at.is_some_and(|at| now >= at) {
                break;
            }
        }
        let last = self.log.committed().min(Lsn(self.writer.taken().0 + CATCH_UP_RECORDS));
        // Memory is read no more. After a full disk the next start replays what is missing.
        if !self.log.must_not_fill() {
            while self.writer.taken() < last {
                let position = self.writer.taken();
                self.apply_batch(last)?;
                if self.writer.taken() == position {
                    return Err(IndexError::NoProgress { position, last });
                }
            }
            self.persist()?;
        }
        // A failed log is reported by its own thread, which must get to it first.
        shutdown.wait_timeout(END_TIMEOUT);
        Ok(())
    }

    /// Waits without touching the disk.
    fn pause(&self) {
        // No record has this LSN: the wait ends early only if the log ends.
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
        let (position, committed) = (self.index.position().0, self.log.committed().0);
        assert!(position <= committed, "a record is in the index once it is durable in the log");
        let lag = committed - position;
        self.metrics.position.set(position.cast_signed());
        self.metrics.lag_records.set(lag.cast_signed());
    }

    /// Waits for a record, then a little for more. At most until the next persist, so that applied
    /// records do not wait for ones that never come.
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

    /// Applies committed records up to `last`, as one batch.
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
        assert!(
            records == 0 || self.writer.taken() <= last,
            "the index does not pass what it may follow"
        );
        if records > 0 {
            let began = Instant::now();
            self.writer.commit()?;
            self.metrics.commit_seconds.inc_by(began.elapsed().as_secs_f64());
            self.metrics.batches.inc();
        }
        self.show_lag();
        Ok(())
    }

    /// Makes the index durable, and releases the log up to there.
    pub(crate) fn persist(&mut self) -> Result<(), IndexError> {
        self.writer.persist()?;
        self.claim.advance(self.index.durable_position());
        if let Err(error) = self.log.note_stored(self.index.durable_position()) {
            let error: &dyn std::error::Error = &error;
            tracing::warn!(error, "`longbow wal verify` may not know the position of the store");
        }
        if !self.cut_failed {
            match self.log.cut() {
                Ok(removed) => drop(self.metrics.cut_segments.inc_by(removed)),
                Err(error) => {
                    self.cut_failed = true;
                    let error: &dyn std::error::Error = &error;
                    tracing::error!(
                        error,
                        "the log cannot be truncated and grows until the next start"
                    );
                }
            }
        }
        let (_, log_bytes) = self.log.kept_segments();
        self.metrics.log_bytes.set(log_bytes.cast_signed());
        Ok(())
    }
}
