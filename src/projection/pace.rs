//! Limits the share of time that Postgres is kept busy while orders come in.

use std::time::{Duration, Instant};

/// How long changes gather for a transaction, unless replies wait for it: several changes of one
/// order become one row, and one sync serves all.
const GATHER_TIME: Duration = Duration::from_millis(100);
/// Longest pause at a time.
const MAX_PAUSE: Duration = Duration::from_secs(1);
/// Most credit for work, in seconds, saved up while there was less work than the share allows: one
/// slow transaction among many is no reason to lag.
const MAX_CREDIT_SECONDS: f64 = 1.0;
/// New records per second from which on the order path counts as busy and the projection makes room
/// for it.
const BUSY_RECORDS_PER_SECOND: f64 = 500.0;

/// Schedules transactions. While orders come in, Postgres is busy at most a share of the time,
/// because it has the same cores, disks or network.
#[derive(Debug)]
pub(super) struct Pace {
    share: f64,
    gather: Duration,
    began_at: Instant,
    /// Work allowed without a pause, in seconds. Grows with time, by the share of it.
    credit_seconds: f64,
    credited_at: Instant,
    pause_until: Instant,
}

impl Pace {
    /// Busy at most `share_percent` of the time.
    pub(super) fn new(share_percent: u8) -> Self {
        let share = f64::from(share_percent.clamp(1, 100)) / 100.0;
        let now = Instant::now();
        Self {
            share,
            gather: GATHER_TIME,
            began_at: now,
            credit_seconds: 0.0,
            credited_at: now,
            pause_until: now,
        }
    }

    /// Busy whenever there is something to write: replies wait for it.
    pub(super) fn eager() -> Self {
        Self { gather: Duration::ZERO, ..Self::new(100) }
    }

    /// Whether replies wait for it.
    pub(super) fn is_eager(&self) -> bool {
        self.gather.is_zero()
    }

    /// Records that a transaction took `busy`, and that so many records were committed meanwhile.
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
        let pause = Duration::from_secs_f64((-self.credit_seconds).max(0.0) / self.share);
        self.began_at = now.checked_sub(busy).unwrap_or(now);
        self.pause_until = now + pause.min(MAX_PAUSE);
    }

    /// How long changes may still gather, unless there are enough for a full transaction.
    pub(super) fn until_next(&self) -> Option<Duration> {
        left(self.began_at + self.gather)
    }

    /// How much longer to pause, whatever waits.
    pub(super) fn pause_left(&self) -> Option<Duration> {
        left(self.pause_until)
    }
}

fn left(until: Instant) -> Option<Duration> {
    Some(until.saturating_duration_since(Instant::now())).filter(|left| !left.is_zero())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs transactions of `busy_ms`, one every `every_ms` at most. Returns the share of the time
    /// that they took.
    fn share_of(pace: &mut Pace, busy_ms: u64, every_ms: u64, records: u64) -> f64 {
        let busy = Duration::from_millis(busy_ms);
        let (start, mut now) = (pace.credited_at, pace.credited_at);
        let mut worked = Duration::ZERO;
        while now - start < Duration::from_secs(100) {
            now += busy;
            worked += busy;
            pace.worked_until(now, busy, records);
            now = pace.pause_until.max(now + Duration::from_millis(every_ms - busy_ms));
        }
        worked.as_secs_f64() / (now - start).as_secs_f64()
    }

    #[test]
    fn it_keeps_to_its_share_while_orders_come_in() {
        let share = share_of(&mut Pace::new(25), 100, 100, 1_000);
        assert!((0.24..0.26).contains(&share), "{share}");
        let mut pace = Pace::new(25);
        pace.worked_until(pace.credited_at, Duration::from_secs(60), 1_000_000);
        assert!(pace.pause_until <= pace.credited_at + MAX_PAUSE, "a pause is bounded");
    }

    #[test]
    fn below_its_share_it_does_not_pause_even_after_a_slow_transaction() {
        let mut pace = Pace::new(50);
        let share = share_of(&mut pace, 20, 100, 1_000);
        assert!((0.19..0.21).contains(&share), "{share}");
        let now = pace.credited_at + Duration::from_millis(900);
        pace.worked_until(now, Duration::from_millis(800), 1_000);
        assert_eq!(pace.pause_until, now);
    }

    #[test]
    fn it_does_not_pause_without_orders_or_when_replies_wait() {
        let mut pace = Pace::new(25);
        let now = pace.credited_at + Duration::from_millis(100);
        pace.worked_until(now, Duration::from_millis(100), 10);
        assert_eq!(pace.pause_until, now);
        let mut eager = Pace::eager();
        let now = eager.credited_at + Duration::from_millis(100);
        eager.worked_until(now, Duration::from_millis(100), 100_000);
        assert_eq!(eager.pause_until, now);
        assert!(eager.until_next().is_none());
    }
}
