//! Messages from the feed thread to the orders thread.

use compact_str::CompactString;

use super::feed_line::SkipCause;
use super::wire::FeedLine;
use crate::types::ExternalOrderId;

/// Bytes of an unreadable line that are handed over.
pub(super) const MAX_RAW_BYTES: usize = 512;

/// A message from the feed thread to the orders thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFeedMessage {
    /// Lines of this session follow, after `sequence`. Sent whenever lines may have been missed (a
    /// new session, a gap), so that open orders are reconciled.
    Session {
        /// The exchange's name of the session.
        session: CompactString,
        /// Last sequence before the lines that follow.
        sequence: u64,
    },
    /// The same, when the session's numbering restarted under its name.
    Renumbered {
        /// The exchange's name of the session.
        session: CompactString,
        /// Last sequence before the lines that follow.
        sequence: u64,
    },
    /// A line that belongs to an order. May repeat.
    Line(FeedLine),
    /// A line that names an order and cannot be read: the order is reconciled.
    Unreadable(UnreadableLine),
    /// Every order line up to here has been handed over.
    Position {
        /// The last sequence read.
        sequence: u64,
    },
}

/// A line that names an order but cannot be read otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableLine {
    /// Its sequence; that of the line before if none can be read.
    pub sequence: u64,
    /// The sequence of the line before.
    pub after: u64,
    /// The order that the line names.
    pub order_id: ExternalOrderId,
    /// What is wrong with the line.
    pub cause: SkipCause,
    /// The line, cut to [`MAX_RAW_BYTES`].
    pub raw: Box<[u8]>,
}
