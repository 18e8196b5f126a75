use super::WalError;
use super::prepare::Attempt;
use super::storage::Storage;
#[cfg(test)]
use super::writer::LogFile;
use super::writer::WalWriter;

/// A log's writer whose threads are moved one step at a time, by whoever decides what comes first.
pub(crate) struct SteppedWriter<S: Storage> {
    pub(super) writer: WalWriter<S>,
    /// A segment that the full disk had no room for.
    wanted: Option<u64>,
}

impl<S: Storage> SteppedWriter<S> {
    pub(crate) fn new(writer: WalWriter<S>) -> Self {
        Self { writer, wanted: None }
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
        let request = self.wanted.take().or_else(|| preparer.requests.try_recv().ok());
        if let Some(number) = request
            && preparer.attempt(number) == Attempt::OutOfSpace
        {
            self.wanted = Some(number);
        }
    }

    /// Whether [`write`](Self::write) has something to do.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_write(&self) -> bool {
        !self.writer.batches.is_empty() || !self.writer.prepared.is_empty()
    }

    /// Whether [`prepare`](Self::prepare) has something to do.
    #[cfg(feature = "simulation")]
    pub(crate) fn can_prepare(&self) -> bool {
        self.wanted.is_some() || !self.writer.preparer.requests.is_empty()
    }
}
