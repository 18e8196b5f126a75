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

/// Slots of the ring. At 100,000 prints a second it laps a shard that does not read for 650 ms; shards
/// read every 20 ms. It takes 4 MiB.
pub const RING_SLOTS: usize = 65_536;
/// Prints that are remembered for busts: a whole day of a quiet market, half a minute of 10,000 a
/// second.
const REMEMBERED_PRINTS: usize = 262_144;

/// How much of the past a market has room for. The room is allocated at once.
#[derive(Debug, Clone, Copy)]
pub struct MarketLimits {
    /// Slots of the ring.
    pub ring_slots: usize,
    /// Newest prints that a bust still finds.
    pub remembered_prints: usize,
}

impl Default for MarketLimits {
    fn default() -> Self {
        Self { ring_slots: RING_SLOTS, remembered_prints: REMEMBERED_PRINTS }
    }
}

/// Changed symbols of one batch that decide which shards it wakes. A batch with more wakes all.
const MAX_BATCH_SYMBOLS: usize = 64;

/// A trade, as the feed tells it.
#[derive(Debug, Clone, Copy)]
pub struct Print {
    /// The symbol.
    pub symbol: SymbolIndex,
    /// Price per share.
    pub price: PriceCents,
    /// Number of shares.
    pub num_shares: Shares,
    /// Whether the shares count. If not, another line has counted them.
    pub counts_volume: bool,
    /// Time of the trade.
    pub timestamp: TimestampMicros,
    /// Its sequence in the feed session.
    pub sequence: u64,
    /// The execution's [`execution_number`]; 0 if no bust can name it.
    pub execution: u64,
}

/// A bust: a trade is void.
#[derive(Debug, Clone, Copy)]
pub struct Bust {
    /// The symbol.
    pub symbol: SymbolIndex,
    /// The execution, as in [`Print::execution`].
    pub execution: u64,
    /// Its price, if the line tells it.
    pub price: Option<PriceCents>,
    /// How many shares are void, if the line tells it.
    pub num_shares: Option<Shares>,
    /// Whether these shares count. If not, another line has taken them out.
    pub counts_volume: bool,
    /// Its sequence in the feed session.
    pub sequence: u64,
}

/// A hash of an execution's id, by which busts find their prints. Never 0.
pub fn execution_number(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes()) | 1
}

/// The only writer of the market, on the feed thread. Never waits, and never allocates for a print.
pub struct MarketWriter {
    ring: RingWriter<TICK_WORDS>,
    table: Arc<LastValueTable>,
    directory: Arc<SharedDirectory>,
    /// The current directory, which only this thread replaces.
    current: Arc<Directory>,
    status: Arc<FeedStatus>,
    watchers: Watchers,
    ordinal: SessionOrdinal,
    days: Days,
    /// What an earlier process knew of symbols that have not been listed yet.
    saved: HashMap<Symbol, SavedSymbol>,
    batch: Vec<SymbolIndex>,
    batch_overflowed: bool,
}

/// A reader's view of the market. Cheap to clone.
#[derive(Clone)]
pub struct MarketReader {
    /// Ticks from now on.
    pub ring: RingReader<TICK_WORDS>,
    /// The last value of each symbol.
    pub table: Arc<LastValueTable>,
    /// The symbols.
    pub directory: Arc<SharedDirectory>,
    /// The state of the feed.
    pub status: Arc<FeedStatus>,
}

/// Creates an empty market: its writer and a first reader.
pub fn open_market(watchers: Watchers, limits: MarketLimits) -> (MarketWriter, MarketReader) {
    let (writer, reader) = ring(limits.ring_slots);
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
        days: Days::new(limits.remembered_prints),
        saved: HashMap::new(),
        batch: Vec::with_capacity(MAX_BATCH_SYMBOLS),
        batch_overflowed: false,
    };
    (writer, MarketReader { ring: reader, table, directory, status })
}

impl MarketWriter {
    /// Adds or replaces symbols.
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

    /// The current directory.
    pub fn directory(&self) -> &Directory {
        &self.current
    }

    fn take_directory(&mut self) {
        self.current = self.directory.load();
        let directory = Arc::clone(&self.current);
        for (index, listing) in directory.listed() {
            if let Some(saved) = self.saved.remove(&listing.symbol) {
                self.table.set(index, saved.value);
                self.days.restore(index, &saved);
            }
        }
        self.renew_days();
        self.days.end_listing();
    }

    /// Begins the next trading day of each symbol whose listing tells one.
    fn renew_days(&mut self) {
        let directory = Arc::clone(&self.current);
        self.days.begin_listing();
        for (index, listing) in directory.listed() {
            let value = self.table.get(index);
            if let Some(figures) = self.days.renew(index, listing, value.volume) {
                self.table.set(index, with_figures(value, figures));
            }
        }
    }

