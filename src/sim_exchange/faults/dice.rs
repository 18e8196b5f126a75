//! Draws whether a fault happens.

use rand::rngs::Xoshiro256PlusPlus;
use rand::{RngExt, SeedableRng};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::chance::Chance;

/// The random draws of one kind of fault. Every kind has a random stream of its own, so that
/// setting one kind does not shift the draws of another.
#[derive(Debug, Clone)]
pub(super) struct Die {
    pub(super) chance: Chance,
    random: Xoshiro256PlusPlus,
    /// How often the fault has happened.
    pub(super) done: u64,
}

impl Die {
    pub(super) fn new(chance: Chance, seed: u64, name: &str) -> Self {
        let seed = xxh3_64_with_seed(name.as_bytes(), seed);
        Self { chance, random: Xoshiro256PlusPlus::seed_from_u64(seed), done: 0 }
    }

    /// Draws whether the fault happens on this occasion.
    pub(super) fn roll(&mut self) -> bool {
        match &mut self.chance {
            Chance::Probability(probability) => {
                *probability > 0.0 && self.random.random_bool(*probability)
            }
            Chance::Next(0) => false,
            Chance::Next(left) => {
                *left -= 1;
                true
            }
        }
    }
}

impl Default for Die {
    fn default() -> Self {
        Self::new(Chance::default(), 0, "")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rolls(seed: u64, name: &str, chance: Chance) -> Vec<bool> {
        let mut die = Die::new(chance, seed, name);
        std::iter::repeat_with(|| die.roll()).take(200).collect()
    }

    #[test]
    fn draws_repeat_from_their_seed_and_kinds_are_independent() {
        let half = Chance::Probability(0.5);
        assert_eq!(rolls(1, "feed.skip", half), rolls(1, "feed.skip", half));
        assert_ne!(rolls(1, "feed.skip", half), rolls(2, "feed.skip", half));
        assert_ne!(rolls(1, "feed.skip", half), rolls(1, "feed.cut", half));
        assert_eq!(rolls(1, "x", Chance::Probability(0.0)), [false; 200]);
        assert_eq!(rolls(1, "x", Chance::Probability(1.0)), [true; 200]);
    }

    #[test]
    fn a_count_is_used_up() {
        let hits: Vec<bool> = rolls(1, "x", Chance::Next(3));
        assert!(hits[..3].iter().all(|hit| *hit) && !hits[3..].contains(&true));
    }
}
