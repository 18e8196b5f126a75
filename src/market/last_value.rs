use crate::sync::SeqLock;
use crate::types::{MAX_PRICE_CENTS, SymbolIndex, TimestampMicros};

use super::status::SessionOrdinal;
use super::symbol_map::SymbolMap;

/// Words of one slot: with the lock's own word it fills one cache line.
const WORDS: usize = 7;
/// The sequence shares its word with the session's ordinal.
const SEQUENCE_BITS: u32 = 48;
/// The highest and the lowest price of the day share a word.
const PRICE_BITS: u32 = 32;
const PRICE_MASK: u64 = (1 << PRICE_BITS) - 1;
/// Highest sequence of a feed session that a slot has room for: nine years of a million lines a
/// second.
pub const MAX_SEQUENCE: u64 = (1 << SEQUENCE_BITS) - 1;

/// The last price of one symbol and the figures of its day.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LastValue {
    /// Price of the last print in cents; 0 before the first print.
    pub price_cents: i64,
    /// First price of the trading day; 0 before the day's first print, as for the next two.
    pub open_cents: i64,
    /// Highest of the day.
    pub high_cents: i64,
    /// Lowest of the day.
    pub low_cents: i64,
    /// Shares traded on the day.
    pub volume: u64,
    /// Time of the last print.
    pub timestamp: TimestampMicros,
    /// The feed session in which the price last changed.
    pub changed_ordinal: SessionOrdinal,
    /// The feed sequence at which the price last changed.
    pub changed_sequence: u64,
    /// The feed session of the last tick, be its price another or not.
    pub last_ordinal: SessionOrdinal,
    /// The feed sequence of the last tick.
    pub last_sequence: u64,
}

impl LastValue {
    /// Whether the symbol has traded.
    pub fn has_price(&self) -> bool {
        self.price_cents != 0
    }

    fn to_words(self) -> [u64; WORDS] {
        [
            self.price_cents.cast_unsigned(),
            self.open_cents.cast_unsigned(),
            (price_word(self.high_cents) << PRICE_BITS) | price_word(self.low_cents),
            self.volume,
            self.timestamp.micros(),
            position_word(self.changed_ordinal, self.changed_sequence),
            position_word(self.last_ordinal, self.last_sequence),
        ]
    }

    fn from_words(words: [u64; WORDS]) -> Self {
        let [price, open, range, volume, timestamp, changed, last] = words;
        let (changed_ordinal, changed_sequence) = position_of(changed);
        let (last_ordinal, last_sequence) = position_of(last);
        Self {
            price_cents: price.cast_signed(),
            open_cents: open.cast_signed(),
            high_cents: (range >> PRICE_BITS).cast_signed(),
            low_cents: (range & PRICE_MASK).cast_signed(),
            volume,
            timestamp: TimestampMicros::new(timestamp),
            changed_ordinal,
            changed_sequence,
            last_ordinal,
            last_sequence,
        }
    }
}

/// A price that shares its word with another.
fn price_word(cents: i64) -> u64 {
    const { assert!(MAX_PRICE_CENTS.cast_unsigned() <= PRICE_MASK) };
    let word = cents.cast_unsigned();
    assert!(word <= PRICE_MASK, "a price is at most MAX_PRICE_CENTS");
    word
}

fn position_word(ordinal: SessionOrdinal, sequence: u64) -> u64 {
    assert!(sequence <= MAX_SEQUENCE, "the feed ends before a higher sequence");
    (u64::from(ordinal) << SEQUENCE_BITS) | sequence
}

fn position_of(word: u64) -> (SessionOrdinal, u64) {
    let [.., ordinal_low, ordinal_high] = word.to_le_bytes();
    (SessionOrdinal::from_le_bytes([ordinal_low, ordinal_high]), word & MAX_SEQUENCE)
}

/// The last value of every symbol. One thread writes, any thread reads without a lock.
pub struct LastValueTable {
    slots: SymbolMap<SeqLock<WORDS>>,
}

impl LastValueTable {
    /// A table in which nothing has traded.
    pub fn new() -> Self {
        Self { slots: SymbolMap::filled_with(|| SeqLock::new([0; WORDS])) }
    }

    /// The last value of a symbol.
    pub fn get(&self, index: SymbolIndex) -> LastValue {
        LastValue::from_words(self.slots[index].read())
    }

    /// Replaces a value. Only the market writer calls this.
    pub(super) fn set(&self, index: SymbolIndex, value: LastValue) {
        self.slots[index].write(&value.to_words());
    }
}

impl Default for LastValueTable {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for LastValueTable {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("LastValueTable").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MAX_SYMBOLS;

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
            last_ordinal: 0xF00D,
            last_sequence: 77,
        };
        table.set(index, value);
        assert_eq!(table.get(index), value);
        assert!(!table.get(SymbolIndex::new(0).unwrap()).has_price());
    }
}
