use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use atomic_waker::AtomicWaker;

/// What the log's threads tell the appender. Each field has one writer and stands for itself; the
/// batches themselves go through channels.
#[derive(Debug, Default)]
pub(super) struct Shared {
    committed: AtomicU64,
    poisoned: AtomicBool,
    ready_segment: AtomicU64,
    out_of_space: AtomicBool,
    /// The appender's task. Woken after any of the above has changed.
    pub(super) waker: AtomicWaker,
}

impl Shared {
    /// The last durable record.
    pub(super) fn committed(&self) -> u64 {
        self.committed.load(Ordering::Acquire)
    }

    pub(super) fn commit(&self, lsn: u64) {
        self.committed.store(lsn, Ordering::Release);
    }

    pub(super) fn is_poisoned(&self) -> bool {
        self.poisoned.load(Ordering::Acquire)
    }

    pub(super) fn poison(&self) {
        self.poisoned.store(true, Ordering::Release);
        self.waker.wake();
    }

    /// The highest segment that the writer can change to without touching the disk's free space.
    pub(super) fn ready_segment(&self) -> u64 {
        self.ready_segment.load(Ordering::Acquire)
    }

    pub(super) fn set_ready_segment(&self, number: u64) {
        self.out_of_space.store(false, Ordering::Release);
        self.ready_segment.store(number, Ordering::Release);
        self.waker.wake();
    }

    pub(super) fn is_out_of_space(&self) -> bool {
        self.out_of_space.load(Ordering::Acquire)
    }

    pub(super) fn set_out_of_space(&self) {
        self.out_of_space.store(true, Ordering::Release);
    }
}
