//! The map of orders by id.

use std::hash::{BuildHasherDefault, Hasher};

use super::spread_map::SpreadMap;
use crate::types::OrderId;

/// Orders by id. Longbow draws the ids with 56 random bits, so folding suffices as a hash: nobody
/// outside can choose colliding ids.
pub(super) type OrderMap<V> = SpreadMap<OrderId, V, BuildHasherDefault<OrderIdHasher>>;

/// Folds the 128 bits of an order id.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct OrderIdHasher(u64);

/// 2^64 divided by the golden ratio, made odd: spreads every input bit over the upper half.
const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

impl OrderIdHasher {
    fn fold(&mut self, value: u64) {
        let wide = u128::from(self.0 ^ value) * u128::from(MULTIPLIER);
        #[expect(clippy::cast_possible_truncation, reason = "the fold of the two halves")]
        let folded = (wide as u64) ^ ((wide >> 64) as u64);
        self.0 = folded;
    }
}

impl Hasher for OrderIdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.fold(u64::from(byte));
        }
    }

    fn write_u128(&mut self, value: u128) {
        #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
        self.fold(value as u64);
        self.fold((value >> 64) as u64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserPartition;
    use std::hash::{BuildHasher, Hash};

    #[test]
    fn ids_of_one_partition_and_one_moment_spread() {
        let build = BuildHasherDefault::<OrderIdHasher>::default();
        let partition = UserPartition::new(3).unwrap();
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for random in 0..4_096_u64 {
            let id = OrderId::new(1_732_400_000_000_000_000, random << 7, partition);
            let mut hasher = build.build_hasher();
            id.hash(&mut hasher);
            low.insert(hasher.finish() & 0xfff);
            high.insert(hasher.finish() >> 57);
        }
        assert!(low.len() > 2_000, "buckets come from the low bits: {}", low.len());
        assert_eq!(high.len(), 128, "and tags from the high ones");
    }
}
