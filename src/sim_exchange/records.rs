//! What queries show of orders: the current records, or records that lag.

use compact_str::{CompactString, format_compact};

use super::faults::FaultManner;
use super::state::State;
use crate::exchange::wire::{AsOf, QueryResult};
use crate::types::TimestampMicros;

/// The records of some orders, with the lag and the `asOf` that the faults prescribe.
pub(super) fn query(
    state: &State,
    ids: &[CompactString],
    (now, manner): (TimestampMicros, &FaultManner),
) -> Vec<QueryResult> {
    let at = TimestampMicros::new(now.micros().saturating_sub(manner.record_lag_ms * 1_000));
    let is_behind = manner.record_lag_ms > 0;
    // Whatever was done is on the feed before anybody can ask.
    let newest = state.ring.next_sequence() - 1;
    let position = if is_behind { state.positions.at(at) } else { Some(newest) };
    let session = format_compact!("{}", state.feed_session);
    let as_of = position.map(|sequence| AsOf { session, sequence });
    let as_of = as_of.filter(|_| manner.record_as_of);
    let record = |id: &CompactString| {
        if is_behind { state.venue.query_at(id, at) } else { state.venue.query(id) }
    };
    ids.iter().map(|id| QueryResult { as_of: as_of.clone(), ..record(id) }).collect()
}
