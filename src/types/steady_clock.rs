use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::time::{Clock, Moment, MonotonicMicros, TimestampMicros, monotonic_nanos};

/// Of the time that passes, at most one part in so many is added or left out to come nearer to the
/// wall clock: what is measured with this clock is wrong by less than a hundredth meanwhile, so that a
/// deadline of seconds does not miss the look that comes right after it. A minute takes two hours.
const SLEW_DIVISOR: u64 = 128;
/// How often the wall clock is looked at, at most.
const STEER_INTERVAL_NANOS: u64 = 20_000_000;

/// The time that is recorded: of orders, their changes and their ids. It begins at the wall clock or
/// at the last time on record, whichever is later, and moves with the monotonic clock. Where somebody
/// sets the wall clock it follows slowly, so it never goes back, never jumps, and waiting times and
/// deadlines can be measured with it. A clone is the same clock.
#[derive(Debug, Clone)]
pub struct SteadyClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: ArcSwap<Line>,
    /// The latest time that was told: two threads may read different lines.
    told_nanos: AtomicU64,
}

/// What the clocks of a machine say at one moment, in nanoseconds, where no machine is asked.
#[cfg(feature = "simulation")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct RawClocks {
    pub(crate) monotonic: u64,
    pub(crate) wall: u64,
}

/// The time from one look at the wall clock to the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// Where it begins: by the monotonic clock, and the time.
    from_monotonic: u64,
    from: u64,
    /// How far the wall clock was ahead there; behind, where negative.
    wall_ahead: i64,
}

impl Line {
    /// The time that this line tells, in nanoseconds. Rises with `monotonic`.
    fn at(&self, monotonic: u64) -> u64 {
        let elapsed = monotonic.saturating_sub(self.from_monotonic);
        let slewed = (elapsed / SLEW_DIVISOR).min(self.wall_ahead.unsigned_abs());
        let straight = self.from.saturating_add(elapsed);
        if self.wall_ahead < 0 { straight - slewed } else { straight.saturating_add(slewed) }
    }

    /// The line that goes on from this one.
    fn steered(&self, monotonic: u64, wall: u64) -> Self {
        let from = self.at(monotonic);
        Self { from_monotonic: monotonic, from, wall_ahead: difference(wall, from) }
    }

    fn is_due(&self, monotonic: u64) -> bool {
        monotonic.saturating_sub(self.from_monotonic) >= STEER_INTERVAL_NANOS
    }
}

/// `a - b`, as far as that can be told.
fn difference(a: u64, b: u64) -> i64 {
    let distance = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a >= b { distance } else { -distance }
}

impl SteadyClock {
    /// A clock that tells no time at or before the last one on record.
    pub fn start(last_recorded: TimestampMicros) -> Self {
        Self::start_at(last_recorded, monotonic_nanos(), wall_nanos())
    }

    fn start_at(last_recorded: TimestampMicros, monotonic: u64, wall: u64) -> Self {
        let floor = last_recorded.micros().saturating_add(1).saturating_mul(1_000);
        let from = wall.max(floor);
        let line = Line { from_monotonic: monotonic, from, wall_ahead: difference(wall, from) };
        Self(Arc::new(Shared {
            line: ArcSwap::from_pointee(line),
            told_nanos: AtomicU64::new(from),
        }))
    }

    /// The same by clocks that somebody else moves.
    #[cfg(feature = "simulation")]
    pub(crate) fn start_by(last_recorded: TimestampMicros, raw: RawClocks) -> Self {
        Self::start_at(last_recorded, raw.monotonic, raw.wall)
    }

    /// The time and the monotonic clock, by clocks that somebody else moves.
    #[cfg(feature = "simulation")]
    pub(crate) fn moment_by(&self, raw: RawClocks) -> Moment {
        self.moment_at(raw.monotonic, || raw.wall)
    }

    /// The time.
    pub fn now(&self) -> TimestampMicros {
        TimestampMicros::new(self.now_nanos() / 1_000)
    }

    /// The time in nanoseconds since the Unix epoch.
    pub fn now_nanos(&self) -> u64 {
        self.read(monotonic_nanos(), wall_nanos)
    }

    /// The time and the monotonic clock.
    pub fn moment(&self) -> Moment {
        self.moment_at(monotonic_nanos(), wall_nanos)
    }

    fn moment_at(&self, monotonic: u64, wall: impl FnOnce() -> u64) -> Moment {
        Moment {
            wall: TimestampMicros::new(self.read(monotonic, wall) / 1_000),
            monotonic: MonotonicMicros::new(monotonic / 1_000),
        }
    }

    /// How far this clock is ahead of the wall clock, in microseconds; behind, where negative.
    pub fn ahead_of_wall_micros(&self) -> i64 {
        difference(self.now_nanos(), wall_nanos()) / 1_000
    }

