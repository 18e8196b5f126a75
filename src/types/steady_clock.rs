//! The clock for recorded times: monotonic, and slewed towards the wall clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;

use super::time::{Clock, Moment, MonotonicMicros, TimestampMicros, monotonic_nanos};

/// Slew rate: the clock adds or omits at most one part in 128 of the elapsed time to approach the
/// wall clock. A duration measured meanwhile is off by less than one percent, so a query sent right
/// after a deadline of seconds is still after it. Correcting one minute takes about two hours.
const SLEW_DIVISOR: u64 = 128;
/// Minimum interval between two readings of the wall clock.
const STEER_INTERVAL_NANOS: u64 = 20_000_000;

/// The clock for all recorded times: of orders, their changes and their ids. It starts at the wall
/// clock or right after the last recorded time, whichever is later, and advances with the monotonic
/// clock. When the wall clock is set, it follows slowly: it never goes back and never jumps, so
/// timeouts and deadlines can be measured with it. Clones share one clock.
#[derive(Debug, Clone)]
pub struct SteadyClock(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    line: ArcSwap<Line>,
    /// The latest time returned. Threads may read different lines.
    latest_nanos: AtomicU64,
}

/// The clock's course between two readings of the wall clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Line {
    /// Start of the line: monotonic reading and clock time.
    from_monotonic: u64,
    from: u64,
    /// Lead of the wall clock at the start; negative when it lags.
    wall_ahead: i64,
}

impl Line {
    /// The time at a monotonic reading, in nanoseconds. Increases with `monotonic`.
    fn at(&self, monotonic: u64) -> u64 {
        let elapsed = monotonic.saturating_sub(self.from_monotonic);
        let slewed = (elapsed / SLEW_DIVISOR).min(self.wall_ahead.unsigned_abs());
        let straight = self.from.saturating_add(elapsed);
        if self.wall_ahead < 0 { straight - slewed } else { straight.saturating_add(slewed) }
    }

    /// The line that continues this one after a reading of the wall clock.
    fn steered(&self, monotonic: u64, wall: u64) -> Self {
        let from = self.at(monotonic);
        Self { from_monotonic: monotonic, from, wall_ahead: difference(wall, from) }
    }

    fn is_due(&self, monotonic: u64) -> bool {
        monotonic.saturating_sub(self.from_monotonic) >= STEER_INTERVAL_NANOS
    }
}

/// `a - b`, clamped to the range of `i64`.
fn difference(a: u64, b: u64) -> i64 {
    let distance = i64::try_from(a.abs_diff(b)).unwrap_or(i64::MAX);
    if a >= b { distance } else { -distance }
}

impl SteadyClock {
    /// Starts a clock whose times are all after `last_recorded`.
    pub fn start(last_recorded: TimestampMicros) -> Self {
        Self::start_at(last_recorded, monotonic_nanos(), wall_nanos())
    }

    /// Like [`start`](Self::start), from readings of the monotonic and the wall clock in nanoseconds.
    pub(crate) fn start_at(last_recorded: TimestampMicros, monotonic: u64, wall: u64) -> Self {
        let floor = last_recorded.micros().saturating_add(1).saturating_mul(1_000);
        let from = wall.max(floor);
        let line = Line { from_monotonic: monotonic, from, wall_ahead: difference(wall, from) };
        Self(Arc::new(Shared {
            line: ArcSwap::from_pointee(line),
            latest_nanos: AtomicU64::new(from),
        }))
    }

    /// The current time.
    pub fn now(&self) -> TimestampMicros {
        TimestampMicros::new(self.now_nanos() / 1_000)
    }

    /// The current time in nanoseconds since the Unix epoch.
    pub fn now_nanos(&self) -> u64 {
        self.read(monotonic_nanos(), wall_nanos)
    }

    /// The current time and the monotonic clock.
    pub fn moment(&self) -> Moment {
        self.moment_at(monotonic_nanos(), wall_nanos)
    }

    /// Like [`moment`](Self::moment), from such readings.
    pub(crate) fn moment_at(&self, monotonic: u64, wall: impl FnOnce() -> u64) -> Moment {
        Moment {
            wall: TimestampMicros::new(self.read(monotonic, wall) / 1_000),
            monotonic: MonotonicMicros::new(monotonic / 1_000),
        }
    }

    /// Lead of this clock over the wall clock, in microseconds; negative when it lags.
    pub fn ahead_of_wall_micros(&self) -> i64 {
        difference(self.now_nanos(), wall_nanos()) / 1_000
    }

    fn read(&self, monotonic: u64, wall: impl FnOnce() -> u64) -> u64 {
        let line = self.0.line.load();
        let now = line.at(monotonic);
        if line.is_due(monotonic) {
            // When two threads steer at once, one line wins. Both continue the old one.
            self.0.line.store(Arc::new(line.steered(monotonic, wall())));
        }
        // Lines that share a start diverge after it, by at most a 64th of the time that a thread
        // was suspended between reading the clock and reading the line.
        self.0.latest_nanos.fetch_max(now, Ordering::Relaxed).max(now)
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
    /// Wall clock at the start.
    const WALL: u64 = 1_732_400_000 * SECOND;

    /// A clock over machine clocks that the test controls.
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

        /// Advances both machine clocks and reads the clock.
        fn after(&mut self, nanos: u64) -> u64 {
            self.monotonic += nanos;
            self.wall += nanos;
            self.clock.read(self.monotonic, || self.wall)
        }

        /// Advances in steps short enough for the clock to follow the wall clock.
        fn through(&mut self, nanos: u64) -> u64 {
            (0..nanos / (SECOND / 10)).map(|_| self.after(SECOND / 10)).last().unwrap()
        }
    }

    #[test]
    fn it_equals_a_wall_clock_that_is_not_set() {
        let mut rig = Rig::new(0);
        assert_eq!(rig.after(0), WALL);
        assert_eq!(rig.after(3 * SECOND), WALL + 3 * SECOND);
        assert_eq!(rig.through(5 * SECOND), rig.wall);
    }

    #[test]
    fn it_slows_down_after_the_wall_clock_is_set_back() {
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
        assert!(ten_seconds < 9_950_000_000, "it approaches the wall clock: {ten_seconds}");
        assert_eq!(rig.through(128 * 600 * SECOND), rig.wall, "it reaches the wall clock");
    }

    #[test]
    fn it_speeds_up_after_the_wall_clock_is_set_forward() {
        let mut rig = Rig::new(0);
        rig.after(SECOND);
        rig.wall += 60 * SECOND;
        let set_at = rig.after(SECOND / 50);
        assert_eq!(rig.after(2 * SECOND) - set_at, 2 * SECOND * 129 / 128);
        assert_eq!(rig.through(128 * 60 * SECOND), rig.wall);
    }

    #[test]
    fn it_stops_slewing_at_the_wall_clock_however_rarely_it_is_read() {
        let mut rig = Rig::new(0);
        rig.after(SECOND);
        rig.wall += SECOND;
        rig.after(SECOND);
        assert_eq!(rig.after(3_600 * SECOND), rig.wall);
    }

    #[test]
    fn it_starts_after_the_last_recorded_time() {
        let hour_ahead = WALL + 3_600 * SECOND;
        let mut rig = Rig::new(hour_ahead);
        assert_eq!(rig.after(0), hour_ahead + 1_000, "one microsecond after it");
        assert_eq!(rig.after(128 * SECOND), hour_ahead + 1_000 + 127 * SECOND);
    }

    #[test]
    fn it_never_goes_back_across_threads() {
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
        fn its_rate_stays_within_the_slew_however_the_wall_clock_is_set(
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
