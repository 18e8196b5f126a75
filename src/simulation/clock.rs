use crate::types::{Moment, RawClocks, SteadyClock, TimestampMicros};

/// When every simulation begins: 24 November 2024, in microseconds since the epoch.
const START_MICROS: u64 = 1_732_400_000_000_000;

/// The true time and what the clocks on both sides make of it. Ours is the real steady clock, over a
/// wall clock that anybody sets.
pub(super) struct SimulatedClock {
    micros: u64,
    /// How far the wall clock of our machine is ahead, in microseconds.
    wall_ahead: i64,
    /// How far the exchange's is, and how far it is where nobody has set it.
    exchange_ahead: i64,
    exchange_unset: i64,
    /// Somebody has set the exchange's at some time.
    was_exchange_set: bool,
    steady: SteadyClock,
}

impl SimulatedClock {
    pub(super) fn new(exchange_ahead: i64) -> Self {
        let raw = raw(0, 0);
        Self {
            micros: 0,
            wall_ahead: 0,
            exchange_ahead,
            exchange_unset: exchange_ahead,
            was_exchange_set: false,
            steady: SteadyClock::start_by(TimestampMicros::default(), raw),
        }
    }

    pub(super) fn advance(&mut self, micros: u64) {
        self.micros += micros;
    }

    /// Sets the wall clock of our machine.
    pub(super) fn set_wall(&mut self, ahead: i64) {
        self.wall_ahead = ahead;
    }

    /// A process starts whose log has these times up to here: until it hears the exchange's clock
    /// it takes its own for it, and within `tolerance` that has to be right.
    pub(super) fn start_process(&mut self, last_recorded: TimestampMicros, tolerance: u64) {
        let most = self.exchange_ahead.saturating_add_unsigned(tolerance);
        self.wall_ahead = self.wall_ahead.min(most);
        self.steady = SteadyClock::start_by(last_recorded, raw(self.micros, self.wall_ahead));
    }

    /// How long a machine needs to start, so that our clock, which never goes back, is not ahead of
    /// the exchange's by more than `tolerance` when it has: it gains little while it runs.
    pub(super) fn micros_to_start(&self, tolerance: u64) -> u64 {
        let most = self.exchange().saturating_add_micros(tolerance);
        self.ours().wall.micros_since(most)
    }

    /// Sets the exchange's clock.
    pub(super) fn step_exchange(&mut self, by: i64) {
        self.exchange_ahead += by;
        self.was_exchange_set = true;
    }

    /// Sets the exchange's clock right. False when it is.
    pub(super) fn set_exchange_right(&mut self) -> bool {
        let was_wrong = self.exchange_ahead != self.exchange_unset;
        self.exchange_ahead = self.exchange_unset;
        was_wrong
    }

    /// Whether somebody has set the exchange's clock at some time.
    pub(super) const fn was_exchange_set(&self) -> bool {
        self.was_exchange_set
    }

    /// Microseconds since the simulation began.
    pub(super) const fn micros(&self) -> u64 {
        self.micros
    }

    /// What our clocks say.
    pub(super) fn ours(&self) -> Moment {
        self.steady.moment_by(raw(self.micros, self.wall_ahead))
    }

    /// What the exchange's clock says.
    pub(super) fn exchange(&self) -> TimestampMicros {
        TimestampMicros::new(wall_micros(self.micros, self.exchange_ahead))
    }
}

fn raw(micros: u64, wall_ahead: i64) -> RawClocks {
    RawClocks { monotonic: micros * 1_000, wall: wall_micros(micros, wall_ahead) * 1_000 }
}

fn wall_micros(micros: u64, ahead: i64) -> u64 {
    (START_MICROS + micros).saturating_add_signed(ahead)
}
