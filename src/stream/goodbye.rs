//! The end of a server: all streams are told, a few at a time, so that their clients do not all
//! return to the other servers at once.

use std::time::{Duration, Instant};

use super::limits::{LEAST_GOODBYES_A_SECOND, millis};

/// The pace at which streams are told.
#[derive(Debug)]
pub(super) struct Goodbyes {
    began: Instant,
    /// `None`: all at once.
    per_second: Option<u64>,
    said: u128,
}

impl Goodbyes {
    /// Spreads so many goodbyes evenly over `within`, but no thinner than they need be.
    pub(super) fn new(streams: usize, within: Duration) -> Self {
        // Without time to spread them over, all at once.
        let per_second = (streams as u64 * 1_000)
            .checked_div(millis(within))
            .map(|per_second| per_second.max(LEAST_GOODBYES_A_SECOND));
        Self { began: Instant::now(), per_second, said: 0 }
    }

    /// How many are to be told now.
    pub(super) fn due(&mut self, now: Instant) -> usize {
        let elapsed_micros = now.duration_since(self.began).as_micros();
        // One at once: a lone stream does not wait.
        let by_now = self.per_second.map_or(u128::MAX, |per_second| {
            u128::from(per_second) * elapsed_micros / 1_000_000 + 1
        });
        assert!(by_now >= self.said, "time goes forward, and with it the number of goodbyes");
        let due = by_now - self.said;
        self.said = by_now;
        // More than there can be streams: all of them.
        usize::try_from(due).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_go_evenly_and_few_at_once() {
        let mut many = Goodbyes::new(100_000, Duration::from_secs(10));
        let began = many.began;
        assert_eq!(many.due(began), 1);
        assert_eq!(many.due(began + Duration::from_secs(1)), 10_000);
        assert_eq!(many.due(began + Duration::from_secs(10)), 90_000);
        let mut few = Goodbyes::new(100, Duration::from_secs(10));
        let began = few.began;
        assert!(few.due(began + Duration::from_millis(50)) >= 100);
        let mut none = Goodbyes::new(100_000, Duration::ZERO);
        assert_eq!(none.due(Instant::now()), usize::MAX);
    }
}
