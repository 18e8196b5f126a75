//! Looking after orders that wait for the exchange too long, and settling all open ones after a
//! restart or a gap in the feed.

use std::ops::Bound;

use super::entry::QueryReason;
use super::partition::{Engine, Turn, list, watch};
use crate::types::OrderId;

impl Engine {
    /// Asks about orders whose grace is over, at most `limit`. True when more are due.
    pub(super) fn look_at_due(&mut self, limit: usize, turn: &mut Turn<'_>) -> bool {
        for _ in 0..limit {
            match self.watch.front() {
                Some((due, _)) if *due <= turn.now => {}
                Some(_) | None => return false,
            }
            let Some((_, order_id)) = self.watch.pop_front() else { return false };
            let Some(entry) = self.orders.get_mut(&order_id) else { continue };
            entry.underway.watched = false;
            if entry.needs_watch() {
                entry.ask(QueryReason::PeriodicLook, turn.out);
                watch(entry, &mut self.watch, turn);
            }
        }
        self.watch.front().is_some_and(|(due, _)| *due <= turn.now)
    }

    /// Asks about open orders behind `after`, at most `limit`. The last one asked about, or
    /// `None` when there are no more.
    pub(super) fn settle_open(
        &mut self,
        after: Option<OrderId>,
        limit: usize,
        turn: &mut Turn<'_>,
    ) -> Option<OrderId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<OrderId> =
            self.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            self.settle(*order_id, turn);
        }
        next.last().copied()
    }

    /// Looks at open orders behind `after`, at most `limit`, and asks about those that have been
    /// quiet for the grace: newer ones are still being spoken of. How many were looked at, and the
    /// last of them while there are more.
    pub(super) fn compare_open(
        &mut self,
        after: Option<OrderId>,
        limit: usize,
        turn: &mut Turn<'_>,
    ) -> (usize, Option<OrderId>) {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<OrderId> =
            self.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            let Some(entry) = self.orders.get_mut(order_id) else { continue };
            if turn.now.micros_since(entry.order().updated_at) >= turn.options.grace_micros {
                entry.ask(QueryReason::PeriodicLook, turn.out);
            }
        }
        let is_whole = next.len() < limit;
        (next.len(), next.last().copied().filter(|_| !is_whole))
    }

    /// Asks for the exchange's record of an order, again and again until it comes.
    pub(super) fn settle(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        if let Some(entry) = self.orders.get_mut(&order_id) {
            entry.underway.owes_settlement = true;
            entry.ask_anew(QueryReason::PeriodicLook, turn.out);
            list(entry, &mut self.open, &mut self.owing);
            watch(entry, &mut self.watch, turn);
        }
    }
}
