//! Groups user partitions so that the orders of each group fit into memory.

use std::ops::RangeInclusive;

use super::OfflineError;
use super::open::OpenRecords;
use crate::order::Event;
use crate::types::{USER_PARTITIONS, UserPartition};
use crate::wal::Lsn;

/// An upper bound of the orders in the log, by user partition.
pub(super) type OrderCounts = [u64; USER_PARTITIONS];

/// Upper bounds of the orders per partition: those created in the log, plus one for each change
/// after `after`, since each may be of a different order. Records are not decoded.
pub(super) fn order_counts(records: &OpenRecords, after: Lsn) -> Result<OrderCounts, OfflineError> {
    let mut totals = [0; USER_PARTITIONS];
    records.each_record(&mut |record| {
        let counts = record.lsn > after || Event::is_created(record.kind);
        let partition = UserPartition::new(record.partition).filter(|_| counts);
        if let Some(count) = partition.and_then(|partition| totals.get_mut(partition.index())) {
            *count += 1;
        }
        Ok(())
    })?;
    Ok(totals)
}

/// Splits a range of partitions into groups of at most `most` orders. A single partition may exceed
/// that: a sixty-fourth of all orders must fit.
pub(super) fn groups(
    partitions: &RangeInclusive<u8>,
    counts: &OrderCounts,
    most: u64,
) -> Vec<RangeInclusive<u8>> {
    let mut groups: Vec<RangeInclusive<u8>> = Vec::new();
    let mut in_group = 0;
    for partition in partitions.clone() {
        let count = counts.get(usize::from(partition)).copied().unwrap_or_default();
        match groups.last_mut() {
            Some(group) if in_group + count <= most => {
                *group = *group.start()..=partition;
                in_group += count;
            }
            Some(_) | None => {
                groups.push(partition..=partition);
                in_group = count;
            }
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_cover_each_partition_once_and_fit() {
        let mut counts = [10; USER_PARTITIONS];
        counts[5] = 1_000;
        assert_eq!(groups(&(0..=63), &counts, 10_000), [0..=63]);
        assert_eq!(groups(&(4..=8), &counts, 25), [4..=4, 5..=5, 6..=7, 8..=8]);
        assert_eq!(groups(&(0..=3), &counts, 0), [0..=0, 1..=1, 2..=2, 3..=3]);
    }
}
