//! Which shards the feed thread wakes: those that sleep and watch a symbol that has changed.

use std::sync::Arc;

use crate::sync::{InterestSet, Wakeup, store_load_fence};
use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// What the feed thread knows of one shard: whether it sleeps, and for which symbols it is worth
/// waking.
#[derive(Debug)]
pub struct ShardWatch {
    /// Wakes the shard if it sleeps.
    pub wakeup: Wakeup,
    watched: InterestSet,
}

impl ShardWatch {
    /// A shard that watches nothing.
    pub fn new() -> Self {
        Self { wakeup: Wakeup::new(), watched: InterestSet::new(MAX_SYMBOLS) }
    }

    /// Called by the shard: one of its streams watches this symbol, or none does any longer. The shard
    /// reads the symbol's price after that, or it could sleep through the first one.
    pub fn set_watched(&self, index: SymbolIndex, watched: bool) {
        self.watched.set(index.get(), watched);
    }

    /// Whether a stream of the shard watches this symbol.
    pub fn is_watched(&self, index: SymbolIndex) -> bool {
        self.watched.has(index.get())
    }

    /// All symbols that its streams watch.
    pub fn watched(&self) -> impl Iterator<Item = SymbolIndex> {
        self.watched.members().filter_map(SymbolIndex::new)
    }
}

impl Default for ShardWatch {
    fn default() -> Self {
        Self::new()
    }
}

/// The watches of all shards, for the feed thread.
#[derive(Debug, Clone, Default)]
pub struct Watchers(Vec<Arc<ShardWatch>>);

impl Watchers {
    /// Wakes these shards.
    pub fn new(shards: Vec<Arc<ShardWatch>>) -> Self {
        Self(shards)
    }

    /// Wakes each shard that sleeps and watches one of the symbols.
    pub fn wake_watching(&self, changed: &[SymbolIndex]) {
        // Between the write of the table and the look at the watches.
        store_load_fence();
        for shard in &self.0 {
            if changed.iter().any(|&index| shard.is_watched(index)) {
                shard.wakeup.wake();
            }
        }
    }

    /// Wakes each shard that sleeps, whatever it watches.
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
