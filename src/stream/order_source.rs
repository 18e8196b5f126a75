use crate::types::{OrderId, UserId};

/// Where a shard's streams read orders. Orders live in a higher layer, which implements this.
///
/// A *cursor* is a position in the changes of a user's orders: its holder has received everything up
/// to it.
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
    fn write_changes(&self, user: &UserId, after: u64, to: EventSink<'_>) -> WrittenChanges;

    /// Appends a cursor as clients are told it.
    fn write_cursor(&self, cursor: u64, out: &mut Vec<u8>);
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
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOrders {
    /// Where to continue; `None` after the last.
    pub next: Option<OrderId>,
    /// What was written includes all changes up to here, provided that it was read first.
    pub cursor: u64,
}

/// Which changes were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenChanges {
    /// All up to this cursor.
    UpTo {
        /// The next cursor.
        cursor: u64,
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
        OpenOrders { next: None, cursor: 0 }
    }

    fn write_changes(&self, _user: &UserId, after: u64, _to: EventSink<'_>) -> WrittenChanges {
        WrittenChanges::UpTo { cursor: after, has_more: false }
    }

    fn write_cursor(&self, cursor: u64, out: &mut Vec<u8>) {
        out.extend_from_slice(cursor.to_string().as_bytes());
    }
}
