//! An exchange that says `429`: nothing was done, and it is to be asked again later. What waits for it
//! is sent again then, all of it together and more slowly each time that it says so again.

use std::time::Duration;

use crate::order::Order;
use crate::types::{Backoff, Moment, MonotonicMicros};

/// First pause where the exchange names none; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause that is kept, whatever the exchange names.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Refusals in a row after which new orders that would have to wait for an answer longer than their
/// users do are not taken: the first may be a burst that was too much.
const REFUSALS_TO_TURN_AWAY: u32 = 2;

/// How one kind of request is held back.
#[derive(Debug)]
pub(crate) struct Throttle {
    until: Option<MonotonicMicros>,
    refusals: u32,
    backoff: Backoff,
}

impl Default for Throttle {
    fn default() -> Self {
        Self { until: None, refusals: 0, backoff: Backoff::new(FIRST_PAUSE, LAST_PAUSE) }
    }
}

/// A pause that has begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Pause {
    pub(crate) until: MonotonicMicros,
    /// The exchange has said how long.
    pub(crate) is_named: bool,
    /// It is the first of a row.
    pub(crate) is_first: bool,
}

impl Throttle {
    /// The exchange refused a request at `now`, and may have said when it takes one again.
    pub(crate) fn refused(&mut self, now: MonotonicMicros, named: Option<Duration>) -> Pause {
        let own = self.backoff.advance();
        // A pause of nothing would be none.
        let pause = named.map_or(own, |named| named.max(own)).min(LONGEST_PAUSE);
        let is_first = self.refusals == 0;
        self.refusals = self.refusals.saturating_add(1);
        let until = self.until.max(Some(now.saturating_add(pause))).unwrap_or(now);
        self.until = Some(until);
        Pause { until, is_named: named.is_some(), is_first }
    }

    /// It took a request. An answer to what was sent before the pause began does not end it.
    pub(crate) fn taken(&mut self, now: MonotonicMicros) {
        if self.refusals > 0 && !self.is_closed(now) {
            *self = Self::default();
        }
    }

    /// Until when nothing is to be sent, if that is so.
    pub(crate) fn closed_until(&self, now: MonotonicMicros) -> Option<MonotonicMicros> {
        self.until.filter(|until| now < *until)
    }

    pub(crate) fn is_closed(&self, now: MonotonicMicros) -> bool {
        self.closed_until(now).is_some()
    }

    /// Whether a new order had better not be taken: it could not be sent within `submit_window`, or
    /// the exchange refuses again and again and the order's user would wait in vain for `reply_timeout`.
    pub(crate) fn turns_away(
        &self,
        now: MonotonicMicros,
        submit_window: Duration,
        reply_timeout: Duration,
    ) -> bool {
        let Some(until) = self.closed_until(now) else { return false };
        let pause = until.saturating_since(now);
        pause >= submit_window || (self.refusals >= REFUSALS_TO_TURN_AWAY && pause >= reply_timeout)
    }
}

/// Whether an order that the exchange has refused for now is sent again after the pause: within its
/// deadline, and while its user waits for the outcome. A pause that the exchange names is waited for
/// beyond that once, because the order is taken then as far as anybody knows.
pub(crate) fn goes_again(
    order: &Order,
    now: Moment,
    pause: Pause,
    reply_timeout: Duration,
) -> bool {
    let pause_micros = u64::try_from(pause.until.saturating_since(now.monotonic).as_micros());
    let resumes = now.wall.saturating_add_micros(pause_micros.unwrap_or(u64::MAX));
    let patience = u64::try_from(reply_timeout.as_micros()).unwrap_or(u64::MAX);
    let answered = order.created_at.saturating_add_micros(patience);
    let is_in_time = resumes < order.submit_before;
    is_in_time && (resumes < answered || (pause.is_named && now.wall < answered))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicMicros = MonotonicMicros::new(1_000_000);

    fn after(millis: u64) -> MonotonicMicros {
        NOW.saturating_add(Duration::from_millis(millis))
    }

    #[test]
    fn pauses_without_a_name_grow_and_end_with_the_first_request_that_is_taken() {
        let mut throttle = Throttle::default();
        let mut now = NOW;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = throttle.refused(now, None);
            pauses.push(pause.until.saturating_since(now).as_millis());
            assert!(throttle.is_closed(now));
            now = pause.until;
            assert!(!throttle.is_closed(now));
        }
        assert_eq!(pauses, [25, 50, 100, 200, 400, 800, 1_000, 1_000]);
        throttle.taken(now);
        assert!(throttle.refused(now, None).is_first);
    }

    #[test]
    fn what_was_sent_before_a_pause_does_not_end_it() {
        let mut throttle = Throttle::default();
        throttle.refused(NOW, None);
        throttle.taken(NOW);
        assert!(throttle.is_closed(NOW));
        assert!(!throttle.refused(NOW, None).is_first);
    }

    #[test]
    fn a_named_pause_is_kept_within_bounds_and_never_shortened() {
        let second = Duration::from_secs(1);
        let named = |pause: Duration| {
            let until = Throttle::default().refused(NOW, Some(pause)).until;
            until.saturating_since(NOW)
        };
        assert_eq!(named(second), second);
        assert_eq!(named(Duration::ZERO), FIRST_PAUSE);
        assert_eq!(named(Duration::MAX), LONGEST_PAUSE);
        let mut throttle = Throttle::default();
        throttle.refused(NOW, Some(second));
        assert_eq!(throttle.refused(NOW, None).until, after(1_000));
    }

    #[test]
    fn orders_are_turned_away_that_would_wait_in_vain() {
        let (window, patience) = (Duration::from_secs(5), Duration::from_millis(150));
        let mut throttle = Throttle::default();
        assert!(!throttle.turns_away(NOW, window, patience));
        throttle.refused(NOW, Some(Duration::from_secs(1)));
        assert!(!throttle.turns_away(NOW, window, patience), "a burst");
        throttle.refused(after(1_000), Some(Duration::from_secs(1)));
        assert!(throttle.turns_away(after(1_000), window, patience), "again");
        assert!(!throttle.turns_away(after(1_900), window, patience), "soon");
        assert!(!throttle.turns_away(after(2_000), window, patience), "one has to find out");
        let mut long = Throttle::default();
        long.refused(NOW, Some(Duration::from_secs(5)));
        assert!(long.turns_away(NOW, window, patience), "it could never be sent");
    }
}
