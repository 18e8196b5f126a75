use crossbeam::channel::{Receiver, Sender, bounded};

use super::{Index, IndexError};

/// Threads that wait for the disk on behalf of others. Reads that miss the cache take some 0.1 ms on
/// an SSD, so two of them answer more than the ended orders of a busy node are asked for.
pub const READER_THREADS: usize = 2;
/// Reads that wait for such a thread: at 1 ms each, which is a slow disk, the last one waits half a
/// second. Beyond that a client is better told to come again.
pub const READ_QUEUE_CAPACITY: usize = 1_024;

type Job = Box<dyn FnOnce(&Index) + Send>;

/// Where threads that must not wait for a disk hand their reads to. Clones share one queue.
#[derive(Debug, Clone)]
pub struct IndexReaders {
    index: Index,
    jobs: Sender<Job>,
}

/// One thread's part of the pool: give it a thread and call [`run`](Self::run).
#[derive(Debug)]
pub struct IndexReader {
    index: Index,
    jobs: Receiver<Job>,
}

/// Too many reads wait already. The caller may try again later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{READ_QUEUE_CAPACITY} reads of the index wait already")]
pub struct ReadersBusy;

impl IndexReaders {
    /// A pool over an index, and the bodies of its threads, to be named `index-read-N`.
    pub fn new(index: &Index) -> (Self, [IndexReader; READER_THREADS]) {
        let (jobs, receiver) = bounded(READ_QUEUE_CAPACITY);
        let reader = |_| IndexReader { index: index.clone(), jobs: receiver.clone() };
        (Self { index: index.clone(), jobs }, std::array::from_fn(reader))
    }

    /// The index itself, for what does not wait for the disk.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Lets one of the threads read. When the receiver is dropped before its turn comes, the read is
    /// left out; when the pool ends, the receiver is told that its sender is gone.
    ///
    /// # Errors
    /// [`ReadersBusy`] when the queue is full, or the pool has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, IndexError>>, ReadersBusy> {
        let (answer, receiver) = oneshot::channel();
        let job = move |index: &Index| {
            if !answer.is_closed() {
                // Whoever asked may have left meanwhile.
                let _ = answer.send(job(index));
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| ReadersBusy)?;
        Ok(receiver)
    }
}

impl IndexReader {
    /// Answers what is asked for at the moment. False when that is nothing.
    #[cfg(any(test, feature = "simulation"))]
    pub(crate) fn run_pending(&self) -> bool {
        let mut has_read = false;
        while let Ok(job) = self.jobs.try_recv() {
            job(&self.index);
            has_read = true;
        }
        has_read
    }

    /// Reads what is asked for, until every [`IndexReaders`] is gone.
    pub fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            job(&self.index);
        }
    }
}
