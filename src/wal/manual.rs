use super::WalError;
use super::storage::Storage;
#[cfg(test)]
use super::writer::LogFile;
use super::writer::WalWriter;

/// A log's writer whose threads are moved one step at a time, by whoever decides what comes first.
pub(crate) struct ManualWriter<S: Storage> {
    pub(super) writer: WalWriter<S>,
}

impl<S: Storage> ManualWriter<S> {
    pub(crate) fn new(writer: WalWriter<S>) -> Self {
        Self { writer }
    }

    /// What the writer's thread does when it is woken.
    ///
    /// # Errors
    /// What ends that thread: the writer is to be dropped then, which poisons the log.
    pub(crate) fn write(&mut self) -> Result<(), WalError> {
        let WalWriter { hold, batches, prepared, .. } = &self.writer;
        hold.0.with(|log| {
            if let Ok(prepared) = prepared.try_recv() {
                log.take_prepared(Some(prepared))?;
            }
            batches.try_recv().map_or(Ok(()), |batch| log.commit_and_return(batch))
        })
    }

    /// Looks at the open file.
    #[cfg(test)]
    pub(super) fn log<T>(&self, look: impl FnOnce(&LogFile<S>) -> T) -> T {
        self.writer.hold.0.with(|log| Ok(look(log))).unwrap()
    }

    /// What the preparing thread does when it is woken.
    pub(crate) fn prepare(&mut self) {
        let preparer = &mut self.writer.preparer;
        if let Ok(number) = preparer.requests.try_recv() {
            preparer.wanted = Some(number);
        }
        // Its end is in the channel.
        let _attempt = preparer.attempt();
    }

    /// Whether [`write`](Self::write) has something to do.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_write(&self) -> bool {
        !self.writer.batches.is_empty() || !self.writer.prepared.is_empty()
    }

    /// Whether [`prepare`](Self::prepare) has something to do.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_prepare(&self) -> bool {
        !self.writer.preparer.is_whole() || !self.writer.preparer.requests.is_empty()
    }
}
