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
    /// if more may be due.
    pub(super) fn forget(
        &mut self,
        (engines, views): (&mut Engines, &CommittedViews),
        stored: Lsn,
        now: MonotonicMicros,
    ) -> bool {
        for _ in 0..FORGETS_PER_SLICE {
            let Some(&ended) = self.queue.front() else { return false };
            let is_due = now.saturating_since(ended.since) >= self.keep
                || self.queue.len() > MAX_ENDED_IN_MEMORY;
            if !is_due || ended.event > stored {
                return false;
            }
            self.queue.pop_front();
            if let Some(order) = engines.forget(ended.order_id, ended.version) {
                views.forget(&order);
                if order.client_order_id.is_some() {
                    self.keys_forgotten_through = self.keys_forgotten_through.max(ended.event);
                }
            } else if engines.order(ended.order_id).is_some_and(|o| o.version == ended.version) {
                // Something about the order is still unanswered.
                self.queue.push_back(Ended { since: now, ..ended });
            }
        }
        true
    }

    /// Number of ended orders in memory.
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
}
