//! Order events of a stream: each change of its user's orders, none left out. A slow client is a
//! cursor here, never a queue.

use std::task::{Context, Poll};

use crate::types::{OrderId, UserId};

use super::deadlines::ConnectionId;
use super::frame::{RESET, end_event, open_last_event};
use super::hub::Hub;
use super::limits::MAX_SEND_BYTES;
use super::order_feed::{ChangedUsers, EventSink, OpenOrders, WrittenChanges};
use super::segment::{Content, Segment};

/// Where a stream begins with its user's orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OrdersFrom {
    /// With those that are open.
    Open,
    /// With those that are open, and word that what the client knew leads nowhere.
    Reset,
    /// Behind a cursor.
    Cursor(u64),
}

/// How far a stream is with its user's orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrderCursor {
    /// Everything up to here has been sent.
    cursor: u64,
    /// Set while the open orders are sent.
    opening: Option<Opening>,
    /// There may be changes after the cursor.
    has_news: bool,
    /// What the client knew is lost, and it has not been told.
    owes_reset: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Opening {
    /// The open orders up to this one have been sent.
    after: Option<OrderId>,
    /// Where the changes go on: nothing older is missing from the first of the open orders.
    cursor: Option<u64>,
}

/// The order events of a stream.
#[derive(Debug)]
pub(super) struct OrderEvents {
    pub user: UserId,
    /// What the ids of events begin with: the last place in the feed that the client was told, and a
    /// separator. Empty on a stream without prices.
    pub id_prefix: Vec<u8>,
    place: OrderCursor,
    /// The store is asked for what is behind the cursor.
    is_asked: bool,
    /// What it said.
    stored: Option<StoredEvents>,
}

/// Encoded changes that lead up to a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvents {
    /// The events.
    pub bytes: Vec<u8>,
    /// All up to here are in there.
    pub cursor: u64,
    /// There may be more.
    pub has_more: bool,
}

/// Changes that have to be read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderQuestion {
    id: ConnectionId,
    /// Whose.
    pub user: UserId,
    /// Behind which cursor.
    pub after: u64,
    /// What the ids of the events begin with.
    pub id_prefix: Vec<u8>,
}

/// What the store said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    /// These.
    Events(StoredEvents),
    /// They are not kept any more.
    Lost,
    /// It could not say: the question comes again.
    Unavailable,
}

impl OrderEvents {
    pub fn new(user: UserId, from: OrdersFrom, id_prefix: Vec<u8>) -> Self {
        let cursor = if let OrdersFrom::Cursor(cursor) = from { cursor } else { 0 };
        let opening = (!matches!(from, OrdersFrom::Cursor(_))).then(Opening::default);
        let owes_reset = from == OrdersFrom::Reset;
        let place = OrderCursor { cursor, opening, has_news: true, owes_reset };
        Self { user, id_prefix, place, is_asked: false, stored: None }
    }

    /// Whether the stream has nothing else.
    pub fn is_alone(&self) -> bool {
        self.id_prefix.is_empty()
    }

    /// Whether there may be anything to send.
    pub fn has_news(&self) -> bool {
        let OrderCursor { opening, has_news, owes_reset, .. } = self.place;
        self.stored.is_some() || opening.is_some() || owes_reset || (has_news && !self.is_asked)
    }

    /// The cursor that the client may be told, when the open orders are out.
    pub fn cursor(&self) -> Option<u64> {
        self.place.opening.is_none().then_some(self.place.cursor)
    }

    /// Goes back to where it was before a send that did not leave.
    pub fn return_to(&mut self, place: OrderCursor) {
        self.place = place;
    }

    fn lose(&mut self) {
        self.place.opening = Some(Opening::default());
        self.place.owes_reset = true;
    }
}

impl Hub {
    /// Learns whose orders have changed.
    pub(super) fn take_order_news(&mut self) {
        while let Some(changed) = self.orders.next_changed() {
            let keys: Vec<u32> = match changed {
                ChangedUsers::One(user) => {
                    self.order_streams.get(&user).cloned().unwrap_or_default()
                }
                ChangedUsers::Any => self.order_streams.values().flatten().copied().collect(),
            };
            for key in keys {
                if let Some(orders) =
                    self.connections.get_mut(key as usize).and_then(|c| c.orders.as_mut())
                {
                    orders.place.has_news = true;
                }
                self.enqueue_orders(key);
            }
        }
    }

