use std::time::{Duration, Instant};

/// How long changes may gather for a transaction, unless replies wait for it: many changes of one
/// order then become one row, and one sync serves them all.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Longest rest after a transaction.
const MAX_REST: Duration = Duration::from_secs(1);
/// So many new records a second are an order path at work, which the projection makes room for.
const BUSY_RECORDS_PER_SECOND: f64 = 500.0;

/// When the next transaction may begin: Postgres works at most a share of the time while orders come
/// in, because it has the same cores, disks or network.
#[derive(Debug)]
pub(super) struct Pace {
    share: f64,
    gather: Duration,
    began_at: Instant,
    rest_until: Instant,
}

impl Pace {
    /// Works at most `share_percent` of the time.
    pub(super) fn new(share_percent: u8) -> Self {
        let share = f64::from(share_percent.clamp(1, 100)) / 100.0;
        let now = Instant::now();
        Self { share, gather: GATHER_TIME, began_at: now, rest_until: now }
    }

    /// Works whenever there is something: replies wait for it.
    pub(super) fn eager() -> Self {
        Self { gather: Duration::ZERO, ..Self::new(100) }
    }

    /// A transaction took so long, and so many records came in meanwhile.
    pub(super) fn worked(&mut self, busy: Duration, records: u64) {
        let now = Instant::now();
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = records as f64 / busy.as_secs_f64().max(1e-3);
        let rest = if rate < BUSY_RECORDS_PER_SECOND {
            Duration::ZERO
        } else {
            busy.mul_f64((1.0 - self.share) / self.share).min(MAX_REST)
        };
        self.began_at = now.checked_sub(busy).unwrap_or(now);
        self.rest_until = now + rest;
    }

    /// How long changes may still gather, unless there are enough for a full transaction.
    pub(super) fn until_next(&self) -> Option<Duration> {
        left(self.began_at + self.gather)
    }

    /// How long Postgres still rests, whatever waits.
    pub(super) fn rest_left(&self) -> Option<Duration> {
        left(self.rest_until)
    }
}

fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rest_after(pace: &mut Pace, busy_ms: u64, records: u64) -> f64 {
        let before = Instant::now();
        pace.worked(Duration::from_millis(busy_ms), records);
        pace.rest_until.saturating_duration_since(before).as_secs_f64()
    }

    #[test]
    fn it_rests_for_as_long_as_the_share_asks_while_orders_come_in() {
        let mut pace = Pace::new(25);
        let rest = rest_after(&mut pace, 100, 1_000);
        assert!((0.3..0.4).contains(&rest), "three times the work: {rest}");
        assert!(rest_after(&mut pace, 5_000, 1_000_000) < 1.1, "and not for ever");
    }

    #[test]
    fn it_does_not_rest_for_nobody() {
        assert!(rest_after(&mut Pace::new(25), 100, 10) < 0.1);
        let mut eager = Pace::eager();
        assert!(rest_after(&mut eager, 100, 100_000) < 0.1);
        assert!(eager.until_next().is_none());
    }
}
