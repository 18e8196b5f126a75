//! Queries about orders: those that have waited too long, those that are unsure, and all open ones
//! after a restart or a gap in the feed.

use std::ops::Bound;

use super::answers::may_live;
use super::entry::{QueryReason, Reconciling};
use super::partition::{Engine, Turn, list, watch};
use crate::types::OrderId;

impl Engine {
    /// Queries watched orders whose grace is over, at most `limit`. Returns true if more are due.
    pub(super) fn query_overdue(&mut self, limit: usize, turn: &mut Turn<'_>) -> bool {
        for _ in 0..limit {
            let Some(&(due, order_id)) = self.watch.front() else { return false };
            if due > turn.now {
                return false;
            }
            self.watch.pop_front();
            // An order that ended meanwhile may have left memory.
            let Some(entry) = self.orders.get_mut(&order_id) else { continue };
            entry.underway.watched = false;
            if entry.needs_watch() {
                entry.query(QueryReason::Periodic, turn.now, turn.out);
                watch(entry, &mut self.watch, turn);
            }
        }
        self.watch.front().is_some_and(|(due, _)| *due <= turn.now)
    }

    /// Runs the scheduled queries that are due, at most `limit`. Adds orders that have left memory
    /// to `absent`. Returns true if more are due.
    pub(super) fn run_scheduled_queries(
        &mut self,
        limit: usize,
        absent: &mut Vec<OrderId>,
        turn: &mut Turn<'_>,
    ) -> bool {
        for _ in 0..limit {
            let Some(&(due, order_id)) = self.lists.scheduled_queries.first() else { return false };
            if due > turn.now {
                return false;
            }
            self.lists.scheduled_queries.pop_first();
            let Some(entry) = self.orders.get_mut(&order_id) else {
                absent.push(order_id);
                continue;
            };
            assert!(
                entry.underway.listed_query_at.is_none_or(|at| due <= at),
                "the earliest of an order's queries comes first"
            );
            entry.underway.next_query_at = None;
            entry.underway.listed_query_at = None;
            entry.underway.owes_query = true;
            entry.query(QueryReason::Periodic, turn.now, turn.out);
            assert!(entry.underway.query.is_some(), "an order whose query is due is asked about");
        }
        self.lists.scheduled_queries.first().is_some_and(|(due, _)| *due <= turn.now)
    }

    /// Schedules queries about orders that an earlier run left unsure: failed ones that the exchange
    /// may have, and those with open cases. The first is due at once, later ones as they age.
    pub(super) fn schedule_unsure(&mut self, turn: &Turn<'_>) {
        let failed = self.orders().filter(|order| may_live(order)).map(|order| order.order_id);
        let unsure: Vec<OrderId> = failed.chain(self.lists.cases.iter().copied()).collect();
        let due_now = unsure.into_iter().map(|order_id| (turn.now, order_id));
        self.lists.scheduled_queries.extend(due_now);
    }

    /// Queries an order whose scheduled query found it gone from memory.
    pub(super) fn query(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        // The store may not know it either.
        if let Some(entry) = self.orders.get_mut(&order_id) {
            entry.underway.owes_query = true;
            entry.query(QueryReason::Periodic, turn.now, turn.out);
        }
    }

    /// Queries the open orders after `after`, at most `limit`. Returns the last one queried, or
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
        let effects_before = turn.out.effects.len();
        for order_id in &next {
            self.reconcile_once(*order_id, reconciliation, turn);
        }
        let asked = turn.out.effects.len() - effects_before;
        assert!(asked <= next.len(), "an order is asked about once");
        let last = next.last().copied();
        assert!(last.is_none() || last > after, "a round goes from older to newer orders");
        last
    }

    /// Examines the open orders after `after`, at most `limit`, and queries those that have been
    /// quiet for the grace: reports about newer ones are still in flight. Returns how many, and the
    /// last of them if there are more.
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
            let Some(entry) = self.orders.get_mut(order_id) else {
                unreachable!("open order {order_id} is in memory");
            };
            if turn.now.micros_since(entry.order().updated_at) >= turn.options.grace_micros {
                entry.query(QueryReason::Periodic, turn.now, turn.out);
            }
        }
        let is_whole = next.len() < limit;
        let last = next.last().copied();
        assert!(last.is_none() || last > after, "a round goes from older to newer orders");
        (next.len(), next.last().copied().filter(|_| !is_whole))
    }

    /// Queries an order, once per reconciliation.
    pub(super) fn reconcile_once(
        &mut self,
        order_id: OrderId,
        reconciliation: u32,
        turn: &mut Turn<'_>,
    ) {
        let Some(entry) = self.orders.get_mut(&order_id) else {
            unreachable!("order {order_id} is in memory: it is open, or its caller checked that");
        };
        assert!(reconciliation > 0, "reconciliations are numbered from 1");
        if std::mem::replace(&mut entry.underway.reconciliation, reconciliation) != reconciliation {
            self.reconcile(order_id, turn);
        }
    }

    /// Queries an order until its record comes.
    pub(super) fn reconcile(&mut self, order_id: OrderId, turn: &mut Turn<'_>) {
        // The store may not know an order either: then nothing can be reconciled.
        if let Some(entry) = self.orders.get_mut(&order_id) {
            entry.underway.unreconciled = true;
            let feed = turn.feed.place();
            entry.underway.reconciling = Some(Reconciling { since: turn.now, feed });
            entry.query_fresh(QueryReason::Periodic, turn.now, turn.out);
            list(entry, &mut self.lists);
            watch(entry, &mut self.watch, turn);
            assert!(entry.underway.query.is_some(), "an unreconciled order is asked about");
            entry.assert_invariants();
        }
    }
}
