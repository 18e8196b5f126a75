//! One request to stop, seen by every thread. The first reason stays.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Why the process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// An operator asked for it (SIGINT, SIGTERM).
    Asked,
    /// A thread ended that never should. A half-alive engine is worse than a restart.
    ThreadEnded {
        /// The thread's name.
        thread: String,
        /// What it said, or that it panicked.
        error: String,
    },
}

#[derive(Debug, Default)]
struct State {
    reason: Option<StopReason>,
    wakers: Vec<Waker>,
}

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// A handle to the one stop request; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Shared>);

impl Shutdown {
    /// A request that nobody has made yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks every thread to stop. Later reasons than the first are dropped.
    pub fn request(&self, reason: StopReason) {
        let wakers = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.reason.get_or_insert(reason);
            self.0.requested.store(true, Ordering::Release);
            std::mem::take(&mut state.wakers)
        };
        self.0.changed.notify_all();
        for waker in wakers {
            waker.wake();
        }
    }

    /// Whether somebody asked. Cheap: one load.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// Why somebody asked; `None` while nobody has.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).reason.clone()
    }

    /// Whether an operator asked, and nothing broke before.
    pub fn is_asked(&self) -> bool {
        self.reason() == Some(StopReason::Asked)
    }

    /// Blocks the calling thread until somebody asks, and tells why.
    pub fn wait(&self) -> StopReason {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reason) = &state.reason {
                return reason.clone();
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks for at most `timeout`; true when somebody has asked. For loops that wait anyway.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, timeout, |state| state.reason.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.reason.is_some()
    }

    /// Ready once somebody has asked; registers the task until then.
    pub fn poll_requested(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.reason.is_some() {
            return Poll::Ready(());
        }
        if !state.wakers.iter().any(|waker| waker.will_wake(context.waker())) {
            state.wakers.push(context.waker().clone());
        }
        Poll::Pending
    }

    /// Waits until somebody asks.
    pub async fn requested(&self) {
        std::future::poll_fn(|context| self.poll_requested(context)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_stays_and_everybody_wakes() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        assert_eq!(shutdown.reason(), None);
        let waiting = {
            let shutdown = shutdown.clone();
            std::thread::spawn(move || shutdown.wait())
        };
        shutdown.request(StopReason::Asked);
        let late = StopReason::ThreadEnded { thread: "wal".into(), error: "late".into() };
        shutdown.request(late);
        assert_eq!(waiting.join().unwrap(), StopReason::Asked);
        assert_eq!(shutdown.wait(), StopReason::Asked);
        assert_eq!(shutdown.reason(), Some(StopReason::Asked));
        futures_lite::future::block_on(shutdown.requested());
    }
}
