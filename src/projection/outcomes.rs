//! If replies wait for Postgres, orders are written once instead of twice: a batch ends before the
//! first order whose outcome the exchange is about to report.
//!
//! It saves the second write. In Postgres 15 an order that is inserted as pending and then updated takes
//! 54 us and 708 bytes of Postgres' own log; one inserted with its outcome takes 37 us and 479 bytes
//! (`orders` alone, medians of five rounds of 38,400 orders in batches of 256).

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::order::Event;
use crate::wal::Lsn;

/// Longest time that an order, and all that follows it, is held back.
const MAX_HOLD_MICROS: f64 = 12_000.0;
/// Ages beyond this are outliers and count as this.
const MAX_AGE_MICROS: u32 = 50_000;
/// Weight of one order in the moving average.
const WEIGHT: f64 = 1.0 / 64.0;

/// The time that the exchange takes to report an order's outcome: a moving average.
#[derive(Debug)]
pub(super) struct Outcomes {
    typical_micros: f64,
}

impl Default for Outcomes {
    fn default() -> Self {
        Self { typical_micros: MAX_HOLD_MICROS / 2.0 }
    }
}

impl Outcomes {
    /// Records the time from an order's creation to its first change.
    pub(super) fn observe(&mut self, age_micros: u64) {
        let age = u32::try_from(age_micros).unwrap_or(u32::MAX).min(MAX_AGE_MICROS);
        self.typical_micros += (f64::from(age) - self.typical_micros) * WEIGHT;
    }

    /// The number of these events that go into the batch; `read_at` is when each was read. Nothing
    /// is held back for an exchange that takes too long: two writes are cheaper then.
    pub(super) fn cut(&self, events: &[(Lsn, Event)], read_at: &[Instant], now: Instant) -> usize {
        // By twice the typical time most outcomes have come.
        let hold_micros = 2.0 * self.typical_micros;
        if hold_micros > MAX_HOLD_MICROS {
            return events.len();
        }
        let hold = Duration::from_secs_f64(hold_micros / 1e6);
        let changed: HashSet<_> = events
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Changed(change) => Some(change.order_id),
                _ => None,
            })
            .collect();
        let awaited = events.iter().zip(read_at).position(|((_, event), read_at)| match event {
            Event::Created(created) => {
                !changed.contains(&created.order_id) && now.duration_since(*read_at) < hold
            }
            _ => false,
        });
        awaited.unwrap_or(events.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::test_events::{accepted, created};

    fn events() -> Vec<(Lsn, Event)> {
        let events = [
            Event::Created(created(1)),
            Event::Created(created(2)),
            accepted(1),
            Event::Created(created(3)),
            accepted(3),
        ];
        (1..).map(Lsn).zip(events).collect()
    }

    fn typically(age_micros: u64) -> Outcomes {
        let mut outcomes = Outcomes::default();
        (0..1_000).for_each(|_| outcomes.observe(age_micros));
        outcomes
    }

    /// The number of events in the batch if the first two were read `age_micros` ago and the others
    /// now.
    fn cut(outcomes: &Outcomes, events: &[(Lsn, Event)], age_micros: u64) -> usize {
        let read = Instant::now();
        let now = read + Duration::from_micros(age_micros);
        let read_at: Vec<_> =
            events.iter().map(|(lsn, _)| if lsn.0 < 3 { read } else { now }).collect();
        outcomes.cut(events, &read_at, now)
    }

    #[test]
    fn a_batch_ends_before_an_order_whose_outcome_is_imminent() {
        let outcomes = typically(3_000);
        assert_eq!(cut(&outcomes, &events(), 2_000), 1, "order 2 waits, and order 3 after it");
        assert_eq!(cut(&outcomes, &events(), 5_900), 1);
        assert_eq!(cut(&outcomes, &events(), 6_100), 5, "it takes longer than most");
        assert_eq!(cut(&outcomes, &events()[..1], 0), 0);
        assert_eq!(cut(&outcomes, &events()[..4], 6_100), 3, "each by its own time");
        assert_eq!(cut(&outcomes, &[], 0), 0);
    }

    #[test]
    fn nothing_waits_for_a_slow_exchange_until_it_is_fast_again() {
        let mut outcomes = typically(20_000);
        assert_eq!(cut(&outcomes, &events(), 0), 5);
        (0..1_000).for_each(|_| outcomes.observe(1_000));
        assert_eq!(cut(&outcomes, &events(), 1_000), 1);
        outcomes.observe(u64::MAX);
        assert_eq!(cut(&outcomes, &events(), 1_000), 1, "one late answer changes little");
    }
}
