//! A hash map split into many small tables, so that growth never stalls the thread.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash};

use crate::types::{ExternalOrderId, OrderId, UserId};

/// A hash map in many small tables. A growing table rehashes everything it holds while its users
/// wait: one second for ten million entries. Each of these tables rehashes only its own few.
#[derive(Debug)]
pub(super) struct SpreadMap<K, V, S> {
    tables: Box<[HashMap<K, V, S>]>,
}

/// A key that selects its table.
pub(super) trait Spread: Eq + Hash {
    /// A number whose low bits are well spread.
    fn spread(&self) -> usize;
}

impl Spread for OrderId {
    fn spread(&self) -> usize {
        // The random bits above the partition bits, which all orders of an engine share.
        (self.as_u128() >> 6) as usize
    }
}

impl Spread for ExternalOrderId {
    fn spread(&self) -> usize {
        spread_text(self.as_str())
    }
}

impl Spread for UserId {
    fn spread(&self) -> usize {
        // The low bits are the partition.
        spread_text(self.as_str()) >> 6
    }
}

#[expect(clippy::cast_possible_truncation, reason = "any bits of the hash will do")]
fn spread_text(text: &str) -> usize {
    xxhash_rust::xxh3::xxh3_64(text.as_bytes()) as usize
}

impl<K: Spread, V, S: BuildHasher + Default> SpreadMap<K, V, S> {
    /// Creates an empty map with this many tables. Empty tables allocate nothing.
    pub(super) fn new(tables: usize) -> Self {
        assert!(tables.is_power_of_two(), "the number of tables is a mask");
        Self { tables: (0..tables).map(|_| HashMap::default()).collect() }
    }

    #[expect(clippy::indexing_slicing, reason = "the mask keeps it below the number of tables")]
    fn table(&self, key: &K) -> &HashMap<K, V, S> {
        &self.tables[key.spread() & (self.tables.len() - 1)]
    }

    #[expect(clippy::indexing_slicing, reason = "the mask keeps it below the number of tables")]
    fn table_mut(&mut self, key: &K) -> &mut HashMap<K, V, S> {
        let mask = self.tables.len() - 1;
        &mut self.tables[key.spread() & mask]
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.table(key).get(key)
    }

    pub(super) fn get_key_value(&self, key: &K) -> Option<(&K, &V)> {
        self.table(key).get_key_value(key)
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.table_mut(key).get_mut(key)
    }

    pub(super) fn contains_key(&self, key: &K) -> bool {
        self.table(key).contains_key(key)
    }

    pub(super) fn insert(&mut self, key: K, value: V) {
        self.table_mut(&key).insert(key, value);
    }

    pub(super) fn remove(&mut self, key: &K) -> Option<V> {
        self.table_mut(key).remove(key)
    }

    /// The value of a key, inserting `value` for a new key.
    pub(super) fn get_or_insert(&mut self, key: K, value: V) -> &mut V {
        self.table_mut(&key).entry(key).or_insert(value)
    }

    /// All keys and values, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        self.tables.iter().flat_map(HashMap::iter)
    }

    /// All values, in no particular order.
    pub(super) fn values(&self) -> impl Iterator<Item = &V> {
        self.tables.iter().flat_map(HashMap::values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::hash::RandomState;

    #[test]
    fn keys_spread_over_the_tables_and_are_found_again() {
        let mut map: SpreadMap<ExternalOrderId, usize, RandomState> = SpreadMap::new(16);
        let id = |number: usize| ExternalOrderId::new(&format!("o7-{number}")).unwrap();
        for number in 0..1_600 {
            map.insert(id(number), number);
        }
        for number in 0..1_600 {
            assert_eq!(map.get(&id(number)), Some(&number));
            assert_eq!(*map.get_or_insert(id(number), 0), number, "the first stays");
        }
        assert!(!map.contains_key(&id(1_600)));
        assert_eq!(map.values().count(), 1_600);
        assert_eq!(map.remove(&id(7)), Some(7));
        assert!(!map.contains_key(&id(7)));
        let largest = map.tables.iter().map(HashMap::len).max();
        assert!(largest < Some(200), "about 100 each: {largest:?}");
    }
}
