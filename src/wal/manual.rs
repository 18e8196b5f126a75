//! A log's writer driven step by step, without threads.

use super::WalError;
use super::storage::Storage;
#[cfg(test)]
use super::writer::LogFile;
use super::writer::WalWriter;

/// A log's writer whose threads advance step by step, under the control of a test or the
/// simulation.
pub(crate) struct ManualWriter<S: Storage> {
    pub(super) writer: WalWriter<S>,
}

impl<S: Storage> ManualWriter<S> {
    pub(crate) fn new(writer: WalWriter<S>) -> Self {
        Self { writer }
    }

    /// One step of the writer thread.
    ///
    /// # Errors
    /// An error that ends that thread. Drop the writer then, which poisons the log.
    pub(crate) fn write(&mut self) -> Result<(), WalError> {
        let WalWriter { hold, batches, prepared, .. } = &self.writer;
        hold.0.with(|log| {
            if let Ok(prepared) = prepared.try_recv() {
                log.take_prepared(Some(prepared))?;
            }
            batches.try_recv().map_or(Ok(()), |batch| log.commit_and_return(batch))
        })
    }

    /// Inspects the open segment.
    #[cfg(test)]
    pub(super) fn log<T>(&self, look: impl FnOnce(&LogFile<S>) -> T) -> T {
        self.writer.hold.0.with(|log| Ok(look(log))).unwrap()
    }

    /// One step of the `wal-prepare` thread.
    pub(crate) fn prepare(&mut self) {
        let preparer = &mut self.writer.preparer;
        if let Ok(number) = preparer.requests.try_recv() {
            preparer.wanted = Some(number);
        }
        // An error is in the channel.
        let _attempt = preparer.attempt();
    }

    /// Whether [`write`](Self::write) has work.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_write(&self) -> bool {
        !self.writer.batches.is_empty() || !self.writer.prepared.is_empty()
    }

    /// Whether [`prepare`](Self::prepare) has work.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_prepare(&self) -> bool {
        !self.writer.preparer.is_whole() || !self.writer.preparer.requests.is_empty()
    }
}
