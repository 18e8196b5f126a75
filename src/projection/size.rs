//! How much is written at once.

use super::intake::BATCH_EVENTS;

/// After so many batches that went through, twice as much is tried again: the first time, and at most,
/// where that was too much each time.
const FIRST_PATIENCE: u32 = 16;
const LAST_PATIENCE: u32 = 1_024;

/// Most events of the next batch: half of one that did not go through, and more again once some have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchSize {
    events: usize,
    /// Batches that went through since it was last changed.
    went_through: u32,
    /// How many have to before it grows.
    patience: u32,
    /// Whether it has grown since it was last too large.
    has_grown: bool,
}

impl Default for BatchSize {
    fn default() -> Self {
        let patience = FIRST_PATIENCE;
        Self { events: BATCH_EVENTS, went_through: 0, patience, has_grown: false }
    }
}

impl BatchSize {
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// A batch did not go through. Whether less can be tried.
    pub(super) fn halve(&mut self) -> bool {
        let can = self.events > 1;
        if self.has_grown {
            self.patience = (self.patience * 2).min(LAST_PATIENCE);
        }
        self.events = (self.events / 2).max(1);
        (self.went_through, self.has_grown) = (0, false);
        can
    }

    /// A batch went through.
    pub(super) fn passed(&mut self) {
        self.went_through += 1;
        if self.events == BATCH_EVENTS {
            *self = Self::default();
        } else if self.went_through >= self.patience {
            self.events = (self.events * 2).min(BATCH_EVENTS);
            (self.went_through, self.has_grown) = (0, true);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pass(size: &mut BatchSize, batches: u32) {
        (0..batches).for_each(|_| size.passed());
    }

    #[test]
    fn it_halves_down_to_one_and_grows_back_slowly() {
        let mut size = BatchSize::default();
        let halvings = std::iter::from_fn(|| size.halve().then_some(())).count();
        assert_eq!((halvings, size.events()), (12, 1));
        pass(&mut size, FIRST_PATIENCE - 1);
        assert_eq!(size.events(), 1);
        pass(&mut size, 1);
        assert_eq!(size.events(), 2);
        pass(&mut size, 12 * FIRST_PATIENCE);
        assert_eq!(size, BatchSize::default(), "and no further");
    }

    #[test]
    fn what_was_too_much_again_and_again_is_tried_less_often() {
        let mut size = BatchSize::default();
        size.halve();
        for patience in [FIRST_PATIENCE, 2 * FIRST_PATIENCE, 4 * FIRST_PATIENCE] {
            pass(&mut size, patience - 1);
            assert_eq!(size.events(), BATCH_EVENTS / 2);
            pass(&mut size, 1);
            assert_eq!(size.events(), BATCH_EVENTS);
            size.halve();
        }
    }
}
