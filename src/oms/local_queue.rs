//! A queue between tasks of one thread.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// A queue between tasks of one thread. The consumer takes everything that has gathered.
#[derive(Debug)]
pub(crate) struct LocalQueue<T>(RefCell<State<T>>);

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// How many times waiting tasks were woken.
    generation: u64,
    /// Waiting tasks: at most one per submit connection.
    waiting: Vec<Waker>,
}

impl<T> LocalQueue<T> {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(State { items: VecDeque::new(), generation: 0, waiting: Vec::new() }))
    }

    pub(crate) fn len(&self) -> usize {
        self.0.borrow().items.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.borrow().items.is_empty()
    }

    pub(crate) fn push(&self, item: T) {
        self.extend([item]);
    }

    pub(crate) fn extend(&self, items: impl IntoIterator<Item = T>) {
        self.0.borrow_mut().items.extend(items);
        self.wake();
    }

    /// Wakes every waiting task to look again.
    pub(crate) fn wake(&self) {
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.generation += 1;
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Identifies this moment for [`changed_since`](Self::changed_since).
    pub(crate) fn generation(&self) -> u64 {
        self.0.borrow().generation
    }

    /// Waits until an item arrived or [`wake`](Self::wake) was called after that moment.
    pub(crate) async fn changed_since(&self, generation: u64) {
        poll_fn(|context| {
            let mut state = self.0.borrow_mut();
            if state.generation != generation {
                return Poll::Ready(());
            }
            state.wait(context);
            Poll::Pending
        })
        .await;
    }

    /// Puts taken items back at the front.
    pub(crate) fn put_back(&self, items: Vec<T>) {
        let mut state = self.0.borrow_mut();
        for item in items.into_iter().rev() {
            state.items.push_front(item);
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.borrow_mut().items.pop_front()
    }

    /// Takes what is there, at most `limit` items.
    pub(crate) fn take(&self, limit: usize) -> Vec<T> {
        let mut state = self.0.borrow_mut();
        let count = state.items.len().min(limit);
        state.items.drain(..count).collect()
    }

    /// Ready when there is an item.
    pub(crate) fn poll_some(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if !state.items.is_empty() {
            return Poll::Ready(());
        }
        state.wait(context);
        Poll::Pending
    }
}

impl<T> State<T> {
    fn wait(&mut self, context: &Context<'_>) {
        if !self.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            self.waiting.push(context.waker().clone());
        }
    }
}
