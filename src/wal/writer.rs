//! The writing end of the log: group commit and change of segments.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

use crossbeam::channel::{Receiver, Sender};
use crossbeam::select;

use super::batch::Batch;
use super::handle::LogHandle;
use super::log::Log;
use super::prepare::Preparer;
use super::segment::{self, FIRST_BATCH_OFFSET};
use super::shared::{CommittedBatch, Shared};
use super::storage::{Directory, Storage, StorageFile};
use super::{BLOCK_BYTES, WalError};

/// Name of the thread that prepares segments.
const PREPARE_THREAD_NAME: &str = "wal-prepare";

/// The writing end of the log: run [`run`](Self::run) on a thread of its own.
pub struct WalWriter<S: Storage = Directory> {
    pub(crate) hold: Hold<S>,
    pub(crate) batches: Receiver<Batch>,
    pub(crate) prepared: Receiver<io::Result<S::File>>,
    pub(crate) preparer: Preparer<S>,
    pub(super) followed: Arc<Log<S>>,
}

/// Closes the file when dropped, however the writer ends.
pub(crate) struct Hold<S: Storage>(pub(crate) Arc<SharedLogFile<S>>);

impl<S: Storage> Drop for Hold<S> {
    fn drop(&mut self) {
        self.0.close();
    }
}

impl<S: Storage> WalWriter<S> {
    /// A handle to follow and cut the log.
    pub fn handle(&self) -> LogHandle<S> {
        LogHandle::new(Arc::clone(&self.followed))
    }

    /// Writes and syncs the appender's batches until the appender is dropped. Also ends the thread
    /// that it starts for the next segments.
    ///
    /// # Errors
    /// Any failed write or sync, and any failure to make the next segment except a full disk. The
    /// log is poisoned then; nothing is retried.
    pub fn run(self) -> Result<(), WalError> {
        let Self { hold, batches, prepared, preparer, .. } = self;
        let directory = preparer.storage.path().to_path_buf();
        let thread = thread::Builder::new()
            .name(PREPARE_THREAD_NAME.to_owned())
            .spawn(move || preparer.run())
            .map_err(|error| WalError::io("start the thread for segments of", directory, error))?;
        let outcome = write_batches(&hold.0, &batches, &prepared);
        // Poison before the join.
        drop(hold);
        // The thread ends when its channels close. A panic closed them as well, and is in the
        // outcome.
        let _ = thread.join();
        outcome
    }
}

fn write_batches<S: Storage>(
    log: &SharedLogFile<S>,
    batches: &Receiver<Batch>,
    prepared: &Receiver<io::Result<S::File>>,
) -> Result<(), WalError> {
    loop {
        select! {
            recv(batches) -> batch => match batch {
                Ok(batch) => log.with(|log| log.commit_and_return(batch))?,
                Err(_) => return Ok(()),
            },
            recv(prepared) -> prepared => log.with(|log| log.take_prepared(prepared.ok()))?,
        }
    }
}

/// The open segment, shared by the writer thread and an appender that commits by itself. They never
/// compete: the appender writes only while it holds both batches, the writer only while it holds
/// one.
pub(crate) struct SharedLogFile<S: Storage>(Mutex<Option<LogFile<S>>>);

impl<S: Storage> SharedLogFile<S> {
    pub(super) fn new(log: LogFile<S>) -> Self {
        Self(Mutex::new(Some(log)))
    }

    /// Runs `work` on the open file.
    ///
    /// # Errors
    /// [`WalError::Poisoned`] if the file is closed; any error of `work`.
    pub(crate) fn with<T>(
        &self,
        work: impl FnOnce(&mut LogFile<S>) -> Result<T, WalError>,
    ) -> Result<T, WalError> {
        self.lock().as_mut().map_or(Err(WalError::Poisoned), work)
    }

    /// Closes the file and so poisons the log.
    fn close(&self) {
        drop(self.lock().take());
    }

    fn lock(&self) -> MutexGuard<'_, Option<LogFile<S>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Commits batches on the caller's thread.
pub(super) trait CommitHere: Send + Sync {
    /// # Errors
    /// The write or the sync failed, and the log is poisoned.
    fn commit_here(&self, batch: &mut Batch) -> Result<(), WalError>;
}

impl<S: Storage> CommitHere for SharedLogFile<S> {
    fn commit_here(&self, batch: &mut Batch) -> Result<(), WalError> {
        let outcome = self.with(|log| log.commit(batch));
        if outcome.is_err() {
            self.close();
        }
        outcome
    }
}

impl<S: Storage> std::fmt::Debug for WalWriter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalWriter").finish_non_exhaustive()
    }
}

