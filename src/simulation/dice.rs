//! The random numbers of a seed.

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// The source of all decisions of a seed, in the order in which they are made.
pub(super) struct Dice(SmallRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number below `count`, which must not be 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// A number from `low` to `high`, inclusive.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// True with `chance` percent.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.0.random_range(0..100) < chance
    }

    /// One element of `from`; `None` if it is empty.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// An index below `count`; `None` if `count` is 0.
    pub(super) fn place(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.below(count))
    }

    /// Any number, to seed other dice with.
    pub(super) fn any(&mut self) -> u64 {
        self.0.random()
    }
}
