//! A cache of what changed last: open orders and accounts.

use std::collections::HashMap;
use std::hash::Hash;
use std::mem;

/// Values in each of the two generations. 10,400 new orders/s stay open for some seconds, and most
/// changes come in that time. An order has about 700 bytes and an account mostly less, so that either
/// takes at most 90 MB.
const GENERATION: usize = 65_536;

/// Values as the store has them, of those that changed last. Most change again soon, and then need
/// not be read and decoded.
pub(super) struct Recent<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self { young: HashMap::new(), old: HashMap::new() }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    /// Removes a value, to change it.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.young.remove(key).or_else(|| self.old.remove(key))
    }

    /// Keeps a value until many others have followed.
    pub(super) fn keep(&mut self, key: K, value: V) {
        if self.young.len() >= GENERATION {
            self.old = mem::take(&mut self.young);
        }
        assert!(!self.old.contains_key(&key), "a value is taken before it changes");
        let before = self.young.insert(key, value);
        assert!(before.is_none(), "a value is taken before it changes");
    }
}
