//! The database: a keyspace for each period of some days, dropped as a whole.

use std::collections::BTreeMap;
use std::path::Path;

use arc_swap::ArcSwap;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode, Readable};

use super::encoding::{
    Day, day_of, decode, decode_state, encode, encode_state, key, key_of, minute_of,
};
use crate::index::IndexError;
use crate::index::thread_priority::lower_priority;
use crate::market::candles::{BookState, Candle, CandleKey, CandleOrder, ChangedCandles, Minute};
use crate::types::Symbol;

/// Days of a period.
const PERIOD_DAYS: u16 = 8;
const PERIOD_PREFIX: &str = "candles-";
const STATE_SPACE: &str = "state";
const STATE_KEY: &[u8] = b"state";
/// Most bytes of read blocks in memory: some hundred days of a symbol.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// Candles of a second that fill it: more than a hundred thousand.
const MEMTABLE_BYTES: u64 = 8 * 1024 * 1024;
const JOURNAL_BYTES: u64 = 64 * 1024 * 1024;
/// Table files that stay open.
const MAX_FILES: usize = 64;
/// No minute of a day comes after it.
const AFTER_DAY: u16 = u16::MAX;

type Period = u16;

pub(super) struct CandleDatabase {
    database: Database,
    state: Keyspace,
    /// Replaced as a whole, by the only writer.
    periods: ArcSwap<BTreeMap<Period, Keyspace>>,
}

fn period_of(day: Day) -> Period {
    day / PERIOD_DAYS
}

impl CandleDatabase {
    /// Opens it, or creates it. All that is readable afterwards is durable.
    pub(super) fn open(directory: &Path) -> Result<Self, IndexError> {
        // On a thread of its own: fjall's workers inherit the priority of the thread that starts them, and
        // it asserts here and there what files should hold.
        let opened = std::thread::scope(|scope| {
            let open = || {
                lower_priority();
                Self::open_unguarded(directory)
            };
            scope.spawn(open).join()
        });
        opened.unwrap_or_else(|_panic| {
            Err(IndexError::StorePanicked {
                message: "the database of candles is damaged".to_owned(),
            })
        })
    }

    fn open_unguarded(directory: &Path) -> Result<Self, IndexError> {
        let database = Database::builder(directory)
            .cache_size(CACHE_BYTES)
            .worker_threads(1)
            .max_cached_files(Some(MAX_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            .manual_journal_persist(true)
            .open()
            .map_err(IndexError::store("open"))?;
        let state = open_space(&database, STATE_SPACE)?;
        let mut periods = BTreeMap::new();
        for name in database.list_keyspace_names() {
            let period = name.strip_prefix(PERIOD_PREFIX).and_then(|period| period.parse().ok());
            if let Some(period) = period {
                periods.insert(period, open_space(&database, &name)?);
            }
        }
        Ok(Self { database, state, periods: ArcSwap::from_pointee(periods) })
    }

    pub(super) fn state(&self) -> Result<BookState, IndexError> {
        let state = self.state.get(STATE_KEY).map_err(IndexError::store("read"))?;
        state.map_or_else(|| Ok(BookState::default()), |bytes| decode_state(&bytes))
    }

    pub(super) fn get(&self, (symbol, minute): CandleKey) -> Result<Option<Candle>, IndexError> {
        let periods = self.periods.load();
        let space = day_of(minute).and_then(|day| periods.get(&period_of(day)));
        let (Some(space), Some(key)) = (space, key_of(symbol, minute)) else { return Ok(None) };
        let found = space.get(key).map_err(IndexError::store("read"))?;
        found.map(|bytes| decode(&bytes)).transpose()
    }

    /// Writes candles and the state, atomically.
    pub(super) fn commit(&self, changed: &ChangedCandles) -> Result<(), IndexError> {
        let count = changed.candles.len() + 1;
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), count);
        for ((symbol, minute), candle) in &changed.candles {
            // Minutes after 2149 have no key.
            let (Some(day), Some(key)) = (day_of(*minute), key_of(*symbol, *minute)) else {
                continue;
            };
            let space = self.period(period_of(day))?;
            match candle {
                Some(candle) => batch.insert(&space, key, encode(candle)),
                None => batch.remove(&space, key),
            }
        }
        batch.insert(&self.state, STATE_KEY, encode_state(&changed.state));
        batch.commit().map_err(IndexError::store("write"))?;
        // Survives the end of the process, if not that of the machine.
        self.database.persist(PersistMode::Buffer).map_err(IndexError::store("write"))
    }

    fn period(&self, period: Period) -> Result<Keyspace, IndexError> {
        if let Some(space) = self.periods.load().get(&period) {
            return Ok(space.clone());
        }
        let space = open_space(&self.database, &format!("{PERIOD_PREFIX}{period}"))?;
        let mut periods = BTreeMap::clone(&self.periods.load());
        periods.insert(period, space.clone());
        self.periods.store(periods.into());
        Ok(space)
    }

    pub(super) fn persist(&self) -> Result<(), IndexError> {
        self.database.persist(PersistMode::SyncData).map_err(IndexError::store("sync"))
    }

    /// Drops the periods of which all days are before this one.
    pub(super) fn drop_before(&self, day: Day) -> Result<(), IndexError> {
        let mut periods = BTreeMap::clone(&self.periods.load());
        let old: Vec<Period> = periods.range(..period_of(day)).map(|(period, _)| *period).collect();
        for period in old {
            let Some(space) = periods.remove(&period) else { continue };
            self.periods.store(periods.clone().into());
            self.database.delete_keyspace(space).map_err(IndexError::store("drop a space"))?;
        }
        Ok(())
    }

    /// Visits the candles of a symbol from a minute on, up to but without another, until `visit` says no.
    pub(super) fn scan(
        &self,
        symbol: Symbol,
        (from, to): (Minute, Minute),
        order: CandleOrder,
        visit: &mut dyn FnMut(Minute, &Candle) -> bool,
    ) -> Result<(), IndexError> {
        let snapshot = self.database.snapshot();
        let periods = self.periods.load_full();
        let mut days: Vec<(Day, &Keyspace)> = periods
            .iter()
            .flat_map(|(period, space)| {
                let first = period.saturating_mul(PERIOD_DAYS);
                (0..PERIOD_DAYS).map(move |day| (first.saturating_add(day), space))
            })
            .filter(|(day, _)| {
                day_of(from).is_some_and(|from| from <= *day)
                    && day_of(to).is_none_or(|to| *day <= to)
            })
            .collect();
        if order == CandleOrder::NewestFirst {
            days.reverse();
        }
        for (day, space) in days {
            let mut range = snapshot.range(space, key(day, symbol, 0)..key(day, symbol, AFTER_DAY));
            loop {
                let next = match order {
                    CandleOrder::NewestFirst => range.next_back(),
                    CandleOrder::OldestFirst => range.next(),
                };
                let Some(entry) = next else { break };
                let (key, value) = entry.into_inner().map_err(IndexError::store("read"))?;
                let minute = minute_of(&key)?;
                if minute < from || minute >= to {
                    continue;
                }
                if !visit(minute, &decode(&value)?) {
                    return Ok(());
                }
            }
        }
        Ok(())
    }
}

fn open_space(database: &Database, name: &str) -> Result<Keyspace, IndexError> {
    let options = || {
        KeyspaceCreateOptions::default()
            .manual_journal_persist(true)
            .max_memtable_size(MEMTABLE_BYTES)
    };
    database.keyspace(name, options).map_err(IndexError::store("open a space of"))
}
