//! An exchange that misbehaves on request, so that what Longbow does then can be tested.
//!
//! `kinds` names every fault; `settings` says how often each is to happen, as text of `--fault` and
//! as JSON of `PUT /admin/faults`; `chance` and `dice` draw, each kind from a stream of its own and
//! all from one seed. The faults themselves: `answers` (of requests), `orders` (refusals, early
//! fills, busts and ends unasked), `feed` (of lines). `admin` is the way in while it runs:
//!
//! | request | answer |
//! |---|---|
//! | `GET /admin/faults` | `{settings, done, restarts, session}`: what is set (of `next:N` what is left), how often each fault has happened, how often the exchange was restarted, its feed session |
//! | `PUT /admin/faults` with the whole settings | the same; what is left out is off; all draws begin anew from the seed, the counts go on; unknown fields and values out of range are a 400 |
//! | `POST /admin/restart` `{forgetMs?, keepSession?}` | `202`; then every connection, this one first, is closed and the exchange opens its journal again, without the last `forgetMs` milliseconds, and with `keepSession` its feed numbers its lines from 1 under the name that the session had; `409` without a journal |
//! | `GET /admin/orders?after=` | `{orders}`: the orders that were accepted and are remembered, by their ids, at most 1,000 after `after`: what a test compares with Longbow's own record |
//!
//! The rules of the venue stay pure: faults are drawn around them. With nothing set, a request
//! costs one atomic load more than without this module.

mod admin;
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

pub(super) use settings::MAX_RECORD_LAG_MILLIS;

pub(super) use admin::routes;
pub(super) use answers::RequestKind;
pub(super) use feed::{Distortion, Step, repeat_renumbered};
pub(super) use listings::odd_listings;
pub(super) use orders::{Later, OrderMischief, carry_out};

/// What the running exchange does wrong. Outlives its restarts.
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

/// Picks the die of a kind.
type Kind = fn(&mut FaultTable<Die>) -> &mut Die;

/// What `GET /admin/faults` tells.
#[derive(Debug, Serialize)]
struct FaultReport {
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

    /// Replaces the settings and begins all draws anew; the counts go on.
    fn set(&self, settings: FaultSettings) {
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

    /// Whether any fault is set: the one question that is asked when none is.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::Relaxed)
    }

    pub(super) fn manner(&self) -> FaultManner {
        self.lock().settings.manner
    }

    /// The exchange's own time for a true one.
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

    /// Draws whether a fault is to happen, and leaves it to [`Self::count`] to say that it did.
    fn roll(&self, kind: Kind) -> bool {
        self.is_active() && kind(&mut self.lock().dice).roll()
    }

    /// Notes that a fault has happened.
    fn count(&self, kind: Kind) {
        kind(&mut self.lock().dice).done += 1;
    }

    /// Draws whether a fault that cannot fail is to happen, and counts it.
    fn hits(&self, kind: Kind) -> bool {
        let hit = self.roll(kind);
        if hit {
            self.count(kind);
        }
        hit
    }

    /// Draws whether a list of symbols has odd entries.
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

    fn report(&self, session: String) -> FaultReport {
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
        // A panic with the lock held ends the only thread that there is.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
