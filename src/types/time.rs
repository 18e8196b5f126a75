//! Timestamps, monotonic time and the wall clock.

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
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Adds `micros`, saturating.
    pub const fn saturating_add_micros(self, micros: u64) -> Self {
        Self(self.0.saturating_add(micros))
    }

    /// Microseconds since `earlier`; zero when `earlier` is later.
    pub const fn micros_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Microseconds of the monotonic clock: never set, never goes back, counts from an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct MonotonicMicros(u64);

impl MonotonicMicros {
    pub const fn new(micros: u64) -> Self {
        Self(micros)
    }

    /// The current reading.
    pub fn now() -> Self {
        Self(monotonic_nanos() / 1_000)
    }

    pub const fn micros(self) -> u64 {
        self.0
    }

    /// Adds `duration`, saturating.
    pub fn saturating_add(self, duration: Duration) -> Self {
        let micros = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        Self(self.0.saturating_add(micros))
    }

    /// Time since `earlier`; zero when `earlier` is later.
    pub const fn saturating_since(self, earlier: Self) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// One reading of both clocks: the time to record, and the monotonic time to measure waits with.
/// Code that works in slices reads it once per slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Time of day, from the [`SteadyClock`](super::SteadyClock) unless said otherwise.
    pub wall: TimestampMicros,
    /// Monotonic time.
    pub monotonic: MonotonicMicros,
}

/// The machine's wall clock. It can be set forward and back, so it serves only comparisons with
/// other parties' clocks, such as times in tokens and signatures. Recorded times and timeouts use
/// the [`SteadyClock`](super::SteadyClock). The pure core receives timestamps and never reads a
/// clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Wall-clock time in microseconds since the Unix epoch.
    pub fn now(self) -> TimestampMicros {
        TimestampMicros(u64::try_from(self.now_nanos() / 1_000).unwrap_or(u64::MAX))
    }

    /// The wall clock and the monotonic clock, to compare the machine's clock with another party's.
    pub fn moment(self) -> Moment {
        let monotonic = MonotonicMicros::new(monotonic_nanos() / 1_000);
        Moment { wall: self.now(), monotonic }
    }

    /// Wall-clock time in nanoseconds since the Unix epoch; zero if the clock is set before the
    /// epoch.
    pub fn now_nanos(self) -> u128 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
    }
}

/// Nanoseconds since boot, including suspend: deadlines pass while the machine sleeps.
pub(super) fn monotonic_nanos() -> u64 {
    let since_start = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // The kernel's values are never negative, and centuries of nanoseconds fit.
    let (seconds, nanos) = (since_start.tv_sec.unsigned_abs(), since_start.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
