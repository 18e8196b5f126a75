//! The thread `candles`: makes candles of the events of the feed, and stores them.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::database::CandleDatabase;
use super::history::{CandleHistorySender, Filled};
use super::metrics::CandleMetrics;
use super::store::CandleStore;
use crate::index::IndexError;
use crate::market::candles::{
    CANDLE_EVENT_WORDS, Candle, CandleBook, CandleEvent, CandleEventKind, CandleKey, CandleOrder,
    DAY_MINUTES, Lookups, Minute, Stretch,
};
use crate::market::{Directory, SharedDirectory};
use crate::shutdown::Shutdown;
use crate::sync::{Lagged, RingReader};
use crate::types::{Clock, Symbol, SymbolIndex, TimestampMicros};

/// How often events are taken. The ring holds those of 650 ms at 100,000 prints a second.
const TAKE_INTERVAL: Duration = Duration::from_millis(100);
/// How often what has changed is stored: the most that readers lag behind.
const STORE_INTERVAL: Duration = Duration::from_secs(1);
/// How often it is made durable. After a crash the feed is read again from there.
const PERSIST_INTERVAL: Duration = Duration::from_secs(5);
/// How often a store that failed is opened again.
const REOPEN_INTERVAL: Duration = Duration::from_secs(5);
/// Prints that are remembered for busts, at 150 bytes each.
const REMEMBERED_PRINTS: usize = 262_144;
/// How far ahead of our clock a print may be: no two clocks differ by more.
const MOST_AHEAD_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// How long after its end a missing stretch is asked about: by then its minutes are over at the exchange, too.
const SETTLED_MICROS: u64 = 2 * 60 * 1_000_000;
/// Pause before the exchange is asked again that did not answer.
const ASK_AGAIN_INTERVAL: Duration = Duration::from_secs(60);

/// Settings of the candles.
#[derive(Debug, Clone, Copy)]
pub struct CandleOptions {
    /// How many days they are kept.
    pub keep_days: u16,
}

/// Makes candles. Run [`run`](Self::run) on the thread `candles`.
pub struct CandleMaker {
    store: CandleStore,
    events: RingReader<CANDLE_EVENT_WORDS>,
    directory: Arc<SharedDirectory>,
    options: CandleOptions,
    metrics: CandleMetrics,
    history: CandleHistorySender,
    asked: Asked,
}

/// What the exchange was asked about.
#[derive(Debug, Default)]
struct Asked {
    is_waiting: bool,
    /// Not before this time again.
    not_before: Option<Instant>,
    /// Stretches that it does not know either.
    not_known: Vec<Stretch>,
}

/// What the book looks up, while the directory is this one.
struct Known<'a> {
    directory: &'a Directory,
    database: &'a CandleDatabase,
    /// The first read that failed.
    failed: std::cell::RefCell<Option<IndexError>>,
}

impl Lookups for Known<'_> {
    fn name(&self, symbol: SymbolIndex) -> Option<Symbol> {
        self.directory.listing(symbol).map(|listing| listing.symbol)
    }

    fn stored(&self, key: CandleKey) -> Option<Candle> {
        self.database.get(key).unwrap_or_else(|error| {
            self.failed.borrow_mut().get_or_insert(error);
            None
        })
    }
}

impl CandleMaker {
    /// A maker of the candles in a store, from these events on.
    pub fn new(
        store: CandleStore,
        events: RingReader<CANDLE_EVENT_WORDS>,
        directory: Arc<SharedDirectory>,
        (options, metrics): (CandleOptions, CandleMetrics),
        history: CandleHistorySender,
    ) -> Self {
        let asked = Asked::default();
        Self { store, events, directory, options, metrics, history, asked }
    }

    /// Makes candles until the process stops. Without a store it goes on trying to open it: no order and no
    /// price depends on candles.
    pub fn run(mut self, shutdown: &Shutdown) {
        let mut was_lost = false;
        loop {
            let ended = self.store.open().and_then(|_mark| self.follow(was_lost, shutdown));
            let Err(error) = ended else { return };
            let error: &dyn std::error::Error = &error;
            if !was_lost {
                tracing::error!(error, "candles cannot be stored; retrying");
            }
            self.metrics.healthy.set(0);
            self.store.close();
            was_lost = true;
            if shutdown.wait_timeout(REOPEN_INTERVAL) {
                return;
            }
        }
    }

    /// Follows the feed. `was_lost`: some of what it told before is not stored.
    fn follow(&mut self, was_lost: bool, shutdown: &Shutdown) -> Result<(), IndexError> {
        let Some(database) = self.store.database() else { return Err(IndexError::Reopening) };
        let mut book = CandleBook::new(database.state()?, REMEMBERED_PRINTS);
        if was_lost {
            book.miss();
        }
        let mut stored = book.state().clone();
        self.metrics.healthy.set(1);
        let mut store_at = Instant::now() + STORE_INTERVAL;
        let mut persist_at = Instant::now() + PERSIST_INTERVAL;
        loop {
            let is_last = shutdown.wait_timeout(TAKE_INTERVAL);
            self.take_events(&mut book, &database)?;
            self.take_history(&mut book, &database)?;
            let now = Instant::now();
            if is_last || now >= store_at {
                store_at = now + STORE_INTERVAL;
                let changed = book.take_changed();
                if !changed.candles.is_empty() || changed.state != stored {
                    self.store.write(&changed)?;
                    self.metrics.written.inc_by(changed.candles.len() as u64);
                    stored = changed.state;
                }
            }
            if is_last || now >= persist_at {
                persist_at = now + PERSIST_INTERVAL;
                database.persist()?;
                self.forget_old(&mut book, &database)?;
                self.ask_about_missing(&book);
            }
            if is_last {
                return Ok(());
            }
        }
    }