    fn read(&self, monotonic: u64, wall: impl FnOnce() -> u64) -> u64 {
        let line = self.0.line.load();
        let now = line.at(monotonic);
        if line.is_due(monotonic) {
            // Where two threads do so at once, one of the two lines stays. Both begin on the old one.
            self.0.line.store(Arc::new(line.steered(monotonic, wall())));
        }
        // Lines that meet at one moment part behind it, by a 64th at most of the time that a thread was
        // held up between reading the clock and reading the line.
        self.0.told_nanos.fetch_max(now, Ordering::Relaxed).max(now)
    }
}

fn wall_nanos() -> u64 {
    u64::try_from(Clock.now_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    /// The wall clock at the start.
    const WALL: u64 = 1_732_400_000 * SECOND;

    /// A clock and what the test says of the clocks below it.
    struct Rig {
        clock: SteadyClock,
        monotonic: u64,
        wall: u64,
    }

    impl Rig {
        fn new(last_recorded: u64) -> Self {
            let last = TimestampMicros::new(last_recorded / 1_000);
            Self { clock: SteadyClock::start_at(last, 7, WALL), monotonic: 7, wall: WALL }
        }

        /// Lets time pass and reads the clock.
        fn after(&mut self, nanos: u64) -> u64 {
            self.monotonic += nanos;
            self.wall += nanos;
            self.clock.read(self.monotonic, || self.wall)
        }

        /// Reads it so often that it follows the wall clock throughout.
        fn through(&mut self, nanos: u64) -> u64 {
            (0..nanos / (SECOND / 10)).map(|_| self.after(SECOND / 10)).last().unwrap()
        }
    }

    #[test]
    fn it_is_the_wall_clock_while_nobody_sets_that() {
        let mut rig = Rig::new(0);
        assert_eq!(rig.after(0), WALL);
        assert_eq!(rig.after(3 * SECOND), WALL + 3 * SECOND);
        assert_eq!(rig.through(5 * SECOND), rig.wall);
    }

    #[test]
    fn a_wall_clock_that_is_set_back_is_followed_slowly_and_never_back() {
        let mut rig = Rig::new(0);
        rig.after(SECOND);
        rig.wall -= 600 * SECOND;
        let set_at = rig.after(0);
        let mut last = set_at;
        for _ in 0..1_000 {
            let now = rig.after(SECOND / 100);
            assert!(now > last && now - last >= SECOND / 100 * 127 / 128);
            last = now;
        }
        let ten_seconds = last - set_at;
        assert!(ten_seconds < 9_950_000_000, "it comes nearer: {ten_seconds}");
        assert_eq!(rig.through(128 * 600 * SECOND), rig.wall, "at last it is there");
    }

    #[test]
    fn a_wall_clock_that_is_set_forward_is_followed_slowly() {
        let mut rig = Rig::new(0);
        rig.after(SECOND);
        rig.wall += 60 * SECOND;
        let set_at = rig.after(SECOND / 50);
        assert_eq!(rig.after(2 * SECOND) - set_at, 2 * SECOND * 129 / 128);
        assert_eq!(rig.through(128 * 60 * SECOND), rig.wall);
    }

    #[test]
    fn it_goes_no_further_than_the_wall_clock_while_nobody_reads_it() {
        let mut rig = Rig::new(0);
        rig.after(SECOND);
        rig.wall += SECOND;
        rig.after(SECOND);
        assert_eq!(rig.after(3_600 * SECOND), rig.wall);
    }

    #[test]
    fn it_begins_behind_the_last_time_on_record() {
        let hour_ahead = WALL + 3_600 * SECOND;
        let mut rig = Rig::new(hour_ahead);
        assert_eq!(rig.after(0), hour_ahead + 1_000, "the microsecond behind it");
        assert_eq!(rig.after(128 * SECOND), hour_ahead + 1_000 + 127 * SECOND);
    }

    #[test]
    fn all_threads_share_a_clock_that_never_goes_back() {
        let clock = SteadyClock::start(TimestampMicros::default());
        let newest = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..20_000 {
                        let seen = newest.load(Ordering::SeqCst);
                        let now = clock.now_nanos();
                        assert!(now >= seen, "{now} after {seen}");
                        newest.fetch_max(now, Ordering::SeqCst);
                    }
                });
            }
        });
    }

    proptest! {
        #[test]
        fn however_the_wall_clock_is_set_it_passes_as_time_does(
            steps in prop::collection::vec((0..10 * SECOND, -4_000_i64..4_000), 1..50),
        ) {
            let mut rig = Rig::new(0);
            let mut last = rig.after(0);
            for (nanos, set_seconds) in steps {
                rig.wall = rig.wall.saturating_add_signed(set_seconds * SECOND as i64);
                let now = rig.after(nanos);
                let slewed = (now - last).abs_diff(nanos);
                prop_assert!(slewed <= nanos / SLEW_DIVISOR + 1, "{slewed} of {nanos}");
                last = now;
            }
        }
    }
}
