use crate::types::{OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// A cursor in the changes of a user's orders: its holder has received everything up to it. Streams
/// only keep it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderCursor {
    /// A position in this node's log.
    Position(LogMark),
    /// The store lists what has changed since: its log is another one, or memory and store no longer
    /// have each change.
    Listing(Box<OrderListing>),
}

/// A position in a log and its time. All later changes have this time or a later one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogMark {
    /// The last record that was received.
    pub lsn: Lsn,
    /// `None` if it is not known.
    pub at: Option<TimestampMicros>,
}

/// How far a listing of changed orders is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderListing {
    /// The log and position from which the client resumed. It resumes from there again if it leaves
    /// before the end.
    pub from: (LogId, LogMark),
    /// The orders that changed at this time or later are listed, by id.
    pub since: TimestampMicros,
    /// Those up to this one have been.
    pub after: Option<OrderId>,
    /// When the listing began, once it has taken more than one query.
    pub began_at: Option<TimestampMicros>,
}

impl OrderCursor {
    /// A position whose time is not known.
    pub fn at(lsn: Lsn) -> Self {
        Self::Position(LogMark { lsn, at: None })
    }
}

/// Where a shard's streams read orders. Orders live in a higher layer, which implements this.
pub trait OrderSource {
    /// From now on [`next_changed`](Self::next_changed) reports this user. Called before the user's
    /// orders are first read.
    fn watch(&mut self, user: &UserId);

    /// No stream wants this user's changes any longer.
    fn unwatch(&mut self, user: &UserId);

    /// Takes the next report of changed orders.
    fn next_changed(&mut self) -> Option<ChangedUsers>;

    /// Whether [`next_changed`](Self::next_changed) has a report.
    fn has_changed(&self) -> bool;

    /// Appends `order` events of a user's open orders after `after`, oldest first, until the sink is
    /// full or none is left. They carry no ids.
    fn write_open(&self, user: &UserId, after: Option<OrderId>, to: EventSink<'_>) -> OpenOrders;

    /// Appends `order` events, with ids, of all changes after a cursor, oldest first, until the sink
    /// is full or none is left.
    fn write_changes(
        &self,
        user: &UserId,
        after: &OrderCursor,
        to: EventSink<'_>,
    ) -> WrittenChanges;

    /// Appends a cursor as clients are told it.
    fn write_cursor(&self, cursor: &OrderCursor, out: &mut Vec<u8>);
}

/// Where events are written to.
#[derive(Debug)]
pub struct EventSink<'a> {
    /// Events are appended here.
    pub out: &'a mut Vec<u8>,
    /// The sink is full once this many bytes were appended: the event that gets there is the last.
    pub most_bytes: usize,
    /// What ids begin with.
    pub id_prefix: &'a [u8],
    /// Whether `account` and `position` events are wanted too.
    pub with_account: bool,
}

/// Whose orders have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedUsers {
    /// This user's.
    One(UserId),
    /// Possibly those of every watched user.
    Any,
}

/// Which open orders were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenOrders {
    /// Where to continue; `None` after the last.
    pub next: Option<OrderId>,
    /// What was written includes all changes up to here, provided that it was read first.
    pub cursor: OrderCursor,
}

/// Which changes were written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WrittenChanges {
    /// All up to this cursor.
    UpTo {
        /// The next cursor.
        cursor: OrderCursor,
        /// There are more after it.
        has_more: bool,
    },
    /// None: they must be read from the store, which takes time.
    Stored,
    /// None: they are no longer kept. The stream starts over with the open orders.
    Lost,
}

/// No orders at all, for shards that stream prices only.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoOrders;

impl OrderSource for NoOrders {
    fn watch(&mut self, _user: &UserId) {}

    fn unwatch(&mut self, _user: &UserId) {}

    fn next_changed(&mut self) -> Option<ChangedUsers> {
        None
    }

    fn has_changed(&self) -> bool {
        false
    }

    fn write_open(
        &self,
        _user: &UserId,
        _after: Option<OrderId>,
        _to: EventSink<'_>,
    ) -> OpenOrders {
        OpenOrders { next: None, cursor: OrderCursor::at(Lsn(0)) }
    }

    fn write_changes(
        &self,
        _user: &UserId,
        after: &OrderCursor,
        _to: EventSink<'_>,
    ) -> WrittenChanges {
        WrittenChanges::UpTo { cursor: after.clone(), has_more: false }
    }

    fn write_cursor(&self, _cursor: &OrderCursor, out: &mut Vec<u8>) {
        out.push(b'0');
    }
}
