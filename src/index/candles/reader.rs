//! The thread `candle-read`: reads candles for threads that must not wait for a disk.

use crossbeam::channel::{Receiver, Sender, bounded};

use super::store::{CandlePage, CandleQuery, CandleStore};
use crate::index::{IndexError, ReadersBusy};

/// Pages that may wait. At some milliseconds for the largest, the last one waits about a second.
const QUEUE_CAPACITY: usize = 256;

type Answer = oneshot::Sender<Result<CandlePage, IndexError>>;

/// Hands reads to the thread. Clones share its queue.
#[derive(Debug, Clone)]
pub struct CandleReads(Sender<(CandleQuery, Answer)>);

/// The thread. Run [`run`](Self::run) on it.
#[derive(Debug)]
pub struct CandleReader {
    store: CandleStore,
    jobs: Receiver<(CandleQuery, Answer)>,
}

impl CandleReads {
    /// Reads of a store, and the reader, to be run on a thread `candle-read`.
    pub fn new(store: CandleStore) -> (Self, CandleReader) {
        let (sender, jobs) = bounded(QUEUE_CAPACITY);
        (Self(sender), CandleReader { store, jobs })
    }

    /// Asks for a page.
    ///
    /// # Errors
    /// [`ReadersBusy`] if the queue is full.
    pub fn page(
        &self,
        query: CandleQuery,
    ) -> Result<oneshot::Receiver<Result<CandlePage, IndexError>>, ReadersBusy> {
        let (answer, receiver) = oneshot::channel();
        self.0.try_send((query, answer)).map_err(|_| ReadersBusy)?;
        Ok(receiver)
    }
}

impl CandleReader {
    /// Reads until every [`CandleReads`] is dropped.
    pub fn run(self) {
        while let Ok((query, answer)) = self.jobs.recv() {
            if !answer.is_closed() {
                // The caller may be gone by now.
                let _gone = answer.send(self.store.page(&query));
            }
        }
    }
}
