//! The order events of one stream: every change of its user's orders, in order. However slow the
//! client, all that is kept for it is a cursor, never a queue.

use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

use super::connection_id::ConnectionId;
use super::frame::{ID_SEPARATOR, ORDER_RESET, end_event, open_last_event};
use super::limits::MAX_SEND_BYTES;
use super::order_source::{EventSink, OpenOrders, OrderCursor, OrderSource, WrittenChanges};

/// Where a stream begins with its user's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrdersFrom {
    /// With the open ones.
    Open,
    /// With the open ones, after a `reset`: the client's cursor is unknown.
    Reset,
    /// After a cursor.
    Cursor(OrderCursor),
}

/// How far a stream is with its user's orders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct OrderProgress {
    /// Everything up to here has been sent.
    cursor: OrderCursor,
    /// Set while the open orders are being sent.
    opening: Option<Opening>,
    /// There may be changes after the cursor.
    has_news: bool,
    /// The client's cursor is lost, which it has not been told.
    owes_reset: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Default)]
struct Opening {
    /// The open orders up to this one have been sent.
    after: Option<OrderId>,
    /// Where the changes continue: as of the first of the open orders.
    cursor: Option<OrderCursor>,
}

/// The order events of a stream.
#[derive(Debug)]
pub(super) struct OrderEvents {
    user: UserId,
    /// What the ids of events begin with: the last position in the feed that the client was told,
    /// and a separator. Empty on a stream without prices.
    id_prefix: Vec<u8>,
    /// Whether `account` and `position` events are wanted too.
    with_account: bool,
    progress: OrderProgress,
    /// The store is being asked for the changes after the cursor.
    is_querying: bool,
    /// What it answered.
    stored: Option<StoredEvents>,
}

/// Encoded changes that lead up to a cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredEvents {
    /// The events.
    pub bytes: Vec<u8>,
    /// They include all changes up to here.
    pub cursor: OrderCursor,
    /// There may be more.
    pub has_more: bool,
}

/// Changes to be read from the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoreQuery {
    pub(super) stream: ConnectionId,
    /// Whose.
    pub user: UserId,
    /// After which cursor.
    pub after: OrderCursor,
    /// What the ids of the events begin with.
    pub id_prefix: Vec<u8>,
    /// Whether `account` and `position` events are wanted too.
    pub with_account: bool,
}

/// What the store answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StoreReply {
    /// These changes.
    Events(StoredEvents),
    /// The changes are no longer kept.
    Lost,
    /// It could not read them; the query is repeated.
    Unavailable,
}

/// What [`OrderEvents::write`] appended.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WrittenOrders {
    /// Set where an id was added to the last event before them: where that event ends now.
    pub earlier_event_end: Option<usize>,
    /// How many resets are among them.
    pub resets: u64,
    /// The next changes must be read from the store.
    pub query: Option<StoreQuery>,
}

impl OrderEvents {
    /// The order events of a user from a point on.
    pub(super) fn new(user: UserId, from: OrdersFrom, id_prefix: Vec<u8>) -> Self {
        assert!(
            id_prefix.last().is_none_or(|last| *last == ID_SEPARATOR),
            "a position in the feed is set apart from the cursor that follows"
        );
        let owes_reset = from == OrdersFrom::Reset;
        let (cursor, opening) = match from {
            OrdersFrom::Open | OrdersFrom::Reset => {
                (OrderCursor::at(Lsn(0)), Some(Opening::default()))
            }
            OrdersFrom::Cursor(cursor) => (cursor, None),
        };
        let progress = OrderProgress { cursor, opening, has_news: true, owes_reset };
        let with_account = false;
        Self { user, id_prefix, with_account, progress, is_querying: false, stored: None }
    }

    /// The same, with or without `account` and `position` events.
    pub(super) fn with_account(self, with_account: bool) -> Self {
        Self { with_account, ..self }
    }

    /// Whose orders.
    pub(super) fn user(&self) -> &UserId {
        &self.user
    }

    /// Whether the stream has no prices.
    pub(super) fn is_alone(&self) -> bool {
        self.id_prefix.is_empty()
    }

    /// Whether there may be anything to send.
    pub(super) fn has_news(&self) -> bool {
        let OrderProgress { opening, has_news, owes_reset, .. } = &self.progress;
        self.stored.is_some()
            || opening.is_some()
            || *owes_reset
            || (*has_news && !self.is_querying)
    }

    /// The cursor that the client may be told, once the open orders are out.
    pub(super) fn cursor(&self) -> Option<&OrderCursor> {
        self.progress.opening.is_none().then_some(&self.progress.cursor)
    }

    /// How far the stream is, to return to if a send does not leave.
    pub(super) fn progress(&self) -> OrderProgress {
        self.progress.clone()
    }

    /// Returns to where the stream was before a send that did not leave.
    pub(super) fn return_to(&mut self, progress: OrderProgress) {
        assert!(self.stored.is_none(), "the send that did not leave had taken what was stored");
        self.progress = progress;
    }

    /// The client was told an id that begins with this.
    pub(super) fn set_id_prefix(&mut self, id_prefix: &[u8]) {
        assert!(!self.is_alone(), "a stream without prices has no position in the feed");
        assert!(
            id_prefix.last() == Some(&ID_SEPARATOR),
            "a position in the feed is set apart from the cursor that follows"
        );
        self.id_prefix.clear();
        self.id_prefix.extend_from_slice(id_prefix);
    }

