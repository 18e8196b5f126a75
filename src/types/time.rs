use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Microseconds since the Unix epoch.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Default,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(transparent)]
pub struct TimestampMicros(u64);

impl TimestampMicros {
    /// From a count of microseconds.
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// The count of microseconds.
    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Later by `micros`, at most the end of time.
    pub const fn saturating_add_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds since `earlier`, zero when that is not earlier.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds of a clock that never goes back and that nobody sets, from a start of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MonotonicMicros(u64);

impl MonotonicMicros {
    /// From a count of microseconds.
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// Later by `duration`, at most the end of time.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// How long after `earlier` it is, zero when that is not earlier.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// What both clocks say at one moment: the one that people and exchanges share, and the one to
/// measure waiting times with. Whoever works in slices reads it once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Wall-clock time.
    pub wall: TimestampMicros,
    /// Time that never goes back.
    pub monotonic: MonotonicMicros,
}

/// Where the shells read the time. The pure core is handed timestamps and never reads one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Wall-clock time, microseconds since the Unix epoch.
    pub fn now(self) -> TimestampMicros {
        TimestampMicros(u64::try_from(self.now_nanos() / 1_000).unwrap_or(u64::MAX))
    }

    /// Both clocks.
    pub fn moment(self) -> Moment {
        let since_start = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
        // Seconds since the machine started: never negative, and microseconds of them fit.
        let seconds = since_start.tv_sec.unsigned_abs();
        let micros = since_start.tv_nsec.unsigned_abs() / 1_000;
        let monotonic = MonotonicMicros(seconds.saturating_mul(1_000_000).saturating_add(micros));
        Moment { wall: self.now(), monotonic }
    }

    /// Wall-clock time in nanoseconds since the Unix epoch; zero on a clock set before it.
    pub fn now_nanos(self) -> u128 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
    }
}
