//! How far the slowest of several followers has come.

use super::Watermark;
use super::atomic::{AtomicU64, Ordering, store_load_fence};
use crossbeam::utils::CachePadded;

/// The low watermark of several parts: the position that all of them have reached. Each part is moved
/// on by a thread of its own; anybody may wait for all of them.
pub struct LowWatermark {
    parts: Box<[CachePadded<AtomicU64>]>,
    lowest: Watermark,
}

impl LowWatermark {
    /// Of so many parts, all at 0; without any it is at the end, and nothing is waited for. At most
    /// `max_tasks` wait at a time.
    pub fn new(parts: usize, max_tasks: usize) -> Self {
        let lowest = if parts == 0 { u64::MAX } else { 0 };
        Self {
            parts: (0..parts).map(|_| CachePadded::new(AtomicU64::new(0))).collect(),
            lowest: Watermark::new(lowest, max_tasks),
        }
    }

    /// Moves a part on; never back. A part that there is not changes nothing.
    pub fn advance(&self, part: usize, to: u64) {
        let Some(part) = self.parts.get(part) else { return };
        if part.fetch_max(to, Ordering::AcqRel) >= to {
            return;
        }
        // Of two parts that move at once the one whose fence comes later sees both: without fences
        // each could miss the other, and the lowest would stay behind for good.
        store_load_fence();
        let lowest = self.parts.iter().map(|part| part.load(Ordering::Acquire)).min();
        self.lowest.advance(lowest.unwrap_or(u64::MAX));
    }

    /// What all parts have reached.
    pub fn lowest(&self) -> &Watermark {
        &self.lowest
    }
}

impl std::fmt::Debug for LowWatermark {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = self.parts.iter().map(|part| part.load(Ordering::Relaxed));
        formatter.debug_list().entries(parts).finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_part_counts() {
        let low = LowWatermark::new(2, 1);
        low.advance(0, 7);
        assert_eq!(low.lowest().get(), 0);
        low.advance(1, 5);
        low.advance(1, 4);
        low.advance(2, 9);
        assert_eq!(low.lowest().get(), 5);
        assert_eq!(LowWatermark::new(0, 1).lowest().get(), u64::MAX);
    }
}

#[cfg(all(test, loom))]
mod models {
    use super::super::modelled::{block_on, check_bounded};
    use super::*;
    use loom::sync::Arc;
    use loom::thread;

    #[test]
    fn parts_that_move_at_once_do_not_miss_each_other() {
        check_bounded(3, || {
            let low = Arc::new(LowWatermark::new(2, 1));
            for part in 0..2 {
                let low = Arc::clone(&low);
                thread::spawn(move || low.advance(part, 1));
            }
            assert_eq!(block_on(low.lowest().beyond(0)), Ok(1));
        });
    }
}
