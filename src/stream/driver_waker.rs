use std::sync::Arc;
use std::task::Waker;

use crate::market::ShardWatch;

/// Wakes the driver of a hub, whether it sleeps until the feed has news or rests for a while.
#[derive(Debug)]
pub(super) struct DriverWaker {
    watch: Arc<ShardWatch>,
    resting: Option<Waker>,
}

impl DriverWaker {
    /// Wakes the sleeper of this watch.
    pub(super) fn new(watch: Arc<ShardWatch>) -> Self {
        Self { watch, resting: None }
    }

    /// Lets the driver look again.
    pub(super) fn wake(&mut self) {
        self.watch.wakeup.wake();
        if let Some(waker) = self.resting.take() {
            waker.wake();
        }
    }

    /// The driver rests, and is woken by this.
    pub(super) fn rest(&mut self, waker: &Waker) {
        self.resting = Some(waker.clone());
    }
}
