use std::sync::Arc;

use crate::sync::{InterestSet, Wakeup, store_load_fence};
use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// What the feed thread needs to know of one shard: whether it sleeps, and which symbols would be
/// worth waking it for.
#[derive(Debug)]
pub struct ShardWatch {
    /// Wakes the shard when it is parked.
    pub wakeup: Wakeup,
    watched: InterestSet,
}

impl ShardWatch {
    /// A shard that watches nothing.
    pub fn new() -> Self {
        Self { wakeup: Wakeup::new(), watched: InterestSet::new(MAX_SYMBOLS) }
    }

    /// The shard says that it has (or has no longer) a stream that wants this symbol. The price in the
    /// table is read after that, or it would sleep through the first one.
    pub fn set_watched(&self, index: SymbolIndex, watched: bool) {
        self.watched.set(index.get(), watched);
    }

    /// Whether a stream of the shard wants this symbol.
    pub fn is_watched(&self, index: SymbolIndex) -> bool {
        self.watched.has(index.get())
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
        // Between the writing of the table and the look.
        store_load_fence();
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
