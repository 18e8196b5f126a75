use std::time::{Duration, Instant};

/// How long changes may gather for a transaction, unless replies wait for it: many changes of one
/// order then become one row, and one sync serves them all.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Longest rest at a time.
const MAX_REST: Duration = Duration::from_secs(1);
/// How much work may be done at once, in seconds, after less work than the share allows: one slow
/// transaction among many is no reason to fall behind.
const MAX_CREDIT_SECONDS: f64 = 1.0;
/// So many new records a second are an order path at work, which the projection makes room for.
const BUSY_RECORDS_PER_SECOND: f64 = 500.0;

/// When the next transaction may begin: Postgres works at most a share of the time while orders come
/// in, because it has the same cores, disks or network.
#[derive(Debug)]
pub(super) struct Pace {
    share: f64,
    gather: Duration,
    began_at: Instant,
    /// Work that may be done without a rest, in seconds: grows with time, by the share of it.
    credit_seconds: f64,
    credited_at: Instant,
    rest_until: Instant,
}

impl Pace {
    /// Works at most `share_percent` of the time.
    pub(super) fn new(share_percent: u8) -> Self {
        let share = f64::from(share_percent.clamp(1, 100)) / 100.0;
        let now = Instant::now();
        Self {
            share,
            gather: GATHER_TIME,
            began_at: now,
            credit_seconds: 0.0,
            credited_at: now,
            rest_until: now,
        }
    }

    /// Works whenever there is something: replies wait for it.
    pub(super) fn eager() -> Self {
        Self { gather: Duration::ZERO, ..Self::new(100) }
    }

    /// Whether replies wait for it.
    pub(super) fn is_eager(&self) -> bool {
        self.gather.is_zero()
    }

    /// A transaction took so long, and so many records came in meanwhile.
    pub(super) fn worked(&mut self, busy: Duration, records: u64) {
        self.worked_until(Instant::now(), busy, records);
    }

    fn worked_until(&mut self, now: Instant, busy: Duration, records: u64) {
        #[expect(clippy::cast_precision_loss, reason = "a rate need not be exact")]
        let rate = records as f64 / busy.as_secs_f64().max(1e-3);
        let passed = now.saturating_duration_since(self.credited_at).as_secs_f64();
        self.credited_at = now;
        let credit = self.credit_seconds + passed * self.share - busy.as_secs_f64();
        self.credit_seconds = credit.min(MAX_CREDIT_SECONDS);
        if rate < BUSY_RECORDS_PER_SECOND {
            self.credit_seconds = self.credit_seconds.max(0.0);
        }
        let rest = Duration::from_secs_f64((-self.credit_seconds).max(0.0) / self.share);
        self.began_at = now.checked_sub(busy).unwrap_or(now);
        self.rest_until = now + rest.min(MAX_REST);
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

    /// Transactions of so many milliseconds, one after the other, each with its rest: how much of the
    /// time they take.
    fn share_of(pace: &mut Pace, busy_ms: u64, every_ms: u64, records: u64) -> f64 {
        let busy = Duration::from_millis(busy_ms);
        let (start, mut now) = (pace.credited_at, pace.credited_at);
        let mut worked = Duration::ZERO;
        while now - start < Duration::from_secs(100) {
            now += busy;
            worked += busy;
            pace.worked_until(now, busy, records);
            now = pace.rest_until.max(now + Duration::from_millis(every_ms - busy_ms));
        }
        worked.as_secs_f64() / (now - start).as_secs_f64()
    }

    #[test]
    fn it_rests_for_as_long_as_the_share_asks_while_orders_come_in() {
        let share = share_of(&mut Pace::new(25), 100, 100, 1_000);
        assert!((0.24..0.26).contains(&share), "{share}");
        let mut pace = Pace::new(25);
        pace.worked_until(pace.credited_at, Duration::from_secs(60), 1_000_000);
        assert!(pace.rest_until <= pace.credited_at + MAX_REST, "and not for ever");
    }

    #[test]
    fn below_the_share_it_does_not_rest_even_after_a_slow_one() {
        let mut pace = Pace::new(50);
        let share = share_of(&mut pace, 20, 100, 1_000);
        assert!((0.19..0.21).contains(&share), "{share}");
        let now = pace.credited_at + Duration::from_millis(900);
        pace.worked_until(now, Duration::from_millis(800), 1_000);
        assert_eq!(pace.rest_until, now);
    }

    #[test]
    fn it_does_not_rest_for_nobody() {
        let mut pace = Pace::new(25);
        let now = pace.credited_at + Duration::from_millis(100);
        pace.worked_until(now, Duration::from_millis(100), 10);
        assert_eq!(pace.rest_until, now);
        let mut eager = Pace::eager();
        let now = eager.credited_at + Duration::from_millis(100);
        eager.worked_until(now, Duration::from_millis(100), 100_000);
        assert_eq!(eager.rest_until, now);
        assert!(eager.until_next().is_none());
    }
}
