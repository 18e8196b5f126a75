//! A bounded queue from any number of threads to one task on any executor.

use super::atomic::{Arc, ArrayQueue, AtomicBool, AtomicUsize, Ordering, fence};
use super::wakeup::Wakeup;
use crossbeam::utils::CachePadded;
use std::future::poll_fn;
use std::task::{Context, Poll};

/// A queue of at most `capacity` messages, with its first sender and its only receiver.
///
/// Senders never wait: a full queue gives the message back, and what to do about that is
/// the caller's decision. All memory is taken here.
///
/// # Panics
/// When `capacity` is 0.
pub fn mailbox<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    assert!(capacity > 0, "a mailbox holds at least one message");
    let shared = Arc::new(Shared {
        queue: ArrayQueue::new(capacity),
        senders: CachePadded::new(AtomicUsize::new(1)),
        closed: AtomicBool::new(false),
        wakeup: Wakeup::new(),
    });
    (Sender { shared: Arc::clone(&shared) }, Receiver { shared })
}

struct Shared<T> {
    queue: ArrayQueue<T>,
    senders: CachePadded<AtomicUsize>,
    /// The receiver is gone.
    closed: AtomicBool,
    wakeup: Wakeup,
}

impl<T> Shared<T> {
    /// Drops whatever is queued, after the receiver has gone.
    fn discard(&self) {
        while self.queue.pop().is_some() {}
    }
}

/// Why a message was not taken, with the message.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused<T> {
    /// The queue has no room at the moment.
    #[error("the mailbox is full")]
    Full(T),
    /// The receiver is gone: no message will ever be taken again.
    #[error("the mailbox is closed")]
    Closed(T),
}

impl<T> Refused<T> {
    /// The message that was not taken.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) => value,
        }
    }
}

// Not derived: a message need not be printable for its refusal to be.
impl<T> std::fmt::Debug for Refused<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Full(_) => "Full(..)",
            Self::Closed(_) => "Closed(..)",
        })
    }
}

/// The sending end of a [`mailbox`], for any thread.
pub struct Sender<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Sender<T> {
    /// Queues a message and wakes the receiver if it sleeps. Never waits.
    ///
    /// `Ok` means queued, not taken: a receiver that goes away drops what is queued.
    ///
    /// # Errors
    /// [`Refused`] with the message when the queue is full or the receiver is gone.
    pub fn try_send(&self, value: T) -> Result<(), Refused<T>> {
        if self.shared.closed.load(Ordering::Acquire) {
            return Err(Refused::Closed(value));
        }
        self.shared.queue.push(value).map_err(Refused::Full)?;
        self.shared.wakeup.wake();
        // The receiver may have gone between the look above and the push. Either its last
        // emptying saw our message, or we see its flag here (both sides have a SeqCst fence
        // between their store and their look): a message, and a reply slot that may be in
        // it, never outlives the receiver.
        if self.shared.closed.load(Ordering::Relaxed) {
            self.shared.discard();
        }
        Ok(())
    }

    /// Whether the queue had no room when asked. Another sender may change that at once.
    pub fn is_full(&self) -> bool {
        self.shared.queue.is_full()
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        // Relaxed: a new sender comes from one that exists, so the count cannot be 0.
        self.shared.senders.fetch_add(1, Ordering::Relaxed);
        Self { shared: Arc::clone(&self.shared) }
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        // Release: who sees the count at 0 also sees every message of every sender.
        if self.shared.senders.fetch_sub(1, Ordering::Release) == 1 {
            self.shared.wakeup.wake();
        }
    }
}

/// The receiving end of a [`mailbox`], for one task of any executor.
pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
}

impl<T> Receiver<T> {
    /// The oldest message, or `None` when nothing is queued.
    pub fn try_recv(&mut self) -> Option<T> {
        self.shared.queue.pop()
    }

    /// The oldest message; `Ready(None)` when all senders are gone and nothing is left.
    pub fn poll_recv(&mut self, cx: &mut Context<'_>) -> Poll<Option<T>> {
        let shared = &*self.shared;
        let mut abandoned = false;
        loop {
            if let Some(value) = shared.queue.pop() {
                return Poll::Ready(Some(value));
            }
            if abandoned {
                return Poll::Ready(None);
            }
            // The senders before the queue: the pop above then sees all that they sent.
            let ready = || {
                abandoned = shared.senders.load(Ordering::Acquire) == 0;
                abandoned || !shared.queue.is_empty()
            };
            if shared.wakeup.poll_wait(cx, ready).is_pending() {
                return Poll::Pending;
            }
        }
    }

    /// Waits for the oldest message; `None` when all senders are gone and nothing is left.
    /// Nothing is lost when the future is dropped before it is ready.
    pub async fn recv(&mut self) -> Option<T> {
        poll_fn(|cx| self.poll_recv(cx)).await
    }

    /// Messages in the queue when asked.
    pub fn len(&self) -> usize {
        self.shared.queue.len()
    }

    /// Whether the queue was empty when asked.
    pub fn is_empty(&self) -> bool {
        self.shared.queue.is_empty()
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.closed.store(true, Ordering::Release);
        // Pairs with the fence in `try_send` (inside `wake`).
        fence(Ordering::SeqCst);
        self.shared.discard();
        self.shared.wakeup.forget();
    }
}

