//! Back-off after `429`: the exchange did nothing and is to be asked again later. Everything that
//! waits is sent after the pause, and pauses grow with each further `429`.

use std::time::Duration;

use crate::types::{Backoff, MonotonicMicros};

/// First pause if the exchange names none; doubles up to the last.
const FIRST_PAUSE: Duration = Duration::from_millis(25);
const LAST_PAUSE: Duration = Duration::from_secs(1);
/// Longest pause, whatever the exchange names.
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// Throttled requests in a row after which new orders that would wait longer than the reply timeout
/// are refused: the first may be just a burst.
const REFUSALS_TO_TURN_AWAY: u32 = 2;

/// The throttle of one kind of request.
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
    /// Whether it is the first in a row.
    pub(crate) is_first: bool,
}

impl Throttle {
    /// The exchange refused a request at `now`, and may have named a pause.
    pub(crate) fn refused(&mut self, now: MonotonicMicros, named: Option<Duration>) -> Pause {
        let own = self.backoff.advance();
        // A pause of zero would have no effect.
        let pause = named.map_or(own, |named| named.max(own)).min(LONGEST_PAUSE);
        let is_first = self.refusals == 0;
        self.refusals = self.refusals.saturating_add(1);
        let resumes = now.saturating_add(pause);
        // A pause that has begun is not cut short.
        let until = self.until.map_or(resumes, |until| until.max(resumes));
        assert!(until > now, "a pause ends later");
        assert!(until.saturating_since(now) <= LONGEST_PAUSE, "a pause has a limit");
        self.until = Some(until);
        Pause { until, is_first }
    }

    /// The exchange took a request. An answer to a request sent before the pause began does not end
    /// the pause.
    pub(crate) fn taken(&mut self, now: MonotonicMicros) {
        assert_eq!(self.refusals > 0, self.until.is_some(), "a refusal begins a pause");
        if self.refusals > 0 && !self.is_closed(now) {
            *self = Self::default();
        }
        assert!(self.refusals == 0 || self.is_closed(now), "refusals in a row end with a pause");
    }

    /// The end of the pause, if there is one at `now`.
    pub(crate) fn closed_until(&self, now: MonotonicMicros) -> Option<MonotonicMicros> {
        self.until.filter(|until| now < *until)
    }

    pub(crate) fn is_closed(&self, now: MonotonicMicros) -> bool {
        self.closed_until(now).is_some()
    }

    /// Whether to refuse a new order: it could not be sent within `submit_window`, or the exchange
    /// keeps refusing and the client would wait in vain for `reply_timeout`.
    pub(crate) fn turns_away(
        &self,
        now: MonotonicMicros,
        submit_window: Duration,
        reply_timeout: Duration,
    ) -> bool {
        // No pause is in progress.
        let Some(until) = self.closed_until(now) else { return false };
        assert!(self.refusals > 0, "a pause begins with a refusal");
        let pause = until.saturating_since(now);
        pause >= submit_window || (self.refusals >= REFUSALS_TO_TURN_AWAY && pause >= reply_timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: MonotonicMicros = MonotonicMicros::new(1_000_000);

    fn after(millis: u64) -> MonotonicMicros {
        NOW.saturating_add(Duration::from_millis(millis))
    }

    #[test]
    fn unnamed_pauses_grow_and_end_with_the_first_accepted_request() {
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
    fn an_answer_to_an_earlier_request_does_not_end_a_pause() {
        let mut throttle = Throttle::default();
        throttle.refused(NOW, None);
        throttle.taken(NOW);
        assert!(throttle.is_closed(NOW));
        assert!(!throttle.refused(NOW, None).is_first);
    }

    #[test]
    fn a_named_pause_is_bounded_and_never_shortened() {
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
    fn orders_that_would_wait_in_vain_are_refused() {
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
