//! The store of candles, for its one writer and any number of readers; and what they ask for.

use std::path::PathBuf;
use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};

use super::database::CandleDatabase;
use crate::index::IndexError;
use crate::market::candles::{
    Candle, CandleOrder, ChangedCandles, Derived, FeedMark, Interval, MINUTE_MICROS, Minute,
    Stretch, Stretches,
};
use crate::types::{Symbol, TimestampMicros};

/// Candles of minutes that one page reads: two weeks of a symbol that trades in every minute.
const MAX_READ: usize = 20_000;
/// Most missing stretches that a page tells.
const MAX_TOLD: usize = 100;

/// The store. Clones share it.
#[derive(Clone)]
pub struct CandleStore(Arc<Shared>);

struct Shared {
    directory: PathBuf,
    /// `None` while it cannot be used.
    database: ArcSwapOption<CandleDatabase>,
    /// What is missing of the stored candles.
    missing: ArcSwap<Stretches>,
}

/// Selects a page of a symbol's candles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandleQuery {
    pub symbol: Symbol,
    pub interval: Interval,
    /// Only candles that begin at this time or later.
    pub from: Option<TimestampMicros>,
    /// Only candles that begin before this time.
    pub to: Option<TimestampMicros>,
    pub order: CandleOrder,
    /// Only candles that follow the one that begins here.
    pub after: Option<Minute>,
    pub limit: usize,
}

/// A page of candles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CandlePage {
    /// The candles by their beginnings; partial if not all trades of their time were seen.
    pub candles: Vec<(Minute, Candle)>,
    /// The last candle, if there may be more.
    pub next: Option<Minute>,
    /// Stretches among these candles of which prints may be missing.
    pub missing: Vec<Stretch>,
}

impl CandleStore {
    /// The store in a directory, not opened yet.
    pub fn new(directory: PathBuf) -> Self {
        let (database, missing) = (ArcSwapOption::empty(), ArcSwap::default());
        Self(Arc::new(Shared { directory, database, missing }))
    }

    /// Opens it, if it is not open; returns the place in the feed that its candles cover.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn open(&self) -> Result<FeedMark, IndexError> {
        let database = match self.0.database.load_full() {
            Some(database) => database,
            None => Arc::new(CandleDatabase::open(&self.0.directory)?),
        };
        let state = database.state()?;
        self.tell_missing(&state.missing);
        self.0.database.store(Some(database));
        Ok(state.mark)
    }

    /// Writes what has changed. Only its one writer calls this.
    ///
    /// # Errors
    /// The store cannot be used, or not be written.
    pub fn write(&self, changed: &ChangedCandles) -> Result<(), IndexError> {
        let database = self.database().ok_or(IndexError::Reopening)?;
        database.commit(changed)?;
        self.tell_missing(&changed.state.missing);
        Ok(())
    }

    /// For its one writer.
    pub(super) fn database(&self) -> Option<Arc<CandleDatabase>> {
        self.0.database.load_full()
    }

    /// Nobody can read until it is opened again.
    pub(super) fn close(&self) {
        self.0.database.store(None);
    }

    pub(super) fn tell_missing(&self, missing: &Stretches) {
        if **self.0.missing.load() != *missing {
            self.0.missing.store(Arc::new(missing.clone()));
        }
    }

    /// Reads a page. It may be short although there are more: what one page reads is bounded.
    ///
    /// # Errors
    /// The store cannot be used, or not be read.
    pub fn page(&self, query: &CandleQuery) -> Result<CandlePage, IndexError> {
        let database = self.database().ok_or(IndexError::Reopening)?;
        let CandleQuery { symbol, interval, order, limit, .. } = *query;
        let (from, to) = query.minutes();
        let mut derived = Derived::new(interval, order, limit, MAX_READ);
        let mut has_more = false;
        if from < to {
            database.scan(symbol, (from, to), order, &mut |minute, candle| {
                has_more = !derived.take(minute, candle);
                !has_more
            })?;
        }
        let missing = self.0.missing.load();
        let mut candles = derived.candles();
        for (start, candle) in &mut candles {
            let (from, to) = span(*start, interval);
            candle.is_partial |= missing.iter().any(|one| one.touches(symbol, from, to));
        }
        let next = candles.last().map(|(start, _)| *start).filter(|_| has_more);
        let (from, to) = covered((from, to), (order, interval), next);
        let told = missing.iter().filter(|one| one.touches(symbol, from, to)).rev();
        let mut told: Vec<Stretch> = told.take(MAX_TOLD).copied().collect();
        told.reverse();
        Ok(CandlePage { candles, next, missing: told })
    }
}

/// The time of a candle: its first and its last microsecond.
fn span(start: Minute, interval: Interval) -> (TimestampMicros, TimestampMicros) {
    let micros = u64::from(interval.minutes()) * MINUTE_MICROS;
    (start.start(), start.start().saturating_add_micros(micros - 1))
}