    /// The user's orders have changed.
    pub(super) fn note_change(&mut self) {
        self.progress.has_news = true;
    }

    fn start_over(&mut self) {
        self.progress.opening = Some(Opening::default());
        self.progress.owes_reset = true;
    }

    /// Takes the answer to a query about the changes after `after`.
    pub(super) fn take_answer(&mut self, after: &OrderCursor, answer: StoreReply) {
        assert!(std::mem::take(&mut self.is_querying), "each query has one answer");
        assert!(self.stored.is_none(), "the store is asked once its last answer was taken");
        // Otherwise the stream has started over, or gone back to before a send that did not leave.
        let is_current = self.cursor() == Some(after);
        match answer {
            StoreReply::Events(events) if is_current => self.stored = Some(events),
            StoreReply::Lost if is_current => self.start_over(),
            StoreReply::Events(_) | StoreReply::Lost | StoreReply::Unavailable => {
                self.progress.has_news = true;
            }
        }
    }

    /// Appends the events that the stream is owed, until `out` has what makes a send.
    pub(super) fn write(
        &mut self,
        stream: ConnectionId,
        source: &dyn OrderSource,
        out: &mut Vec<u8>,
    ) -> WrittenOrders {
        let begin = out.len();
        let mut written = WrittenOrders::default();
        if let Some(StoredEvents { bytes, cursor, has_more }) = self.stored.take() {
            out.extend_from_slice(&bytes);
            self.progress.cursor = cursor;
            self.progress.has_news |= has_more;
        }
        while out.len() < MAX_SEND_BYTES {
            if std::mem::take(&mut self.progress.owes_reset) {
                written.resets += 1;
                out.extend_from_slice(ORDER_RESET);
            }
            if let Some(opening) = self.progress.opening.take() {
                if let Some(cursor) = self.write_open(opening, source, out) {
                    let has_written_none = out.len() == begin;
                    // Where no event ends here, the next change carries an id.
                    if open_last_event(out) {
                        out.extend_from_slice(&self.id_prefix);
                        source.write_cursor(&cursor, out);
                        end_event(out);
                    }
                    if has_written_none {
                        written.earlier_event_end = Some(out.len());
                    }
                }
            } else if self.progress.has_news && !self.is_querying {
                written.query = self.write_changes(stream, source, out);
            } else {
                break;
            }
        }
        assert!(
            written.query.is_none() || (self.is_querying && self.stored.is_none()),
            "a stream waits for the answer to what it asks"
        );
        assert!(
            out.len() >= MAX_SEND_BYTES || !self.has_news(),
            "what is not written waits for room in a send"
        );
        written
    }

    /// Appends open orders. The cursor up to which they go, after the last of them.
    fn write_open(
        &mut self,
        opening: Opening,
        source: &dyn OrderSource,
        out: &mut Vec<u8>,
    ) -> Option<OrderCursor> {
        let to = self.sink(out);
        let OpenOrders { next, cursor } = source.write_open(&self.user, opening.after, to);
        // The first of the open orders was read earlier, or just now.
        let cursor = opening.cursor.unwrap_or(cursor);
        assert!(next.is_none() || next > opening.after, "open orders are written in their order");
        if next.is_some() {
            self.progress.opening = Some(Opening { after: next, cursor: Some(cursor) });
            return None;
        }
        self.progress.cursor = cursor.clone();
        // What has changed since the first of them was written.
        self.progress.has_news = true;
        Some(cursor)
    }

    /// Appends changes after the cursor, or says what to ask the store for.
    fn write_changes(
        &mut self,
        stream: ConnectionId,
        source: &dyn OrderSource,
        out: &mut Vec<u8>,
    ) -> Option<StoreQuery> {
        assert!(self.progress.opening.is_none(), "changes follow the open orders");
        assert!(!self.is_querying, "the store is asked one thing at a time");
        let after = &self.progress.cursor;
        match source.write_changes(&self.user, after, self.sink(out)) {
            WrittenChanges::UpTo { cursor, has_more } => {
                assert!(
                    !has_more || cursor != *after,
                    "there are more changes after some were written"
                );
                self.progress.cursor = cursor;
                self.progress.has_news = has_more;
            }
            WrittenChanges::Lost => self.start_over(),
            WrittenChanges::Stored => {
                self.is_querying = true;
                let (user, after) = (self.user.clone(), after.clone());
                let (id_prefix, with_account) = (self.id_prefix.clone(), self.with_account);
                return Some(StoreQuery { stream, user, after, id_prefix, with_account });
            }
        }
        None
    }

    /// Room for the rest of a send.
    fn sink<'a>(&'a self, out: &'a mut Vec<u8>) -> EventSink<'a> {
        // Where a `reset` has just filled the send, one more event ends it: a sink without room would
        // be left empty, as if there were nothing to write.
        let most_bytes = MAX_SEND_BYTES.saturating_sub(out.len()).max(1);
        let (id_prefix, with_account) = (&self.id_prefix, self.with_account);
        EventSink { out, most_bytes, id_prefix, with_account }
    }
}
