use std::hash::BuildHasherDefault;

use rustc_hash::FxHasher;

use super::spread_map::SpreadMap;
use crate::types::OrderId;

/// 2^64 divided by the golden ratio, made odd: spreads every input bit over the upper half.
pub(super) type OrderMap<V> = SpreadMap<OrderId, V, BuildHasherDefault<FxHasher>>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserPartition;
    use std::hash::BuildHasher;

    #[test]
    fn ids_of_one_partition_and_one_moment_spread() {
        let build = BuildHasherDefault::<FxHasher>::default();
        let partition = UserPartition::new(3).unwrap();
        let mut low = std::collections::HashSet::new();
        let mut high = std::collections::HashSet::new();
        for random in 0..4_096_u64 {
            let id = OrderId::new(1_732_400_000_000_000_000, random << 7, partition);
            let hash = build.hash_one(id);
            low.insert(hash & 0xfff);
            high.insert(hash >> 57);
        }
        assert!(low.len() > 2_000, "buckets come from the low bits: {}", low.len());
        assert_eq!(high.len(), 128, "and tags from the high ones");
    }
}
