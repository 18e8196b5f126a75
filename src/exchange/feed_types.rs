use compact_str::CompactString;

use super::feed_line::SkipCause;
use super::wire::FeedLine;
use crate::types::ExternalOrderId;

/// Bytes of an unreadable line that are handed over.
pub const MAX_RAW_BYTES: usize = 512;

/// What the feed thread hands to the orders thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFeedMessage {
    /// Lines of this session follow, after `sequence`. Sent whenever lines may have been missed
    /// in between (a new session, a gap), so that open orders are compared with the exchange.
    Session {
        /// The exchange's name of the session.
        session: CompactString,
        /// Last sequence before the lines that follow.
        sequence: u64,
    },
    /// The same, where the numbering of the session has begun again under its name.
    Renumbered {
        /// The exchange's name of the session.
        session: CompactString,
        /// Last sequence before the lines that follow.
        sequence: u64,
    },
    /// A line that belongs to an order. May repeat.
    Line(FeedLine),
    /// A line that names an order and cannot be taken as it is: the order is asked about.
    Unreadable(UnreadableLine),
    /// Every line with an order up to here has been handed over.
    Position {
        /// Last sequence taken.
        sequence: u64,
    },
}

/// A line that names an order and says of it what cannot be understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableLine {
    /// Its sequence; where none can be read, that of the line before.
    pub sequence: u64,
    /// The sequence of the line before.
    pub after: u64,
    /// The order.
    pub order_id: ExternalOrderId,
    /// What is wrong with it.
    pub cause: SkipCause,
    /// The line, or its first [`MAX_RAW_BYTES`].
    pub raw: Box<[u8]>,
}