/// The time that a page covers, up to the candle that the next one follows.
fn covered(
    (from, to): (Minute, Minute),
    (order, interval): (CandleOrder, Interval),
    next: Option<Minute>,
) -> (TimestampMicros, TimestampMicros) {
    let last = Minute(to.0.saturating_sub(1)).start().saturating_add_micros(MINUTE_MICROS - 1);
    match (order, next) {
        (_, None) => (from.start(), last),
        (CandleOrder::NewestFirst, Some(next)) => (next.start(), last),
        (CandleOrder::OldestFirst, Some(next)) => (from.start(), span(next, interval).1),
    }
}

impl CandleQuery {
    /// The minutes of its candles: from the first, up to but without the second.
    fn minutes(&self) -> (Minute, Minute) {
        let minutes = self.interval.minutes();
        // The first beginning of a candle at this time or later.
        let at_or_after = |time: TimestampMicros| {
            let minute = time.micros().div_ceil(MINUTE_MICROS);
            let start = minute.div_ceil(u64::from(minutes)) * u64::from(minutes);
            Minute(u32::try_from(start).unwrap_or(u32::MAX))
        };
        let from = self.from.map_or(Minute(0), at_or_after);
        let to = self.to.map_or(Minute(u32::MAX), at_or_after);
        match (self.order, self.after) {
            (_, None) => (from, to),
            (CandleOrder::NewestFirst, Some(after)) => (from, to.min(after)),
            (CandleOrder::OldestFirst, Some(after)) => {
                (from.max(Minute(after.0.saturating_add(minutes))), to)
            }
        }
    }
}

impl std::fmt::Debug for CandleStore {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("CandleStore")
            .field("directory", &self.0.directory)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::market::candles::{BookState, DAY_MINUTES};

    const DAY: u32 = 20_000 * DAY_MINUTES;

    fn symbol(name: &str) -> Symbol {
        Symbol::new(name).unwrap()
    }

    fn query(interval: Interval, order: CandleOrder, limit: usize) -> CandleQuery {
        CandleQuery {
            symbol: symbol("IBM"),
            interval,
            from: None,
            to: None,
            order,
            after: None,
            limit,
        }
    }

    /// The beginnings of all candles, over all pages.
    fn starts(store: &CandleStore, mut query: CandleQuery) -> Vec<u32> {
        let mut starts = Vec::new();
        loop {
            let page = store.page(&query).unwrap();
            assert!(page.candles.len() <= query.limit);
            starts.extend(page.candles.iter().map(|(start, _)| start.0));
            query.after = page.next;
            if page.next.is_none() {
                return starts;
            }
        }
    }

    #[test]
    fn pages_of_all_intervals_over_days_and_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let store = CandleStore::new(directory.path().join("candles"));
        assert!(store.page(&query(Interval::Day, CandleOrder::default(), 1)).is_err());
        assert_eq!(store.open().unwrap(), FeedMark::default());
        let minutes =
            [DAY, DAY + 1, DAY + 59, DAY + 60, DAY + 9 * DAY_MINUTES, DAY + 30 * DAY_MINUTES];
        let mut candles = Vec::new();
        for minute in minutes.map(Minute) {
            candles.push(((symbol("IBM"), minute), Some(Candle::of(i64::from(minute.0), 1))));
            candles.push(((symbol("IB"), minute), Some(Candle::of(1, 1))));
        }
        let time = |minute: u32| Minute(minute).start();
        let stretch = Stretch { symbol: None, from: time(DAY + 59), to: time(DAY + 59) };
        let mark = FeedMark { numbering: 3, sequence: 9 };
        let state = BookState { mark, at: time(DAY), missing: [stretch].into_iter().collect() };
        let database = store.database().unwrap();
        database.commit(&ChangedCandles { candles, state }).unwrap();
        database.persist().unwrap();
        drop((database, store));

        let store = CandleStore::new(directory.path().join("candles"));
        assert_eq!(store.open().unwrap(), mark);
        for limit in [1, 2, 100] {
            for (interval, expected) in [
                (Interval::Minute, minutes.to_vec()),
                (Interval::Hour, vec![DAY, DAY + 60, minutes[4], minutes[5]]),
                (Interval::Day, vec![DAY, minutes[4], minutes[5]]),
            ] {
                let upwards = query(interval, CandleOrder::OldestFirst, limit);
                assert_eq!(starts(&store, upwards), expected);
                let mut downwards =
                    starts(&store, query(interval, CandleOrder::NewestFirst, limit));
                downwards.reverse();
                assert_eq!(downwards, expected);
                let within = CandleQuery {
                    from: Some(time(DAY + 60)),
                    to: Some(time(minutes[5])),
                    ..upwards
                };
                let expected: Vec<u32> =
                    expected.into_iter().filter(|at| (DAY + 60..minutes[5]).contains(at)).collect();
                assert_eq!(starts(&store, within), expected);
            }
        }
        let page = store.page(&query(Interval::Hour, CandleOrder::OldestFirst, 2)).unwrap();
        let partial: Vec<bool> = page.candles.iter().map(|(_, candle)| candle.is_partial).collect();
        assert_eq!((partial, page.missing), (vec![true, false], vec![stretch]));
        assert_eq!(page.candles[0].1.trades, 3);

        let database = store.database().unwrap();
        database.drop_before(20_009).unwrap();
        let all = query(Interval::Minute, CandleOrder::OldestFirst, 100);
        assert_eq!(starts(&store, all), minutes[4..]);
    }
}
