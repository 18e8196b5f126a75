use std::collections::VecDeque;

use super::faults::MAX_RECORD_LAG_MILLIS;
use crate::types::TimestampMicros;

/// Least time between two stored feed positions, in microseconds.
const POSITION_SPACING_MICROS: u64 = 10_000;
/// Most stored positions: enough for the longest lag.
const MAX_POSITIONS: u64 = MAX_RECORD_LAG_MILLIS * 1_000 / POSITION_SPACING_MICROS;

/// The feed's position over time, for the `asOf` of lagging records.
#[derive(Debug, Default)]
pub(super) struct FeedPositions(VecDeque<(TimestampMicros, u64)>);

impl FeedPositions {
    /// Notes that everything up to `sequence` was published by `at`.
    pub(super) fn note(&mut self, at: TimestampMicros, sequence: u64) {
        let is_due =
            |&(last, _): &(TimestampMicros, u64)| at.micros_since(last) >= POSITION_SPACING_MICROS;
        if self.0.back().is_none_or(is_due) {
            if self.0.len() as u64 >= MAX_POSITIONS {
                self.0.pop_front();
            }
            self.0.push_back((at, sequence));
        }
    }

    /// The highest sequence known to have been published by a time.
    pub(super) fn at(&self, at: TimestampMicros) -> Option<u64> {
        let later = self.0.partition_point(|&(noted, _)| noted <= at);
        self.0.get(later.checked_sub(1)?).map(|&(_, sequence)| sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_counts_only_once_it_was_reached() {
        let at = TimestampMicros::new;
        let mut positions = FeedPositions::default();
        assert_eq!(positions.at(at(5)), None);
        for (micros, sequence) in [(1_000_000, 7), (1_005_000, 8), (1_020_000, 9)] {
            positions.note(at(micros), sequence);
        }
        assert_eq!(positions.at(at(999_999)), None);
        assert_eq!(
            positions.at(at(1_019_999)),
            Some(7),
            "the position between came too soon to be stored"
        );
        assert_eq!(positions.at(at(1_020_000)), Some(9));
    }
}
