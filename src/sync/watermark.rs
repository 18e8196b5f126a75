//! A position that only grows, and waiting until it has passed another one.

use super::atomic::{
    AtomicBool, AtomicU64, Condvar, Mutex, MutexGuard, Ordering, store_load_fence,
};
use crossbeam::utils::CachePadded;
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// Stands for the position that nobody waits for: nothing is beyond it.
const NOBODY: u64 = u64::MAX;

/// Up to where something is done: durable, stored, projected. Any thread may move it on, any number
/// of tasks and threads may wait until it is beyond a position of theirs.
///
/// Whoever moves it pays for a wake-up only when somebody waits for what it reached: otherwise it
/// takes no lock.
///
/// # Why no wake-up is lost
///
/// ```text
/// who waits (under the lock)        who moves it on
/// T1  lower `wanted`                W1  raise `reached`
/// T2  fence(SeqCst)                 W2  fence(SeqCst)
/// T3  look at `reached`             W3  is `wanted` below it?
/// ```
///
/// The two fences have one order. If W2 comes first, T3 sees W1 and nobody sleeps. If T2 comes first,
/// W3 sees T1, or what was written to `wanted` after it: that is written under the lock, and never
/// above a position that is still waited for. W then takes the lock, which who waits keeps until it
/// sleeps.
pub struct Watermark {
    reached: CachePadded<AtomicU64>,
    /// The lowest position that somebody waits to see passed, or lower.
    wanted: CachePadded<AtomicU64>,
    closed: AtomicBool,
    waiting: Mutex<Waiting>,
    /// Threads that wait.
    passed: Condvar,
    max_tasks: usize,
}

struct Waiting {
    /// Tasks by the position that they wait to see passed, and a number of their own.
    tasks: BTreeMap<(u64, u64), Waker>,
    next_number: u64,
    /// The lowest position that a thread waits to see passed, or lower.
    threads_beyond: u64,
}

/// Why a task waits no longer, or not at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WaitError {
    /// The watermark will not move any more.
    #[error("the publisher has ended")]
    Closed,
    /// As many tasks wait as may.
    #[error("too many waiters")]
    TooMany,
}

impl Watermark {
    /// At `position`. At most `max_tasks` wait at a time; threads are not counted.
    pub fn new(position: u64, max_tasks: usize) -> Self {
        let waiting = Waiting { tasks: BTreeMap::new(), next_number: 0, threads_beyond: NOBODY };
        Self {
            reached: CachePadded::new(AtomicU64::new(position)),
            wanted: CachePadded::new(AtomicU64::new(NOBODY)),
            closed: AtomicBool::new(false),
            waiting: Mutex::new(waiting),
            passed: Condvar::new(),
            max_tasks,
        }
    }

    /// Where it is. Who sees a position sees all that was done before it was
    /// [reached](Self::advance).
    #[inline]
    pub fn get(&self) -> u64 {
        self.reached.load(Ordering::Acquire)
    }

    /// Moves it on to `to`, and wakes those who waited for that. Does nothing where it has come that
    /// far already: it never goes back.
    pub fn advance(&self, to: u64) {
        if self.reached.fetch_max(to, Ordering::Release) >= to {
            return;
        }
        store_load_fence();
        if self.wanted.load(Ordering::Relaxed) < to {
            self.wake(|beyond| beyond < to);
        }
    }

