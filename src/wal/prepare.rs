//! The `wal-prepare` thread: one segment ahead of the writer, so that no append waits for space.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};

use super::segment::SegmentMaker;
use super::shared::Shared;
use super::storage::Storage;

/// How often a full disk is tried again.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// Makes each segment that the writer asks for.
pub(super) struct Preparer<S: Storage> {
    pub(super) storage: Arc<S>,
    pub(super) maker: SegmentMaker,
    pub(super) shared: Arc<Shared>,
    /// Numbers of the segments to make. Closed when the writer ends.
    pub(super) requests: Receiver<u64>,
    /// What was made, or why not. A full disk is no reason, it is waited for.
    pub(super) prepared: Sender<io::Result<S::File>>,
}

/// How one try to make a segment went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Made,
    OutOfSpace,
    /// The disk failed or the writer is gone.
    Ended,
}

impl<S: Storage> Preparer<S> {
    /// Works until the writer is gone or the disk fails.
    pub(super) fn run(mut self) {
        while let Ok(number) = self.requests.recv() {
            loop {
                match self.attempt(number) {
                    Attempt::Made => break,
                    Attempt::Ended => return,
                    Attempt::OutOfSpace => {}
                }
                // The writer asks for no other segment before it has this one.
                if self.requests.recv_timeout(RETRY_INTERVAL) == Err(RecvTimeoutError::Disconnected)
                {
                    return;
                }
            }
        }
    }

    pub(super) fn attempt(&mut self, number: u64) -> Attempt {
        let result = self.maker.make(&*self.storage, number);
        if let Err(error) = &result
            && is_out_of_space(error)
        {
            self.report_out_of_space(error);
            return Attempt::OutOfSpace;
        }
        let failed = result.is_err();
        // First the file, then the news: who reads the number finds the file in the channel.
        if self.prepared.send(result).is_err() || failed {
            return Attempt::Ended;
        }
        self.shared.set_ready_segment(number);
        Attempt::Made
    }

    fn report_out_of_space(&self, error: &io::Error) {
        if !self.shared.is_out_of_space() {
            tracing::warn!(
                directory = %self.storage.path().display(),
                %error,
                "no space for the next log segment: records are refused when this one is full"
            );
        }
        self.shared.set_out_of_space();
    }
}

/// Whether the disk, or the share of it that this user may take, is full.
fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
