//! Exponential back-off.

use std::time::Duration;

/// Exponential back-off: the wait doubles with each failure, up to a limit, until a success resets
/// it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `first` and doubles up to `last`.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// Returns the current wait and doubles the next one.
    pub fn advance(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.last);
        wait
    }

    /// Returns the current wait without changing the next one.
    pub fn wait(&self) -> Duration {
        self.next
    }

    /// Resets the wait after a success.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let mut waits = || [(); 5].map(|()| backoff.advance().as_millis());
        assert_eq!(waits(), [100, 200, 400, 500, 500]);
        assert_eq!(backoff.wait(), Duration::from_millis(500));
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::from_millis(100));
        assert_eq!(backoff.advance(), Duration::from_millis(100), "wait changes nothing");
    }
}
