//! The orders and accounts that a projection keeps in memory.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;

use crate::money::Account;
use crate::order::TrackedOrder;
use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

/// Outdated entries that may be kept, besides one for each value.
const SPARE_CHANGES: usize = 1_024;

/// Recently changed orders.
pub(super) type WorkingOrders = WorkingSet<OrderId, TrackedOrder>;
/// Recently changed accounts.
pub(super) type WorkingAccounts = WorkingSet<UserId, Account>;

/// What changed lately, as the log left it at the position that it was read to. The rest is read back
/// from Postgres when it changes again.
#[derive(Debug)]
pub(super) struct WorkingSet<K, V> {
    values: HashMap<K, Kept<V>>,
    /// Changes, oldest first. A value may have several entries, of which the last counts.
    changes: VecDeque<(Lsn, K)>,
}

#[derive(Debug)]
struct Kept<V> {
    value: V,
    changed_at: Lsn,
}

impl<K, V> Default for WorkingSet<K, V> {
    fn default() -> Self {
        Self { values: HashMap::new(), changes: VecDeque::new() }
    }
}

impl<K: Clone + Eq + Hash, V> WorkingSet<K, V> {
    pub(super) fn has(&self, key: &K) -> bool {
        self.values.contains_key(key)
    }

    pub(super) fn get(&self, key: &K) -> Option<&V> {
        self.values.get(key).map(|kept| &kept.value)
    }

    /// A value that is about to change.
    pub(super) fn change(&mut self, key: &K, lsn: Lsn) -> Option<&mut V> {
        let kept = self.values.get_mut(key)?;
        kept.changed_at = lsn;
        self.changes.push_back((lsn, key.clone()));
        Some(&mut kept.value)
    }

    /// Adds a value as a log record left it.
    pub(super) fn insert(&mut self, key: K, value: V, lsn: Lsn) {
        self.changes.push_back((lsn, key.clone()));
        self.values.insert(key, Kept { value, changed_at: lsn });
    }

    /// Removes the least recently changed values until at most `most` are left. Keeps changes past
    /// `committed`: Postgres does not have them yet.
    pub(super) fn shrink(&mut self, most: usize, committed: Lsn) {
        while let Some((lsn, key)) = self.changes.front() {
            let is_last = self.values.get(key).is_some_and(|kept| kept.changed_at == *lsn);
            if is_last {
                if self.values.len() <= most || *lsn > committed {
                    break;
                }
                self.values.remove(key);
            }
            self.changes.pop_front();
        }
        // A value at the front that never changes again would keep all later entries.
        if self.changes.len() > 2 * self.values.len() + SPARE_CHANGES {
            let Self { values, changes } = self;
            changes
                .retain(|(lsn, key)| values.get(key).is_some_and(|kept| kept.changed_at == *lsn));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::test_events::created;

    fn order(number: u64) -> TrackedOrder {
        TrackedOrder::new(&created(number))
    }

    fn insert(set: &mut WorkingOrders, number: u64) {
        set.insert(id(number), order(number), Lsn(number));
    }

    fn id(number: u64) -> OrderId {
        created(number).order_id
    }

    #[test]
    fn the_least_recently_changed_are_removed_first_and_only_if_committed() {
        let mut set = WorkingOrders::default();
        for number in 1..=4 {
            insert(&mut set, number);
        }
        assert!(set.change(&id(1), Lsn(5)).is_some());
        set.shrink(2, Lsn(2));
        assert!(!set.has(&id(2)), "the oldest change");
        assert!(set.has(&id(3)), "not committed yet");
        set.shrink(2, Lsn(9));
        assert!(set.has(&id(1)) && set.has(&id(4)) && !set.has(&id(3)));
        set.shrink(0, Lsn(9));
        assert!(set.values.is_empty() && set.changes.is_empty());
        assert!(set.change(&id(1), Lsn(10)).is_none());
    }

    #[test]
    fn an_order_that_never_changes_again_keeps_no_outdated_entries() {
        let mut set = WorkingOrders::default();
        insert(&mut set, 1);
        insert(&mut set, 2);
        let changes = 3 * SPARE_CHANGES as u64;
        for lsn in 3..=changes {
            assert!(set.change(&id(2), Lsn(lsn)).is_some());
        }
        set.shrink(2, Lsn(changes));
        assert_eq!(set.changes, [(Lsn(1), id(1)), (Lsn(changes), id(2))]);
        set.shrink(1, Lsn(changes));
        assert!(set.has(&id(2)) && !set.has(&id(1)), "ordered by their last changes");
    }
}
