use std::io;
use std::sync::Arc;
use std::thread;

use crossbeam::channel::{Receiver, Sender};
use crossbeam::select;

use super::WalError;
use super::batch::Batch;
use super::handle::{Log, LogHandle};
use super::prepare::Preparer;
use super::segment::{self, FIRST_BATCH_OFFSET};
use super::shared::{CommittedBatch, Shared};
use super::storage::{Directory, Storage, StorageFile};

/// Name of the thread that fills segments ahead.
const PREPARE_THREAD_NAME: &str = "wal-prepare";

/// The writing end of the log: give it a thread and call [`run`](Self::run).
pub struct WalWriter<S: Storage = Directory> {
    pub(super) log: LogFile<S>,
    pub(super) preparer: Preparer<S>,
    pub(super) followed: Arc<Log<S>>,
}

impl<S: Storage> WalWriter<S> {
    /// For whoever reads the log behind the writer, and cuts it.
    pub fn handle(&self) -> LogHandle<S> {
        LogHandle::new(Arc::clone(&self.followed))
    }

    /// Writes and syncs what the appender hands over, until the appender is dropped. Ends the
    /// thread for the next segments that it starts.
    ///
    /// # Errors
    /// Any failed write or sync, and any failure to make the next segment but a full disk. The log
    /// is poisoned then; nothing is tried again.
    pub fn run(self) -> Result<(), WalError> {
        let Self { log, preparer, .. } = self;
        let directory = log.storage.path().to_path_buf();
        let thread = thread::Builder::new()
            .name(PREPARE_THREAD_NAME.to_owned())
            .spawn(move || preparer.run())
            .map_err(|error| WalError::io("start the thread for segments of", directory, error))?;
        // Consumes the log, so that a failure poisons before the join.
        let outcome = log.write_batches();
        // It ends with its channels. A panic in it has closed them too and is in the outcome.
        let _ = thread.join();
        outcome
    }
}

impl<S: Storage> std::fmt::Debug for WalWriter<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WalWriter").field("segment", &self.log.number).finish_non_exhaustive()
    }
}

/// The open segment and the state of the chain. Gone means poisoned, however it went.
pub(super) struct LogFile<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) shared: Arc<Shared>,
    pub(super) file: S::File,
    pub(super) number: u64,
    pub(super) segment_bytes: u64,
    /// Where the next batch goes.
    pub(super) offset: u64,
    /// Checksum of the last record.
    pub(super) chain: u64,
    pub(super) log_id: u64,
    /// Size of all segments after this one.
    pub(super) next_segment_bytes: u64,
    /// The segment after this one, when it has been taken from the channel.
    pub(super) next: Option<S::File>,
    pub(super) batches: Receiver<Batch>,
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
    fn write_batches(mut self) -> Result<(), WalError> {
        loop {
            select! {
                recv(self.batches) -> batch => match batch {
                    Ok(batch) => self.commit(batch)?,
                    Err(_) => return Ok(()),
                },
                recv(self.prepared) -> prepared => self.take_prepared(prepared.ok())?,
            }
        }
    }

    /// Makes a batch durable, says so and gives its buffer back.
    pub(super) fn commit(&mut self, mut batch: Batch) -> Result<(), WalError> {
        if batch.starts_segment {
            self.change_segment()?;
        }
        self.chain = batch.seal(self.chain, self.log_id);
        let bytes = batch.bytes();
        self.file.write_at(self.offset, bytes).map_err(|error| self.failed("write", error))?;
        self.file.sync().map_err(|error| self.failed("sync", error))?;
        self.offset += bytes.len() as u64;
        self.shared.commit(CommittedBatch {
            first_lsn: batch.first_lsn(),
            last_lsn: batch.last_lsn(),
            segment: self.number,
            segment_bytes: self.segment_bytes,
            end: self.offset,
        });
        // Never full, and an appender that is gone needs no buffer.
        let _ = self.returned.try_send(batch);
        self.shared.waker.wake();
        Ok(())
    }

    fn change_segment(&mut self) -> Result<(), WalError> {
        if self.next.is_none() {
            let prepared = self.prepared.recv().ok();
            self.take_prepared(prepared)?;
        }
        let Some(next) = self.next.take() else { return Ok(()) };
        self.file = next;
        self.number += 1;
        self.segment_bytes = self.next_segment_bytes;
        self.offset = FIRST_BATCH_OFFSET;
        // Never full: it asks for one at a time. If nobody listens, the next change says so.
        let _ = self.requests.try_send(self.number + 1);
        Ok(())
    }

    pub(super) fn take_prepared(
        &mut self,
        prepared: Option<io::Result<S::File>>,
    ) -> Result<(), WalError> {
        let ended = || Err(io::Error::other("the thread that makes it has ended"));
        match prepared.unwrap_or_else(ended) {
            Ok(file) => {
                self.next = Some(file);
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
