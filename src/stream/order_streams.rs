use std::collections::{HashMap, VecDeque};
use std::task::{Context, Poll, Waker};

use crate::types::UserId;

use super::connection_id::ConnectionId;
use super::order_events::{OrderEvents, StoreQuery, WrittenOrders};
use super::order_source::{ChangedUsers, OrderCursor, OrderSource};

/// Which streams of a shard want whose orders, where these come from, and what the store is asked.
pub(super) struct OrderStreams {
    source: Box<dyn OrderSource>,
    /// The keys of the streams that want a user's orders.
    by_user: HashMap<UserId, Vec<u32>>,
    queries: VecDeque<StoreQuery>,
    /// Wakes the task that asks the store.
    query_waker: Option<Waker>,
}

impl OrderStreams {
    /// No stream wants orders yet.
    pub(super) fn new(source: Box<dyn OrderSource>) -> Self {
        let (by_user, queries) = (HashMap::new(), VecDeque::new());
        Self { source, by_user, queries, query_waker: None }
    }

    /// A stream wants a user's orders.
    pub(super) fn watch(&mut self, key: u32, user: &UserId) {
        let streams = self.by_user.entry(user.clone()).or_default();
        if streams.is_empty() {
            self.source.watch(user);
        }
        debug_assert!(!streams.contains(&key), "a stream wants its user's orders once");
        streams.push(key);
    }

    /// A stream that wanted a user's orders ends.
    pub(super) fn unwatch(&mut self, key: u32, user: &UserId) {
        let Some(streams) = self.by_user.get_mut(user) else {
            unreachable!("the streams of a user with orders are known until they end")
        };
        let before = streams.len();
        streams.retain(|of| *of != key);
        assert!(streams.len() + 1 == before, "a stream wants its user's orders once");
        if streams.is_empty() {
            self.by_user.remove(user);
            self.source.unwatch(user);
        }
    }

    /// Whether some user's orders have changed.
    pub(super) fn has_changed(&self) -> bool {
        self.source.has_changed()
    }

    /// Whose orders have changed.
    pub(super) fn next_changed(&mut self) -> Option<ChangedUsers> {
        self.source.next_changed()
    }

    /// The keys of the streams that want a user's orders. None where the last has just ended.
    pub(super) fn of(&self, user: &UserId) -> &[u32] {
        self.by_user.get(user).map_or(&[], Vec::as_slice)
    }

    /// The keys of all streams that want orders.
    pub(super) fn all(&self) -> impl Iterator<Item = u32> {
        self.by_user.values().flatten().copied()
    }

    /// Appends the events that a stream is owed, until `out` has what makes a send.
    pub(super) fn write(
        &mut self,
        stream: ConnectionId,
        events: &mut OrderEvents,
        out: &mut Vec<u8>,
    ) -> WrittenOrders {
        let mut written = events.write(stream, &*self.source, out);
        if let Some(query) = written.query.take() {
            debug_assert!(
                self.queries.iter().all(|other| other.stream != stream),
                "a stream asks the store one thing at a time"
            );
            self.queries.push_back(query);
            if let Some(waker) = self.query_waker.take() {
                waker.wake();
            }
        }
        written
    }

    /// Appends a cursor as clients are told it.
    pub(super) fn write_cursor(&self, cursor: &OrderCursor, out: &mut Vec<u8>) {
        self.source.write_cursor(cursor, out);
    }

    /// The next query for the store.
    pub(super) fn poll_store_query(&mut self, context: &Context<'_>) -> Poll<StoreQuery> {
        match self.queries.pop_front() {
            Some(query) => Poll::Ready(query),
            None => {
                self.query_waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
