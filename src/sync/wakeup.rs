//! Waking one task from any thread, at next to no cost while it is awake.

use super::atomic::{AtomicBool, AtomicWaker, Ordering, fence};
use crossbeam::utils::CachePadded;
use std::task::{Context, Poll};

/// A place where one task parks until other threads have something for it.
///
/// The data itself lives elsewhere (a ring, a queue, a counter): the waker's side changes
/// the data, then calls [`wake`](Self::wake); the task's side calls
/// [`poll_wait`](Self::poll_wait) with a look at the data.
///
/// # Why no wake-up is lost
///
/// ```text
/// task (poll_wait)                waker
/// T1  register the waker          W1  change the data
/// T2  parked = true               W2  fence(SeqCst)        in wake()
/// T3  fence(SeqCst)               W3  is parked true?
/// T4  look at the data
/// ```
///
/// The two fences have one order in which all threads agree. If W2 comes first, the look at
/// T4 sees the change of W1 and the task does not sleep. If T3 comes first, W3 sees T2 and
/// the task is woken. Without both fences each side could miss the other's store, and the
/// task would sleep beside data that nobody announces again. That holds for every change
/// made by an atomic store of any ordering, so the callers need none of their own.
///
/// T2 is `Release` and the waker's exchange `Acquire`, so that who finds `parked` set also
/// finds the registered waker.
///
/// Of several wakers only the one that turns `parked` from true to false wakes: a waker of
/// a thread-per-core executor costs a system call when it is called from another thread.
pub struct Wakeup {
    /// Written when the task goes to sleep and when it is woken, else only read: all the
    /// wakers can hold its cache line at the same time.
    parked: CachePadded<AtomicBool>,
    waker: AtomicWaker,
}

impl Wakeup {
    /// A place where nobody is parked.
    pub fn new() -> Self {
        Self { parked: CachePadded::new(AtomicBool::new(false)), waker: AtomicWaker::new() }
    }

    /// Wakes the task if it is parked. Call it after the data has changed, once per batch.
    #[inline]
    pub fn wake(&self) {
        fence(Ordering::SeqCst);
        if self.parked.load(Ordering::Relaxed) {
            self.wake_parked();
        }
    }

    #[cold]
    fn wake_parked(&self) {
        let turned =
            self.parked.compare_exchange(true, false, Ordering::Acquire, Ordering::Relaxed);
        if turned.is_ok() {
            self.waker.wake();
        }
    }

    /// `Ready` as soon as `ready()` says so, else parks the task of `cx`: a later
    /// [`wake`](Self::wake) wakes it, once. `ready` is called at most twice.
    ///
    /// For one task at a time; a second one would take the place of the first. The task may
    /// be woken without a reason, so it asks again.
    pub fn poll_wait(&self, cx: &mut Context<'_>, mut ready: impl FnMut() -> bool) -> Poll<()> {
        if ready() {
            self.unpark();
            return Poll::Ready(());
        }
        self.waker.register(cx.waker());
        self.parked.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if ready() {
            self.unpark();
            return Poll::Ready(());
        }
        Poll::Pending
    }

    /// The task is awake: spare the others a useless wake-up. Only the task sets the flag,
    /// so this cannot undo anybody else's doing.
    #[inline]
    fn unpark(&self) {
        if self.parked.load(Ordering::Relaxed) {
            self.parked.store(false, Ordering::Relaxed);
        }
    }

    /// Forgets the task, whose waker is dropped here and now: on the task's own thread.
    pub(super) fn forget(&self) {
        self.unpark();
        drop(self.waker.take());
    }
}

impl Default for Wakeup {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Wakeup {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parked = self.parked.load(Ordering::Relaxed);
        formatter.debug_struct("Wakeup").field("parked", &parked).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::rounds;
    use super::*;
    use futures_lite::future::{block_on, poll_fn};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, AtomicUsize};
    use std::task::{Wake, Waker};

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn counting() -> (Arc<Count>, Waker) {
        let count = Arc::new(Count::default());
        (Arc::clone(&count), Waker::from(count))
    }

