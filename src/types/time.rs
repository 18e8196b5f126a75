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

/// Where the shells read the time. The pure core is handed timestamps and never reads one.
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
