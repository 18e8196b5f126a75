use std::collections::HashMap;
use std::sync::Arc;

use compact_str::CompactString;

use crate::sync::{RingReader, RingWriter, ring};
use crate::types::{PriceCents, Shares, Symbol, SymbolIndex, TimestampMicros};

use super::checkpoint::{Checkpoint, SavedSymbol};
use super::day::DayPrint;
use super::days::{DayFigures, Days};
use super::directory::{Directory, DirectoryFull, Listing, SharedDirectory};
use super::executions::TakenBack;
use super::last_value::{LastValue, LastValueTable};
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
    /// The execution's id as a number ([`execution_number`]); 0 for one that no bust can name.
    pub execution: u64,
}

/// A trade that is void.
#[derive(Debug, Clone, Copy)]
pub struct Bust {
    /// Which symbol.
    pub symbol: SymbolIndex,
    /// Its execution, as in [`Print::execution`].
    pub execution: u64,
    /// The price that it had, where the line tells it.
    pub price: Option<PriceCents>,
    /// Shares that are void, where the line tells them.
    pub num_shares: Option<Shares>,
    /// Whether these shares count, or another line has taken them out.
    pub counts_volume: bool,
    /// Position in the feed session.
    pub sequence: u64,
}

/// An execution's id as the number that prints and busts are matched by.
pub fn execution_number(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes()) | 1
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
    days: Days,
    /// What the process before this one knew, until its symbols are listed.
    saved: HashMap<Symbol, SavedSymbol>,
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
        days: Days::default(),
        saved: HashMap::new(),
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
        self.take_directory();
        outcome
    }

    /// Lists these symbols and no others.
    ///
    /// # Errors
    /// Some did not fit; those that did are there.
    pub fn replace_list(&mut self, listings: &[Listing]) -> Result<(), DirectoryFull> {
        let outcome = self.directory.replace(listings);
        self.take_directory();
        outcome
    }

    /// The directory as it is now.
    pub fn directory(&self) -> &Directory {
        &self.current
    }

    fn take_directory(&mut self) {
        self.current = self.directory.load();
        let directory = Arc::clone(&self.current);
        for listing in directory.listings_after(None) {
            let Some(index) = directory.index_of(&listing.symbol) else { continue };
            if let Some(saved) = self.saved.remove(&listing.symbol) {
                self.table.set(index, saved.value);
                self.days.restore(index, &saved);
            }
        }
        self.renew_days();
        self.days.end_listing();
    }

    /// Begins the next trading day of each symbol whose listing says that it is another.
    fn renew_days(&mut self) {
        let directory = Arc::clone(&self.current);
        self.days.begin_listing();
        for listing in directory.listings_after(None) {
            let Some(index) = directory.index_of(&listing.symbol) else { continue };
            let value = self.table.get(index);
            if let Some(figures) = self.days.renew(index, listing, value.volume) {
                self.table.set(index, with_figures(value, figures));
            }
        }
    }

    /// The lines that follow are numbered by another feed session than those before, which an
    /// exchange begins with each start. `is_list_newer`: its list has been read since.
    pub fn begin_numbering(&mut self, is_list_newer: bool) {
        self.days.begin_numbering();
        self.renew_days();
        if is_list_newer {
            self.days.end_numbering();
        }
    }

    /// Whether a trading day has ended by this time of the exchange: its next one may be listed.
    pub fn is_day_over(&self, now: TimestampMicros) -> bool {
        self.days.is_over(now)
    }

    /// What is known up to `sequence` of a feed session, to go on from after a restart.
    pub fn checkpoint(&self, session: &CompactString, sequence: u64) -> Checkpoint {
        let saved = |listing: &Listing| {
            let index = self.current.index_of(&listing.symbol)?;
            let value = self.table.get(index);
            let is_known = value.has_price() || value.open_cents != 0;
            is_known.then(|| self.days.save(index, listing.symbol, value))
        };
        // What waits to be listed is not forgotten over a list that could not be read.
        let waiting = self.saved.values().cloned();
        let symbols = self.current.listings_after(None).filter_map(saved).chain(waiting).collect();
        Checkpoint { session: session.clone(), sequence, symbols }
    }

    /// Goes on from what an earlier process knew.
    pub fn restore(&mut self, checkpoint: Checkpoint) {
        let symbols = checkpoint.symbols.into_iter().map(|saved| (saved.symbol, saved));
        self.saved = symbols.collect();
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
        value.price_cents = cents;
        value.timestamp = print.timestamp;
        if changed {
            value.changed_ordinal = self.ordinal;
            value.changed_sequence = print.sequence;
        }
        let shares = if print.counts_volume { print.num_shares } else { 0 };
        let DayFigures { open, high, low, volume } =
            self.days.print(print.symbol, day_print(print), shares, value.volume);
        (value.open_cents, value.high_cents, value.low_cents) = (open, high, low);
        value.volume = volume;
        self.table.set(print.symbol, value);
        self.publish(print.symbol, &value, print.num_shares, print.sequence);
        if changed {
            self.note_changed(print.symbol);
        }
    }

    /// Takes a print out of the last price and of the day's figures.
    pub fn bust(&mut self, bust: &Bust) {
        let Bust { symbol, execution, .. } = *bust;
        let given = (bust.price.map(PriceCents::cents), bust.num_shares);
        let Some(taken) = self.days.take_back(symbol, execution, given) else { return };
        let TakenBack { shares, is_of_day, .. } = taken;
        let mut value = self.table.get(symbol);
        let counted = if bust.counts_volume && is_of_day { shares } else { 0 };
        value.volume = value.volume.saturating_sub(counted);
        let mut value = with_figures(value, self.days.figures(symbol, value.volume));
        let last = taken.new_last.filter(|last| last.cents != value.price_cents);
        if let Some(last) = last {
            value.price_cents = last.cents;
            value.timestamp = TimestampMicros::new(last.micros);
            (value.changed_ordinal, value.changed_sequence) = (self.ordinal, bust.sequence);
        }
        self.table.set(symbol, value);
        if last.is_some() && value.has_price() {
            self.publish(symbol, &value, 0, bust.sequence);
            self.note_changed(symbol);
        }
    }

    fn publish(&mut self, symbol: SymbolIndex, value: &LastValue, shares: Shares, sequence: u64) {
        let tick = Tick {
            symbol,
            ordinal: self.ordinal,
            sequence,
            price_cents: value.price_cents,
            num_shares: shares,
            timestamp: value.timestamp,
        };
        self.ring.publish(&tick.to_words());
    }

    fn note_changed(&mut self, symbol: SymbolIndex) {
        if self.batch.last() != Some(&symbol) {
            if self.batch.len() < MAX_BATCH_SYMBOLS {
                self.batch.push(symbol);
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

fn day_print(print: &Print) -> DayPrint {
    let (cents, micros) = (print.price.cents(), print.timestamp.micros());
    DayPrint { execution: print.execution, cents, micros }
}

fn with_figures(value: LastValue, figures: DayFigures) -> LastValue {
    LastValue {
        open_cents: figures.open,
        high_cents: figures.high,
        low_cents: figures.low,
        volume: figures.volume,
        ..value
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
            execution: sequence,
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

    use super::super::directory::TradingSession;

    fn session(open: u64, close: u64) -> Option<TradingSession> {
        let time = TimestampMicros::new;
        Some(TradingSession { open: time(open), close: time(close) })
    }

    fn figures(reader: &MarketReader) -> (i64, i64, i64, i64, u64) {
        let value = reader.table.get(SymbolIndex::new(0).unwrap());
        (value.price_cents, value.open_cents, value.high_cents, value.low_cents, value.volume)
    }

    fn bust(execution: u64, sequence: u64) -> Bust {
        let symbol = SymbolIndex::new(0).unwrap();
        let (price, num_shares) = (None, None);
        Bust { symbol, execution, price, num_shares, counts_volume: true, sequence }
    }

    #[test]
    fn a_bust_takes_its_print_out_of_the_last_price_and_of_the_days_figures() {
        let (mut writer, mut reader) = open_market(Watchers::default());
        writer.list(&[listing("SPY")]).unwrap();
        writer.begin_session("7", 1);
        for (sequence, cents) in [(1, 100), (2, 150), (3, 50), (4, 90)] {
            writer.print(&print(0, cents, sequence));
        }
        assert_eq!(figures(&reader), (90, 100, 150, 50, 400));
        writer.bust(&bust(2, 5));
        assert_eq!(figures(&reader), (90, 100, 100, 50, 300));
        writer.bust(&bust(2, 6));
        assert_eq!(figures(&reader), (90, 100, 100, 50, 300), "once");
        writer.bust(&bust(4, 7));
        assert_eq!(figures(&reader), (50, 100, 100, 50, 200));
        writer.bust(&bust(99, 8));
        assert_eq!(figures(&reader), (50, 100, 100, 50, 200), "of a print that never was");
        let mut last = None;
        while let Ok(Some(words)) = reader.ring.try_next() {
            last = Tick::from_words(&words);
        }
        assert_eq!(last.map(|tick| (tick.price_cents, tick.sequence)), Some((50, 7)), "is told");
        for execution in [1, 3] {
            writer.bust(&bust(execution, 9));
        }
        assert_eq!(figures(&reader), (0, 0, 0, 0, 0), "as if it had never traded");
    }

    #[test]
    fn a_day_begins_with_the_next_listed_session_and_what_came_after_the_close_is_of_it() {
        let (mut writer, reader) = open_market(Watchers::default());
        let listed = |open, close, before| Listing {
            session: session(open, close),
            previous_close: PriceCents::new(before).ok(),
            ..listing("SPY")
        };
        writer.replace_list(&[listed(1, 10, 70)]).unwrap();
        writer.print(&print(0, 100, 2));
        writer.print(&print(0, 110, 9));
        assert!(!writer.is_day_over(TimestampMicros::new(9)));
        assert!(writer.is_day_over(TimestampMicros::new(10)));
        writer.replace_list(&[listed(1, 10, 70)]).unwrap();
        writer.print(&print(0, 130, 12));
        assert_eq!(figures(&reader), (130, 100, 130, 100, 300), "nothing says yet that it ended");
        writer.replace_list(&[listed(11, 20, 110)]).unwrap();
        assert_eq!(figures(&reader), (130, 130, 130, 130, 100));
        // A line of the day before that comes late.
        writer.print(&print(0, 5, 8));
        assert_eq!(figures(&reader), (5, 130, 130, 130, 100));
        writer.bust(&bust(9, 13));
        assert_eq!(figures(&reader), (5, 130, 130, 130, 100), "it was the day before");
        writer.replace_list(&[listed(21, 30, 5)]).unwrap();
        assert_eq!(figures(&reader), (5, 0, 0, 0, 0), "the last price stays");
    }

    #[test]
    fn a_session_that_moves_is_no_other_unless_the_exchange_began_again() {
        let (mut writer, reader) = open_market(Watchers::default());
        let listed = |open, close| Listing { session: session(open, close), ..listing("SPY") };
        writer.replace_list(&[listed(1, 10)]).unwrap();
        writer.print(&print(0, 100, 2));
        writer.replace_list(&[listed(3, 12)]).unwrap();
        assert_eq!(figures(&reader).4, 100);
        writer.begin_numbering(true);
        assert_eq!(figures(&reader).4, 0);
    }

    #[test]
    fn the_listed_open_counts_once_there_is_a_print() {
        let (mut writer, reader) = open_market(Watchers::default());
        let open = PriceCents::new(120).ok();
        writer.replace_list(&[Listing { open, ..listing("SPY") }]).unwrap();
        assert_eq!(figures(&reader), (0, 0, 0, 0, 0));
        writer.print(&print(0, 100, 2));
        assert_eq!(figures(&reader), (100, 120, 120, 100, 100));
    }

    #[test]
    fn figures_go_on_after_a_restart_and_busts_of_earlier_prints_count() {
        let (mut writer, _reader) = open_market(Watchers::default());
        let listed = Listing { session: session(1, 100), ..listing("SPY") };
        writer.replace_list(std::slice::from_ref(&listed)).unwrap();
        for (sequence, cents) in [(1, 100), (2, 150), (3, 50)] {
            writer.print(&print(0, cents, sequence));
        }
        let file = writer.checkpoint(&"7".into(), 3).encode();
        let (mut writer, reader) = open_market(Watchers::default());
        let checkpoint = Checkpoint::decode(&file).unwrap();
        assert_eq!((checkpoint.session.as_str(), checkpoint.sequence), ("7", 3));
        writer.restore(checkpoint);
        assert_eq!(writer.checkpoint(&"7".into(), 3).encode(), file, "nothing is lost unlisted");
        writer.replace_list(&[listing("IBM"), listed]).unwrap();
        let index = writer.index_of(&Symbol::new("SPY").unwrap()).unwrap();
        assert_eq!(reader.table.get(index).volume, 300);
        let price = PriceCents::new(150).ok();
        let void = Bust { symbol: index, price, num_shares: Some(100), ..bust(2, 4) };
        writer.bust(&void);
        let value = reader.table.get(index);
        assert_eq!((value.price_cents, value.high_cents, value.low_cents), (50, 100, 50));
        assert_eq!((value.open_cents, value.volume), (100, 200));
        let next = print(1, 70, 5);
        writer.print(&Print { symbol: index, ..next });
        assert_eq!(reader.table.get(index).volume, 300);
        assert_eq!(Checkpoint::decode(&file[..file.len() - 1]), None);
        let mut rotten = file.clone();
        rotten[40] ^= 1;
        assert_eq!(Checkpoint::decode(&rotten), None);
    }
}
