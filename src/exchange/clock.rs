//! The exchange's clock, as the heartbeats of its feed tell it. Deadlines are told to the exchange in
//! its own time, and what it does not know of is given up only once its own clock is past them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use crate::types::{Moment, MonotonicMicros, TimestampMicros};

/// Beats that the estimate is made of: the one that took the least time to get here counts.
const BEATS: usize = 8;
/// Beats in a row that must agree on another time before it is believed: a single odd one is late, or
/// nonsense. Also how many beats back the exchange's clock is taken to be behind the estimate.
const BEATS_TO_BELIEVE: usize = 3;
/// How far beats may be apart that agree, in microseconds.
const AGREEMENT_MICROS: u64 = 500_000;
/// How long the times that deadlines were told by are remembered, in microseconds: up to twice that.
const TOLD_MICROS: u64 = 60_000_000;
/// Stands for what is not known.
const UNKNOWN: i64 = i64::MIN;

/// The exchange's clock, shared by whoever hears it and whoever tells deadlines by it. A clone is the
/// same clock. Until its first beat it is taken to be ours.
///
/// Clocks are compared with the monotonic one, which nobody sets: a clock is "ahead" by its time minus
/// that.
#[derive(Debug, Clone)]
pub struct ExchangeClock(Arc<Shared>);

/// Each stands for itself: the feed's thread alone writes the first two, and the orders thread alone
/// writes and reads the others.
#[derive(Debug)]
struct Shared {
    /// How far it is ahead. Never more than it really is, unless it was set back a moment ago.
    ahead: AtomicI64,
    /// The same of the last few beats alone, whichever said the least.
    least_ahead: AtomicI64,
    /// What deadlines were told by: the most in this while and in the one before, and when it began.
    told: AtomicI64,
    told_before: AtomicI64,
    told_since: AtomicI64,
}

impl Default for ExchangeClock {
    fn default() -> Self {
        Self(Arc::new(Shared {
            ahead: AtomicI64::new(UNKNOWN),
            least_ahead: AtomicI64::new(UNKNOWN),
            told: AtomicI64::new(UNKNOWN),
            told_before: AtomicI64::new(UNKNOWN),
            told_since: AtomicI64::new(0),
        }))
    }
}

impl ExchangeClock {
    /// How far the exchange's clock is ahead of ours, in microseconds; behind, where negative. `None`
    /// before its first beat.
    pub fn offset_micros(&self, now: Moment) -> Option<i64> {
        let ahead = self.0.ahead.load(Ordering::Relaxed);
        (ahead != UNKNOWN).then(|| ahead.saturating_sub(ours_ahead(now)))
    }

    /// What the exchange's clock says at least.
    pub fn now(&self, now: Moment) -> TimestampMicros {
        shifted(now.wall, self.least_ahead(now).saturating_sub(ours_ahead(now)))
    }

    /// A moment of our clock, as a deadline for the exchange, in its time.
    pub fn deadline(&self, at: TimestampMicros, now: Moment) -> TimestampMicros {
        let ahead = self.ahead(now);
        let told = self.0.told.load(Ordering::Relaxed);
        let monotonic = i64::try_from(now.monotonic.micros()).unwrap_or(i64::MAX);
        let since = self.0.told_since.load(Ordering::Relaxed);
        if monotonic.saturating_sub(since).unsigned_abs() > TOLD_MICROS {
            self.0.told_before.store(told, Ordering::Relaxed);
            self.0.told.store(ahead, Ordering::Relaxed);
            self.0.told_since.store(monotonic, Ordering::Relaxed);
        } else {
            self.0.told.store(told.max(ahead), Ordering::Relaxed);
        }
        shifted(at, ahead.saturating_sub(ours_ahead(now)))
    }

    /// The exchange takes nothing any more whose deadline, by our clock, is before this: also where it
    /// was told by an estimate that has turned out to be wrong, or the exchange's clock was set back
    /// since. Never after `now`.
    pub fn deadlines_passed(&self, now: Moment) -> TimestampMicros {
        let too_late = self.told(now).saturating_sub(self.least_ahead(now)).max(0);
        shifted(now.wall, too_late.saturating_neg())
    }

