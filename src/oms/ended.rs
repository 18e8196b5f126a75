//! Ended orders that are still in memory, and when to forget them.

use std::collections::VecDeque;
use std::time::Duration;

use super::limits::{FORGETS_PER_SLICE, MAX_ENDED_IN_MEMORY};
use super::views::CommittedViews;
use crate::engine::Engines;
use crate::order::Order;
use crate::types::{MonotonicMicros, OrderId};
use crate::wal::Lsn;

/// Orders that have ended and are still in memory, in the order in which they ended. They are
/// forgotten once the store has them and their time in memory has passed.
#[derive(Debug)]
pub(super) struct EndedOrders {
    queue: VecDeque<Ended>,
    /// How long an ended order stays in memory.
    keep: Duration,
    /// Up to this position, idempotency keys may be in the store alone.
    keys_forgotten_through: Lsn,
}

#[derive(Debug, Clone, Copy)]
struct Ended {
    order_id: OrderId,
    /// The version with which it ended; a later version has its own entry.
    version: u64,
    /// Position of the event that ended it, or of a later one.
    event: Lsn,
    since: MonotonicMicros,
}

impl EndedOrders {
    /// No orders yet. The store had followed the log up to `stored` when memory was filled.
    pub(super) fn new(keep: Duration, stored: Lsn) -> Self {
        Self { queue: VecDeque::new(), keep, keys_forgotten_through: stored }
    }

    /// Notes an order that was just published to readers.
    pub(super) fn note(&mut self, order: &Order, event: Lsn, since: MonotonicMicros) {
        if !order.is_open() {
            assert!(
                self.queue.back().is_none_or(|last| last.since <= since),
                "orders wait in the order in which they ended"
            );
            let (order_id, version) = (order.order_id, order.version);
            self.queue.push_back(Ended { order_id, version, event, since });
        }
    }

    /// Whether a key that the store did not have at this position may name an order that memory has
    /// forgotten since.
    pub(super) fn may_have_forgotten_key(&self, checked_at: Lsn) -> bool {
        checked_at < self.keys_forgotten_through
    }

    /// Forgets orders that the store has up to `stored`, a bounded number of them. Returns `true`
    /// if more may be due; `false` also while those that are due cannot be forgotten yet: there is
    /// nothing to do for them until something else happens.
    pub(super) fn forget(
        &mut self,
        (engines, views): (&mut Engines, &CommittedViews),
        stored: Lsn,
        now: MonotonicMicros,
    ) -> bool {
        let noted = self.queue.len();
        for _ in 0..FORGETS_PER_SLICE {
            // No order has ended lately.
            let Some(&ended) = self.queue.front() else { return false };
            assert!(ended.since <= now, "an order ends before it is forgotten");
            let is_due = now.saturating_since(ended.since) >= self.keep
                || self.queue.len() > MAX_ENDED_IN_MEMORY;
            if !is_due || ended.event > stored {
                return false;
            }
            self.queue.pop_front();
            if let Some(order) = engines.forget(ended.order_id, ended.version) {
                assert!(!order.is_open(), "only an order that has ended is forgotten");
                views.forget(&order);
                if order.client_order_id.is_some() {
                    self.keys_forgotten_through = self.keys_forgotten_through.max(ended.event);
                }
            } else if engines.order(ended.order_id).is_some_and(|o| o.version == ended.version) {
                // Something about the order is still unanswered.
                self.queue.push_back(Ended { since: now, ..ended });
            }
        }
        assert!(self.keys_forgotten_through <= stored, "the store has every key that is forgotten");
        assert!(self.queue.len() <= noted, "what cannot be forgotten is noted once");
        self.queue.len() < noted
    }

    /// Number of ended orders in memory.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::EngineOptions;
    use crate::order::test_events::{accepted, created, filled};
    use crate::order::{Case, CaseCause, Change, Changed, Event, TrackedOrder};

    /// An order that is filled, with an open case about it if it is unsure.
    fn ended(number: u64, is_unsure: bool) -> TrackedOrder {
        let created = created(number);
        let mut order = TrackedOrder::new(&created);
        for event in [accepted(number), filled(number, "e1", created.num_shares)] {
            let Event::Changed(changed) = event else { unreachable!("{event:?}") };
            assert!(order.apply(&changed).recorded);
        }
        if is_unsure {
            let case = Case { cause: CaseCause::OtherSymbol, execution: None, text: "odd".into() };
            let change = Change::CaseOpened(Box::new(case));
            let changed = Changed { order_id: created.order_id, at: created.created_at, change };
            assert!(order.apply(&changed).recorded);
        }
        order
    }

    #[test]
    fn orders_that_cannot_be_forgotten_yet_keep_nobody_busy() {
        let views = CommittedViews::since(Lsn(0));
        let mut engines = Engines::new(EngineOptions::default());
        let mut orders = EndedOrders::new(Duration::ZERO, Lsn(0));
        let now = MonotonicMicros::new(1);
        for (number, is_unsure) in [(1, true), (2, false), (3, true)] {
            let order = ended(number, is_unsure);
            orders.note(order.order(), Lsn(number), now);
            engines.load(order);
        }
        assert!(orders.forget((&mut engines, &views), Lsn(3), now), "one was forgotten");
        assert_eq!(orders.len(), 2);
        assert!(!orders.forget((&mut engines, &views), Lsn(3), now), "two are unsure");
        assert_eq!(orders.len(), 2, "they are looked at again");
    }
}