    /// Says that it will not move any more, and wakes everybody.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        // Who has looked before this still has the lock, or sleeps.
        self.wake(|_| true);
    }

    /// Whether it will not move any more.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Blocks until it is beyond a position, is closed, or the timeout has passed. Returns where it
    /// is. Nothing is beyond `u64::MAX`.
    pub fn wait_beyond(&self, beyond: u64, timeout: Duration) -> u64 {
        if self.outcome(beyond).is_some() {
            return self.get();
        }
        let deadline = Instant::now().checked_add(timeout);
        let mut waiting = self.lock();
        loop {
            waiting.threads_beyond = waiting.threads_beyond.min(beyond);
            self.announce(&waiting);
            let left = deadline.map_or(Duration::MAX, |deadline| {
                deadline.saturating_duration_since(Instant::now())
            });
            if self.outcome(beyond).is_some() || left.is_zero() {
                return self.get();
            }
            let waited = self.passed.wait_timeout(waiting, left);
            waiting = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits, as a task, until it is beyond a position, and returns where it is. Dropped before that
    /// it is forgotten.
    ///
    /// # Errors
    /// [`WaitError`].
    pub fn beyond(&self, beyond: u64) -> Beyond<'_> {
        Beyond { watermark: self, beyond, number: None }
    }

    /// What who waits for this learns, if anything yet.
    fn outcome(&self, beyond: u64) -> Option<Result<u64, WaitError>> {
        // In this order: what it reached before it was closed counts.
        let is_closed = self.is_closed();
        let reached = self.get();
        if reached > beyond {
            return Some(Ok(reached));
        }
        is_closed.then_some(Err(WaitError::Closed))
    }

    /// Makes known what is waited for. The look at the position comes after this.
    fn announce(&self, waiting: &Waiting) {
        self.wanted.store(waiting.lowest(), Ordering::Relaxed);
        store_load_fence();
    }

    #[cold]
    fn wake(&self, is_due: impl Fn(u64) -> bool) {
        loop {
            let mut waiting = self.lock();
            let threads_are_due = is_due(waiting.threads_beyond);
            if threads_are_due {
                // Those who wait for more say so again.
                waiting.threads_beyond = NOBODY;
            }
            let task = waiting.pop_due(&is_due);
            self.wanted.store(waiting.lowest(), Ordering::Relaxed);
            drop(waiting);
            if threads_are_due {
                self.passed.notify_all();
            }
            // Woken without the lock: what a waker does, and drops, is not known here.
            let Some(task) = task else { return };
            task.wake();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiting {
    fn lowest(&self) -> u64 {
        let tasks_beyond = self.tasks.first_key_value().map_or(NOBODY, |((beyond, _), _)| *beyond);
        tasks_beyond.min(self.threads_beyond)
    }

    fn pop_due(&mut self, is_due: &impl Fn(u64) -> bool) -> Option<Waker> {
        let first = self.tasks.first_entry()?;
        let (beyond, _) = *first.key();
        is_due(beyond).then(|| first.remove())
    }
}

/// A task's wait for a [`Watermark`]: see [`beyond`](Watermark::beyond).
pub struct Beyond<'a> {
    watermark: &'a Watermark,
    beyond: u64,
    /// Under which it is among those that wait, if it ever was.
    number: Option<u64>,
}

impl Future for Beyond<'_> {
    type Output = Result<u64, WaitError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let (watermark, beyond) = (self.watermark, self.beyond);
        if let Some(outcome) = watermark.outcome(beyond) {
            self.forget();
            return Poll::Ready(outcome);
        }
        let mut waiting = watermark.lock();
        let is_new = self.number.is_none_or(|own| !waiting.tasks.contains_key(&(beyond, own)));
        if is_new && waiting.tasks.len() >= watermark.max_tasks {
            return Poll::Ready(Err(WaitError::TooMany));
        }
        let number = match self.number {
            Some(number) => number,
            None => {
                waiting.next_number += 1;
                waiting.next_number
            }
        };
        self.number = Some(number);
        let before = waiting.tasks.insert((beyond, number), cx.waker().clone());
        watermark.announce(&waiting);
        let outcome = watermark.outcome(beyond);
        // A waker is dropped without the lock.
        drop(waiting);
        drop(before);
        match outcome {
            Some(outcome) => {
                self.forget();
                Poll::Ready(outcome)
            }
            None => Poll::Pending,
        }
    }
}

