use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

/// Every decision of a seed comes from here, in the order in which they are made.
pub(super) struct Dice(SmallRng);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        Self(SmallRng::seed_from_u64(seed))
    }

    /// A number below `count`, which is not 0.
    pub(super) fn below(&mut self, count: usize) -> usize {
        self.0.random_range(0..count)
    }

    /// A number from `low` to `high`, both included.
    pub(super) fn between(&mut self, low: u64, high: u64) -> u64 {
        self.0.random_range(low..=high)
    }

    /// True so many times in a hundred.
    pub(super) fn percent(&mut self, chance: u64) -> bool {
        self.0.random_range(0..100) < chance
    }

    /// One of `from`; `None` when that is empty.
    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        if from.is_empty() { None } else { from.get(self.below(from.len())) }
    }

    /// A place in a list of so many; `None` when there is none.
    pub(super) fn place(&mut self, count: usize) -> Option<usize> {
        (count > 0).then(|| self.below(count))
    }

    /// Any number: the seed of somebody else's dice.
    pub(super) fn any(&mut self) -> u64 {
        self.0.random()
    }
}
