//! How the user partitions are grouped, so that what the log tells of each group fits into memory.

use std::ops::RangeInclusive;

use super::OfflineError;
use super::open::OpenRecords;
use crate::order::Event;
use crate::types::{USER_PARTITIONS, UserPartition};
use crate::wal::Lsn;

/// How many orders the log tells of, at most, by user partition.
pub(super) type Told = [u64; USER_PARTITIONS];

/// Counts orders that come into being in the log, and changes after `after`: they may be of as many
/// others. The records are not decoded.
pub(super) fn told(records: &OpenRecords, after: Lsn) -> Result<Told, OfflineError> {
    let mut told = [0; USER_PARTITIONS];
    records.each_record(&mut |record| {
        let is_told = record.lsn > after || Event::is_created(record.kind);
        let partition = UserPartition::new(record.partition).filter(|_| is_told);
        if let Some(count) = partition.and_then(|partition| told.get_mut(partition.index())) {
            *count += 1;
        }
        Ok(())
    })?;
    Ok(told)
}

/// Cuts a range of partitions into groups that are as large as fits. One partition by itself may be
/// too large: a sixty-fourth of what there is has to fit.
pub(super) fn groups(
    partitions: &RangeInclusive<u8>,
    told: &Told,
    most: u64,
) -> Vec<RangeInclusive<u8>> {
    let mut groups: Vec<RangeInclusive<u8>> = Vec::new();
    let mut in_group = 0;
    for partition in partitions.clone() {
        let count = told.get(usize::from(partition)).copied().unwrap_or_default();
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
        let mut told = [10; USER_PARTITIONS];
        told[5] = 1_000;
        assert_eq!(groups(&(0..=63), &told, 10_000), [0..=63]);
        assert_eq!(groups(&(4..=8), &told, 25), [4..=4, 5..=5, 6..=7, 8..=8]);
        assert_eq!(groups(&(0..=3), &told, 0), [0..=0, 1..=1, 2..=2, 3..=3]);
    }
}
