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

    /// What the clock says.
    pub fn now() -> Self {
        Self(monotonic_nanos() / 1_000)
    }

    /// The count of microseconds.
    pub const fn micros(self) -> u64 {
        self.0
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

/// What both clocks say at one moment: the one that is recorded, and the one to measure waiting
/// times with. Whoever works in slices reads it once for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// The time of day, as the [`SteadyClock`](super::SteadyClock) has it.
    pub wall: TimestampMicros,
    /// Time that never goes back.
    pub monotonic: MonotonicMicros,
}

/// The wall clock of the machine. Anybody may set it, forward and back: it is for what others compare
/// with their own clocks, such as the times in tokens and signatures. What is recorded and what is
/// waited for goes by the [`SteadyClock`](super::SteadyClock). The pure core is handed timestamps and
/// never reads one.
#[derive(Debug, Clone, Copy, Default)]
pub struct Clock;

impl Clock {
    /// Wall-clock time, microseconds since the Unix epoch.
    pub fn now(self) -> TimestampMicros {
        TimestampMicros(u64::try_from(self.now_nanos() / 1_000).unwrap_or(u64::MAX))
    }

    /// Wall-clock time in nanoseconds since the Unix epoch; zero on a clock set before it.
    pub fn now_nanos(self) -> u128 {
        std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |since| since.as_nanos())
    }
}

/// Nanoseconds since the machine started. The time that it slept counts: deadlines pass meanwhile.
pub(super) fn monotonic_nanos() -> u64 {
    let since_start = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    // Never negative, and nanoseconds of centuries fit.
    let (seconds, nanos) = (since_start.tv_sec.unsigned_abs(), since_start.tv_nsec.unsigned_abs());
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
