//! Looking after orders that wait for the exchange too long, and reconciling all open ones after a
//! restart or a gap in the feed.

use std::ops::Bound;
use std::sync::Arc;

use super::entry::{QueryReason, Reconciling};
use super::partition::{Engine, Turn, list, watch};
use crate::order::{Ending, Order};
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

    /// Asks about orders in doubt, or called failed, whose time has come, at most `limit`. Those that
    /// have left memory go to `absent`. True when more are due.
    pub(super) fn look_again(
        &mut self,
        limit: usize,
        absent: &mut Vec<OrderId>,
        turn: &mut Turn<'_>,
    ) -> bool {
        for _ in 0..limit {
            match self.lists.looks.first() {
                Some((due, _)) if *due <= turn.now => {}
                Some(_) | None => return false,
            }
            let Some((_, order_id)) = self.lists.looks.pop_first() else { return false };
            let Some(entry) = self.orders.get_mut(&order_id) else {
                absent.push(order_id);
                continue;
            };
            entry.underway.look_at = None;
            entry.underway.listed_look = None;
            entry.ask(QueryReason::PeriodicLook, turn.out);
        }
        self.lists.looks.first().is_some_and(|(due, _)| *due <= turn.now)
    }

    /// Goes on looking at orders of which an earlier run was not sure: those that it called failed
    /// because the exchange did not know them, and those with open cases. At once, and then as they
    /// grow older.
    pub(super) fn look_at_unsure_again(&mut self, turn: &Turn<'_>) {
        let is_failed = |order: &&Arc<Order>| order.ending() == Some(Ending::NotAccepted);
        let failed = self.orders().filter(is_failed).map(|order| order.order_id);
        let unsure: Vec<OrderId> = failed.chain(self.lists.cases.iter().copied()).collect();
        self.lists.looks.extend(unsure.into_iter().map(|order_id| (turn.now, order_id)));
    }

    /// Asks about an order once.
    pub(super) fn look(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        if let Some(entry) = self.orders.get_mut(&order_id) {
            entry.ask(QueryReason::PeriodicLook, turn.out);
        }
    }

    /// Asks about open orders after `after`, at most `limit`. The last one asked about, or
    /// `None` when there are no more.
    pub(super) fn reconcile_open(
        &mut self,
        (after, reconciliation): (Option<OrderId>, u32),
        limit: usize,
        turn: &mut Turn<'_>,
    ) -> Option<OrderId> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<OrderId> =
            self.lists.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            self.reconcile_once(*order_id, reconciliation, turn);
        }
        next.last().copied()
    }

    /// Looks at open orders after `after`, at most `limit`, and asks about those that have been
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
            self.lists.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            let Some(entry) = self.orders.get_mut(order_id) else { continue };
            if turn.now.micros_since(entry.order().updated_at) >= turn.options.grace_micros {
                entry.ask(QueryReason::PeriodicLook, turn.out);
            }
        }
        let is_whole = next.len() < limit;
        (next.len(), next.last().copied().filter(|_| !is_whole))
    }

    /// Asks for the exchange's record of an order, once in a reconciliation.
    pub(super) fn reconcile_once(
        &mut self,
        order_id: OrderId,
        reconciliation: u32,
        turn: &mut Turn<'_>,
    ) {
        let Some(entry) = self.orders.get_mut(&order_id) else { return };
        if std::mem::replace(&mut entry.underway.reconciliation, reconciliation) != reconciliation {
            self.reconcile(order_id, turn);
        }
    }

    /// Asks for the exchange's record of an order, again and again until it comes.
    pub(super) fn reconcile(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        if let Some(entry) = self.orders.get_mut(&order_id) {
            entry.underway.unreconciled = true;
            let feed = turn.feed.place();
            entry.underway.reconciling = Some(Reconciling { since: turn.now, feed });
            entry.ask_anew(QueryReason::PeriodicLook, turn.out);
            list(entry, &mut self.lists);
            watch(entry, &mut self.watch, turn);
        }
    }
}
