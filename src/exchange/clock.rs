//! The exchange's clock, estimated from the heartbeats of its feed. Deadlines are sent in the
//! exchange's time, and an order that the exchange does not know is given up only once the
//! exchange's own clock is past its deadline.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::types::{Moment, MonotonicMicros, TimestampMicros};

/// Heartbeats in the estimate. The one with the lowest latency counts.
const BEATS: usize = 8;
/// Heartbeats in a row that must agree on another time before it is believed: a single odd one is
/// late or wrong. Also how many of the newest heartbeats bound the exchange's clock from below.
const BEATS_TO_BELIEVE: usize = 3;
/// Heartbeats agree when they differ by at most this, in microseconds.
const AGREEMENT_MICROS: u64 = 500_000;
/// How long the offsets that deadlines were converted with are remembered, in microseconds: this
/// long at least, twice as long at most.
const WINDOW_MICROS: u64 = 60_000_000;
/// Sentinel for an unknown value.
const UNKNOWN: i64 = i64::MIN;

/// The exchange's clock, shared by the feed thread, which sets it, and the orders thread, which
/// converts deadlines with it. Clones share the same clock. Before the first heartbeat it equals
/// our clock.
///
/// Clocks are compared through the monotonic clock, which nobody sets: `ahead` is a clock's time
/// minus the monotonic time.
#[derive(Debug, Clone)]
pub struct ExchangeClock(Arc<Shared>);

/// Each stands for itself: the feed's thread alone writes the first two, and the orders thread alone
/// writes and reads the others.
#[derive(Debug)]
struct Shared {
    /// Never more than the true value, unless the clock was set back a moment ago.
    ahead: AtomicI64,
    /// The least that one of the last few heartbeats said.
    least_ahead: AtomicI64,
    /// The largest `ahead` that a deadline was converted with, in the current window and in the one
    /// before, and when the current one began.
    max_used: AtomicI64,
    max_used_before: AtomicI64,
    window_start: AtomicI64,
}

impl Default for ExchangeClock {
    fn default() -> Self {
        Self(Arc::new(Shared {
            ahead: AtomicI64::new(UNKNOWN),
            least_ahead: AtomicI64::new(UNKNOWN),
            max_used: AtomicI64::new(UNKNOWN),
            max_used_before: AtomicI64::new(UNKNOWN),
            window_start: AtomicI64::new(0),
        }))
    }
}

impl ExchangeClock {
    /// How far the exchange's clock is ahead of the one that `now` was read from, in microseconds;
    /// negative when it is behind. `None` before the first heartbeat. Operators compare it with the
    /// machine's clock: the steady one may be far from both after a step.
    pub fn offset_micros(&self, now: Moment) -> Option<i64> {
        let ahead = self.0.ahead.load(Ordering::Relaxed);
        (ahead != UNKNOWN).then(|| ahead.saturating_sub(ours_ahead(now)))
    }

    /// The exchange's time; `None` before the first heartbeat.
    pub fn time(&self, now: Moment) -> Option<TimestampMicros> {
        Some(shifted(now.wall, self.offset_micros(now)?))
    }

    /// A lower bound of the exchange's time.
    pub fn now(&self, now: Moment) -> TimestampMicros {
        shifted(now.wall, self.least_ahead(now).saturating_sub(ours_ahead(now)))
    }

    /// Converts a time of our clock to the exchange's, for use as a deadline.
    pub fn deadline(&self, at: TimestampMicros, now: Moment) -> TimestampMicros {
        let ahead = self.ahead(now);
        let max_used = self.0.max_used.load(Ordering::Relaxed);
        let monotonic = i64::try_from(now.monotonic.micros()).unwrap_or(i64::MAX);
        let since = self.0.window_start.load(Ordering::Relaxed);
        if monotonic.saturating_sub(since).unsigned_abs() > WINDOW_MICROS {
            self.0.max_used_before.store(max_used, Ordering::Relaxed);
            self.0.max_used.store(ahead, Ordering::Relaxed);
            self.0.window_start.store(monotonic, Ordering::Relaxed);
        } else {
            self.0.max_used.store(max_used.max(ahead), Ordering::Relaxed);
        }
        shifted(at, ahead.saturating_sub(ours_ahead(now)))
    }

    /// The exchange accepts no order any more whose deadline, by our clock, is before this time.
    /// Holds even if a deadline was converted with an estimate that proved wrong, or if the
    /// exchange's clock was set back since. Never after `now`.
    pub fn deadlines_passed(&self, now: Moment) -> TimestampMicros {
        let too_late = self.max_ahead_used(now).saturating_sub(self.least_ahead(now)).max(0);
        shifted(now.wall, too_late.saturating_neg())
    }

