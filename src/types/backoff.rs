use std::time::Duration;

/// How long to wait before something that failed is tried again: twice as long each time, up to a
/// limit, until something goes right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    last: Duration,
    next: Duration,
}

impl Backoff {
    /// Waits for `first`, then twice that, and never for longer than `last`.
    pub const fn new(first: Duration, last: Duration) -> Self {
        Self { first, last, next: first }
    }

    /// How long to wait now. The next wait is longer.
    pub fn advance(&mut self) -> Duration {
        let wait = self.next;
        self.next = wait.saturating_mul(2).min(self.last);
        wait
    }

    /// How long to wait now, where the next wait is to be as long.
    pub fn wait(&self) -> Duration {
        self.next
    }

    /// Something went right: the next failure is another story.
    pub fn reset(&mut self) {
        self.next = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_last() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_millis(500));
        let mut waits = || [(); 5].map(|()| backoff.advance().as_millis());
        assert_eq!(waits(), [100, 200, 400, 500, 500]);
        assert_eq!(backoff.wait(), Duration::from_millis(500));
        backoff.reset();
        assert_eq!(backoff.wait(), Duration::from_millis(100));
        assert_eq!(backoff.advance(), Duration::from_millis(100), "the look has changed nothing");
    }
}
