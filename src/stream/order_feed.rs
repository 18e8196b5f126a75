use crate::types::{OrderId, UserId};

/// What a shard's streams need to know of orders. The orders live above this folder; whoever builds
/// the shard brings them.
///
/// A cursor is a place in a user's changes: everything up to it is known to whoever holds it.
pub trait OrderSource {
    /// From now on [`next_changed`](Self::next_changed) names this user when their orders change.
    /// Called before they are first read.
    fn watch(&mut self, user: &UserId);

    /// No stream wants this user's changes any more.
    fn unwatch(&mut self, user: &UserId);

    /// Whose orders have changed since.
    fn next_changed(&mut self) -> Option<ChangedUsers>;

    /// Whether [`next_changed`](Self::next_changed) has something to tell.
    fn has_changed(&self) -> bool;

    /// Appends `order` events of a user's open orders after `after`, oldest first, until the
    /// sink has enough or none is left. They have no ids.
    fn write_open(&self, user: &UserId, after: Option<OrderId>, to: EventSink<'_>) -> OpenOrders;

    /// Appends `order` events with an id of all changes after a cursor, oldest first, until
    /// the sink has enough or none is left.
    fn write_changes(&self, user: &UserId, after: u64, to: EventSink<'_>) -> WrittenChanges;

    /// Appends a cursor as clients keep it.
    fn write_cursor(&self, cursor: u64, out: &mut Vec<u8>);
}

/// Where events are written to.
#[derive(Debug)]
pub struct EventSink<'a> {
    /// Events are appended here.
    pub out: &'a mut Vec<u8>,
    /// It has enough when so many bytes were appended: the event that passes them is the last.
    pub most_bytes: usize,
    /// What ids begin with.
    pub id_prefix: &'a [u8],
}

/// Whose orders have changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChangedUsers {
    /// This user's.
    One(UserId),
    /// Perhaps those of any user that is watched.
    Any,
}

/// Which open orders were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOrders {
    /// Where to go on; `None` after the last.
    pub next: Option<OrderId>,
    /// All changes up to here are in what was written, if it was written first.
    pub cursor: u64,
}

/// Which changes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenChanges {
    /// All up to this cursor.
    UpTo {
        /// The next cursor.
        cursor: u64,
        /// There is more after it.
        has_more: bool,
    },
    /// None: they have to be read from the store, which takes time.
    Stored,
    /// None: they are not kept any more. The stream starts again from the open orders.
    Lost,
}

/// No orders at all: for shards that stream prices alone.
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
        OpenOrders { next: None, cursor: 0 }
    }

    fn write_changes(&self, _user: &UserId, after: u64, _to: EventSink<'_>) -> WrittenChanges {
        WrittenChanges::UpTo { cursor: after, has_more: false }
    }

    fn write_cursor(&self, cursor: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(cursor.to_string().as_bytes());
    }
}
