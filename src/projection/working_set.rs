//! The orders that a projection keeps in memory.

use std::collections::{HashMap, VecDeque};

use crate::order::TrackedOrder;
use crate::types::OrderId;
use crate::wal::Lsn;

/// Outdated entries that may be kept, besides one for each order.
const SPARE_CHANGES: usize = 1_024;

/// Recently changed orders, as the log left them at the position that it was read to. Others are
/// read back from Postgres when they change again.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    orders: HashMap<OrderId, Kept>,
    /// Changes, oldest first. An order may have several entries, of which the last counts.
    changes: VecDeque<(Lsn, OrderId)>,
}

#[derive(Debug)]
struct Kept {
    order: TrackedOrder,
    changed_at: Lsn,
}

impl WorkingSet {
    pub(super) fn has(&self, order_id: OrderId) -> bool {
        self.orders.contains_key(&order_id)
    }

    pub(super) fn get(&self, order_id: OrderId) -> Option<&TrackedOrder> {
        self.orders.get(&order_id).map(|kept| &kept.order)
    }

    /// An order that is about to change.
    pub(super) fn change(&mut self, order_id: OrderId, lsn: Lsn) -> Option<&mut TrackedOrder> {
        let kept = self.orders.get_mut(&order_id)?;
        kept.changed_at = lsn;
        self.changes.push_back((lsn, order_id));
        Some(&mut kept.order)
    }

    /// Adds an order as a log record left it.
    pub(super) fn insert(&mut self, order: TrackedOrder, lsn: Lsn) {
        let order_id = order.order().order_id;
        self.changes.push_back((lsn, order_id));
        self.orders.insert(order_id, Kept { order, changed_at: lsn });
    }

    /// Removes the least recently changed orders until at most `most` are left. Keeps changes past
    /// `committed`: Postgres does not have them yet.
    pub(super) fn shrink(&mut self, most: usize, committed: Lsn) {
        while let Some(&(lsn, order_id)) = self.changes.front() {
            let is_last = self.orders.get(&order_id).is_some_and(|kept| kept.changed_at == lsn);
            if is_last {
                if self.orders.len() <= most || lsn > committed {
                    break;
                }
                self.orders.remove(&order_id);
            }
            self.changes.pop_front();
        }
        // An order at the front that never changes again would keep all later entries.
        if self.changes.len() > 2 * self.orders.len() + SPARE_CHANGES {
            let Self { orders, changes } = self;
            changes.retain(|(lsn, order_id)| {
                orders.get(order_id).is_some_and(|kept| kept.changed_at == *lsn)
            });
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

    fn id(number: u64) -> OrderId {
        created(number).order_id
    }

    #[test]
    fn the_least_recently_changed_are_removed_first_and_only_if_committed() {
        let mut set = WorkingSet::default();
        for number in 1..=4 {
            set.insert(order(number), Lsn(number));
        }
        assert!(set.change(id(1), Lsn(5)).is_some());
        set.shrink(2, Lsn(2));
        assert!(!set.has(id(2)), "the oldest change");
        assert!(set.has(id(3)), "not committed yet");
        set.shrink(2, Lsn(9));
        assert!(set.has(id(1)) && set.has(id(4)) && !set.has(id(3)));
        set.shrink(0, Lsn(9));
        assert!(set.orders.is_empty() && set.changes.is_empty());
        assert!(set.change(id(1), Lsn(10)).is_none());
    }

    #[test]
    fn an_order_that_never_changes_again_keeps_no_outdated_entries() {
        let mut set = WorkingSet::default();
        set.insert(order(1), Lsn(1));
        set.insert(order(2), Lsn(2));
        let changes = 3 * SPARE_CHANGES as u64;
        for lsn in 3..=changes {
            assert!(set.change(id(2), Lsn(lsn)).is_some());
        }
        set.shrink(2, Lsn(changes));
        assert_eq!(set.changes, [(Lsn(1), id(1)), (Lsn(changes), id(2))]);
        set.shrink(1, Lsn(changes));
        assert!(set.has(id(2)) && !set.has(id(1)), "ordered by their last changes");
    }
}
