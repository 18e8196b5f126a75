//! The clocks of one machine.

use crate::simulation::dice::Dice;
use crate::types::{Moment, MonotonicMicros, SteadyClock, TimestampMicros};

/// The start of every simulation: 24 November 2024, in microseconds since the epoch.
const START_MICROS: u64 = 1_732_400_000_000_000;
/// How much faster or slower than the true time a machine's monotonic clock may run, in millionths.
const MAX_DRIFT: u64 = 2_000;

/// The wall clock of something that is right.
pub(super) fn wall_at(micros: u64) -> TimestampMicros {
    TimestampMicros::new(START_MICROS + micros)
}

/// The clocks of a machine, from the true time in microseconds.
pub(super) struct MachineClock {
    started_before_micros: u64,
    drift_millionths: i64,
    wall_ahead_micros: i64,
    steady: SteadyClock,
}

impl MachineClock {
    /// Clocks whose time of day is right within half of `tolerance_micros`.
    pub(super) fn draw(dice: &mut Dice, tolerance_micros: u64) -> Self {
        let signed = |value: u64, most: u64| value.cast_signed() - most.cast_signed();
        let half = tolerance_micros / 2;
        let mut clock = Self {
            started_before_micros: dice.between(1, 1_000_000_000),
            drift_millionths: signed(dice.between(0, 2 * MAX_DRIFT), MAX_DRIFT),
            wall_ahead_micros: signed(dice.between(0, 2 * half), half),
            steady: SteadyClock::start_at(TimestampMicros::default(), 0, 0),
        };
        clock.start_process(0);
        clock
    }

    /// A process starts, with a clock of its own for recorded times.
    pub(super) fn start_process(&mut self, micros: u64) {
        let (monotonic, wall) = (self.monotonic(micros).micros(), self.wall_nanos(micros));
        self.steady = SteadyClock::start_at(TimestampMicros::default(), monotonic * 1_000, wall);
    }

    pub(super) fn monotonic(&self, micros: u64) -> MonotonicMicros {
        let drift = micros.cast_signed() * self.drift_millionths / 1_000_000;
        let shown = (self.started_before_micros + micros).saturating_add_signed(drift);
        MonotonicMicros::new(shown)
    }

    /// What the process takes for the time.
    pub(super) fn moment(&self, micros: u64) -> Moment {
        let nanos = self.monotonic(micros).micros() * 1_000;
        self.steady.moment_at(nanos, || self.wall_nanos(micros))
    }

    fn wall_nanos(&self, micros: u64) -> u64 {
        (START_MICROS + micros).saturating_add_signed(self.wall_ahead_micros) * 1_000
    }
}
