use std::sync::Arc;

use crate::sync::{RingReader, RingWriter, ring};
use crate::types::{PriceCents, Shares, Symbol, SymbolIndex, TimestampMicros};

use super::directory::{Directory, DirectoryFull, Listing, SharedDirectory};
use super::last_value::LastValueTable;
use super::status::{FeedStatus, SessionOrdinal};
use super::tick::{TICK_WORDS, Tick};
use super::watch::Watchers;

/// Slots of the ring. At 100,000 prints a second a shard may look away for 650 ms before it is
/// lapped; it looks every 20 ms. 4 MiB of memory, which a fuzzer would spend its time on.
pub const RING_SLOTS: usize = if cfg!(fuzzing) { 64 } else { 65_536 };

/// Symbols remembered for the wake-up of one batch; a batch that changes more wakes everybody.
const MAX_BATCH_SYMBOLS: usize = 64;

/// One trade as the feed tells it.
#[derive(Debug, Clone, Copy)]
pub struct Print {
    /// Which symbol.
    pub symbol: SymbolIndex,
    /// Price of each share.
    pub price: PriceCents,
    /// Shares.
    pub num_shares: Shares,
    /// Whether the shares count, or another line has counted them.
    pub counts_volume: bool,
    /// When it happened.
    pub timestamp: TimestampMicros,
    /// Position in the feed session.
    pub sequence: u64,
}

/// The one hand that changes the market. Lives on the feed thread; never waits, never allocates
/// for a print.
pub struct MarketWriter {
    ring: RingWriter<TICK_WORDS>,
    table: Arc<LastValueTable>,
    directory: Arc<SharedDirectory>,
    /// The directory as of the last extension, which only this thread makes.
    current: Arc<Directory>,
    status: Arc<FeedStatus>,
    watchers: Watchers,
    ordinal: SessionOrdinal,
    batch: Vec<SymbolIndex>,
    batch_overflowed: bool,
}

/// A shard's or a handler's view of the market. Cheap to clone.
#[derive(Clone)]
pub struct MarketReader {
    /// Ticks from now on.
    pub ring: RingReader<TICK_WORDS>,
    /// Newest values.
    pub table: Arc<LastValueTable>,
    /// Symbols.
    pub directory: Arc<SharedDirectory>,
    /// The feed connection.
    pub status: Arc<FeedStatus>,
}

/// Makes an empty market and both its ends.
pub fn open_market(watchers: Watchers) -> (MarketWriter, MarketReader) {
    let (writer, reader) = ring(RING_SLOTS);
    let table = Arc::new(LastValueTable::new());
    let directory = Arc::new(SharedDirectory::default());
    let status = Arc::new(FeedStatus::default());
    let writer = MarketWriter {
        ring: writer,
        table: Arc::clone(&table),
        directory: Arc::clone(&directory),
        current: directory.load(),
        status: Arc::clone(&status),
        watchers,
        ordinal: 0,
        batch: Vec::with_capacity(MAX_BATCH_SYMBOLS),
        batch_overflowed: false,
    };
    (writer, MarketReader { ring: reader, table, directory, status })
}

impl MarketWriter {
    /// Adds or renews symbols.
    ///
    /// # Errors
    /// Some did not fit; those that did are there.
    pub fn list(&mut self, listings: &[Listing]) -> Result<(), DirectoryFull> {
        let outcome = self.directory.extend(listings);
        self.current = self.directory.load();
        outcome
    }

    /// Place of a listed symbol.
    pub fn index_of(&self, symbol: &Symbol) -> Option<SymbolIndex> {
        self.current.index_of(symbol)
    }

    /// Lines of another feed session follow, from `first_sequence` on.
    pub fn begin_session(&mut self, session: &str, first_sequence: u64) {
        self.ordinal = self.status.begin_session(session, first_sequence);
    }

    /// The feed connection is up or lost; every stream is told.
    pub fn set_up(&self, up: bool) {
        self.status.set_up(up);
        self.watchers.wake_all();
    }

    /// Takes one print: table first, then ring, so that whoever hears of it finds it.
    pub fn print(&mut self, print: &Print) {
        let cents = print.price.cents();
        let mut value = self.table.get(print.symbol);
        let changed = value.price_cents != cents;
        if !value.has_price() {
            (value.open_cents, value.high_cents, value.low_cents) = (cents, cents, cents);
        }
        value.price_cents = cents;
        value.high_cents = value.high_cents.max(cents);
        value.low_cents = value.low_cents.min(cents);
        value.timestamp = print.timestamp;
        if print.counts_volume {
            value.volume = value.volume.saturating_add(print.num_shares);
        }
        if changed {
            value.changed_ordinal = self.ordinal;
            value.changed_sequence = print.sequence;
        }
        self.table.set(print.symbol, value);
        self.ring.publish(
            &Tick {
                symbol: print.symbol,
                ordinal: self.ordinal,
                sequence: print.sequence,
                price_cents: cents,
                num_shares: print.num_shares,
                timestamp: print.timestamp,
            }
            .to_words(),
        );
        if changed && self.batch.last() != Some(&print.symbol) {
            if self.batch.len() < MAX_BATCH_SYMBOLS {
                self.batch.push(print.symbol);
            } else {
                self.batch_overflowed = true;
            }
        }
    }

    /// Ends a batch: wakes the shards that sleep and care, once each.
    pub fn end_batch(&mut self, last_sequence: u64) {
        self.status.set_sequence(last_sequence);
        if self.batch_overflowed {
            self.watchers.wake_all();
        } else if !self.batch.is_empty() {
            self.watchers.wake_watching(&self.batch);
        }
        self.batch.clear();
        self.batch_overflowed = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::directory::tests::listing;

    fn print(symbol: usize, cents: i64, sequence: u64) -> Print {
        Print {
            symbol: SymbolIndex::new(symbol).unwrap(),
            price: PriceCents::new(cents).unwrap(),
            num_shares: 100,
            counts_volume: true,
            timestamp: TimestampMicros::new(sequence),
            sequence,
        }
    }

    #[test]
    fn a_print_is_in_the_table_and_in_the_ring() {
        let (mut writer, mut reader) = open_market(Watchers::default());
        writer.list(&[listing("SPY")]).unwrap();
        writer.begin_session("7", 1);
        writer.print(&print(0, 100, 1));
        writer.print(&print(0, 90, 2));
        writer.print(&print(0, 90, 3));
        writer.end_batch(3);
        let value = reader.table.get(SymbolIndex::new(0).unwrap());
        assert_eq!((value.open_cents, value.high_cents, value.low_cents), (100, 100, 90));
        assert_eq!(value.volume, 300);
        assert_eq!(value.changed_sequence, 2, "the third print repeats the price");
        assert_eq!(value.timestamp.micros(), 3);
        let mut prices = Vec::new();
        while let Ok(Some(words)) = reader.ring.try_next() {
            prices.push(Tick::from_words(&words).unwrap().price_cents);
        }
        assert_eq!(prices, [100, 90, 90]);
        assert_eq!(reader.status.session(), "7");
        assert_eq!(reader.status.sequence(), 3);
    }

    #[test]
    fn shares_that_another_line_counted_are_not_counted_again() {
        let (mut writer, reader) = open_market(Watchers::default());
        writer.print(&Print { counts_volume: false, ..print(0, 100, 1) });
        assert_eq!(reader.table.get(SymbolIndex::new(0).unwrap()).volume, 0);
    }
}
