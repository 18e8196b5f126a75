//! Which partitions a worker may write, where other nodes write the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use crate::types::UserPartition;

/// The right of a member of a cluster to write: its epoch, and a count of the changes of the partitions
/// that its epoch owns in Postgres. The thread `node` writes, the projection reads. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Ownership(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// 0 before this node has joined.
    epoch: AtomicI64,
    /// A bit for each partition that this process has taken and not given away.
    held: AtomicU64,
    /// A bit for each partition that is about to be given away.
    given_away: AtomicU64,
    /// Counts changes in Postgres.
    changes: AtomicU64,
    /// The changes that the projection follows.
    followed: AtomicU64,
}

fn bits(partitions: &[UserPartition]) -> u64 {
    partitions.iter().fold(0, |bits, partition| bits | 1 << partition.get())
}

/// Partitions that a process held at some moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldPartitions(u64);

/// A number of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnershipChange(u64);

impl Ownership {
    /// This process has joined.
    pub fn joined(&self, epoch: i64) {
        self.0.epoch.store(epoch, Ordering::Release);
    }

    /// The epoch of this process, once it has joined.
    pub(super) fn epoch(&self) -> Option<i64> {
        Some(self.0.epoch.load(Ordering::Acquire)).filter(|epoch| *epoch > 0)
    }

    /// Partitions that are about to be given away are written no more.
    pub fn give_away(&self, partitions: &[UserPartition]) {
        self.0.held.fetch_and(!bits(partitions), Ordering::AcqRel);
        self.0.given_away.fetch_or(bits(partitions), Ordering::AcqRel);
    }

    /// Partitions have come, or have come back.
    pub fn take(&self, partitions: &[UserPartition]) {
        self.0.given_away.fetch_and(!bits(partitions), Ordering::AcqRel);
        self.0.held.fetch_or(bits(partitions), Ordering::AcqRel);
    }

    /// The partitions that this process has taken and not given away.
    pub(crate) fn held(&self) -> HeldPartitions {
        HeldPartitions(self.0.held.load(Ordering::Acquire))
    }

    /// A partition that was held before Postgres was asked, still is, and is not among those that it says
    /// this epoch owns: another epoch has taken it.
    pub(super) fn lost(
        &self,
        before: HeldPartitions,
        owned: &[UserPartition],
    ) -> Option<UserPartition> {
        let lost = before.0 & self.held().0 & !bits(owned);
        u8::try_from(lost.trailing_zeros()).ok().and_then(UserPartition::new)
    }

    /// Whether a partition is about to be given away.
    pub(super) fn gives_away(&self, partition: UserPartition) -> bool {
        self.0.given_away.load(Ordering::Acquire) & bits(&[partition]) != 0
    }

    /// This epoch owns other partitions than before, or gives some away.
    pub fn change(&self) -> OwnershipChange {
        OwnershipChange(self.0.changes.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Whether the projection writes what this epoch owned after the change.
    pub fn is_followed(&self, change: OwnershipChange) -> bool {
        self.0.followed.load(Ordering::Acquire) >= change.0
    }

    /// The last change.
    pub(crate) fn newest(&self) -> OwnershipChange {
        OwnershipChange(self.0.changes.load(Ordering::Acquire))
    }

    /// The projection writes what this epoch owned after the change.
    pub(crate) fn follow(&self, change: OwnershipChange) {
        self.0.followed.store(change.0, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_followed_once_the_projection_says_so() {
        let ownership = Ownership::default();
        assert_eq!(ownership.epoch(), None);
        ownership.joined(7);
        assert_eq!(ownership.epoch(), Some(7));
        let (first, second) = (ownership.change(), ownership.change());
        assert!(!ownership.is_followed(first));
        ownership.follow(first);
        assert!(ownership.is_followed(first) && !ownership.is_followed(second));
        assert_eq!(ownership.newest(), second);
        let partition = UserPartition::new(63).unwrap();
        let before = ownership.held();
        ownership.give_away(&[partition]);
        assert!(ownership.gives_away(partition));
        ownership.take(&[partition]);
        assert!(!ownership.gives_away(partition));
        assert_eq!(ownership.lost(before, &[]), None, "Postgres was asked before it was taken");
    }

    #[test]
    fn a_partition_that_was_held_all_the_time_and_is_not_owned_is_lost() {
        let ownership = Ownership::default();
        let [first, last] = [0, 63].map(|number| UserPartition::new(number).unwrap());
        ownership.take(&[first, last]);
        let before = ownership.held();
        assert_eq!(ownership.lost(before, &[first, last]), None);
        assert_eq!(ownership.lost(before, &[first]), Some(last));
        ownership.give_away(&[last]);
        assert_eq!(ownership.lost(before, &[first]), None, "it is another's by our own will");
    }
}