    /// The largest `ahead` that a deadline which may still be pending was converted with.
    fn max_ahead_used(&self, now: Moment) -> i64 {
        let monotonic = i64::try_from(now.monotonic.micros()).unwrap_or(i64::MAX);
        let since = self.0.window_start.load(Ordering::Relaxed);
        let age = monotonic.saturating_sub(since).unsigned_abs();
        let (current, before) = (&self.0.max_used, &self.0.max_used_before);
        if age > 2 * WINDOW_MICROS {
            UNKNOWN
        } else if age > WINDOW_MICROS {
            current.load(Ordering::Relaxed)
        } else {
            current.load(Ordering::Relaxed).max(before.load(Ordering::Relaxed))
        }
    }

    fn ahead(&self, now: Moment) -> i64 {
        known(self.0.ahead.load(Ordering::Relaxed), now)
    }

    fn least_ahead(&self, now: Moment) -> i64 {
        known(self.0.least_ahead.load(Ordering::Relaxed), now)
    }
}

fn known(ahead: i64, now: Moment) -> i64 {
    if ahead == UNKNOWN { ours_ahead(now) } else { ahead }
}

fn ours_ahead(now: Moment) -> i64 {
    ahead(now.wall, now.monotonic)
}

/// A time minus the monotonic clock.
fn ahead(time: TimestampMicros, monotonic: MonotonicMicros) -> i64 {
    let signed = |micros| i64::try_from(micros).unwrap_or(i64::MAX);
    signed(time.micros()).saturating_sub(signed(monotonic.micros()))
}

fn shifted(time: TimestampMicros, micros: i64) -> TimestampMicros {
    TimestampMicros::new(time.micros().saturating_add_signed(micros))
}

/// Estimates the clock from heartbeats. A heartbeat is late by its latency, so the one that says
/// the most is nearest to the truth, as long as the clock is not set.
#[derive(Debug, Default)]
pub(super) struct Beats {
    clock: ExchangeClock,
    /// `ahead` by each of the last heartbeats that agree.
    recent: VecDeque<i64>,
    /// The newest heartbeats, if they disagree with the others.
    odd: Vec<i64>,
}

