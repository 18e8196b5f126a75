use compact_str::CompactString;

use super::wire::FeedLine;

/// What the feed thread hands to the orders thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderFeed {
    /// Lines of this session follow, after `sequence`. Sent whenever lines may have been missed
    /// in between (a new session, a gap), so that open orders are compared with the exchange.
    Session {
        /// The exchange's name of the session.
        session: CompactString,
        /// Last sequence before the lines that follow.
        sequence: u64,
    },
    /// A line that belongs to an order. May repeat.
    Line(FeedLine),
    /// Every line with an order up to here has been handed over.
    Position {
        /// Last sequence taken.
        sequence: u64,
    },
}
