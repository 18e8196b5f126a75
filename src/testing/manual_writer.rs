//! A log's writer driven step by step, without threads.

use crate::wal::{Storage, WalError, WalWriter};

/// A log's writer whose threads advance step by step, under the control of a test or the
/// simulation.
pub struct ManualWriter<S: Storage> {
    pub(crate) writer: WalWriter<S>,
}

impl<S: Storage> ManualWriter<S> {
    pub fn new(writer: WalWriter<S>) -> Self {
        Self { writer }
    }

    /// One step of the writer thread.
    ///
    /// # Errors
    /// An error that ends that thread. Drop the writer then, which poisons the log.
    pub fn write(&mut self) -> Result<(), WalError> {
        let WalWriter { hold, batches, prepared, .. } = &self.writer;
        hold.0.with(|log| {
            if let Ok(prepared) = prepared.try_recv() {
                log.take_prepared(Some(prepared))?;
            }
            batches.try_recv().map_or(Ok(()), |batch| log.commit_and_return(batch))
        })
    }

    /// One step of the `wal-prepare` thread.
    pub fn prepare(&mut self) {
        let preparer = &mut self.writer.preparer;
        if let Ok(number) = preparer.requests.try_recv() {
            preparer.wanted = Some(number);
        }
        // An error is in the channel.
        let _attempt = preparer.attempt();
    }

    /// Whether [`write`](Self::write) has work.
    pub fn can_write(&self) -> bool {
        !self.writer.batches.is_empty() || !self.writer.prepared.is_empty()
    }

    /// Whether [`prepare`](Self::prepare) has work.
    pub fn can_prepare(&self) -> bool {
        !self.writer.preparer.is_whole() || !self.writer.preparer.requests.is_empty()
    }
}
