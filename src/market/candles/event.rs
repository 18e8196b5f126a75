//! What the feed thread tells the thread that makes candles, as words of a ring.

use crate::types::{Shares, SymbolIndex, TimestampMicros};

/// Words of an event.
pub const CANDLE_EVENT_WORDS: usize = 7;

/// A place in the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct FeedMark {
    /// Tells numberings apart: a hash of the session and how often it began anew.
    pub numbering: u64,
    pub sequence: u64,
}

/// A trade or a bust of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandleTrade {
    pub symbol: SymbolIndex,
    /// The price in cents; of a bust 0 if the line does not tell it.
    pub cents: i64,
    pub num_shares: Shares,
    /// Whether the shares count; if not, another line has counted them.
    pub counts_volume: bool,
    /// The execution's number; 0 if no bust can name it.
    pub execution: u64,
}

/// What a line of the feed means for candles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CandleEventKind {
    Print(CandleTrade),
    Bust(CandleTrade),
    /// All lines up to here were told: none of them is missing.
    Seen,
    /// Lines before this one may be missing.
    Gap,
}

/// One event, in the sequence of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandleEvent {
    pub mark: FeedMark,
    /// The line's time.
    pub at: TimestampMicros,
    pub kind: CandleEventKind,
}

const KIND_SHIFT: u32 = 32;
const COUNTS_VOLUME: u64 = 1 << 40;

impl CandleEvent {
    pub fn to_words(self) -> [u64; CANDLE_EVENT_WORDS] {
        let (kind, trade) = match self.kind {
            CandleEventKind::Print(trade) => (0_u64, Some(trade)),
            CandleEventKind::Bust(trade) => (1, Some(trade)),
            CandleEventKind::Seen => (2, None),
            CandleEventKind::Gap => (3, None),
        };
        let mut head = kind << KIND_SHIFT;
        let (mut cents, mut shares, mut execution) = (0, 0, 0);
        if let Some(trade) = trade {
            let counts_volume = if trade.counts_volume { COUNTS_VOLUME } else { 0 };
            head |= trade.symbol.get() as u64 | counts_volume;
            (cents, shares, execution) =
                (trade.cents.cast_unsigned(), trade.num_shares, trade.execution);
        }
        let FeedMark { numbering, sequence } = self.mark;
        [head, numbering, sequence, self.at.micros(), cents, shares, execution]
    }

    /// `None` for words that encode no event.
    pub fn from_words(words: &[u64; CANDLE_EVENT_WORDS]) -> Option<Self> {
        let [head, numbering, sequence, at, cents, num_shares, execution] = *words;
        let trade = || {
            let symbol = usize::try_from(head & u64::from(u32::MAX)).ok()?;
            Some(CandleTrade {
                symbol: SymbolIndex::new(symbol)?,
                cents: cents.cast_signed(),
                num_shares,
                counts_volume: head & COUNTS_VOLUME != 0,
                execution,
            })
        };
        let kind = match (head & !COUNTS_VOLUME) >> KIND_SHIFT {
            0 => CandleEventKind::Print(trade()?),
            1 => CandleEventKind::Bust(trade()?),
            2 => CandleEventKind::Seen,
            3 => CandleEventKind::Gap,
            _ => return None,
        };
        let mark = FeedMark { numbering, sequence };
        Some(Self { mark, at: TimestampMicros::new(at), kind })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_survives_its_words() {
        let trade = CandleTrade {
            symbol: SymbolIndex::new(16_383).unwrap(),
            cents: -1,
            num_shares: u64::MAX,
            counts_volume: true,
            execution: u64::MAX,
        };
        let silent = CandleTrade { counts_volume: false, ..trade };
        let mark = FeedMark { numbering: u64::MAX, sequence: 7 };
        for kind in [
            CandleEventKind::Print(trade),
            CandleEventKind::Print(silent),
            CandleEventKind::Bust(trade),
            CandleEventKind::Seen,
            CandleEventKind::Gap,
        ] {
            let event = CandleEvent { mark, at: TimestampMicros::new(5), kind };
            assert_eq!(CandleEvent::from_words(&event.to_words()), Some(event));
        }
        assert_eq!(CandleEvent::from_words(&[u64::MAX; CANDLE_EVENT_WORDS]), None);
    }
}