    fn forget_old(
        &self,
        book: &mut CandleBook,
        database: &CandleDatabase,
    ) -> Result<(), IndexError> {
        let oldest = self.oldest();
        book.forget_before(oldest.start());
        // A day after 2149 is none that there are candles of.
        u16::try_from(oldest.0 / DAY_MINUTES).map_or(Ok(()), |day| database.drop_before(day))
    }

    /// The first minute of the days that are kept.
    fn oldest(&self) -> Minute {
        let today = Minute::of(Clock.moment().wall).0 / DAY_MINUTES;
        let oldest = today.saturating_sub(u32::from(self.options.keep_days));
        Minute(oldest * DAY_MINUTES)
    }

    fn take_events(
        &mut self,
        book: &mut CandleBook,
        database: &CandleDatabase,
    ) -> Result<(), IndexError> {
        let directory = self.directory.load();
        let known = Known { directory: &directory, database, failed: None.into() };
        let busts_before = book.unknown_busts();
        let now = Clock.moment().wall;
        let times = self.oldest().start()..=now.saturating_add_micros(MOST_AHEAD_MICROS);
        loop {
            match self.events.try_next() {
                Ok(Some(words)) => {
                    let Some(event) = CandleEvent::from_words(&words) else {
                        unreachable!("the ring has events: {words:?}")
                    };
                    book.take(&self.credible(event, &times), &known);
                }
                Ok(None) => break,
                Err(Lagged { missed }) => {
                    self.metrics.lost_events.inc_by(missed);
                    book.miss();
                }
            }
        }
        self.metrics.unknown_busts.inc_by(book.unknown_busts() - busts_before);
        known.failed.into_inner().map_or(Ok(()), Err)
    }

    /// Asks the exchange about the next missing stretch that is over, one at a time.
    fn ask_about_missing(&mut self, book: &CandleBook) {
        let Asked { is_waiting, not_before, not_known } = &mut self.asked;
        if *is_waiting || not_before.is_some_and(|at| Instant::now() < at) {
            return;
        }
        let missing = &book.state().missing;
        not_known.retain(|known| missing.iter().any(|stretch| stretch == known));
        let now = Clock.moment().wall.micros();
        let is_over =
            |stretch: &&Stretch| stretch.to.micros().saturating_add(SETTLED_MICROS) <= now;
        let next = missing.iter().filter(is_over).find(|stretch| !not_known.contains(stretch));
        if let Some(stretch) = next {
            *is_waiting = self.history.wanted.try_send(*stretch).is_ok();
        }
    }

    fn take_history(
        &mut self,
        book: &mut CandleBook,
        database: &CandleDatabase,
    ) -> Result<(), IndexError> {
        while let Ok(filled) = self.history.filled.try_recv() {
            match filled {
                Filled::Symbol { symbol, minutes, candles } => {
                    replace(book, database, (symbol, minutes), candles)?;
                    continue;
                }
                Filled::Whole { stretch, since } => {
                    let Stretch { from, to, .. } = stretch;
                    tracing::info!(
                        from = from.micros(),
                        to = to.micros(),
                        "missing candles are filled in"
                    );
                    book.filled(&stretch, since);
                    let rest = since.filter(|since| *since > from);
                    let rest = rest.map(|since| Stretch { to: since.min(to), ..stretch });
                    self.asked.not_known.extend(rest);
                }
                Filled::NotKnown(stretch) => self.asked.not_known.push(stretch),
                Filled::Failed => {
                    self.asked.not_before = Some(Instant::now() + ASK_AGAIN_INTERVAL);
                }
            }
            self.asked.is_waiting = false;
        }
        Ok(())
    }

    /// A trade at a time that no candle is kept of counts in none.
    fn credible(
        &self,
        event: CandleEvent,
        times: &std::ops::RangeInclusive<TimestampMicros>,
    ) -> CandleEvent {
        match event.kind {
            CandleEventKind::Print(_) | CandleEventKind::Bust(_) if !times.contains(&event.at) => {
                self.metrics.odd_times.inc();
                let at = event.at.clamp(*times.start(), *times.end());
                CandleEvent { kind: CandleEventKind::Seen, at, ..event }
            }
            CandleEventKind::Print(_)
            | CandleEventKind::Bust(_)
            | CandleEventKind::Seen
            | CandleEventKind::Gap => event,
        }
    }
}

/// Takes over a symbol's candles of these minutes as the exchange tells them.
fn replace(
    book: &mut CandleBook,
    database: &CandleDatabase,
    (symbol, minutes): (Symbol, (Minute, Minute)),
    candles: Vec<(Minute, Candle)>,
) -> Result<(), IndexError> {
    // Minutes that the exchange has no candle of.
    let mut without = BTreeSet::new();
    database
        .scan(symbol, minutes, CandleOrder::OldestFirst, &mut |minute, _| without.insert(minute))?;
    for (minute, candle) in candles {
        without.remove(&minute);
        if minute >= minutes.0 {
            book.replace((symbol, minute), Some(candle));
        }
    }
    without.into_iter().for_each(|minute| book.replace((symbol, minute), None));
    Ok(())
}