impl<T> std::fmt::Debug for Sender<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sender").field("len", &self.shared.queue.len()).finish()
    }
}

impl<T> std::fmt::Debug for Receiver<T> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Receiver").field("len", &self.len()).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::super::rounds;
    use super::*;
    use futures_lite::future::{block_on, poll_once};

    #[test]
    fn messages_arrive_in_order() {
        let (sender, mut receiver) = mailbox(4);
        for n in 0..4 {
            sender.try_send(n).unwrap();
        }
        assert_eq!(receiver.len(), 4);
        for n in 0..4 {
            assert_eq!(block_on(receiver.recv()), Some(n));
        }
        assert_eq!(receiver.try_recv(), None);
        assert!(receiver.is_empty());
    }

    #[test]
    fn a_full_mailbox_gives_the_message_back() {
        let (sender, mut receiver) = mailbox(2);
        sender.try_send("a").unwrap();
        assert!(!sender.is_full());
        sender.try_send("b").unwrap();
        assert!(sender.is_full());
        assert_eq!(sender.try_send("c"), Err(Refused::Full("c")));
        assert_eq!(receiver.try_recv(), Some("a"));
        sender.try_send("c").unwrap();
    }

    #[test]
    fn a_gone_receiver_closes_the_mailbox_and_drops_what_is_queued() {
        let (sender, receiver) = mailbox(2);
        let value = std::sync::Arc::new(());
        sender.try_send(value.clone()).unwrap();
        drop(receiver);
        assert_eq!(std::sync::Arc::strong_count(&value), 1);
        assert_eq!(sender.try_send(value.clone()), Err(Refused::Closed(value)));
    }

    #[test]
    fn the_end_comes_when_all_senders_are_gone_and_nothing_is_left() {
        let (sender, mut receiver) = mailbox(2);
        let second = sender.clone();
        drop(sender);
        assert_eq!(block_on(poll_once(receiver.recv())), None, "one sender is left");
        second.try_send(7).unwrap();
        drop(second);
        assert_eq!(block_on(receiver.recv()), Some(7));
        assert_eq!(block_on(receiver.recv()), None);
        assert_eq!(block_on(receiver.recv()), None);
    }

    #[test]
    fn a_sleeping_receiver_is_woken_by_the_last_sender_going() {
        let (sender, mut receiver) = mailbox::<u8>(1);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(move || block_on(receiver.recv()));
            drop(sender);
            assert_eq!(waiting.join().unwrap(), None);
        });
    }

    #[test]
    fn every_message_of_every_sender_arrives_once_and_in_its_order() {
        const SENDERS: usize = 3;
        const EACH: u64 = rounds(30_000);
        let (sender, mut receiver) = mailbox(16);
        std::thread::scope(|scope| {
            for id in 0..SENDERS {
                let sender = sender.clone();
                scope.spawn(move || {
                    for n in 0..EACH {
                        let mut message = (id, n);
                        while let Err(refused) = sender.try_send(message) {
                            message = refused.into_inner();
                            std::thread::yield_now();
                        }
                    }
                });
            }
            drop(sender);
            let mut next = [0; SENDERS];
            while let Some((id, n)) = block_on(receiver.recv()) {
                assert_eq!(n, next[id], "messages of sender {id}");
                next[id] += 1;
            }
            assert_eq!(next, [EACH; SENDERS]);
        });
    }

    #[test]
    fn no_message_outlives_the_receiver() {
        // The senders race the receiver's end; whoever comes last must drop the messages,
        // although a sender (and with it the queue) lives on.
        for _ in 0..rounds(300) {
            let value = std::sync::Arc::new(());
            let (sender, mut receiver) = mailbox(64);
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    let (sender, value) = (&sender, &value);
                    scope.spawn(move || {
                        while !matches!(sender.try_send(value.clone()), Err(Refused::Closed(_))) {}
                    });
                }
                for _ in 0..20 {
                    receiver.try_recv();
                }
                drop(receiver);
            });
            assert_eq!(std::sync::Arc::strong_count(&value), 1);
        }
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::modelled::{block_on, check_bounded};
    use super::*;
    use loom::thread;

    #[test]
    fn two_senders_then_the_end() {
        check_bounded(3, || {
            let (sender, mut receiver) = mailbox(2);
            let second = sender.clone();
            thread::spawn(move || sender.try_send(1).unwrap());
            thread::spawn(move || second.try_send(2).unwrap());
            let mut sum = 0;
            while let Some(value) = block_on(receiver.recv()) {
                sum += value;
            }
            assert_eq!(sum, 3);
        });
    }

    #[test]
    fn the_last_message_comes_before_the_end() {
        check_bounded(5, || {
            let (sender, mut receiver) = mailbox(2);
            thread::spawn(move || {
                sender.try_send(1).unwrap();
                sender.try_send(2).unwrap();
            });
            for expected in [Some(1), Some(2), None] {
                assert_eq!(block_on(receiver.recv()), expected);
            }
        });
    }

    #[test]
    fn no_message_outlives_the_receiver() {
        loom::model(|| {
            let (sender, receiver) = mailbox(1);
            let message = std::sync::Arc::new(());
            let closing = thread::spawn(move || drop(receiver));
            let _ = sender.try_send(std::sync::Arc::clone(&message));
            closing.join().unwrap();
            assert_eq!(std::sync::Arc::strong_count(&message), 1);
            drop(sender);
        });
    }
}
