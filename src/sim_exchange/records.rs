//! What queries show of orders: the records as they are, or as they were a while ago.

use std::collections::VecDeque;

use compact_str::{CompactString, format_compact};

use super::faults::{FaultManner, MAX_RECORD_LAG_MILLIS};
use super::state::State;
use crate::exchange::wire::{AsOf, QueryResult};
use crate::types::TimestampMicros;

/// Least time between two places of the feed that are kept, in microseconds.
const PLACE_SPACING_MICROS: u64 = 10_000;
/// Places that are kept: as many as the longest lag can need.
const MAX_PLACES: u64 = MAX_RECORD_LAG_MILLIS * 1_000 / PLACE_SPACING_MICROS;

/// How far the feed had come at which time, for records that are behind.
#[derive(Debug, Default)]
pub(super) struct FeedPlaces(VecDeque<(TimestampMicros, u64)>);

impl FeedPlaces {
    /// Takes note that everything up to a sequence was published by a time.
    pub(super) fn note(&mut self, at: TimestampMicros, sequence: u64) {
        let is_due =
            |&(last, _): &(TimestampMicros, u64)| at.micros_since(last) >= PLACE_SPACING_MICROS;
        if self.0.back().is_none_or(is_due) {
            if self.0.len() as u64 >= MAX_PLACES {
                self.0.pop_front();
            }
            self.0.push_back((at, sequence));
        }
    }

    /// The last sequence of which it is known that it was published by a time.
    fn at(&self, at: TimestampMicros) -> Option<u64> {
        let later = self.0.partition_point(|&(noted, _)| noted <= at);
        self.0.get(later.checked_sub(1)?).map(|&(_, sequence)| sequence)
    }
}

/// The records of some orders, as behind and as silent about it as the exchange was told to be.
pub(super) fn tell(
    state: &State,
    ids: &[CompactString],
    (now, manner): (TimestampMicros, &FaultManner),
) -> Vec<QueryResult> {
    let at = TimestampMicros::new(now.micros().saturating_sub(manner.record_lag_ms * 1_000));
    let is_behind = manner.record_lag_ms > 0;
    // What was done is on the feed before anybody can ask.
    let newest = state.ring.next_sequence() - 1;
    let place = if is_behind { state.places.at(at) } else { Some(newest) };
    let session = format_compact!("{}", state.feed_session);
    let as_of = place.map(|sequence| AsOf { session, sequence });
    let as_of = as_of.filter(|_| manner.record_as_of);
    let record = |id: &CompactString| {
        if is_behind { state.venue.query_at(id, at) } else { state.venue.query(id) }
    };
    ids.iter().map(|id| QueryResult { as_of: as_of.clone(), ..record(id) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_of_a_time_only_when_it_was_reached_by_then() {
        let at = TimestampMicros::new;
        let mut places = FeedPlaces::default();
        assert_eq!(places.at(at(5)), None);
        for (micros, sequence) in [(1_000_000, 7), (1_005_000, 8), (1_020_000, 9)] {
            places.note(at(micros), sequence);
        }
        assert_eq!(places.at(at(999_999)), None);
        assert_eq!(places.at(at(1_019_999)), Some(7), "the one between came too soon to be kept");
        assert_eq!(places.at(at(1_020_000)), Some(9));
    }
}