    /// Puts a connection with order events into the queue. They do not wait for its `maxRate`.
    fn enqueue_orders(&mut self, key: u32) {
        if let Some(connection) = self.connections.get_mut(key as usize)
            && !connection.queued
            && !connection.blocked
        {
            connection.queued = true;
            self.ready.push_back(key);
        }
    }

    /// The stream wants its user's orders.
    pub(super) fn watch_orders(&mut self, key: u32, user: &UserId) {
        let streams = self.order_streams.entry(user.clone()).or_default();
        if streams.is_empty() {
            self.orders.watch(user);
        }
        streams.push(key);
    }

    /// The stream is gone.
    pub(super) fn unwatch_orders(&mut self, key: u32, user: &UserId) {
        let Some(streams) = self.order_streams.get_mut(user) else { return };
        streams.retain(|of| *of != key);
        if streams.is_empty() {
            self.order_streams.remove(user);
            self.orders.unwatch(user);
        }
    }

    /// Composes the events that a connection is owed, as far as one send goes.
    pub(super) fn compose_orders(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Some(orders) = &mut connection.orders else { return };
        if !orders.has_news() {
            return;
        }
        let (mut begin, out) = (self.scratch.len(), &mut self.scratch);
        self.orders_before = Some(orders.place);
        if let Some(StoredEvents { bytes, cursor, has_more }) = orders.stored.take() {
            out.extend_from_slice(&bytes);
            orders.place.cursor = cursor;
            orders.place.has_news |= has_more;
        }
        while out.len() < MAX_SEND_BYTES {
            if std::mem::take(&mut orders.place.owes_reset) {
                self.metrics.resets.inc();
                out.extend_from_slice(RESET);
            }
            let most_bytes = MAX_SEND_BYTES.saturating_sub(out.len());
            let to = EventSink { out: &mut *out, most_bytes, id_prefix: &orders.id_prefix };
            if let Some(opening) = orders.place.opening {
                let written = self.orders.write_open(&orders.user, opening.after, to);
                let OpenOrders { next, cursor } = written;
                let cursor = opening.cursor.unwrap_or(cursor);
                orders.place.opening =
                    next.map(|after| Opening { after: Some(after), cursor: Some(cursor) });
                if next.is_none() {
                    orders.place.cursor = cursor;
                    // What has changed since the first of them was written.
                    orders.place.has_news = true;
                    let is_behind_others = out.len() == begin;
                    // The next change carries one where no event has come before.
                    if open_last_event(out) {
                        out.extend_from_slice(&orders.id_prefix);
                        self.orders.write_cursor(cursor, out);
                        end_event(out);
                    }
                    // Without open orders the id stands on what the stream began with.
                    if let Some(before) = self.segments.last_mut().filter(|_| is_behind_others) {
                        before.end = out.len();
                        begin = out.len();
                    }
                }
                continue;
            }
            if !orders.place.has_news || orders.is_asked {
                break;
            }
            let after = orders.place.cursor;
            match self.orders.write_changes(&orders.user, after, to) {
                WrittenChanges::UpTo { cursor, has_more } => {
                    orders.place.cursor = cursor;
                    orders.place.has_news = has_more;
                }
                WrittenChanges::Lost => orders.lose(),
                WrittenChanges::Stored => {
                    orders.is_asked = true;
                    self.questions.push_back(OrderQuestion {
                        id: ConnectionId { key, generation: connection.generation },
                        user: orders.user.clone(),
                        after,
                        id_prefix: orders.id_prefix.clone(),
                    });
                    if let Some(waker) = self.question_waker.take() {
                        waker.wake();
                    }
                }
            }
        }
        if self.scratch.len() > begin {
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Orders });
        }
    }

    /// The next question for the store.
    pub fn poll_question(&mut self, context: &Context<'_>) -> Poll<OrderQuestion> {
        match self.questions.pop_front() {
            Some(question) => Poll::Ready(question),
            None => {
                self.question_waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }

    /// Takes the answer to a question, if its stream is still there and still stands where it did.
    pub fn answer(&mut self, question: &OrderQuestion, answer: StoreReply) {
        let Some(connection) = self.find(question.id) else { return };
        let Some(orders) = &mut connection.orders else { return };
        orders.is_asked = false;
        let is_level = orders.place.opening.is_none() && orders.place.cursor == question.after;
        match answer {
            StoreReply::Events(events) if is_level => orders.stored = Some(events),
            StoreReply::Lost if is_level => orders.lose(),
            StoreReply::Events(_) | StoreReply::Lost | StoreReply::Unavailable => {
                orders.place.has_news = true;
            }
        }
        self.enqueue_orders(question.id.key);
        self.wake_driver();
    }
}
