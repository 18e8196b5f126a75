//! What a shard follows: the ticks, the state and the session of the exchange's feed.

use std::sync::Arc;

use compact_str::CompactString;

use crate::market::{Directory, LastValueTable, MarketReader, SessionOrdinal, Tick};
use crate::sync::Lagged;

use super::frame::ResumePoint;

/// The market as a shard sees it, and how far the shard has followed it.
pub(super) struct Feed {
    market: MarketReader,
    /// The directory as of the slice's begin.
    directory: Arc<Directory>,
    /// The state that the streams have been told.
    is_up: bool,
    /// Where the last tick stands.
    position: FeedPosition,
    /// The session's name as ids carry it; `None` until a tick of it has come.
    session: Option<CompactString>,
    /// Ticks were overwritten unread since the last one that was read.
    is_lapped: bool,
}

/// A position in the feed, as this process numbers sessions. A later one is greater.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct FeedPosition {
    pub ordinal: SessionOrdinal,
    pub sequence: u64,
}

/// A tick does not continue what came before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Discontinuity {
    /// Ticks up to this sequence may have been missed.
    Lost { up_to: u64 },
    /// Another session begins with this sequence.
    Session { first_sequence: u64 },
}

impl Feed {
    /// Follows the market from now on.
    pub(super) fn new(market: MarketReader) -> Self {
        Self {
            directory: market.directory.load(),
            is_up: market.status.is_up(),
            market,
            position: FeedPosition::default(),
            session: None,
            is_lapped: false,
        }
    }

    /// Takes the newest directory.
    pub(super) fn load_directory(&mut self) {
        self.directory = self.market.directory.load();
    }

    /// The directory as of the slice's begin.
    #[inline]
    pub(super) fn directory(&self) -> &Directory {
        &self.directory
    }

    /// The newest prices.
    #[inline]
    pub(super) fn table(&self) -> &LastValueTable {
        &self.market.table
    }

    /// Whether there are ticks to read.
    pub(super) fn has_ticks(&self) -> bool {
        self.market.ring.has_next()
    }

    /// Whether the feed was lost or came back since the streams were told.
    pub(super) fn has_other_state(&self) -> bool {
        self.is_up != self.market.status.is_up()
    }

    /// Takes the feed's state. True when it is another.
    pub(super) fn take_state(&mut self) -> bool {
        let is_up = self.market.status.is_up();
        std::mem::replace(&mut self.is_up, is_up) != is_up
    }

    /// Whether the streams have been told that the feed is up.
    pub(super) fn is_up(&self) -> bool {
        self.is_up
    }

    /// The next tick.
    ///
    /// # Errors
    /// Ticks were overwritten unread. The last-value table has what they led to.
    #[inline]
    pub(super) fn next_tick(&mut self) -> Result<Option<Tick>, Lagged> {
        match self.market.ring.try_next() {
            Ok(None) => Ok(None),
            Ok(Some(words)) => {
                let tick = Tick::from_words(&words);
                assert!(tick.is_some(), "the ring holds what the feed thread wrote: ticks");
                Ok(tick)
            }
            Err(lagged) => {
                self.is_lapped = true;
                Err(lagged)
            }
        }
    }

    /// Moves to a tick. Says so if the tick does not continue what came before it.
    #[inline]
    pub(super) fn advance(&mut self, tick: &Tick) -> Option<Discontinuity> {
        assert!(tick.ordinal >= self.position.ordinal, "sessions are numbered in their order");
        let mut discontinuity = None;
        if std::mem::take(&mut self.is_lapped) {
            // A session's first sequence may be 0.
            let up_to = tick.sequence.saturating_sub(1);
            discontinuity = Some(Discontinuity::Lost { up_to });
        }
        if tick.ordinal != self.position.ordinal || self.session.is_none() {
            let is_first = self.position.ordinal == 0;
            if !is_first && tick.ordinal != self.position.ordinal {
                discontinuity = Some(Discontinuity::Session { first_sequence: tick.sequence });
            }
            // If it has been replaced since, its name would stand for another numbering.
            self.session = self.market.status.session_of(tick.ordinal);
        }
        self.position = FeedPosition { ordinal: tick.ordinal, sequence: tick.sequence };
        discontinuity
    }

    /// Where the last tick stands.
    pub(super) fn position(&self) -> FeedPosition {
        self.position
    }

    /// The sequence of the last tick.
    pub(super) fn sequence(&self) -> u64 {
        self.position.sequence
    }

    /// The sequence up to which a stream that opens now begins with newer prices: that of the table, which
    /// may be ahead of the ticks that were read.
    pub(super) fn newest_sequence(&self) -> u64 {
        let FeedPosition { ordinal, sequence } = self.position;
        match self.market.status.position() {
            Some((of, _, newest)) if of == ordinal || ordinal == 0 => newest.max(sequence),
            // Its first tick tells the streams of the other session.
            Some(_) | None => sequence,
        }
    }

    /// The session and sequence that an id tells; `None` before the first tick of a session.
    #[inline]
    pub(super) fn point(&self) -> Option<(&str, u64)> {
        self.session.as_ref().map(|session| (session.as_str(), self.position.sequence))
    }

    /// Where a client's knowledge ends; `None` when it must be told everything.
    pub(super) fn resume_from(&self, point: &ResumePoint) -> Option<FeedPosition> {
        if point.session.is_empty() {
            return None;
        }
        let ordinal = self.market.status.covers(&point.session, point.sequence)?;
        assert!(ordinal > 0, "a session that has a name is numbered");
        Some(FeedPosition { ordinal, sequence: point.sequence })
    }
}