    #[test]
    fn only_a_parked_task_is_woken_and_only_once() {
        let (count, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        let wakeup = Wakeup::new();
        wakeup.wake();
        assert!(wakeup.poll_wait(&mut cx, || true).is_ready());
        wakeup.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);

        assert!(wakeup.poll_wait(&mut cx, || false).is_pending());
        wakeup.wake();
        wakeup.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn data_that_comes_while_parking_is_seen() {
        let (count, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        let wakeup = Wakeup::new();
        let mut looks = 0;
        let second_look = || {
            looks += 1;
            looks == 2
        };
        assert!(wakeup.poll_wait(&mut cx, second_look).is_ready());
        wakeup.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0, "an awake task is not woken");
    }

    #[test]
    fn a_task_that_is_polled_again_by_something_else_is_no_longer_parked() {
        let (count, waker) = counting();
        let mut cx = Context::from_waker(&waker);
        let wakeup = Wakeup::new();
        assert!(wakeup.poll_wait(&mut cx, || false).is_pending());
        assert!(wakeup.poll_wait(&mut cx, || true).is_ready());
        wakeup.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn a_forgotten_task_is_not_woken_and_its_waker_is_dropped() {
        let (count, waker) = counting();
        let wakeup = Wakeup::new();
        assert!(wakeup.poll_wait(&mut Context::from_waker(&waker), || false).is_pending());
        assert_eq!(Arc::strong_count(&count), 3);
        wakeup.forget();
        assert_eq!(Arc::strong_count(&count), 2);
        wakeup.wake();
        assert_eq!(count.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn no_wake_up_is_lost_between_two_threads() {
        const ROUNDS: u64 = rounds(20_000);
        let (wakeup, there, back) = (Wakeup::new(), AtomicU64::new(0), AtomicU64::new(0));
        let reply = Wakeup::new();
        // Strict ping-pong: one lost wake-up and both threads stand still forever.
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for n in 1..=ROUNDS {
                    let ready = || there.load(Ordering::Relaxed) >= n;
                    block_on(poll_fn(|cx| wakeup.poll_wait(cx, ready)));
                    back.store(n, Ordering::Relaxed);
                    reply.wake();
                }
            });
            for n in 1..=ROUNDS {
                there.store(n, Ordering::Relaxed);
                wakeup.wake();
                let ready = || back.load(Ordering::Relaxed) >= n;
                block_on(poll_fn(|cx| reply.poll_wait(cx, ready)));
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
    use std::future::poll_fn;

    /// A lost wake-up leaves the waiting thread blocked forever, which loom reports.
    fn wait_until(wakeup: &Wakeup, data: &AtomicUsize, at_least: usize) {
        block_on(poll_fn(|cx| wakeup.poll_wait(cx, || data.load(Ordering::Relaxed) >= at_least)));
    }

    #[test]
    fn no_wake_up_is_lost_whatever_the_ordering_of_the_data() {
        loom::model(|| {
            let shared = Arc::new((Wakeup::new(), AtomicUsize::new(0)));
            {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.wake();
                });
            }
            wait_until(&shared.0, &shared.1, 1);
        });
    }

    #[test]
    fn a_task_that_is_polled_without_a_reason_is_still_woken() {
        loom::model(|| {
            let shared = Arc::new((Wakeup::new(), AtomicUsize::new(0)));
            {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.store(1, Ordering::Relaxed);
                    shared.0.wake();
                });
            }
            // Loom's own executor polls once more when it feels like it.
            loom::future::block_on(poll_fn(|cx| {
                shared.0.poll_wait(cx, || shared.1.load(Ordering::Relaxed) == 1)
            }));
        });
    }

    #[test]
    fn no_wake_up_is_lost_between_one_wait_and_the_next() {
        loom::model(|| {
            let shared = Arc::new((Wakeup::new(), AtomicUsize::new(0)));
            {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    for n in 1..=2 {
                        shared.1.store(n, Ordering::Relaxed);
                        shared.0.wake();
                    }
                });
            }
            wait_until(&shared.0, &shared.1, 1);
            wait_until(&shared.0, &shared.1, 2);
        });
    }

    #[test]
    fn two_wakers_lose_nothing_between_them() {
        check_bounded(4, || {
            let shared = Arc::new((Wakeup::new(), AtomicUsize::new(0)));
            for _ in 0..2 {
                let shared = Arc::clone(&shared);
                thread::spawn(move || {
                    shared.1.fetch_add(1, Ordering::Relaxed);
                    shared.0.wake();
                });
            }
            wait_until(&shared.0, &shared.1, 2);
        });
    }

    #[test]
    fn a_ring_and_a_wakeup_make_a_channel() {
        loom::model(|| {
            let (mut writer, mut reader) = super::super::ring::<1>(2);
            let wakeup = Arc::new(Wakeup::new());
            {
                let wakeup = Arc::clone(&wakeup);
                thread::spawn(move || {
                    writer.publish(&[7]);
                    wakeup.wake();
                });
            }
            block_on(poll_fn(|cx| wakeup.poll_wait(cx, || reader.has_next())));
            assert_eq!(reader.try_next(), Ok(Some([7])));
        });
    }
}