    /// The lines that follow belong to another feed session, which an exchange begins at each of its
    /// starts. `is_list_newer`: its list has been read since.
    pub fn begin_numbering(&mut self, is_list_newer: bool) {
        self.days.begin_numbering();
        self.renew_days();
        if is_list_newer {
            self.days.end_numbering();
        }
    }

    /// Whether some trading day has ended by this time of the exchange, so that the next one may be
    /// listed.
    pub fn is_day_over(&self, now: TimestampMicros) -> bool {
        self.days.is_over(now)
    }

    /// What is known up to `sequence` of a feed session, for the next process to go on from.
    pub fn checkpoint(&self, session: &CompactString, sequence: u64) -> Checkpoint {
        let saved = |(index, listing): (SymbolIndex, &Listing)| {
            let value = self.table.get(index);
            let is_known = value.has_price() || value.open_cents != 0;
            is_known.then(|| self.days.save(index, listing.symbol, value))
        };
        // What waits to be listed is kept, in case the list could not be read.
        let waiting = self.saved.values().cloned();
        let symbols = self.current.listed().filter_map(saved).chain(waiting).collect();
        Checkpoint { session: session.clone(), sequence, symbols }
    }

    /// Goes on from what an earlier process knew.
    pub fn restore(&mut self, checkpoint: Checkpoint) {
        let symbols = checkpoint.symbols.into_iter().map(|saved| (saved.symbol, saved));
        self.saved = symbols.collect();
    }

    /// The index of a listed symbol.
    pub fn index_of(&self, symbol: &Symbol) -> Option<SymbolIndex> {
        self.current.index_of(symbol)
    }

    /// Another feed session follows, from `first_sequence` on.
    pub fn begin_session(&mut self, session: &str, first_sequence: u64) {
        self.ordinal = self.status.begin_session(session, first_sequence);
    }

    /// The feed is connected, or lost. Every stream is told.
    pub fn set_up(&self, up: bool) {
        self.status.set_up(up);
        self.watchers.wake_all();
    }

    /// Takes a print: into the table first, then into the ring, so that a reader of the tick finds its
    /// value.
    pub fn print(&mut self, print: &Print) {
        let cents = print.price.cents();
        let mut value = self.table.get(print.symbol);
        let changed = value.price_cents != cents;
        value.price_cents = cents;
        value.timestamp = print.timestamp;
        (value.last_ordinal, value.last_sequence) = (self.ordinal, print.sequence);
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

    /// Takes a void trade out of the last price and the day's figures.
    pub fn bust(&mut self, bust: &Bust) {
        let Bust { symbol, execution, .. } = *bust;
        let given = (bust.price.map(PriceCents::cents), bust.num_shares);
        let Some(taken) = self.days.take_back(symbol, execution, given) else { return };
        let TakenBack { shares, is_of_day, .. } = taken;
        let mut value = self.table.get(symbol);
        let counted = if bust.counts_volume && is_of_day { shares } else { 0 };
        // Saturating: a bust of a print that is not remembered may tell more shares than counted.
        value.volume = value.volume.saturating_sub(counted);
        let mut value = with_figures(value, self.days.figures(symbol, value.volume));
        let last = taken.new_last.filter(|last| last.cents != value.price_cents);
        if let Some(last) = last {
            value.price_cents = last.cents;
            value.timestamp = TimestampMicros::new(last.micros);
            (value.changed_ordinal, value.changed_sequence) = (self.ordinal, bust.sequence);
            (value.last_ordinal, value.last_sequence) = (self.ordinal, bust.sequence);
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

    /// Ends a batch: wakes each shard that sleeps and watches one of the changed symbols, once.
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
        let (mut writer, mut reader) = open_market(Watchers::default(), MarketLimits::default());
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
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
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
        let (mut writer, mut reader) = open_market(Watchers::default(), MarketLimits::default());
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
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
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
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
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
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
        let open = PriceCents::new(120).ok();
        writer.replace_list(&[Listing { open, ..listing("SPY") }]).unwrap();
        assert_eq!(figures(&reader), (0, 0, 0, 0, 0));
        writer.print(&print(0, 100, 2));
        assert_eq!(figures(&reader), (100, 120, 120, 100, 100));
    }

    #[test]
    fn figures_go_on_after_a_restart_and_busts_of_earlier_prints_count() {
        let (mut writer, _reader) = open_market(Watchers::default(), MarketLimits::default());
        let listed = Listing { session: session(1, 100), ..listing("SPY") };
        writer.replace_list(std::slice::from_ref(&listed)).unwrap();
        for (sequence, cents) in [(1, 100), (2, 150), (3, 50)] {
            writer.print(&print(0, cents, sequence));
        }
        let file = writer.checkpoint(&"7".into(), 3).encode();
        let (mut writer, reader) = open_market(Watchers::default(), MarketLimits::default());
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
