use std::cell::RefCell;
use std::collections::VecDeque;
use std::task::{Context, Poll, Waker};

/// A queue between tasks of one thread, from which a task takes what has gathered.
#[derive(Debug)]
pub(crate) struct LocalQueue<T>(RefCell<State<T>>);

#[derive(Debug)]
struct State<T> {
    items: VecDeque<T>,
    /// Tasks that wait for items: the two submit connections at most.
    waiting: Vec<Waker>,
}

impl<T> LocalQueue<T> {
    pub(crate) fn new() -> Self {
        Self(RefCell::new(State { items: VecDeque::new(), waiting: Vec::new() }))
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
        let waiting = {
            let mut state = self.0.borrow_mut();
            state.items.extend(items);
            std::mem::take(&mut state.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Puts back what was taken, to be taken first again.
    pub(crate) fn put_back(&self, items: Vec<T>) {
        let mut state = self.0.borrow_mut();
        for item in items.into_iter().rev() {
            state.items.push_front(item);
        }
    }

    pub(crate) fn pop(&self) -> Option<T> {
        self.0.borrow_mut().items.pop_front()
    }

    /// Takes what is there, at most `limit`.
    pub(crate) fn take(&self, limit: usize) -> Vec<T> {
        let mut state = self.0.borrow_mut();
        let count = state.items.len().min(limit);
        state.items.drain(..count).collect()
    }

    /// Ready when there is something to take.
    pub(crate) fn poll_some(&self, context: &Context<'_>) -> Poll<()> {
        let mut state = self.0.borrow_mut();
        if !state.items.is_empty() {
            return Poll::Ready(());
        }
        if !state.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            state.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}
