//! What the models need in place of code that loom cannot see into: stand-ins of the same
//! contract for two building blocks of other crates, and something to run a future on.
//!
//! Each stand-in has exactly one loom atomic, whose order is that of the real thing; the
//! values lie behind a lock that loom does not see and that is never held across anything
//! that it does. So a stand-in is one step of a model: it adds few interleavings, and it
//! gives no synchronisation that the real thing would not.

use loom::sync::atomic::{AtomicUsize, Ordering};
use std::collections::VecDeque;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `atomic_waker::AtomicWaker`: one registered waker, taken by whoever wakes. The real one
/// also exchanges its state with `AcqRel` on both sides.
pub(super) struct AtomicWaker {
    state: AtomicUsize,
    waker: Mutex<Option<Waker>>,
}

impl AtomicWaker {
    pub(super) fn new() -> Self {
        Self { state: AtomicUsize::new(0), waker: Mutex::new(None) }
    }

    pub(super) fn register(&self, waker: &Waker) {
        self.state.fetch_add(1, Ordering::AcqRel);
        let before = lock(&self.waker).replace(waker.clone());
        drop(before);
    }

    pub(super) fn take(&self) -> Option<Waker> {
        self.state.fetch_add(1, Ordering::AcqRel);
        lock(&self.waker).take()
    }

    pub(super) fn wake(&self) {
        if let Some(waker) = self.take() {
            waker.wake();
        }
    }
}

/// `crossbeam::queue::ArrayQueue`. A thread that nothing has synchronised with the pusher
/// may still find it empty, as it may find the real one: a lost wake-up is not hidden.
pub(super) struct ArrayQueue<T> {
    length: AtomicUsize,
    values: Mutex<VecDeque<T>>,
    capacity: usize,
}

impl<T> ArrayQueue<T> {
    pub(super) fn new(capacity: usize) -> Self {
        let values = Mutex::new(VecDeque::with_capacity(capacity));
        Self { length: AtomicUsize::new(0), values, capacity }
    }

    pub(super) fn push(&self, value: T) -> Result<(), T> {
        // The step first, so that another thread's turn cannot come inside the lock.
        self.length.fetch_add(1, Ordering::AcqRel);
        let mut values = lock(&self.values);
        if values.len() < self.capacity {
            values.push_back(value);
            return Ok(());
        }
        drop(values);
        self.length.fetch_sub(1, Ordering::AcqRel);
        Err(value)
    }

    pub(super) fn pop(&self) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.length.fetch_sub(1, Ordering::AcqRel);
        lock(&self.values).pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.length.load(Ordering::Acquire)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.capacity
    }
}

/// Checks a model in all interleavings in which a thread is interrupted at most this often
/// beyond where it waits, for models too large for all of them. Almost every error of this
/// kind needs two interruptions at most. What loads may return is not bounded by this.
pub(super) fn check_bounded(preemptions: usize, model: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(model);
}

/// Wakes a thread of the model.
struct Unpark(loom::thread::Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Runs a future on the current thread of the model. A wake-up that is lost leaves the
/// thread parked forever, which loom reports as a deadlock. Unlike loom's own executor it
/// never polls without a reason, which halves the interleavings of each wait.
///
/// The thread must not join others afterwards: loom takes a late `unpark` for the end of
/// whatever the thread is blocked on. Loom itself waits for all threads of a model.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let waker = Waker::from(Arc::new(Unpark(loom::thread::current())));
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            return output;
        }
        loom::thread::park();
    }
}
