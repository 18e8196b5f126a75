//! The threads `index-read-N`: they read the index for threads that must not wait for a disk.

use crossbeam::channel::{Receiver, Sender, bounded};

use super::{Index, IndexError};

/// Reader threads. A read that misses the cache takes some 0.1 ms on an SSD, so two threads answer
/// more than a busy node is asked about ended orders.
pub const READER_THREADS: usize = 2;
/// Reads that may wait for a thread. At 1 ms each, as on a slow disk, the last one waits half a
/// second. Beyond that a client had better retry later.
pub const READ_QUEUE_CAPACITY: usize = 1_024;

type Job = Box<dyn FnOnce(&Index) + Send>;

/// Hands reads to the pool, for threads that must not wait for a disk. Clones share one queue.
#[derive(Debug, Clone)]
pub struct IndexReaders {
    index: Index,
    jobs: Sender<Job>,
}

/// One thread of the pool. Run [`run`](Self::run) on it.
#[derive(Debug)]
pub struct IndexReader {
    pub(crate) index: Index,
    pub(crate) jobs: Receiver<Job>,
}

/// The queue of reads is full; retry later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the queue of index reads is full: {READ_QUEUE_CAPACITY} are waiting")]
pub struct ReadersBusy;

impl IndexReaders {
    /// A pool over an index, and its readers, to be run on threads named `index-read-N`.
    pub fn new(index: &Index) -> (Self, [IndexReader; READER_THREADS]) {
        let (jobs, receiver) = bounded(READ_QUEUE_CAPACITY);
        let reader = |_| IndexReader { index: index.clone(), jobs: receiver.clone() };
        (Self { index: index.clone(), jobs }, std::array::from_fn(reader))
    }

    /// The index itself, for calls that do not wait for the disk.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// Queues a read. If the receiver is dropped before the read begins, it is skipped; if the pool
    /// ends, the receiver sees that its sender is gone.
    ///
    /// # Errors
    /// [`ReadersBusy`] if the queue is full or the pool has ended.
    pub fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&Index) -> Result<T, IndexError> + Send + 'static,
    ) -> Result<oneshot::Receiver<Result<T, IndexError>>, ReadersBusy> {
        let (answer, receiver) = oneshot::channel();
        let job = move |index: &Index| {
            if !answer.is_closed() {
                // The caller may be gone by now.
                let _ = answer.send(job(index));
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| ReadersBusy)?;
        Ok(receiver)
    }
}

impl IndexReader {
    /// Runs reads until every [`IndexReaders`] is dropped.
    pub fn run(self) {
        while let Ok(job) = self.jobs.recv() {
            job(&self.index);
        }
    }
}
