//! The size of batches: halved after a failure, doubled again after successes.

use super::intake::BATCH_EVENTS;

/// Batches that must pass before the size doubles: at first, and at most, if doubling failed each
/// time.
const FIRST_DOUBLE_AFTER: u32 = 16;
const LAST_DOUBLE_AFTER: u32 = 1_024;

/// Most events in the next batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct BatchSize {
    events: usize,
    /// Batches that passed since the size last changed.
    passed_count: u32,
    /// Batches that must pass before the size doubles.
    double_after: u32,
    /// Whether the size doubled since the last failure.
    has_doubled: bool,
}

impl Default for BatchSize {
    fn default() -> Self {
        let double_after = FIRST_DOUBLE_AFTER;
        Self { events: BATCH_EVENTS, passed_count: 0, double_after, has_doubled: false }
    }
}

impl BatchSize {
    pub(super) fn events(&self) -> usize {
        self.events
    }

    /// A batch failed: halves the size. False if it is one event already.
    pub(super) fn halve(&mut self) -> bool {
        let is_halved = self.events > 1;
        if self.has_doubled {
            self.double_after = (self.double_after * 2).min(LAST_DOUBLE_AFTER);
        }
        self.events = (self.events / 2).max(1);
        (self.passed_count, self.has_doubled) = (0, false);
        is_halved
    }

    /// A batch passed.
    pub(super) fn passed(&mut self) {
        self.passed_count += 1;
        if self.events == BATCH_EVENTS {
            *self = Self::default();
        } else if self.passed_count >= self.double_after {
            self.events = (self.events * 2).min(BATCH_EVENTS);
            (self.passed_count, self.has_doubled) = (0, true);
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
    fn the_size_halves_down_to_one_and_doubles_back_slowly() {
        let mut size = BatchSize::default();
        let halvings = std::iter::from_fn(|| size.halve().then_some(())).count();
        assert_eq!((halvings, size.events()), (12, 1));
        pass(&mut size, FIRST_DOUBLE_AFTER - 1);
        assert_eq!(size.events(), 1);
        pass(&mut size, 1);
        assert_eq!(size.events(), 2);
        pass(&mut size, 12 * FIRST_DOUBLE_AFTER);
        assert_eq!(size, BatchSize::default(), "the size is bounded");
    }

    #[test]
    fn doubling_that_fails_is_tried_less_and_less_often() {
        let mut size = BatchSize::default();
        size.halve();
        for double_after in [FIRST_DOUBLE_AFTER, 2 * FIRST_DOUBLE_AFTER, 4 * FIRST_DOUBLE_AFTER] {
            pass(&mut size, double_after - 1);
            assert_eq!(size.events(), BATCH_EVENTS / 2);
            pass(&mut size, 1);
            assert_eq!(size.events(), BATCH_EVENTS);
            size.halve();
        }
    }
}