/// The open segment and the state of the chain. Dropping it poisons the log.
pub(crate) struct LogFile<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) file: S::File,
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// Offset of the next batch.
    pub(super) offset: u64,
    /// Checksum of the last record.
    pub(super) chain: u64,
    pub(super) log_id: u64,
    /// Size of the segments after this one.
    pub(super) next_segment_bytes: u64,
    /// The next segment, once taken from the channel.
    pub(super) next: Option<S::File>,
    pub(super) returned: Sender<Batch>,
    pub(super) requests: Sender<u64>,
    pub(super) prepared: Receiver<io::Result<S::File>>,
}

impl<S: Storage> Drop for LogFile<S> {
    fn drop(&mut self) {
        self.shared.poison();
    }
}

impl<S: Storage> LogFile<S> {
    /// Commits a batch and returns its buffer to the appender.
    pub(crate) fn commit_and_return(&mut self, mut batch: Batch) -> Result<(), WalError> {
        self.commit(&mut batch)?;
        if let Err(refused) = self.returned.try_send(batch) {
            // An appender that has ended needs no buffer.
            assert!(refused.is_disconnected(), "of two batches the appender has the other one");
        }
        self.shared.appender.wake();
        Ok(())
    }

    /// Makes a batch durable and publishes it as committed.
    fn commit(&mut self, batch: &mut Batch) -> Result<(), WalError> {
        self.check();
        if batch.starts_segment {
            self.change_segment()?;
        }
        let end = self.offset + batch.padded_bytes() as u64;
        assert!(end <= self.segment_bytes, "a batch fits its segment: it would end at {end}");
        let committed = self.shared.committed();
        assert_eq!(
            batch.first_lsn(),
            committed.get() + 1,
            "a batch follows the last committed record"
        );
        self.chain = batch.seal(self.chain, self.log_id);
        let bytes = batch.bytes();
        self.file.write_at(self.offset, bytes).map_err(|error| self.failed("write", error))?;
        self.file.sync().map_err(|error| self.failed("sync", error))?;
        // Before the batch is published as committed, so that followers find it.
        self.shared.recent.push(self.number, self.offset, bytes);
        self.offset += bytes.len() as u64;
        self.shared.commit(CommittedBatch {
            first_lsn: batch.first_lsn(),
            last_lsn: batch.last_lsn(),
            segment: self.number,
            segment_bytes: self.segment_bytes,
            end: self.offset,
        });
        self.check();
        Ok(())
    }

    /// Checks where the next batch goes.
    fn check(&self) {
        assert!(
            (FIRST_BATCH_OFFSET..=self.segment_bytes).contains(&self.offset),
            "the next batch goes into the open segment, after its header"
        );
        assert!(
            self.offset.is_multiple_of(BLOCK_BYTES as u64),
            "batches start on block boundaries"
        );
    }

    fn change_segment(&mut self) -> Result<(), WalError> {
        if self.next.is_none() {
            // Nothing comes from a thread that has ended.
            let prepared = self.prepared.recv().ok();
            self.take_prepared(prepared)?;
        }
        let Some(next) = self.next.take() else {
            unreachable!("taking a prepared segment sets the next one, or fails");
        };
        self.file = next;
        self.number += 1;
        self.segment_bytes = self.next_segment_bytes;
        self.offset = FIRST_BATCH_OFFSET;
        if let Err(refused) = self.requests.try_send(self.number + 1) {
            // If the thread has ended, the next change reports it.
            assert!(refused.is_disconnected(), "one segment is requested at a time");
        }
        Ok(())
    }

    pub(crate) fn take_prepared(
        &mut self,
        prepared: Option<io::Result<S::File>>,
    ) -> Result<(), WalError> {
        let ended = || Err(io::Error::other("the wal-prepare thread has ended"));
        match prepared.unwrap_or_else(ended) {
            Ok(file) => {
                let next = self.next.replace(file);
                assert!(next.is_none(), "a segment is prepared once the one before it is taken");
                Ok(())
            }
            Err(error) => {
                let path = self.storage.path().join(segment::name(self.number + 1));
                Err(WalError::io("prepare", path, error))
            }
        }
    }

    fn failed(&self, action: &'static str, error: io::Error) -> WalError {
        WalError::io(action, self.storage.path().join(segment::name(self.number)), error)
    }
}