impl Beyond<'_> {
    /// Waits no longer.
    fn forget(&mut self) {
        let Some(number) = self.number.take() else { return };
        // `wanted` stays too low until the next wake-up, which finds nobody and raises it.
        let waker = self.watermark.lock().tasks.remove(&(self.beyond, number));
        drop(waker);
    }
}

impl Drop for Beyond<'_> {
    fn drop(&mut self) {
        self.forget();
    }
}

impl std::fmt::Debug for Watermark {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Watermark")
            .field("reached", &self.get())
            .field("is_closed", &self.is_closed())
            .finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Beyond<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Beyond").field("beyond", &self.beyond).finish_non_exhaustive()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::rounds;
    use super::*;
    use futures_lite::future::{block_on, poll_once};
    use std::pin::pin;

    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn it_never_goes_back() {
        let watermark = Watermark::new(5, 0);
        watermark.advance(3);
        assert_eq!(watermark.get(), 5);
        watermark.advance(7);
        watermark.advance(6);
        assert_eq!(watermark.get(), 7);
    }

    #[test]
    fn who_waits_is_told_where_it_is() {
        let watermark = Watermark::new(5, 2);
        assert_eq!(block_on(watermark.beyond(4)), Ok(5));
        assert_eq!(watermark.wait_beyond(4, Duration::ZERO), 5);
        assert_eq!(watermark.wait_beyond(5, Duration::ZERO), 5, "in time nothing came");
        let (mut next, mut later) = (pin!(watermark.beyond(5)), pin!(watermark.beyond(8)));
        assert_eq!(block_on(poll_once(&mut next)), None);
        assert_eq!(block_on(poll_once(&mut later)), None);
        watermark.advance(8);
        assert_eq!(block_on(poll_once(&mut next)), Some(Ok(8)));
        assert_eq!(block_on(poll_once(&mut later)), None);
        assert_eq!(watermark.lock().tasks.len(), 1);
    }

