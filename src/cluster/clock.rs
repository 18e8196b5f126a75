//! How far a member's clock is from Postgres' clock, which all members can compare theirs with. Leases do
//! not depend on it; what nodes sign for each other does.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::types::{Moment, MonotonicMicros};

/// How far a member's clock may be from Postgres' clock. Two members are apart by twice that at most, which
/// leaves room for the way of a request: see the validity of signatures in `http`.
pub const CLOCK_LIMIT: Duration = Duration::from_secs(4);
/// So near a clock is again that was further away: well within the limit, so that none goes to and fro.
const NEAR_AGAIN: Duration = Duration::from_secs(3);

/// The clock of Postgres, in microseconds since 1970.
pub(super) const POSTGRES_CLOCK: &str =
    "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint";

/// How far this machine's clock was from Postgres' clock, by one question and its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockReading {
    /// Microseconds that ours was ahead, if Postgres read its own half way between the two.
    pub(super) ahead_micros: i64,
    /// How much more or less that may be: half of the time that the answer took.
    uncertain: Duration,
}

impl ClockReading {
    /// Of a question that was asked then, and an answer with the time of Postgres.
    pub(super) fn of(asked: Moment, answered: MonotonicMicros, postgres_micros: i64) -> Self {
        let uncertain = answered.saturating_since(asked.monotonic) / 2;
        let micros = u64::try_from(uncertain.as_micros()).unwrap_or(u64::MAX);
        let ours = asked.wall.saturating_add_micros(micros).micros();
        let ours = i64::try_from(ours).unwrap_or(i64::MAX);
        Self { ahead_micros: ours.saturating_sub(postgres_micros), uncertain }
    }

    fn distance(self) -> Duration {
        Duration::from_micros(self.ahead_micros.unsigned_abs())
    }

    /// Whether the clock is too far away, whenever Postgres read its own.
    pub(super) fn is_beyond_limit(self) -> bool {
        self.distance() > CLOCK_LIMIT.saturating_add(self.uncertain)
    }

    /// Whether it is near, likewise.
    fn is_near(self) -> bool {
        self.distance().saturating_add(self.uncertain) <= NEAR_AGAIN
    }
}

/// What operators are told of it.
impl fmt::Display for ClockReading {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = if self.ahead_micros < 0 { "behind" } else { "ahead of" };
        write!(
            f,
            "this machine's clock is {:.1} s {side} Postgres' clock, and a member's may differ from it by {} s: \
             nodes whose clocks differ more refuse each other's requests; synchronize both machines by NTP",
            self.distance().as_secs_f64(),
            CLOCK_LIMIT.as_secs(),
        )
    }
}

/// The clock of this member as it is while it runs. Clones share it: the thread `node` writes, anybody
/// reads.
#[derive(Debug, Clone, Default)]
pub struct MemberClock(Arc<Mutex<Option<ClockReading>>>);

impl MemberClock {
    /// What is wrong with the clock, while it is too far away.
    pub fn warning(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).map(|reading| reading.to_string())
    }

    /// Takes note of a reading. A clock that goes too far away is logged once, and again when it is near.
    pub(super) fn note(&self, reading: ClockReading) {
        let mut far = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let was_far = far.is_some();
        if reading.is_near() {
            *far = None;
        } else if was_far || reading.is_beyond_limit() {
            *far = Some(reading);
        }
        match (was_far, far.is_some()) {
            (false, true) => tracing::warn!("{reading}"),
            (true, false) => tracing::info!("this machine's clock is near Postgres' clock again"),
            (false, false) | (true, true) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMicros;

    const SECOND: i64 = 1_000_000;
    const NOW: i64 = 1_732_400_000 * SECOND;

    /// A reading of a clock that is so far ahead, by an answer that took so long.
    fn reading(ahead_micros: i64, took: Duration) -> ClockReading {
        let half = i64::try_from(took.as_micros()).unwrap() / 2;
        let wall = TimestampMicros::new((NOW + ahead_micros - half).try_into().unwrap());
        let asked = Moment { wall, monotonic: MonotonicMicros::new(7) };
        ClockReading::of(asked, asked.monotonic.saturating_add(took), NOW)
    }

    #[test]
    fn postgres_has_read_its_clock_half_way_or_anywhere_between() {
        let none = Duration::ZERO;
        for sign in [1, -1] {
            assert_eq!(reading(sign * 5 * SECOND, none).ahead_micros, sign * 5 * SECOND);
            assert!(reading(sign * 5 * SECOND, Duration::from_secs(1)).is_beyond_limit());
            assert!(!reading(sign * 5 * SECOND, Duration::from_secs(2)).is_beyond_limit());
            assert!(!reading(sign * 4 * SECOND, none).is_beyond_limit());
        }
        let said = reading(-5 * SECOND, none).to_string();
        for expected in ["5.0 s behind Postgres' clock", "by 4 s", "NTP"] {
            assert!(said.contains(expected), "{said}");
        }
    }

    #[test]
    fn a_clock_that_was_too_far_away_is_near_again_well_within_the_limit() {
        let clock = MemberClock::default();
        let warns = |ahead_micros, took| {
            clock.note(reading(ahead_micros, took));
            clock.warning().is_some()
        };
        let (short, long) = (Duration::from_millis(2), Duration::from_secs(2));
        assert!(!warns(39 * SECOND / 10, short));
        assert!(!warns(45 * SECOND / 10, long), "it may be nearer");
        assert!(warns(-41 * SECOND / 10, short));
        assert!(warns(39 * SECOND / 10, short), "it stays until that is over");
        assert!(warns(25 * SECOND / 10, long), "it may be further away");
        assert!(!warns(25 * SECOND / 10, short));
    }
}
