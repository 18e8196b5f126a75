//! Synthetic prints: for each ticker of the universe a Poisson process at its real activity, and a
//! tick walk pulled back to its real close. The same seed gives the same prints.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng};

use super::universe::UniverseEntry;

/// Shares of an average print: a ticker prints about volume / 200 times a session.
const MEAN_SHARES: f64 = 200.0;
/// Most prints per second of one synthetic symbol, in session time. The busiest of the universe
/// makes 15; the bound is for other files.
const MAX_PRINTS_PER_SECOND: f64 = 50.0;
/// Longest gap between prints, in microseconds: a year, far beyond any session.
const MAX_GAP_MICROS: f64 = 3.2e13;
/// Chance that a print changes the price, in 1/256: 30 %, between those of SPY and IBM.
const MOVE_CHANCE: u8 = 77;
/// Close / tick: a tick is 0.02 % of the close, at least one cent.
const TICKS_IN_CLOSE: u32 = 5_000;
/// Prices stay within close / 2 of the close.
const CLOSE_PARTS_FROM_CLOSE: u32 = 2;
/// Round lot. Prints are multiples of it: half of them one lot, a quarter two, and so on.
const LOT: u32 = 100;

/// The state of one synthetic symbol.
#[derive(Debug, Clone)]
struct Walk {
    random: Xoshiro256PlusPlus,
    mean_gap_micros: f64,
    close_cents: u32,
    tick_cents: u32,
    /// Steps from the close at which no step leads further away.
    most_steps: i32,
    steps: i32,
}

/// A synthetic print, without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WalkPrint {
    /// Index in the slice passed to [`Walks::new`].
    pub(super) index: usize,
    pub(super) price_cents: u32,
    pub(super) shares: u32,
}

/// All synthetic symbols, ordered by the time of their next print.
#[derive(Debug, Clone)]
pub(super) struct Walks {
    walks: Vec<Walk>,
    next: BinaryHeap<Reverse<(u64, usize)>>,
}

impl Walks {
    /// Starts every walk at its close; the first prints come after `start_micros`.
    pub(super) fn new(
        entries: &[UniverseEntry],
        session_micros: u64,
        start_micros: u64,
        seed: u64,
    ) -> Self {
        let mut walks: Vec<Walk> = entries
            .iter()
            .zip(1_u64..)
            .map(|(entry, number)| Walk::new(entry, session_micros, seed, number))
            .collect();
        let first = |(index, walk): (usize, &mut Walk)| {
            Reverse((start_micros.saturating_add(walk.draw_gap_micros()), index))
        };
        let next = walks.iter_mut().enumerate().map(first).collect();
        Self { walks, next }
    }

    /// Time of the next print.
    pub(super) fn next_micros(&self) -> Option<u64> {
        self.next.peek().map(|&Reverse((micros, _))| micros)
    }

    /// The next print.
    pub(super) fn pop(&mut self) -> Option<WalkPrint> {
        let mut top = self.next.peek_mut()?;
        let Reverse((micros, index)) = *top;
        let walk = self.walks.get_mut(index)?;
        *top = Reverse((micros.saturating_add(walk.draw_gap_micros()), index));
        let (price_cents, shares) = walk.step();
        Some(WalkPrint { index, price_cents, shares })
    }
}

impl Walk {
    fn new(entry: &UniverseEntry, session_micros: u64, seed: u64, number: u64) -> Self {
        let shortest_gap = 1e6 / MAX_PRINTS_PER_SECOND;
        let prints = float(entry.volume.max(1)) / MEAN_SHARES;
        let close_cents = u32::try_from(entry.close.cents()).unwrap_or(u32::MAX);
        let tick_cents = (close_cents / TICKS_IN_CLOSE).max(1);
        let most_steps = close_cents / CLOSE_PARTS_FROM_CLOSE / tick_cents;
        // Spreads neighbouring seeds (the golden ratio in 64 bits); xoshiro mixes the rest.
        let own_seed = seed ^ number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        Self {
            random: Xoshiro256PlusPlus::seed_from_u64(own_seed),
            mean_gap_micros: (float(session_micros) / prints).max(shortest_gap),
            close_cents,
            tick_cents,
            most_steps: i32::try_from(most_steps).unwrap_or(i32::MAX).max(1),
            steps: 0,
        }
    }

