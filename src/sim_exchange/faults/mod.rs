//! Makes the exchange misbehave on request, to test how Longbow reacts.
//!
//! `kinds` names every fault. `settings` says how often each happens, as text of `--fault` and as
//! JSON of `PUT /admin/faults`. `chance` and `dice` draw, each kind from a random stream of its own
//! and all from one seed. The faults themselves: `answers` (of requests), `orders` (refusals, early
//! fills, busts and unasked ends), `feed` (of lines). `fault_routes.rs` has the routes that control it:
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/faults` | `{settings, done, restarts, session}`: the settings (for `next:N` what is left), how often each fault has happened, the number of restarts, and the feed session |
//! | `PUT /admin/faults` with the whole settings | the same. Omitted faults are off, all draws restart from the seed, and the counts continue; unknown fields and values out of range are a 400 |
//! | `POST /admin/restart` `{forgetMs?, keepSession?}` | `202`; then every connection is closed, this one first, and the exchange reopens its journal without the last `forgetMs` milliseconds. With `keepSession` its feed numbers lines from 1 under the same session name. `409` without a journal |
//! | `GET /admin/orders?after=` | `{orders}`: the accepted orders by id, at most 1,000 after `after`, for tests to compare with Longbow's records |
//!
//! The rules of the venue stay pure: faults are drawn around them. With no fault set, a request
//! costs one more atomic load than without this module.

mod answers;
mod chance;
mod dice;
mod feed;
mod kinds;
mod listings;
mod orders;
mod settings;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use serde::Serialize;

use dice::Die;

use crate::types::TimestampMicros;

pub use chance::{Chance, MillisRange};
pub use kinds::{FaultTable, FeedFaults, OrderFaults, RequestFaults};
pub use settings::{FaultError, FaultManner, FaultSettings};

pub(super) use settings::{MAX_FORGET_MILLIS, MAX_RECORD_LAG_MILLIS};

pub(super) use answers::RequestKind;
pub(super) use feed::{Distortion, Step, repeat_renumbered};
pub(super) use listings::odd_listings;
pub(super) use orders::{OrderFaultInjector, PendingActions};

/// The faults of the running exchange. Outlives its restarts.
#[derive(Debug)]
pub(super) struct Faults {
    active: AtomicBool,
    restarts: AtomicU64,
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    settings: FaultSettings,
    dice: FaultTable<Die>,
    /// Draws how long and how far.
    amounts: Xoshiro256PlusPlus,
}

/// Selects the die of a kind.
type Kind = fn(&mut FaultTable<Die>) -> &mut Die;

/// The answer to `GET /admin/faults`.
#[derive(Debug, Serialize)]
pub(super) struct FaultReport {
    settings: FaultSettings,
    done: FaultTable<u64>,
    restarts: u64,
    session: String,
}

impl Faults {
    pub(super) fn new(settings: FaultSettings) -> Self {
        let faults = Self {
            active: AtomicBool::new(false),
            restarts: AtomicU64::new(0),
            table: Mutex::new(Table {
                settings: FaultSettings::default(),
                dice: FaultTable::default(),
                amounts: Xoshiro256PlusPlus::seed_from_u64(0),
            }),
        };
        faults.set(settings);
        faults
    }

    /// Replaces the settings and restarts all draws; the counts continue.
    pub(super) fn set(&self, settings: FaultSettings) {
        let mut table = self.lock();
        let (seed, chances) = (settings.seed, settings.chances());
        table.dice = chances.zip(&table.dice, |group, kind, &chance, old| {
            let mut die = Die::new(chance, seed, &format!("{group}.{kind}"));
            die.done = old.done;
            die
        });
        table.amounts = Xoshiro256PlusPlus::seed_from_u64(seed);
        let any = settings.any();
        table.settings = settings;
        self.active.store(any, Ordering::Relaxed);
    }

    /// Whether any fault is set. With none set, this is the only cost.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn manner(&self) -> FaultManner {
        self.lock().settings.manner
    }

    /// The exchange's own time at this true time.
    pub(super) fn clock(&self, true_time: TimestampMicros) -> TimestampMicros {
        if !self.is_active() {
            return true_time;
        }
        let ahead_micros = self.manner().clock_ahead_ms.saturating_mul(1_000);
        TimestampMicros::new(true_time.micros().saturating_add_signed(ahead_micros))
    }

    pub(super) fn note_restart(&self) {
        self.restarts.fetch_add(1, Ordering::Relaxed);
    }

    /// Draws whether a fault happens; the caller reports with [`Self::count`] that it did.
    fn roll(&self, kind: Kind) -> bool {
        self.is_active() && kind(&mut self.lock().dice).roll()
    }

    /// Counts a fault that happened.
    fn count(&self, kind: Kind) {
        kind(&mut self.lock().dice).done += 1;
    }

    /// Draws whether a fault that cannot fail happens, and counts it.
    fn hits(&self, kind: Kind) -> bool {
        let hit = self.roll(kind);
        if hit {
            self.count(kind);
        }
        hit
    }

    /// Draws whether a list of symbols has invalid entries.
    pub(super) fn hits_listings(&self) -> bool {
        self.hits(|dice| &mut dice.feed.odd_listings)
    }

    /// Draws a number from `least` to `most`.
    fn draw(&self, least: u64, most: u64) -> u64 {
        self.lock().amounts.random_range(least..=most.max(least))
    }

    fn draw_time(&self, range: MillisRange) -> Duration {
        Duration::from_millis(self.draw(u64::from(range.least), u64::from(range.most)))
    }

    pub(super) fn report(&self, session: String) -> FaultReport {
        let table = self.lock();
        let left = table.dice.map(|die| die.chance);
        let FaultTable { submits, cancels, queries, orders, feed } = left;
        let FaultSettings { seed, manner, .. } = table.settings;
        FaultReport {
            settings: FaultSettings { seed, submits, cancels, queries, orders, feed, manner },
            done: table.dice.map(|die| die.done),
            restarts: self.restarts.load(Ordering::Relaxed),
            session,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // A panic with the lock held ends the only thread.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
