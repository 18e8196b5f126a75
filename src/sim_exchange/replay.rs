//! One session of prints, recorded and synthetic, merged by time. Pure: the caller says how far the
//! session has come.

use std::sync::Arc;

use super::tape::{Tape, TapePrint};
use super::universe::UniverseEntry;
use super::walk::Walks;
use crate::types::PriceCents;

/// Microseconds since midnight in New York.
pub(super) type SessionMicros = u64;

/// One trade of the session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print {
    /// Index of the symbol: those of the tape first, then the synthetic ones.
    pub(super) symbol: u16,
    pub(super) price: PriceCents,
    /// At least 1.
    pub(super) shares: u32,
}

/// A replay of the session, and its position.
#[derive(Debug)]
pub(super) struct Replay {
    tape: Arc<Tape>,
    /// Index of the tape's next print, and of the first print of a replay.
    next_print: usize,
    first_print: usize,
    walks: Walks,
    /// The walks as they were at the start.
    first_walks: Walks,
    start: SessionMicros,
    close: SessionMicros,
}

impl Replay {
    /// A replay from `start_millis` since midnight to the tape's close.
    pub(super) fn new(
        tape: Arc<Tape>,
        synthetic: &[UniverseEntry],
        start_millis: u32,
        seed: u64,
    ) -> Self {
        let start = u64::from(start_millis) * 1_000;
        let close = u64::from(tape.close_millis()) * 1_000;
        let session_micros = close - u64::from(tape.open_millis()) * 1_000;
        let first_print = tape.prints().partition_point(|print| print.millis < start_millis);
        let walks = Walks::new(synthetic, session_micros, start, seed);
        let first_walks = walks.clone();
        Self { tape, next_print: first_print, first_print, walks, first_walks, start, close }
    }

    /// When the replay starts.
    pub(super) const fn start(&self) -> SessionMicros {
        self.start
    }

    /// When the session closes.
    pub(super) const fn close(&self) -> SessionMicros {
        self.close
    }

    /// Goes back to the start.
    pub(super) fn restart(&mut self) {
        self.next_print = self.first_print;
        self.walks.clone_from(&self.first_walks);
    }

    /// When the next print is due; `None` at the end of the session.
    pub(super) fn next_due(&self) -> Option<SessionMicros> {
        let recorded = self.peek_recorded().map(due);
        let walked = self.walks.next_micros().filter(|&micros| micros < self.close);
        match (recorded, walked) {
            (Some(recorded), Some(walked)) => Some(recorded.min(walked)),
            (recorded, walked) => recorded.or(walked),
        }
    }

    /// The next print, if it is due by `now`.
    pub(super) fn pop(&mut self, now: SessionMicros) -> Option<Print> {
        let due_at = self.next_due().filter(|&due_at| due_at <= now)?;
        if let Some(print) = self.peek_recorded().copied().filter(|print| due(print) == due_at) {
            self.next_print += 1;
            let price = PriceCents::new(i64::from(print.price_cents)).ok()?;
            return Some(Print { symbol: print.symbol, price, shares: print.shares });
        }
        let print = self.walks.pop()?;
        let symbol = u16::try_from(self.tape.symbols().len() + print.index).ok()?;
        let price = PriceCents::new(i64::from(print.price_cents)).ok()?;
        Some(Print { symbol, price, shares: print.shares })
    }

    fn peek_recorded(&self) -> Option<&TapePrint> {
        self.tape.prints().get(self.next_print)
    }
}

fn due(print: &TapePrint) -> SessionMicros {
    u64::from(print.millis) * 1_000
}

/// Maps the clock to the session: a fixed speed from an anchor that moves only when the replay
/// cannot keep up.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// Clock and session at the same moment, in microseconds.
    anchor_clock: u64,
    anchor_session: SessionMicros,
    speed: f64,
}

impl Pace {
    pub(super) const fn new(clock_micros: u64, session: SessionMicros, speed: f64) -> Self {
        Self { anchor_clock: clock_micros, anchor_session: session, speed }
    }

    /// How far the session has come.
    pub(super) fn session_at(&self, clock_micros: u64) -> SessionMicros {
        let passed = clock_micros.saturating_sub(self.anchor_clock);
        self.anchor_session.saturating_add(scale(passed, self.speed))
    }

