//! Keeps the symbol directory equal to the exchange's list: decides when to read the list again,
//! and holds prints of symbols that are not listed yet.

use std::collections::HashSet;
use std::io;
use std::time::{Duration, Instant};

use super::super::symbol_list::SymbolList;
use super::lists::SymbolLists;
use super::metrics::{FeedMetrics, ListingCause};
use crate::market::{MarketWriter, Print};
use crate::types::{Symbol, TimestampMicros};

/// Time between two reads of the list when nothing asks for one sooner.
const LIST_INTERVAL: Duration = Duration::from_secs(60);
/// Least time between two reads.
const LEAST_INTERVAL: Duration = Duration::from_secs(1);
/// Longest time between two reads while reads fail or the next trading day is not listed yet.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Most names remembered as not listed; each triggers one read.
const MAX_MISSED: usize = 1_024;
/// Most prints held until their symbols are listed.
const MAX_WAITING: usize = 4_096;
/// Names of bad entries in one log line.
const LOGGED_ENTRIES: usize = 5;

/// The feed thread's view of the symbol list.
pub(super) struct Symbols {
    metrics: FeedMetrics,
    lists: Option<SymbolLists>,
    /// When to read the list again.
    due: Instant,
    /// When the list was last read.
    read: Option<Instant>,
    /// Whether the list was read for the current connection.
    is_list_newer: bool,
    /// Failed reads in a row.
    failures: u32,
    /// Reads in a row for a trading day that is not listed yet.
    looks_for_day: u32,
    missed: HashSet<Symbol>,
    waiting: Vec<(Symbol, Print)>,
    /// Bad entries of the last list, so that an unchanged list is logged once.
    left_out: (usize, usize),
}

impl Symbols {
    pub(super) fn new(metrics: FeedMetrics) -> Self {
        Self {
            metrics,
            lists: None,
            due: Instant::now(),
            read: None,
            is_list_newer: false,
            failures: 0,
            looks_for_day: 0,
            missed: HashSet::new(),
            waiting: Vec::new(),
            left_out: (0, 0),
        }
    }

    /// Enables reading; returns the hand-off for the list reader.
    pub(super) fn read_lists(&mut self) -> SymbolLists {
        self.lists.insert(SymbolLists::default()).clone()
    }

    /// A connection begins: requests the list and waits for it.
    pub(super) fn wait_for_list(
        &mut self,
        market: &mut MarketWriter,
        timeout: Duration,
        is_stopped: &dyn Fn() -> bool,
    ) {
        self.missed.clear();
        self.is_list_newer = false;
        let Some(lists) = &self.lists else { return };
        lists.request();
        if let Some(answer) = lists.wait(timeout, is_stopped) {
            self.is_list_newer = answer.is_ok();
            self.take(answer, market, 0);
        } else {
            self.due = Instant::now() + LONGEST_WAIT;
        }
    }

    /// Takes a list that has arrived, and requests the next when it is due.
    pub(super) fn keep_up(&mut self, now: Instant, market: &mut MarketWriter, sequence: u64) {
        let Some(lists) = &self.lists else { return };
        if let Some(answer) = lists.take() {
            self.take(answer, market, sequence);
        } else if now >= self.due {
            self.due = now + LIST_INTERVAL;
            lists.request();
        }
    }

    /// The feed's numbering changed.
    pub(super) fn begin_numbering(&mut self, market: &mut MarketWriter) {
        market.begin_numbering(self.is_list_newer);
    }

    /// The exchange's clock shows `time`: once the trading day is over, look for the next one.
    pub(super) fn note_time(&mut self, time: TimestampMicros, market: &MarketWriter) {
        if market.is_day_over(time) {
            let wait = LEAST_INTERVAL * 2_u32.saturating_pow(self.looks_for_day);
            self.read_within(wait.min(LONGEST_WAIT));
        } else {
            self.looks_for_day = 0;
        }
    }

    /// Holds a print of an unlisted symbol, which may be new, and has the list read.
    pub(super) fn note_unknown(&mut self, symbol: Symbol, print: Print) {
        if self.lists.is_none() {
            return;
        }
        if self.waiting.len() < MAX_WAITING {
            self.waiting.push((symbol, print));
        }
        if self.missed.len() < MAX_MISSED && self.missed.insert(symbol) {
            self.read_within(LEAST_INTERVAL);
        }
    }

    /// Schedules the next read at most `wait` after the last one.
    fn read_within(&mut self, wait: Duration) {
        let wanted = self.read.map_or_else(Instant::now, |read| read + wait);
        self.due = self.due.min(wanted);
    }

    fn take(&mut self, answer: io::Result<SymbolList>, market: &mut MarketWriter, sequence: u64) {
        let now = Instant::now();
        self.read = Some(now);
        self.looks_for_day = (self.looks_for_day + 1).min(u32::BITS);
        let known = market.directory().len();
        match answer {
            // An exchange with an empty list has not delisted everything.
            Ok(list) if list.listings.is_empty() && known > 0 => {
                self.fail(now, &io::Error::other("the list is empty"), known);
            }
            Ok(list) => {
                self.failures = 0;
                self.due = now + LIST_INTERVAL;
                self.list(&list, market);
                for (symbol, print) in std::mem::take(&mut self.waiting) {
                    if let Some(index) = market.index_of(&symbol) {
                        self.missed.remove(&symbol);
                        let sequence = sequence.max(print.sequence);
                        market.print(&Print { symbol: index, sequence, ..print });
                    }
                }
            }
            Err(error) => self.fail(now, &error, known),
        }
    }

    fn fail(&mut self, now: Instant, error: &io::Error, known: usize) {
        self.metrics.listings_failed.inc();
        if self.failures == 0 {
            tracing::error!(%error, known, "the list of symbols cannot be read; keeping the known symbols");
        }
        let wait = LEAST_INTERVAL * 2_u32.saturating_pow(self.failures);
        self.due = now + wait.min(LONGEST_WAIT);
        self.failures = (self.failures + 1).min(u32::BITS);
    }

    fn list(&mut self, list: &SymbolList, market: &mut MarketWriter) {
        let SymbolList { listings, unnamed, without_close } = list;
        for _ in unnamed {
            self.metrics.count_listing(ListingCause::Name);
        }
        for _ in without_close {
            self.metrics.count_listing(ListingCause::Close);
        }
        let left_out = (unnamed.len(), without_close.len());
        if left_out != self.left_out && left_out != (0, 0) {
            let first_of = |names: &mut dyn Iterator<Item = &str>| {
                names.take(LOGGED_ENTRIES).collect::<Vec<_>>().join(", ")
            };
            tracing::warn!(
                left_out = unnamed.len(),
                first_left_out = first_of(&mut unnamed.iter().map(String::as_str)),
                without_close = without_close.len(),
                first_without_close = first_of(&mut without_close.iter().map(Symbol::as_str)),
                "the list of symbols has entries with an invalid name or previous close"
            );
        }
        self.left_out = left_out;
        if let Err(full) = market.replace_list(listings) {
            self.metrics.count_listing(ListingCause::Full);
            tracing::error!(%full, "the symbol directory is full");
        }
        let symbols = i64::try_from(market.directory().len()).unwrap_or(i64::MAX);
        self.metrics.symbols.set(symbols);
    }
}
