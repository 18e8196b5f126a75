//! The three clocks of a load test: wall time for ages, a steady clock for rates, and the CPU time of
//! a thread.

use rustix::time::{ClockId, clock_gettime};

/// A point on the steady clock, in nanoseconds since an arbitrary start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Moment(u64);

impl Moment {
    /// The current moment.
    #[must_use]
    pub(crate) fn now() -> Self {
        Self(nanos(ClockId::Monotonic))
    }

    /// This moment, moved by a number of seconds.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "fractions of a nanosecond are dropped; negative spans saturate at zero"
    )]
    pub(crate) fn plus_seconds(self, seconds: f64) -> Self {
        Self(self.0.saturating_add((seconds * 1e9) as u64))
    }

    /// Nanoseconds from `earlier` until this moment; zero if `earlier` is later.
    #[must_use]
    pub(crate) fn nanos_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// Seconds from `start` to `end`; zero if `end` is earlier.
#[must_use]
pub(crate) fn seconds_between(start: Moment, end: Moment) -> f64 {
    end.nanos_since(start) as f64 / 1e9
}

/// Wall time in microseconds since the Unix epoch, the clock of the prices.
#[must_use]
pub(crate) fn wall_micros() -> u64 {
    nanos(ClockId::Realtime) / 1_000
}

/// CPU time of the calling thread in nanoseconds, kernel time included.
#[must_use]
pub(crate) fn thread_cpu_nanos() -> u64 {
    nanos(ClockId::ThreadCPUTime)
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds * 1_000_000_000 + nanos
}
