use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::sync::Wakeup;
use crate::types::{MAX_SYMBOLS, SymbolIndex};

const BITS_PER_WORD: usize = u64::BITS as usize;

/// What the feed thread needs to know of one shard: whether it sleeps, and which symbols would be
/// worth waking it for.
#[derive(Debug)]
pub struct ShardWatch {
    /// Wakes the shard when it is parked.
    pub wakeup: Wakeup,
    watched: Box<[AtomicU64]>,
}

impl ShardWatch {
    /// A shard that watches nothing.
    pub fn new() -> Self {
        let words = MAX_SYMBOLS.div_ceil(BITS_PER_WORD);
        Self { wakeup: Wakeup::new(), watched: (0..words).map(|_| AtomicU64::new(0)).collect() }
    }

    /// The shard says that it has (or has no longer) a stream that wants this symbol.
    pub fn set_watched(&self, index: SymbolIndex, watched: bool) {
        let Some(word) = self.watched.get(index.get() / BITS_PER_WORD) else { return };
        let bit = 1 << (index.get() % BITS_PER_WORD);
        if watched {
            word.fetch_or(bit, Ordering::Relaxed);
        } else {
            word.fetch_and(!bit, Ordering::Relaxed);
        }
        // A shard marks a symbol and then reads the table; the feed writes the table and then looks
        // here. With a fence in between on both sides at least one of them sees the other; without,
        // both could miss, and a new stream would sleep through its first price. Orderings of the
        // single accesses do not give that: the table's own are weaker.
        fence(Ordering::SeqCst);
    }

    /// Whether a stream of the shard wants this symbol.
    pub fn is_watched(&self, index: SymbolIndex) -> bool {
        self.watched.get(index.get() / BITS_PER_WORD).is_some_and(|word| {
            word.load(Ordering::Relaxed) >> (index.get() % BITS_PER_WORD) & 1 == 1
        })
    }
}

impl Default for ShardWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// Every shard's watch, as the feed thread holds them.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Vec<Arc<ShardWatch>>);

impl Watchers {
    /// The shards to wake.
    pub fn new(shards: Vec<Arc<ShardWatch>>) -> Self {
        Self(shards)
    }

    /// Wakes each shard that is parked and watches one of the symbols.
    pub fn wake_watching(&self, changed: &[SymbolIndex]) {
        // Between the writing of the table and the look: see `ShardWatch::set_watched`.
        fence(Ordering::SeqCst);
        for shard in &self.0 {
            if changed.iter().any(|&index| shard.is_watched(index)) {
                shard.wakeup.wake();
            }
        }
    }

    /// Wakes each shard that is parked, whatever it watches.
    pub fn wake_all(&self) {
        for shard in &self.0 {
            shard.wakeup.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_watches_what_it_says() {
        let watch = ShardWatch::new();
        let (first, last) =
            (SymbolIndex::new(0).unwrap(), SymbolIndex::new(MAX_SYMBOLS - 1).unwrap());
        watch.set_watched(last, true);
        assert!(watch.is_watched(last));
        assert!(!watch.is_watched(first));
        watch.set_watched(last, false);
        assert!(!watch.is_watched(last));
    }
}
