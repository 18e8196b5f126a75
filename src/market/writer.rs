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
use super::interest::PriceInterest;
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
    /// Up to which sequence of this session a symbol's value was handed over by another process.
    handed_to: HashMap<SymbolIndex, u64>,
    /// The highest of these sequences.
    handed_until: u64,
    /// The same, of symbols that have not been listed yet.
    handed_unlisted: HashMap<Symbol, u64>,
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
    /// Which symbols have current prices.
    pub interest: Arc<PriceInterest>,
}

impl MarketReader {
    /// The last price of a symbol that this process knows, and whether it is current.
    pub fn last_value(&self, index: SymbolIndex) -> (LastValue, bool) {
        let is_followed = self.interest.has(index);
        let value = self.table.get(index);
        if is_followed && value.has_price() {
            return (value, self.status.is_up());
        }
        let known = self.interest.known(index);
        (if known.timestamp > value.timestamp { known } else { value }, false)
    }
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
        handed_to: HashMap::new(),
        handed_until: 0,
        handed_unlisted: HashMap::new(),
        batch: Vec::with_capacity(MAX_BATCH_SYMBOLS),
        batch_overflowed: false,
    };
    let interest = Arc::new(PriceInterest::in_all());
    (writer, MarketReader { ring: reader, table, directory, status, interest })
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
            if let Some(sequence) = self.handed_unlisted.remove(&listing.symbol) {
                self.handed_to.insert(index, sequence);
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

    /// Goes on from what another process knew, up to which sequence of the current session.
    pub(super) fn goes_on_from(
        &mut self,
        symbols: Vec<SavedSymbol>,
        counted: HashMap<Symbol, u64>,
    ) {
        self.saved = symbols.into_iter().map(|saved| (saved.symbol, saved)).collect();
        self.handed_to.clear();
        self.handed_until = counted.values().copied().max().unwrap_or(0);
        self.handed_unlisted = counted;
        self.take_directory();
    }

    /// What an earlier process knew is of no use: another one knows better.
    pub fn forget_saved(&mut self) {
        self.saved.clear();
    }

    /// The current session's ordinal.
    pub fn ordinal(&self) -> SessionOrdinal {
        self.ordinal
    }

    /// The state of the feed, as readers see it.
    pub fn status(&self) -> &FeedStatus {
        &self.status
    }

    /// The last value of a symbol.
    pub fn last_value(&self, symbol: SymbolIndex) -> LastValue {
        self.table.get(symbol)
    }

    pub(super) fn set_value(&mut self, symbol: SymbolIndex, value: LastValue) {
        self.table.set(symbol, value);
    }

    /// The index of a listed symbol.
    pub fn index_of(&self, symbol: &Symbol) -> Option<SymbolIndex> {
        self.current.index_of(symbol)
    }

    /// Another feed session follows, from `first_sequence` on.
    pub fn begin_session(&mut self, session: &str, first_sequence: u64) {
        self.ordinal = self.status.begin_session(session, first_sequence);
        self.handed_to.clear();
        self.handed_unlisted.clear();
        self.handed_until = 0;
    }

    /// The feed is connected, or lost. Every stream is told.
    pub fn set_up(&self, up: bool) {
        self.status.set_up(up);
        self.watchers.wake_all();
    }

    /// Takes a print: into the table first, then into the ring, so that a reader of the tick finds its
    /// value.
    pub fn print(&mut self, print: &Print) {
        if self.is_handed(print.symbol, print.sequence) {
            return;
        }
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
        self.publish_value(print.symbol, &value, print.num_shares, print.sequence);
        if changed {
            self.note_changed(print.symbol);
        }
    }

    /// Whether another process has counted this line already.
    fn is_handed(&self, symbol: SymbolIndex, sequence: u64) -> bool {
        sequence <= self.handed_until
            && self.handed_to.get(&symbol).is_some_and(|handed| sequence <= *handed)
    }

    /// Takes a void trade out of the last price and the day's figures.
    pub fn bust(&mut self, bust: &Bust) {
        if self.is_handed(bust.symbol, bust.sequence) {
            return;
        }
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
            self.publish_value(symbol, &value, 0, bust.sequence);
            self.note_changed(symbol);
        }
    }

    fn publish_value(
        &mut self,
        symbol: SymbolIndex,
        value: &LastValue,
        shares: Shares,
        sequence: u64,
    ) {
        self.publish(Tick {
            symbol,
            ordinal: self.ordinal,
            sequence,
            price_cents: value.price_cents,
            num_shares: shares,
            timestamp: value.timestamp,
            follows_gap: false,
        });
    }

    pub(super) fn publish(&mut self, tick: Tick) {
        self.ring.publish(&tick.to_words());
    }

    pub(super) fn note_changed(&mut self, symbol: SymbolIndex) {
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
#[path = "writer_tests.rs"]
mod tests;
