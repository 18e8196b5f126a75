//! The end of a server: every stream is told, a few at a time, so that not everybody comes back to
//! the others at once.

use std::time::{Duration, Instant};

use rand::RngExt;

use super::frame::write_goodbye;
use super::hub::Hub;
use super::limits::{LEAST_GOODBYES_A_SECOND, RETRY_MS};

/// When which streams are told.
#[derive(Debug)]
pub(super) struct Goodbyes {
    began: Instant,
    a_second: u64,
    said: u64,
}

impl Goodbyes {
    /// For so many streams within a time: evenly, and not slower than need be.
    fn new(streams: usize, within: Duration) -> Self {
        let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        let streams = u64::try_from(streams).unwrap_or(u64::MAX);
        let a_second = match millis {
            0 => u64::MAX,
            millis => (streams.saturating_mul(1_000) / millis).max(LEAST_GOODBYES_A_SECOND),
        };
        Self { began: Instant::now(), a_second, said: 0 }
    }

    /// How many are to be told now.
    fn due(&mut self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.began).as_micros();
        let elapsed_micros = u64::try_from(elapsed).unwrap_or(u64::MAX);
        // One at once, so that a lone stream waits for nothing.
        let so_far = (self.a_second.saturating_mul(elapsed_micros) / 1_000_000).saturating_add(1);
        let so_far = if self.a_second == u64::MAX { u64::MAX } else { so_far };
        let due = so_far.saturating_sub(self.said);
        self.said = so_far;
        due
    }
}

impl Hub {
    /// Spreads the ends of all streams over the drain time, or says them at once.
    pub(super) fn plan_goodbyes(&self, in_peace: bool) -> Goodbyes {
        Goodbyes::new(self.len(), if in_peace { self.limits.drain } else { Duration::ZERO })
    }

    /// Tells those clients whose turn it is that the server goes, and closes their streams.
    pub(super) fn say_goodbyes(&mut self, goodbyes: &mut Goodbyes) {
        let due = usize::try_from(goodbyes.due(Instant::now())).unwrap_or(usize::MAX);
        let keys: Vec<usize> = self.connections.iter().map(|(key, _)| key).take(due).collect();
        for key in keys {
            let Some(connection) = self.connections.get(key) else { continue };
            self.scratch.clear();
            // A frame that was cut must be ended first: it would swallow the goodbye.
            self.scratch.extend_from_slice(&connection.unsent);
            write_goodbye(&mut self.scratch, rand::rng().random_range(RETRY_MS));
            let _best_effort = connection.socket.send(&self.scratch);
            self.metrics.closed_shutdown.inc();
            self.close(key);
        }
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
        assert_eq!(none.due(Instant::now()), u64::MAX);
    }
}
