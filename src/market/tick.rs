use crate::types::{Shares, SymbolIndex, TimestampMicros};

use super::status::SessionOrdinal;

/// Words of a tick in the ring.
pub const TICK_WORDS: usize = 5;

/// A print, as the ring carries it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tick {
    /// The symbol.
    pub symbol: SymbolIndex,
    /// The feed session of the sequence.
    pub ordinal: SessionOrdinal,
    /// The feed sequence.
    pub sequence: u64,
    /// Price in cents.
    pub price_cents: i64,
    /// Number of shares.
    pub num_shares: Shares,
    /// Time of the print.
    pub timestamp: TimestampMicros,
    /// Prints of the symbol before this one may be missing: another process, which reads them all, has
    /// handed on this one.
    pub follows_gap: bool,
}

/// The bit of the first word that is set after a gap. Ordinal and symbol are below it.
const GAP_BIT: u64 = 1 << 63;

impl Tick {
    /// Encodes the tick.
    pub fn to_words(self) -> [u64; TICK_WORDS] {
        let gap = if self.follows_gap { GAP_BIT } else { 0 };
        let head = gap | ((self.symbol.get() as u64) << 16) | u64::from(self.ordinal);
        [
            head,
            self.sequence,
            self.price_cents.cast_unsigned(),
            self.num_shares,
            self.timestamp.micros(),
        ]
    }

    /// Decodes a tick; `None` for words that encode none.
    pub fn from_words(words: &[u64; TICK_WORDS]) -> Option<Self> {
        let [head, sequence, price, num_shares, timestamp] = *words;
        let symbol = usize::try_from((head & !GAP_BIT) >> 16).ok().and_then(SymbolIndex::new)?;
        let [ordinal_low, ordinal_high, ..] = head.to_le_bytes();
        Some(Self {
            symbol,
            ordinal: u16::from_le_bytes([ordinal_low, ordinal_high]),
            sequence,
            price_cents: price.cast_signed(),
            num_shares,
            timestamp: TimestampMicros::new(timestamp),
            follows_gap: head & GAP_BIT != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_survives_its_words() {
        let tick = Tick {
            symbol: SymbolIndex::new(16_383).unwrap(),
            ordinal: 65_535,
            sequence: u64::MAX,
            price_cents: -1,
            num_shares: 5_000_000,
            timestamp: TimestampMicros::new(1_732_400_000_123_456),
            follows_gap: false,
        };
        for tick in [tick, Tick { follows_gap: true, ..tick }] {
            assert_eq!(Tick::from_words(&tick.to_words()), Some(tick));
        }
        assert_eq!(Tick::from_words(&[u64::MAX; TICK_WORDS]), None);
    }
}
