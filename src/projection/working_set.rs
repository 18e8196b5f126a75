use std::collections::{HashMap, VecDeque};

use crate::order::TrackedOrder;
use crate::types::OrderId;
use crate::wal::Lsn;

/// How many outdated changes may be remembered, beside one for each order.
const SPARE_CHANGES: usize = 1_024;

/// Orders that were changed not long ago, as the log has left them at the place that it was read to.
/// One that is not here is read from Postgres when it changes again.
#[derive(Debug, Default)]
pub(super) struct WorkingSet {
    orders: HashMap<OrderId, Kept>,
    /// When which order was changed, oldest first; an order may stand here more than once, and its
    /// last place counts.
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

    /// An order as a record of the log has left it.
    pub(super) fn insert(&mut self, order: TrackedOrder, lsn: Lsn) {
        let order_id = order.order().order_id;
        self.changes.push_back((lsn, order_id));
        self.orders.insert(order_id, Kept { order, changed_at: lsn });
    }

    /// Forgets those that were not changed for longest until at most `most` are left. What is behind
    /// `committed` has to stay: Postgres does not have it yet.
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
        // An order at the front that never changes again would keep all that came after it.
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
    fn the_least_recently_changed_leave_first_and_only_what_is_committed() {
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
    fn one_that_never_changes_again_keeps_nothing_that_is_outdated() {
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
        assert!(set.has(id(2)) && !set.has(id(1)), "in the order of their last changes");
    }
}