impl Beats {
    /// An estimator that updates this clock.
    pub(super) fn new(clock: ExchangeClock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Takes a heartbeat: the exchange's time, received at this monotonic time.
    pub(super) fn heard(&mut self, time: TimestampMicros, received: MonotonicMicros) {
        let said = ahead(time, received);
        match self.estimate() {
            Some(estimate) if estimate.abs_diff(said) > AGREEMENT_MICROS => self.doubt(said),
            Some(_) | None => {
                self.odd.clear();
                self.recent.push_back(said);
                if self.recent.len() > BEATS {
                    self.recent.pop_front();
                }
            }
        }
        let Some(estimate) = self.estimate() else {
            unreachable!("the first heartbeat is believed, and newer ones only replace it")
        };
        let last = self.recent.iter().rev().take(BEATS_TO_BELIEVE).chain(&self.odd);
        let least = last.copied().min().unwrap_or(estimate);
        self.clock.0.least_ahead.store(least, Ordering::Relaxed);
        self.clock.0.ahead.store(estimate, Ordering::Relaxed);
    }

    fn estimate(&self) -> Option<i64> {
        self.recent.iter().copied().max()
    }

    fn doubt(&mut self, said: i64) {
        if self.odd.iter().any(|other| other.abs_diff(said) > AGREEMENT_MICROS) {
            self.odd.clear();
        }
        self.odd.push(said);
        if self.odd.len() >= BEATS_TO_BELIEVE {
            self.recent = self.odd.drain(..).collect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;
    const START: u64 = 1_732_400_000 * SECOND;

    /// Both sides: the exchange sends a heartbeat each second from a clock that is `ahead` of ours.
    struct Rig {
        beats: Beats,
        clock: ExchangeClock,
        micros: u64,
        ahead: i64,
    }

    impl Rig {
        fn new(ahead_seconds: i64) -> Self {
            let clock = ExchangeClock::default();
            let ahead = ahead_seconds * SECOND as i64;
            Self { beats: Beats::new(clock.clone()), clock, micros: 0, ahead }
        }

        fn now(&self) -> Moment {
            Moment {
                wall: TimestampMicros::new(START + self.micros),
                monotonic: MonotonicMicros::new(77 + self.micros),
            }
        }

        fn exchange(&self) -> TimestampMicros {
            shifted(self.now().wall, self.ahead)
        }

        /// A second passes, then a heartbeat arrives with this latency.
        fn beat(&mut self, latency: u64) {
            self.micros += SECOND;
            let sent = TimestampMicros::new(self.exchange().micros() - latency);
            self.beats.heard(sent, self.now().monotonic);
        }

        fn beat_often(&mut self, times: u64) {
            (0..times).for_each(|number| self.beat(100 + number % 3 * 1_000));
        }

        fn offset(&self) -> i64 {
            self.clock.offset_micros(self.now()).unwrap()
        }
    }

    #[test]
    fn before_the_first_beat_it_equals_our_clock() {
        let rig = Rig::new(6);
        let now = rig.now();
        assert_eq!(rig.clock.offset_micros(now), None);
        assert_eq!(rig.clock.now(now), now.wall);
        assert_eq!(rig.clock.deadline(now.wall, now), now.wall);
        assert_eq!(rig.clock.deadlines_passed(now), now.wall);
    }

    #[test]
    fn the_beat_with_the_lowest_latency_counts_and_the_first_is_believed() {
        let mut rig = Rig::new(6);
        rig.beat(400_000);
        assert_eq!(rig.offset(), 5_600_000);
        rig.beat(100);
        rig.beat(90_000);
        assert_eq!(rig.offset(), 5_999_900);
        assert_eq!(rig.clock.now(rig.now()).micros(), rig.exchange().micros() - 400_000);
    }

    #[test]
    fn deadlines_are_sent_in_exchange_time_and_pass_when_ours_do() {
        for ahead in [6, -10, 3_600] {
            let mut rig = Rig::new(ahead);
            rig.beat_often(5);
            let (now, deadline) = (rig.now(), rig.now().wall.saturating_add_micros(5 * SECOND));
            let told = rig.clock.deadline(deadline, now);
            assert_eq!(told.micros(), rig.exchange().micros() + 5 * SECOND - 100);
            let passed = rig.clock.deadlines_passed(now);
            assert!(now.wall.micros_since(passed) <= 3_000, "late by at most the slowest beat");
        }
    }

    #[test]
    fn a_deadline_converted_with_a_wrong_offset_passes_later() {
        let mut rig = Rig::new(-10);
        rig.clock.deadline(rig.now().wall, rig.now()); // converted with offset zero
        rig.beat(0);
        let late = rig.now().wall.micros_since(rig.clock.deadlines_passed(rig.now()));
        assert_eq!(late, 10 * SECOND);
        // Once no deadline of that window can be pending, it is forgotten.
        for _ in 0..3 {
            (0..61).for_each(|_| rig.beat(0));
            rig.clock.deadline(rig.now().wall, rig.now());
        }
        assert_eq!(rig.clock.deadlines_passed(rig.now()), rig.now().wall);
    }

    #[test]
    fn old_deadlines_are_forgotten_without_new_ones() {
        let mut rig = Rig::new(0);
        rig.beat_often(20);
        rig.clock.deadline(rig.now().wall, rig.now());
        rig.ahead = -3_600 * SECOND as i64;
        rig.beat_often(WINDOW_MICROS / SECOND);
        assert_ne!(rig.clock.deadlines_passed(rig.now()), rig.now().wall);
        rig.beat_often(WINDOW_MICROS / SECOND);
        let late = rig.now().wall.micros_since(rig.clock.deadlines_passed(rig.now()));
        assert!(late < SECOND, "{late}");
    }

    #[test]
    fn a_clock_set_back_delays_deadlines_at_once_and_is_believed_after_three_beats() {
        let mut rig = Rig::new(0);
        rig.beat_often(20);
        rig.clock.deadline(rig.now().wall, rig.now());
        rig.ahead = -4 * SECOND as i64;
        rig.beat(0);
        assert_eq!(rig.offset(), -100, "it may be late");
        let late = rig.now().wall.micros_since(rig.clock.deadlines_passed(rig.now()));
        assert_eq!(late, 4 * SECOND - 100, "and it may be true");
        rig.beat(0);
        rig.beat(0);
        assert_eq!(rig.offset(), rig.ahead);
    }

    #[test]
    fn a_clock_set_forward_is_believed_after_three_beats() {
        let mut rig = Rig::new(0);
        rig.beat_often(20);
        rig.ahead = 6 * SECOND as i64;
        rig.beat(0);
        rig.beat(7);
        assert_eq!(rig.offset(), -100);
        rig.beat(0);
        assert_eq!(rig.offset(), rig.ahead);
    }

    #[test]
    fn single_odd_beats_and_a_stalled_reader_change_nothing() {
        let mut rig = Rig::new(1);
        rig.beat_often(20);
        let before = rig.offset();
        for odd in [0, 1, u64::MAX, START * 2] {
            rig.beats.heard(TimestampMicros::new(odd), rig.now().monotonic);
            assert_eq!(rig.offset(), before, "{odd}");
        }
        // Ten seconds of heartbeats, all read at once: each disagrees with the others.
        let read_at = rig.now().monotonic.saturating_add(std::time::Duration::from_secs(10));
        for second in 1..=10 {
            let sent = rig.exchange().saturating_add_micros(second * SECOND);
            rig.beats.heard(sent, read_at);
        }
        rig.micros += 10 * SECOND;
        assert!(rig.offset().abs_diff(before) < 5_000);
    }

    #[test]
    fn a_slow_clock_is_tracked() {
        let mut rig = Rig::new(0);
        for _ in 0..200 {
            rig.ahead -= 7_813;
            rig.beat(0);
        }
        assert!(rig.offset().abs_diff(rig.ahead) <= AGREEMENT_MICROS);
    }
}
