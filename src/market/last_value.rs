use crate::sync::SeqLock;
use crate::types::{MAX_SYMBOLS, SymbolIndex, TimestampMicros};

use super::status::SessionOrdinal;

/// Words of one slot: with the lock's own word a slot is one cache line.
const WORDS: usize = 7;
/// A sequence shares its word with the session's ordinal.
const SEQUENCE_BITS: u32 = 48;
/// Highest sequence of a feed session: what a slot has room for. At a million lines a second it is
/// reached after nine years.
pub const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// What is known of one symbol's trading.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastValue {
    /// Price of the last print in cents; 0 before the first.
    pub price_cents: i64,
    /// First price of the trading day; 0 before that.
    pub open_cents: i64,
    /// Highest of the day.
    pub high_cents: i64,
    /// Lowest of the day.
    pub low_cents: i64,
    /// Shares traded on the day, each counted once.
    pub volume: u64,
    /// When the last print happened.
    pub timestamp: TimestampMicros,
    /// Feed session in which the price last changed.
    pub changed_ordinal: SessionOrdinal,
    /// Feed sequence at which the price last changed.
    pub changed_sequence: u64,
}

impl LastValue {
    /// Whether the symbol has traded.
    pub fn has_price(&self) -> bool {
        self.price_cents != 0
    }

    fn to_words(self) -> [u64; WORDS] {
        let changed = (u64::from(self.changed_ordinal) << SEQUENCE_BITS)
            | (self.changed_sequence & MAX_SEQUENCE);
        [
            self.price_cents.cast_unsigned(),
            self.open_cents.cast_unsigned(),
            self.high_cents.cast_unsigned(),
            self.low_cents.cast_unsigned(),
            self.volume,
            self.timestamp.micros(),
            changed,
        ]
    }

    fn from_words(words: [u64; WORDS]) -> Self {
        let [price, open, high, low, volume, timestamp, changed] = words;
        let [.., ordinal_low, ordinal_high] = changed.to_le_bytes();
        Self {
            price_cents: price.cast_signed(),
            open_cents: open.cast_signed(),
            high_cents: high.cast_signed(),
            low_cents: low.cast_signed(),
            volume,
            timestamp: TimestampMicros::new(timestamp),
            changed_ordinal: u16::from_le_bytes([ordinal_low, ordinal_high]),
            changed_sequence: changed & MAX_SEQUENCE,
        }
    }
}

/// The newest value of every symbol, readable by any thread without a lock. One thread writes.
pub struct LastValueTable {
    slots: Box<[SeqLock<WORDS>]>,
}

impl LastValueTable {
    /// A table in which nothing has traded.
    pub fn new() -> Self {
        Self { slots: (0..MAX_SYMBOLS).map(|_| SeqLock::new([0; WORDS])).collect() }
    }

    /// The newest value of a symbol.
    pub fn get(&self, index: SymbolIndex) -> LastValue {
        self.slots
            .get(index.get())
            .map_or_else(LastValue::default, |slot| LastValue::from_words(slot.read()))
    }

    /// Replaces a value. Only the owner of the market writer calls it.
    pub(super) fn set(&self, index: SymbolIndex, value: LastValue) {
        if let Some(slot) = self.slots.get(index.get()) {
            slot.write(&value.to_words());
        }
    }
}

impl Default for LastValueTable {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for LastValueTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LastValueTable").field("slots", &self.slots.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_whole() {
        let table = LastValueTable::new();
        let index = SymbolIndex::new(MAX_SYMBOLS - 1).unwrap();
        let value = LastValue {
            price_cents: 52_210,
            open_cents: 52_000,
            high_cents: 53_000,
            low_cents: 51_000,
            volume: 123_456_789_012,
            timestamp: TimestampMicros::new(1_732_400_000_123_456),
            changed_ordinal: 0xBEEF,
            changed_sequence: (1 << SEQUENCE_BITS) - 1,
        };
        table.set(index, value);
        assert_eq!(table.get(index), value);
        assert!(!table.get(SymbolIndex::new(0).unwrap()).has_price());
    }
}
