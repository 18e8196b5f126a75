use std::time::Duration;

use super::MonotonicMicros;

/// Throttles a repeated message: passes the first one and then one per interval, with the number of
/// occurrences since the last. A repeating fault at the exchange cannot fill the log.
#[derive(Debug)]
pub struct LogThrottle {
    interval: Duration,
    passed_at: Option<MonotonicMicros>,
    suppressed: u64,
}

impl LogThrottle {
    /// Passes one message per `interval`.
    pub const fn new(interval: Duration) -> Self {
        Self { interval, passed_at: None, suppressed: 0 }
    }

    /// Counts one occurrence. Returns the number since the last message when a message is due.
    pub fn note(&mut self, now: MonotonicMicros) -> Option<u64> {
        self.suppressed += 1;
        if self.passed_at.is_some_and(|at| now < at.saturating_add(self.interval)) {
            return None;
        }
        self.passed_at = Some(now);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_passes_and_then_one_per_interval() {
        let mut throttle = LogThrottle::new(Duration::from_micros(10));
        let passed: Vec<_> = (0..25).map(|at| throttle.note(MonotonicMicros::new(at))).collect();
        let passed: Vec<_> =
            passed.iter().enumerate().filter_map(|(at, n)| n.map(|n| (at, n))).collect();
        assert_eq!(passed, [(0, 1), (10, 10), (20, 10)]);
    }
}
