//! The days that `order_events` is partitioned by.

use crate::types::TimestampMicros;

const MICROS_PER_DAY: u64 = 24 * 60 * 60 * 1_000_000;
/// The last day with a partition: the end of the year 9999.
const LAST_DAY: i32 = 2_932_896;

/// A day in UTC, counted from 1970-01-01.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Day(i32);

impl Day {
    pub(super) fn of(at: TimestampMicros) -> Self {
        let days = i32::try_from(at.micros() / MICROS_PER_DAY);
        Self(days.unwrap_or(LAST_DAY).min(LAST_DAY))
    }

    pub(super) fn next(self) -> Self {
        Self((self.0 + 1).min(LAST_DAY))
    }

    /// Days since 1970-01-01, as Postgres adds them to a date.
    pub(super) fn since_1970(self) -> i32 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_consecutive() {
        let day = Day::of(TimestampMicros::new(2 * MICROS_PER_DAY - 1));
        assert_eq!(day.since_1970(), 1);
        assert_eq!(day.next(), Day::of(TimestampMicros::new(2 * MICROS_PER_DAY)));
        assert_eq!(Day::of(TimestampMicros::new(u64::MAX)).next().since_1970(), LAST_DAY);
    }
}