    #[test]
    fn only_so_many_tasks_wait_and_who_leaves_makes_room() {
        let watermark = Watermark::new(0, 1);
        let mut first = Box::pin(watermark.beyond(0));
        assert_eq!(block_on(poll_once(&mut first)), None);
        assert_eq!(block_on(poll_once(&mut first)), None, "it is the same one");
        let mut second = pin!(watermark.beyond(1));
        assert_eq!(block_on(poll_once(watermark.beyond(1))), Some(Err(WaitError::TooMany)));
        drop(first);
        assert_eq!(block_on(poll_once(&mut second)), None);
        watermark.advance(1);
        assert_eq!(block_on(poll_once(&mut second)), None, "it waits for more");
        assert_eq!(watermark.wanted.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_end_wakes_everybody_and_what_was_reached_counts() {
        let watermark = Watermark::new(0, 1);
        std::thread::scope(|scope| {
            scope.spawn(|| assert_eq!(watermark.wait_beyond(u64::MAX, LONG), 1));
            scope.spawn(|| assert_eq!(block_on(watermark.beyond(1)), Err(WaitError::Closed)));
            watermark.advance(1);
            watermark.close();
        });
        assert!(watermark.is_closed());
        assert_eq!(block_on(watermark.beyond(0)), Ok(1));
        assert_eq!(block_on(watermark.beyond(1)), Err(WaitError::Closed));
    }

    #[test]
    fn no_wake_up_is_lost_between_threads_and_tasks() {
        const ROUNDS: u64 = rounds(20_000);
        let (there, back) = (Watermark::new(0, 1), Watermark::new(0, 0));
        // Strict ping-pong: one lost wake-up and all stand still forever.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=ROUNDS {
                    assert_eq!(block_on(there.beyond(n - 1)), Ok(n));
                    back.advance(n);
                }
            });
            for n in 1..=ROUNDS {
                there.advance(n);
                assert_eq!(back.wait_beyond(n - 1, LONG), n);
            }
        });
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::modelled::{block_on, check_bounded};
    use super::*;
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicUsize;
    use loom::thread;

    /// Loom's clock stands still: a wait ends by being woken, or the model is at a deadlock.
    const LONG: Duration = Duration::from_secs(600);

    /// A watermark at 0, and a thread that does this to it.
    fn beside(work: impl FnOnce(&Watermark) + Send + 'static) -> Arc<Watermark> {
        let watermark = Arc::new(Watermark::new(0, 2));
        let moved = Arc::clone(&watermark);
        thread::spawn(move || work(&moved));
        watermark
    }

    #[test]
    fn no_wake_up_of_a_task_is_lost() {
        loom::model(|| {
            let watermark = beside(|watermark| {
                watermark.advance(1);
                watermark.advance(2);
            });
            assert!(block_on(watermark.beyond(0)).is_ok());
            assert_eq!(block_on(watermark.beyond(1)), Ok(2));
        });
    }

    #[test]
    fn no_wake_up_of_a_thread_is_lost() {
        loom::model(|| {
            let watermark = beside(|watermark| {
                watermark.advance(1);
                watermark.advance(2);
            });
            assert!(watermark.wait_beyond(0, LONG) > 0);
            assert_eq!(watermark.wait_beyond(1, LONG), 2);
        });
    }

    #[test]
    fn a_task_and_a_thread_take_nothing_from_each_other() {
        check_bounded(3, || {
            let watermark = beside(|watermark| {
                watermark.advance(1);
                watermark.advance(2);
            });
            let first = Arc::clone(&watermark);
            thread::spawn(move || assert!(first.wait_beyond(0, LONG) > 0));
            assert_eq!(block_on(watermark.beyond(1)), Ok(2));
        });
    }

    #[test]
    fn two_who_move_it_never_move_it_back() {
        check_bounded(3, || {
            let watermark = beside(|watermark| watermark.advance(1));
            let other = Arc::clone(&watermark);
            thread::spawn(move || other.advance(2));
            assert!(block_on(watermark.beyond(0)).is_ok());
            let before = watermark.get();
            assert_eq!(block_on(watermark.beyond(1)), Ok(2));
            watermark.advance(1);
            assert_eq!((before.max(2), watermark.get()), (2, 2));
        });
    }

    #[test]
    fn the_end_wakes_a_task_and_a_thread() {
        check_bounded(3, || {
            let watermark = beside(Watermark::close);
            let other = Arc::clone(&watermark);
            thread::spawn(move || other.wait_beyond(u64::MAX, LONG));
            assert_eq!(block_on(watermark.beyond(u64::MAX)), Err(WaitError::Closed));
        });
    }

    #[test]
    fn who_leaves_takes_no_wake_up_along() {
        check_bounded(3, || {
            let watermark = beside(|watermark| watermark.advance(1));
            let other = Arc::clone(&watermark);
            thread::spawn(move || {
                let _left = block_on(poll_once(other.beyond(0)));
            });
            assert_eq!(block_on(watermark.beyond(0)), Ok(1));
        });
    }

    /// Polls once and lets go.
    async fn poll_once(mut wait: Beyond<'_>) -> Option<Result<u64, WaitError>> {
        std::future::poll_fn(|cx| match Pin::new(&mut wait).poll(cx) {
            Poll::Ready(outcome) => Poll::Ready(Some(outcome)),
            Poll::Pending => Poll::Ready(None),
        })
        .await
    }

    #[test]
    fn who_sees_a_position_sees_what_was_done_before_it() {
        loom::model(|| {
            let data = Arc::new(AtomicUsize::new(0));
            let written = Arc::clone(&data);
            let watermark = beside(move |watermark| {
                written.store(7, Ordering::Relaxed);
                watermark.advance(1);
            });
            assert_eq!(block_on(watermark.beyond(0)), Ok(1));
            assert_eq!(data.load(Ordering::Relaxed), 7);
        });
    }
}
