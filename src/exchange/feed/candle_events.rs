//! What the feed tells the thread that makes candles: every print and bust, and whether lines are missing.

use compact_str::CompactString;

use super::Feed;
use crate::market::candles::{
    CANDLE_EVENT_WORDS, CandleEvent, CandleEventKind, CandleTrade, FeedMark,
};
use crate::market::{Bust, Print};
use crate::sync::RingWriter;
use crate::types::{PriceCents, TimestampMicros};

/// The end of the feed thread. It never waits; a reader that is too slow learns that it missed something.
pub(super) struct CandleEvents {
    ring: RingWriter<CANDLE_EVENT_WORDS>,
    numbering: u64,
    /// The last line that was told: those that are read again for orders are not told again.
    told: u64,
}

/// Tells numberings apart, of this process and of the next: a session's name, and how often it began anew.
fn numbering_of(session: &str, renumberings: u32) -> u64 {
    let seed = u64::from(renumberings);
    // 0 stands for none.
    xxhash_rust::xxh3::xxh3_64_with_seed(session.as_bytes(), seed) | 1
}

impl CandleEvents {
    fn publish(&mut self, sequence: u64, at: TimestampMicros, kind: CandleEventKind) {
        let mark = FeedMark { numbering: self.numbering, sequence };
        self.ring.publish(&CandleEvent { mark, at, kind }.to_words());
        self.told = sequence;
    }

    /// Whether a line was not told yet.
    pub(super) fn lacks(&self, sequence: u64) -> bool {
        sequence > self.told
    }

    pub(super) fn print(&mut self, print: &Print) {
        if self.lacks(print.sequence) {
            let trade = CandleTrade {
                symbol: print.symbol,
                cents: print.price.cents(),
                num_shares: print.num_shares,
                counts_volume: print.counts_volume,
                execution: print.execution,
            };
            self.publish(print.sequence, print.timestamp, CandleEventKind::Print(trade));
        }
    }

    pub(super) fn bust(&mut self, bust: &Bust, at: TimestampMicros) {
        if self.lacks(bust.sequence) {
            let trade = CandleTrade {
                symbol: bust.symbol,
                cents: bust.price.map_or(0, PriceCents::cents),
                num_shares: bust.num_shares.unwrap_or(0),
                counts_volume: bust.counts_volume,
                execution: bust.execution,
            };
            self.publish(bust.sequence, at, CandleEventKind::Bust(trade));
        }
    }

    /// A heartbeat: all lines up to it have come.
    pub(super) fn seen(&mut self, sequence: u64, at: TimestampMicros) {
        if sequence >= self.told {
            self.publish(sequence, at, CandleEventKind::Seen);
        }
    }

    /// Lines up to this one may be missing, or could not be read.
    pub(super) fn gap(&mut self, sequence: u64) {
        if self.lacks(sequence) {
            self.publish(sequence, TimestampMicros::default(), CandleEventKind::Gap);
        }
    }

    /// Lines of a session follow this one. Who has come as far misses nothing.
    pub(super) fn begin(&mut self, session: &str, renumberings: u32, before: u64) {
        self.numbering = numbering_of(session, renumberings);
        self.publish(before, TimestampMicros::default(), CandleEventKind::Gap);
    }
}

impl Feed {
    /// Tells this ring every print, and goes on from `mark`, if the feed is read again from there anyway or can
    /// be. To be called after [`remember_in`](Self::remember_in).
    pub fn tell_candles(&mut self, mark: FeedMark, ring: RingWriter<CANDLE_EVENT_WORDS>) {
        if let Some((session, from)) = &mut self.options.resume
            && numbering_of(session, 0) == mark.numbering
            && mark.sequence < *from
        {
            // What was handed over to the orders thread is not handed over again.
            self.orders_from = self.orders_from.max(*from);
            *from = mark.sequence + 1;
        }
        self.candles = Some(CandleEvents { ring, numbering: 0, told: 0 });
    }

    /// The lines of a session follow.
    pub(super) fn begin_candles(&mut self, session: &CompactString, before: u64) {
        if let Some(candles) = &mut self.candles {
            candles.begin(session, self.renumberings, before);
        }
    }
}