    /// When the session reaches, or reached, a moment.
    pub(super) fn clock_at(&self, session: SessionMicros) -> u64 {
        let apart = scale(session.abs_diff(self.anchor_session), 1.0 / self.speed);
        if session < self.anchor_session {
            self.anchor_clock.saturating_sub(apart)
        } else {
            self.anchor_clock.saturating_add(apart)
        }
    }

    /// The same pace on a clock that showed `micros` when this one showed zero.
    pub(super) const fn on_clock(self, micros: u64) -> Self {
        Self { anchor_clock: self.anchor_clock.saturating_add(micros), ..self }
    }

    /// Moves the session later if its next print is overdue by more than `most_micros`. After a
    /// pause, or at a speed that the machine cannot keep, prints continue from here instead of
    /// being caught up with in one burst.
    pub(super) fn slip(&mut self, clock_micros: u64, due_at: SessionMicros, most_micros: u64) {
        let late = clock_micros.saturating_sub(self.clock_at(due_at));
        self.anchor_clock += late.saturating_sub(most_micros);
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "53 bits of microseconds are 285 years, the product of two positive numbers is \
              positive, and `as` stops at the largest integer"
)]
fn scale(micros: u64, factor: f64) -> u64 {
    (micros as f64 * factor) as u64
}

#[cfg(test)]
mod tests {
    use super::super::tape::{TapeParts, TapeSymbol};
    use super::*;
    use crate::types::Symbol;

    fn tape() -> Arc<Tape> {
        let symbol = |name| TapeSymbol {
            symbol: Symbol::new(name).unwrap(),
            previous_close: PriceCents::new(100).unwrap(),
        };
        let print = |millis, symbol, shares| TapePrint { millis, price_cents: 100, shares, symbol };
        let parts = TapeParts {
            source: String::new(),
            day: 20_131_008,
            open_millis: 1_000,
            close_millis: 61_000,
            symbols: vec![symbol("AAA"), symbol("BBB")],
            prints: vec![
                print(1_000, 1, 1),
                print(5_000, 0, 2),
                print(5_000, 0, 2),
                print(5_000, 1, 3),
            ],
        };
        Arc::new(Tape::new(parts).unwrap())
    }

    fn universe() -> Vec<UniverseEntry> {
        vec![UniverseEntry {
            symbol: Symbol::new("SYN").unwrap(),
            close: PriceCents::new(5_000).unwrap(),
            volume: 20_000,
        }]
    }

    fn all(replay: &mut Replay) -> Vec<Print> {
        std::iter::from_fn(|| replay.pop(replay.close())).collect()
    }

    #[test]
    fn prints_come_when_due_and_equal_prints_stay_separate() {
        let mut replay = Replay::new(tape(), &[], 1_000, 0);
        assert_eq!(replay.next_due(), Some(1_000_000));
        assert_eq!(replay.pop(999_999), None);
        assert_eq!(replay.pop(1_000_000).map(|print| print.shares), Some(1));
        assert_eq!(replay.pop(4_999_999), None);
        let rest: Vec<u32> = all(&mut replay).iter().map(|print| print.shares).collect();
        assert_eq!(rest, [2, 2, 3]);
        assert_eq!(replay.next_due(), None);
    }

    #[test]
    fn a_later_start_skips_earlier_prints() {
        let mut replay = Replay::new(tape(), &[], 1_001, 0);
        assert_eq!(all(&mut replay).len(), 3);
    }

    #[test]
    fn every_replay_of_a_seed_is_the_same_session() {
        let mut replay = Replay::new(tape(), &universe(), 1_000, 42);
        let first = all(&mut replay);
        assert!(first.iter().any(|print| print.symbol == 2), "the synthetic symbol prints too");
        replay.restart();
        assert_eq!(all(&mut replay), first);
    }

    #[test]
    fn the_pace_scales_time_both_ways_and_slips_when_late() {
        let mut pace = Pace::new(1_000_000, 34_200_000_000, 10.0);
        assert_eq!(pace.session_at(1_000_000), 34_200_000_000);
        assert_eq!(pace.session_at(1_500_000), 34_205_000_000);
        assert_eq!(pace.clock_at(34_205_000_000), 1_500_000);
        pace.slip(1_600_000, 34_205_000_000, 250_000);
        assert_eq!(pace.clock_at(34_205_000_000), 1_500_000, "100 ms late is tolerated");
        pace.slip(2_500_000, 34_205_000_000, 250_000);
        assert_eq!(pace.clock_at(34_205_000_000), 2_250_000, "exactly as late as allowed");
    }
}
