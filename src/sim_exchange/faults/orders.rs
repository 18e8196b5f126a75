//! Faults of orders: refusals, fills before the answer, and what the exchange does to an order
//! later, unasked.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::Instant;

use super::{Faults, Kind};
use crate::exchange::wire::{CancelResult, Refusal, SubmitOrder, SubmitResult};
use crate::sim_exchange::line::Key;
use crate::sim_exchange::venue::Venue;
use crate::types::{ExternalOrderId, TimestampMicros};

/// Most actions that can be pending: the longest delay of ten minutes at 100 a second. Further ones
/// are dropped.
const MAX_PENDING_ACTIONS: usize = 65_536;

/// Something that the exchange will do to an order unasked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Action {
    Cancel { order: Key },
    Expire { order: Key },
    Bust { order: Key, execution: Key },
}

/// Pending actions by due time.
#[derive(Debug, Default)]
pub(in crate::sim_exchange) struct PendingActions {
    actions: Mutex<BinaryHeap<Reverse<(Instant, Action)>>>,
    added: Notify,
}

impl PendingActions {
    fn push(&self, faults: &Faults, action: Action) {
        let due = Instant::now() + faults.draw_time(faults.manner().later_ms);
        let mut actions = self.lock();
        if actions.len() < MAX_PENDING_ACTIONS {
            actions.push(Reverse((due, action)));
            self.added.notify_one();
        }
    }

    pub(in crate::sim_exchange) fn next_due(&self) -> Option<Instant> {
        self.lock().peek().map(|Reverse((due, _))| *due)
    }

    fn pop_due(&self, now: Instant) -> Option<Action> {
        let mut actions = self.lock();
        actions.peek().filter(|Reverse((due, _))| *due <= now)?;
        actions.pop().map(|Reverse((_, action))| action)
    }

    fn lock(&self) -> MutexGuard<'_, BinaryHeap<Reverse<(Instant, Action)>>> {
        self.actions.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an action is added.
    pub(in crate::sim_exchange) async fn added(&self) {
        self.added.notified().await;
    }

    /// Carries out the actions that are due.
    pub(in crate::sim_exchange) fn carry_out(
        &self,
        faults: &Faults,
        venue: &mut Venue,
        now: TimestampMicros,
    ) {
        while let Some(action) = self.pop_due(Instant::now()) {
            let (happened, kind): (bool, Kind) = match action {
                Action::Cancel { order } => {
                    (venue.end_unasked(order, false, now), |dice| &mut dice.orders.cancel_unasked)
                }
                Action::Expire { order } => {
                    (venue.end_unasked(order, true, now), |dice| &mut dice.orders.expire_unasked)
                }
                Action::Bust { order, execution } => {
                    (venue.bust(order, execution, now), |dice| &mut dice.orders.bust)
                }
            };
            if happened {
                faults.count(kind);
            }
        }
    }

    /// Draws which of the new executions will be busted.
    pub(in crate::sim_exchange) fn note_fills(&self, faults: &Faults, fills: &[(Key, Key)]) {
        for &(order, execution) in fills {
            if faults.roll(|dice| &mut dice.orders.bust) {
                self.push(faults, Action::Bust { order, execution });
            }
        }
    }
}

/// The venue with the faults of orders around it, for one request.
pub(in crate::sim_exchange) struct OrderFaultInjector<'a> {
    faults: &'a Faults,
    pending_actions: &'a PendingActions,
    /// Whether a fill must reach the feed before the request is answered.
    pub(in crate::sim_exchange) filled_first: bool,
}

impl<'a> OrderFaultInjector<'a> {
    pub(in crate::sim_exchange) fn new(
        faults: &'a Faults,
        pending_actions: &'a PendingActions,
    ) -> Self {
        Self { faults, pending_actions, filled_first: false }
    }

    /// Submits an order. A known order gets its first answer, whatever is set.
    pub(in crate::sim_exchange) fn submit(
        &mut self,
        venue: &mut Venue,
        order: &SubmitOrder,
        now: TimestampMicros,
    ) -> SubmitResult {
        if !self.faults.is_active() || venue.knows(&order.client_order_id) {
            return venue.submit(order, now);
        }
        if self.faults.hits(|dice| &mut dice.orders.reject) {
            let refusal = told_to("rejected", "the exchange was told to refuse this order");
            return venue.submit_refused(&order.client_order_id, refusal, now);
        }
        let result = venue.submit(order, now);
        let key = result.external_order_id.as_ref().and_then(|id| venue.key_of(id));
        if let Some(key) = key {
            self.after_accept(venue, key, order.num_shares, now);
        }
        result
    }

    fn after_accept(&mut self, venue: &mut Venue, key: Key, shares: u64, now: TimestampMicros) {
        if self.faults.roll(|dice| &mut dice.orders.fill_first)
            && venue.fill_now(key, self.faults.draw(1, shares), now)
        {
            self.filled_first = true;
            self.faults.count(|dice| &mut dice.orders.fill_first);
        }
        if self.faults.roll(|dice| &mut dice.orders.cancel_unasked) {
            self.pending_actions.push(self.faults, Action::Cancel { order: key });
        }
        if self.faults.roll(|dice| &mut dice.orders.expire_unasked) {
            self.pending_actions.push(self.faults, Action::Expire { order: key });
        }
    }

    /// Cancels an order, or refuses to although it could be cancelled.
    pub(in crate::sim_exchange) fn cancel(
        &mut self,
        venue: &mut Venue,
        id: &ExternalOrderId,
        now: TimestampMicros,
    ) -> CancelResult {
        if self.faults.is_active()
            && venue.is_open(id)
            && self.faults.hits(|dice| &mut dice.orders.refuse_cancel)
        {
            let error = told_to("not_now", "the exchange was told to refuse this cancel");
            let external_order_id = id.clone();
            return CancelResult { external_order_id, status: None, error: Some(error) };
        }
        venue.cancel(id, now)
    }
}

fn told_to(code: &str, message: &str) -> Refusal {
    Refusal { code: code.into(), message: message.to_owned() }
}