    /// Time to the next print: exponential, so that prints are a Poisson process.
    fn draw_gap_micros(&mut self) -> u64 {
        // 53 random bits give a number from 0 (exclusive, as its logarithm is undefined) to 1.
        let uniform = float((self.random.next_u64() >> 11) + 1) / float(1 << 53);
        let gap = (-uniform.ln() * self.mean_gap_micros).clamp(0.0, MAX_GAP_MICROS);
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "clamped to a range that 64 bits hold; the fraction of a microsecond is dropped"
        )]
        let micros = gap as u64;
        micros
    }

    /// Moves by one tick or not at all; returns price and shares of the print.
    fn step(&mut self) -> (u32, u32) {
        let [moves, direction, ..] = self.random.next_u64().to_le_bytes();
        if moves < MOVE_CHANCE {
            // At the close the directions are equally likely; at the edge no step leads further
            // away.
            let pull = 128 * self.steps / self.most_steps;
            self.steps += if i32::from(direction) >= 128 + pull { 1 } else { -1 };
        }
        let lots = (self.random.next_u64() | 1 << 63).trailing_zeros() + 1;
        (self.price_cents(), lots * LOT)
    }

    /// The price at the current step, at least one cent.
    fn price_cents(&self) -> u32 {
        let offset = i64::from(self.tick_cents) * i64::from(self.steps);
        let price = i64::from(self.close_cents) + offset;
        u32::try_from(price.clamp(1, crate::types::MAX_PRICE_CENTS)).unwrap_or(self.close_cents)
    }
}

#[expect(clippy::cast_precision_loss, reason = "rates and chances need at most 53 bits")]
const fn float(number: u64) -> f64 {
    number as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{PriceCents, Symbol};

    const SESSION_MICROS: u64 = 23_400_000_000;

    fn entries() -> Vec<UniverseEntry> {
        let entry = |name, close, volume| UniverseEntry {
            symbol: Symbol::new(name).unwrap(),
            close: PriceCents::new(close).unwrap(),
            volume,
        };
        vec![
            entry("BIG", 5_000, 2_000_000),
            entry("DUST", 1, 400_000),
            entry("BRK.A", 18_652_000, 100),
        ]
    }

    fn session(seed: u64) -> Vec<(u64, WalkPrint)> {
        let mut walks = Walks::new(&entries(), SESSION_MICROS, 0, seed);
        let mut prints = Vec::new();
        while let Some(micros) = walks.next_micros().filter(|&micros| micros < SESSION_MICROS) {
            prints.push((micros, walks.pop().unwrap()));
        }
        prints
    }

    #[test]
    fn the_same_seed_gives_the_same_session() {
        assert_eq!(session(7), session(7));
        assert_ne!(session(7), session(8));
    }

    #[test]
    fn activity_and_prices_follow_the_real_day() {
        let prints = session(1);
        assert!(prints.windows(2).all(|pair| pair[0].0 <= pair[1].0), "time never goes back");
        let of = |index| prints.iter().filter(move |(_, print)| print.index == index);
        // 10,000 expected; five standard deviations of a Poisson count are 500.
        assert!((9_500..10_500).contains(&of(0).count()), "{}", of(0).count());
        for (_, print) in of(0) {
            assert!((4_700..=5_300).contains(&print.price_cents), "{}", print.price_cents);
        }
        let changes = of(0)
            .zip(of(0).skip(1))
            .filter(|(before, after)| before.1.price_cents != after.1.price_cents)
            .count();
        assert!((2_500..3_500).contains(&changes), "about 30 % of prints move: {changes}");
        let shares: u64 = of(0).map(|(_, print)| u64::from(print.shares)).sum();
        assert!((1_800_000..2_200_000).contains(&shares), "{shares}");
        assert!(of(1).all(|(_, print)| print.price_cents >= 1));
    }
}
