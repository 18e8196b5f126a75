//! The process-wide stop request, visible to every thread. The first reason counts.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

/// Why the process stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopReason {
    /// An operator requested it (SIGINT, SIGTERM).
    Requested,
    /// A thread ended unexpectedly. A half-alive engine is worse than a restart.
    ThreadEnded {
        /// The thread's name.
        thread: String,
        /// Its error, or that it panicked.
        error: String,
    },
}

#[derive(Debug, Default)]
struct State {
    reason: Option<StopReason>,
    /// Those of the tasks that wait, each under a number of its own.
    wakers: BTreeMap<u64, Waker>,
    next_number: u64,
}

#[derive(Debug, Default)]
struct Shared {
    requested: AtomicBool,
    state: Mutex<State>,
    changed: Condvar,
}

/// A handle to the stop request; clones share it.
#[derive(Debug, Clone, Default)]
pub struct Shutdown(Arc<Shared>);

impl Shutdown {
    /// No stop is requested yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Requests a stop of every thread. Reasons after the first are dropped.
    pub fn request(&self, reason: StopReason) {
        let wakers = {
            let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.reason.get_or_insert(reason);
            self.0.requested.store(true, Ordering::Release);
            std::mem::take(&mut state.wakers)
        };
        self.0.changed.notify_all();
        for waker in wakers.into_values() {
            waker.wake();
        }
    }

    /// Whether a stop is requested. Cheap: one load.
    pub fn is_requested(&self) -> bool {
        self.0.requested.load(Ordering::Acquire)
    }

    /// The reason; `None` while no stop is requested.
    pub fn reason(&self) -> Option<StopReason> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).reason.clone()
    }

    /// Whether the reason is an operator's request.
    pub fn is_by_operator(&self) -> bool {
        self.reason() == Some(StopReason::Requested)
    }

    /// Blocks the calling thread until a stop is requested; returns the reason.
    pub fn wait(&self) -> StopReason {
        let mut state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(reason) = &state.reason {
                return reason.clone();
            }
            state = self.0.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Blocks for at most `timeout`; `true` once a stop is requested. For loops that pause anyway.
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        let state = self.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, timeout, |state| state.reason.is_none())
            .unwrap_or_else(PoisonError::into_inner);
        state.reason.is_some()
    }

    /// Waits until a stop is requested. Dropped before that it is forgotten.
    pub fn requested(&self) -> Requested<'_> {
        Requested { shutdown: self, number: None }
    }
}

/// A task's wait for a stop: see [`requested`](Shutdown::requested).
#[derive(Debug)]
pub struct Requested<'a> {
    shutdown: &'a Shutdown,
    /// Under which it is among those that wait, if it ever was.
    number: Option<u64>,
}

impl Future for Requested<'_> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let mut guard = self.shutdown.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *guard;
        if state.reason.is_some() {
            return Poll::Ready(());
        }
        let number = self.number.unwrap_or_else(|| {
            state.next_number += 1;
            state.next_number
        });
        let known = state.wakers.get(&number);
        if known.is_none_or(|waker| !waker.will_wake(context.waker())) {
            let before = state.wakers.insert(number, context.waker().clone());
            // A waker is dropped without the lock.
            drop(guard);
            drop(before);
        } else {
            drop(guard);
        }
        self.number = Some(number);
        Poll::Pending
    }
}

impl Drop for Requested<'_> {
    fn drop(&mut self) {
        let Some(number) = self.number else { return };
        let mut state = self.shutdown.0.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waker = state.wakers.remove(&number);
        drop(state);
        drop(waker);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_reason_counts_and_everyone_wakes() {
        let shutdown = Shutdown::new();
        assert!(!shutdown.is_requested());
        assert_eq!(shutdown.reason(), None);
        let waiting = {
            let shutdown = shutdown.clone();
            std::thread::spawn(move || shutdown.wait())
        };
        shutdown.request(StopReason::Requested);
        let late = StopReason::ThreadEnded { thread: "wal".into(), error: "late".into() };
        shutdown.request(late);
        assert_eq!(waiting.join().unwrap(), StopReason::Requested);
        assert_eq!(shutdown.wait(), StopReason::Requested);
        assert_eq!(shutdown.reason(), Some(StopReason::Requested));
        futures_lite::future::block_on(shutdown.requested());
    }

    #[test]
    fn a_task_that_waits_no_longer_is_forgotten() {
        let shutdown = Shutdown::new();
        let waiting = || shutdown.0.state.lock().unwrap().wakers.len();
        for _ in 0..100 {
            // Each time as another task.
            let mut requested = std::pin::pin!(shutdown.requested());
            let poll = futures_lite::future::poll_once(&mut requested);
            assert_eq!(futures_lite::future::block_on(poll), None);
            let mut context = Context::from_waker(Waker::noop());
            assert_eq!(requested.as_mut().poll(&mut context), Poll::Pending);
            assert_eq!(waiting(), 1, "one for each wait, whoever polls it");
        }
        assert_eq!(waiting(), 0);
    }
}
