//! Messages from the feed thread to the orders thread.

use compact_str::CompactString;

use super::feed_line::SkipCause;
use super::wire::FeedLine;
use crate::types::{ExternalOrderId, TimestampMicros};

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

/// A message to the orders thread, for the orders threads of other processes as well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedLine {
    /// The epoch of the lease with which the feed is read.
    pub epoch: u64,
    /// Counts the messages of the epoch, from 1 on. A missing number is a lost message.
    pub number: u64,
    /// The feed session as the exchange names it.
    pub session: CompactString,
    /// How often the session's numbering has restarted, as far as the process that reads it knows.
    pub numbering: u32,
    /// With a position: the exchange's time in the heartbeat that told it.
    pub heard: Option<TimestampMicros>,
    /// The message.
    pub message: OrderFeedMessage,
}

impl OrderFeedMessage {
    /// The session that it names.
    pub fn session(&self) -> Option<&CompactString> {
        match self {
            Self::Session { session, .. } | Self::Renumbered { session, .. } => Some(session),
            Self::Line(_) | Self::Unreadable(_) | Self::Position { .. } => None,
        }
    }

    /// Every line up to here was handed over, or may have been missed.
    pub fn sequence(&self) -> u64 {
        match self {
            Self::Session { sequence, .. }
            | Self::Renumbered { sequence, .. }
            | Self::Position { sequence } => *sequence,
            Self::Line(line) => line.sequence,
            Self::Unreadable(line) => line.sequence,
        }
    }
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
