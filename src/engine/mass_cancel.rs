//! Mass cancel: cancels open orders on an operator's request.

use std::ops::Bound;

use super::commands::request_cancel;
use super::engines::Engines;
use super::outbox::Outbox;
use super::partition::{Engine, Turn};
use crate::order::Order;
use crate::types::{OrderId, Symbol, TimestampMicros, USER_PARTITIONS, UserId, UserPartition};

/// The open orders to cancel: those that match both user and symbol, where given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CancelScope {
    /// Orders of this user; `None` for all users.
    pub user: Option<UserId>,
    /// Orders in this symbol; `None` for all symbols.
    pub symbol: Option<Symbol>,
}

impl CancelScope {
    fn has(&self, order: &Order) -> bool {
        self.user.as_ref().is_none_or(|user| order.user == *user)
            && self.symbol.is_none_or(|symbol| order.symbol == symbol)
    }
}

/// Progress of a mass cancel.
#[derive(Debug)]
pub struct CancelSweep {
    scope: CancelScope,
    partition: usize,
    after: Option<OrderId>,
    /// Number of orders with a cancel requested by this sweep.
    pub asked: u64,
}

impl CancelSweep {
    /// Starts a sweep over a scope.
    pub fn new(scope: CancelScope) -> Self {
        let partition = scope.user.as_ref().map_or(0, |user| user.partition().index());
        Self { scope, partition, after: None, asked: 0 }
    }

    /// The current partition; `None` when done.
    fn partition(&self) -> Option<UserPartition> {
        assert!(self.partition <= USER_PARTITIONS, "a sweep ends after the last partition");
        let is_done = self.partition >= USER_PARTITIONS;
        let partition = u8::try_from(self.partition).ok().filter(|_| !is_done);
        let partition = partition.and_then(UserPartition::new);
        assert_eq!(partition.is_none(), is_done, "a number below the limit is one of a partition");
        partition
    }

    fn advance(&mut self, last: Option<OrderId>) {
        assert!(self.partition < USER_PARTITIONS, "a finished sweep does not advance");
        assert!(
            last.is_none_or(|last| self.after.is_none_or(|after| after < last)),
            "a sweep goes from older to newer orders"
        );
        self.after = last;
        if last.is_none() {
            // All orders of a user are in one partition.
            self.partition =
                if self.scope.user.is_some() { USER_PARTITIONS } else { self.partition + 1 };
        }
    }
}

impl Engines {
    /// Examines the next open orders of a sweep, at most `limit`, and requests the cancel of those
    /// in its scope. Returns true if there are more.
    ///
    /// A sweep may miss orders created meanwhile: halt first, then cancel.
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
            assert!(
                sweep.scope.user.as_ref().is_none_or(|user| user.partition() == partition),
                "all orders of a user are in one partition"
            );
            self.turn(now, partition, out, |engine, turn| {
                let examined = engine.cancel_open(sweep, room, turn);
                assert!(examined <= room, "a sweep examines at most its limit");
                room -= examined;
            });
        }
        false
    }
}

impl Engine {
    /// Examines the sweep's next open orders, at most `limit`. Returns how many.
    fn cancel_open(&mut self, sweep: &mut CancelSweep, limit: usize, turn: &mut Turn<'_>) -> usize {
        let from = sweep.after.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<OrderId> =
            self.lists.open.range((from, Bound::Unbounded)).take(limit).copied().collect();
        for order_id in &next {
            let Some(order) = self.order(*order_id) else {
                unreachable!("open order {order_id} is in memory");
            };
            if sweep.scope.has(order) {
                let Some(is_new) = self.with_order(*order_id, turn, request_cancel) else {
                    unreachable!("open order {order_id} is in memory");
                };
                sweep.asked += u64::from(is_new);
            }
        }
        let is_whole = next.len() < limit;
        sweep.advance(next.last().copied().filter(|_| !is_whole));
        next.len()
    }
}
