//! Cancelling many open orders because an operator asks.

use std::ops::Bound;

use super::commands::request_cancel;
use super::engines::Engines;
use super::outbox::Outbox;
use super::partition::{Engine, Turn};
use crate::order::Order;
use crate::types::{OrderId, Symbol, TimestampMicros, USER_PARTITIONS, UserId, UserPartition};

/// Which open orders to cancel: those that are both this user's and in this symbol, where given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CancelScope {
    /// This user's; everybody's without one.
    pub user: Option<UserId>,
    /// In this symbol; in all without one.
    pub symbol: Option<Symbol>,
}

impl CancelScope {
    fn has(&self, order: &Order) -> bool {
        self.user.as_ref().is_none_or(|user| order.user == *user)
            && self.symbol.is_none_or(|symbol| order.symbol == symbol)
    }
}

/// How far a mass cancel has come.
#[derive(Debug)]
pub struct CancelSweep {
    scope: CancelScope,
    partition: usize,
    after: Option<OrderId>,
    /// Orders that were asked to be cancelled.
    pub asked: u64,
}

impl CancelSweep {
    /// A sweep over everything in a scope.
    pub fn new(scope: CancelScope) -> Self {
        let partition = scope.user.as_ref().map_or(0, |user| user.partition().index());
        Self { scope, partition, after: None, asked: 0 }
    }

    /// The partition that is swept; `None` when all are done.
    fn partition(&self) -> Option<UserPartition> {
        let is_done = self.partition >= USER_PARTITIONS;
        u8::try_from(self.partition).ok().filter(|_| !is_done).and_then(UserPartition::new)
    }

    fn go_on(&mut self, last: Option<OrderId>) {
        self.after = last;
        if last.is_none() {
            // A user's orders are all in one partition.
            self.partition =
                if self.scope.user.is_some() { USER_PARTITIONS } else { self.partition + 1 };
        }
    }
}

impl Engines {
    /// Looks at the next open orders of a sweep, at most `limit`, and asks for the cancel of those
    /// in its scope as their users would. True when there are more.
    ///
    /// Orders that are made while it goes on may be missed: halt first, then cancel.
    pub fn cancel_some(
        &mut self,
        now: TimestampMicros,
        sweep: &mut CancelSweep,
        limit: usize,
        out: &mut Outbox,
    ) -> bool {
        let mut room = limit;
        while let Some(partition) = sweep.partition() {
            if room == 0 {
                return true;
            }
            self.turn(now, partition, out, |engine, turn| {
                room -= engine.cancel_open(sweep, room, turn);
            });
        }
        false
    }
}

impl Engine {
    /// Looks at the next open orders after the sweep, at most `limit`. How many that were.
    fn cancel_open(&mut self, sweep: &mut CancelSweep, limit: usize, turn: &mut Turn<'_>) -> usize {
        let from = sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<OrderId> =
            self.lists.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            if self.order(*order_id).is_some_and(|order| sweep.scope.has(order)) {
                let asked = self.with_order(*order_id, turn, request_cancel);
                sweep.asked += u64::from(asked == Some(true));
            }
        }
        let is_whole = next.len() < limit;
        sweep.go_on(next.last().copied().filter(|_| !is_whole));
        next.len()
    }
}
