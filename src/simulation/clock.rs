use crate::types::{Moment, MonotonicMicros, TimestampMicros};

/// When every simulation begins: 24 November 2024, in microseconds since the epoch.
const START_MICROS: u64 = 1_732_400_000_000_000;

/// The true time and what the clocks on both sides make of it.
pub(super) struct SimulatedClock {
    micros: u64,
    /// How far our wall clock is ahead, in microseconds.
    ours_ahead: i64,
    /// How far the exchange's is.
    exchange_ahead: i64,
}

impl SimulatedClock {
    pub(super) fn new(exchange_ahead: i64) -> Self {
        Self { micros: 0, ours_ahead: 0, exchange_ahead }
    }

    pub(super) fn advance(&mut self, micros: u64) {
        self.micros += micros;
    }

    /// Sets our wall clock, but never so that the exchange's is further behind it than `tolerance`:
    /// within that everything has to hold.
    pub(super) fn set_ours(&mut self, ahead: i64, tolerance_micros: u64) {
        let most = self.exchange_ahead.saturating_add_unsigned(tolerance_micros);
        self.ours_ahead = ahead.min(most);
    }

    /// Microseconds since the simulation began.
    pub(super) const fn micros(&self) -> u64 {
        self.micros
    }

    /// What our clocks say.
    pub(super) fn ours(&self) -> Moment {
        Moment { wall: self.wall(self.ours_ahead), monotonic: MonotonicMicros::new(self.micros) }
    }

    /// What the exchange's clock says.
    pub(super) fn exchange(&self) -> TimestampMicros {
        self.wall(self.exchange_ahead)
    }

    fn wall(&self, ahead: i64) -> TimestampMicros {
        TimestampMicros::new((START_MICROS + self.micros).saturating_add_signed(ahead))
    }
}