    /// The most that deadlines were told by which are not too old to be waited for.
    fn told(&self, now: Moment) -> i64 {
        let monotonic = i64::try_from(now.monotonic.micros()).unwrap_or(i64::MAX);
        let since = self.0.told_since.load(Ordering::Relaxed);
        let age = monotonic.saturating_sub(since).unsigned_abs();
        let (told, before) = (&self.0.told, &self.0.told_before);
        if age > 2 * TOLD_MICROS {
            UNKNOWN
        } else if age > TOLD_MICROS {
            told.load(Ordering::Relaxed)
        } else {
            told.load(Ordering::Relaxed).max(before.load(Ordering::Relaxed))
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

/// Makes an estimate of the beats. A beat is late by the time that it took to get here, so the one
/// that says the most is nearest to the truth, as long as the clock is not set.
#[derive(Debug, Default)]
pub(super) struct Beats {
    clock: ExchangeClock,
    /// How far the clock is ahead by each of the last beats that go together.
    recent: VecDeque<i64>,
    /// The last beats, where those do not go with the others.
    odd: Vec<i64>,
}

impl Beats {
    /// Tells this clock.
    pub(super) fn new(clock: ExchangeClock) -> Self {
        Self { clock, ..Self::default() }
    }

    /// Takes the exchange's time, which came when the monotonic clock was at `received`.
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
        let Some(estimate) = self.estimate() else { return };
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

    /// Both sides: a beat a second, from a clock that is so far ahead of ours.
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

        /// A second passes, and a beat comes that took so long.
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
    fn before_the_first_beat_it_is_our_clock() {
        let rig = Rig::new(6);
        let now = rig.now();
        assert_eq!(rig.clock.offset_micros(now), None);
        assert_eq!(rig.clock.now(now), now.wall);
        assert_eq!(rig.clock.deadline(now.wall, now), now.wall);
        assert_eq!(rig.clock.deadlines_passed(now), now.wall);
    }

    #[test]
    fn the_fastest_beat_counts_and_one_is_enough_to_begin_with() {
        let mut rig = Rig::new(6);
        rig.beat(400_000);
        assert_eq!(rig.offset(), 5_600_000);
        rig.beat(100);
        rig.beat(90_000);
        assert_eq!(rig.offset(), 5_999_900);
        assert_eq!(rig.clock.now(rig.now()).micros(), rig.exchange().micros() - 400_000);
    }

    #[test]
    fn deadlines_are_told_in_its_time_and_pass_when_ours_do() {
        for ahead in [6, -10, 3_600] {
            let mut rig = Rig::new(ahead);
            rig.beat_often(5);
            let (now, deadline) = (rig.now(), rig.now().wall.saturating_add_micros(5 * SECOND));
            let told = rig.clock.deadline(deadline, now);
            assert_eq!(told.micros(), rig.exchange().micros() + 5 * SECOND - 100);
            let passed = rig.clock.deadlines_passed(now);
            assert!(now.wall.micros_since(passed) <= 3_000, "as late as its slowest beat");
        }
    }

    #[test]
    fn a_deadline_that_was_told_by_another_clock_passes_when_that_does() {
        let mut rig = Rig::new(-10);
        rig.clock.deadline(rig.now().wall, rig.now()); // as if there were no difference
        rig.beat(0);
        let late = rig.now().wall.micros_since(rig.clock.deadlines_passed(rig.now()));
        assert_eq!(late, 10 * SECOND);
        // Once nobody can be waiting for it any more it is forgotten.
        for _ in 0..3 {
            (0..61).for_each(|_| rig.beat(0));
            rig.clock.deadline(rig.now().wall, rig.now());
        }
        assert_eq!(rig.clock.deadlines_passed(rig.now()), rig.now().wall);
    }

    #[test]
    fn old_deadlines_are_forgotten_although_no_new_ones_are_told() {
        let mut rig = Rig::new(0);
        rig.beat_often(20);
        rig.clock.deadline(rig.now().wall, rig.now());
        rig.ahead = -3_600 * SECOND as i64;
        rig.beat_often(TOLD_MICROS / SECOND);
        assert_ne!(rig.clock.deadlines_passed(rig.now()), rig.now().wall);
        rig.beat_often(TOLD_MICROS / SECOND);
        let late = rig.now().wall.micros_since(rig.clock.deadlines_passed(rig.now()));
        assert!(late < SECOND, "{late}");
    }

    #[test]
    fn a_clock_that_is_set_back_is_feared_at_once_and_believed_after_three_beats() {
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
    fn a_clock_that_is_set_forward_is_believed_after_three_beats() {
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
    fn single_odd_beats_and_a_reader_that_was_held_up_change_nothing() {
        let mut rig = Rig::new(1);
        rig.beat_often(20);
        let before = rig.offset();
        for odd in [0, 1, u64::MAX, START * 2] {
            rig.beats.heard(TimestampMicros::new(odd), rig.now().monotonic);
            assert_eq!(rig.offset(), before, "{odd}");
        }
        // Beats of ten seconds, all read at once: each says something else.
        let read_at = rig.now().monotonic.saturating_add(std::time::Duration::from_secs(10));
        for second in 1..=10 {
            let sent = rig.exchange().saturating_add_micros(second * SECOND);
            rig.beats.heard(sent, read_at);
        }
        rig.micros += 10 * SECOND;
        assert!(rig.offset().abs_diff(before) < 5_000);
    }

    #[test]
    fn a_clock_that_runs_slow_is_followed() {
        let mut rig = Rig::new(0);
        for _ in 0..200 {
            rig.ahead -= 7_813;
            rig.beat(0);
        }
        assert!(rig.offset().abs_diff(rig.ahead) <= AGREEMENT_MICROS);
    }
}
