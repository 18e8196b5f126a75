//! The clocks of both machines.

use crate::types::{Moment, SteadyClock, TimestampMicros};

/// The start of every simulation: 24 November 2024, in microseconds since the epoch.
const START_MICROS: u64 = 1_732_400_000_000_000;

/// The true time, and what both machines' clocks show. Ours is the real steady clock over a wall
/// clock that may be set at any time.
pub(super) struct SimulatedClock {
    micros: u64,
    /// Offset of our machine's wall clock, in microseconds.
    wall_ahead: i64,
    /// Offset of the exchange's clock, now and while nobody sets it.
    exchange_ahead: i64,
    exchange_unset: i64,
    /// Whether the exchange's clock was ever set.
    was_exchange_set: bool,
    steady: SteadyClock,
}

impl SimulatedClock {
    pub(super) fn new(exchange_ahead: i64) -> Self {
        Self {
            micros: 0,
            wall_ahead: 0,
            exchange_ahead,
            exchange_unset: exchange_ahead,
            was_exchange_set: false,
            steady: steady(TimestampMicros::default(), 0, 0),
        }
    }

    pub(super) fn advance(&mut self, micros: u64) {
        self.micros += micros;
    }

    /// Sets our machine's wall clock.
    pub(super) fn set_wall(&mut self, ahead: i64) {
        self.wall_ahead = ahead;
    }

    /// Starts the steady clock of a process whose log goes up to `last_recorded`. Until the process
    /// hears the exchange's clock it assumes its own, which must be right within `tolerance`.
    pub(super) fn start_process(&mut self, last_recorded: TimestampMicros, tolerance: u64) {
        let most = self.exchange_ahead.saturating_add_unsigned(tolerance);
        self.wall_ahead = self.wall_ahead.min(most);
        self.steady = steady(last_recorded, self.micros, self.wall_ahead);
    }

    /// How long our machine takes to start, so that our clock, which never goes back, is then at
    /// most `tolerance` ahead of the exchange's. It gains little while it runs.
    pub(super) fn micros_to_start(&self, tolerance: u64) -> u64 {
        let most = self.exchange().saturating_add_micros(tolerance);
        self.ours().wall.micros_since(most)
    }

    pub(super) fn step_exchange(&mut self, by: i64) {
        self.exchange_ahead += by;
        self.was_exchange_set = true;
    }

    /// Corrects the exchange's clock. False if it is right.
    pub(super) fn set_exchange_right(&mut self) -> bool {
        let was_wrong = self.exchange_ahead != self.exchange_unset;
        self.exchange_ahead = self.exchange_unset;
        was_wrong
    }

    pub(super) const fn was_exchange_set(&self) -> bool {
        self.was_exchange_set
    }

    /// Microseconds since the start.
    pub(super) const fn micros(&self) -> u64 {
        self.micros
    }

    /// What our clocks show.
    pub(super) fn ours(&self) -> Moment {
        let wall = || wall_micros(self.micros, self.wall_ahead) * 1_000;
        self.steady.moment_at(self.micros * 1_000, wall)
    }

    /// What the exchange's clock shows.
    pub(super) fn exchange(&self) -> TimestampMicros {
        TimestampMicros::new(wall_micros(self.micros, self.exchange_ahead))
    }
}

fn steady(last_recorded: TimestampMicros, micros: u64, wall_ahead: i64) -> SteadyClock {
    SteadyClock::start_at(last_recorded, micros * 1_000, wall_micros(micros, wall_ahead) * 1_000)
}

fn wall_micros(micros: u64, ahead: i64) -> u64 {
    (START_MICROS + micros).saturating_add_signed(ahead)
}
