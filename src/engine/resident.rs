//! Which orders are in memory: all that the exchange may still change, and for a while those that
//! have ended. The rest is in the store, from where an order comes back when the exchange speaks of
//! it again.

use std::sync::Arc;

use super::engines::Engines;
use super::outbox::{Effect, Outbox};
use super::partition::Engine;
use crate::order::{FeedPosition, Order, TrackedOrder, UnmatchedReport};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserPartition};

/// Reports looked up in the store in one go, each second: an exchange that reports some hundred
/// orders of others in that time does not keep ours from being found.
const LOOKUPS_PER_TICK: usize = 1_024;

impl Engines {
    /// Takes an order of the store into memory, in recovery.
    pub fn load(&mut self, tracked: TrackedOrder) {
        let order_id = tracked.order().order_id;
        let order = Arc::clone(tracked.order());
        self.engine_mut(order_id.partition()).load(tracked);
        if let Some(external_order_id) = &order.external_order_id {
            self.index(external_order_id, order_id, order.created_at);
        }
    }

    /// Takes a partition that was loaded apart, in recovery. It replaces what was there.
    pub fn load_partition(&mut self, partition: UserPartition, engine: Engine) {
        let orders: Vec<Arc<Order>> = engine.orders().cloned().collect();
        *self.engine_mut(partition) = engine;
        for order in orders {
            if let Some(external_order_id) = &order.external_order_id {
                self.index(external_order_id, order.order_id, order.created_at);
            }
        }
    }

    /// Takes what the store says of the node, in recovery: how far the feed was taken, what was
    /// reported of unknown orders, and which orders have ended, and when, as far back as a gap may
    /// reach.
    pub fn load_node(
        &mut self,
        feed_position: Option<FeedPosition>,
        unmatched: Vec<UnmatchedReport>,
        ended: Vec<(TimestampMicros, OrderId)>,
    ) {
        if let Some(position) = &feed_position {
            self.feed.replay(position);
        }
        for report in unmatched {
            self.unmatched.hold(report.into(), true);
        }
        self.ended = ended.into();
    }

    /// Whether an order is in memory.
    pub fn has(&self, order_id: OrderId) -> bool {
        self.order(order_id).is_some()
    }

    /// Forgets an order that the store has at this version: only when it has ended, has not changed
    /// since, and nothing waits for it. Gives it when it is forgotten.
    pub fn forget(&mut self, order_id: OrderId, version: u64) -> Option<Arc<Order>> {
        let external_order_id = self.order(order_id)?.external_order_id.clone();
        if external_order_id.as_ref().is_some_and(|id| self.ids_looked_up.contains(id)) {
            // What the store is about to say of it must not be older than what is forgotten here.
            return None;
        }
        if self.orders_looked_up.contains_key(&order_id) {
            return None;
        }
        let order = self.engine_mut(order_id.partition()).forget(order_id, version)?;
        if let Some(id) = &external_order_id
            && self.by_external_id.get(id) == Some(&order_id)
        {
            self.by_external_id.remove(id);
        }
        Some(order)
    }

    /// Asks the store about reports that no order in memory has claimed within the time that the
    /// answer to a submit takes: they may be about orders that have ended and been forgotten.
    pub(super) fn find_unclaimed(&mut self, out: &mut Outbox) {
        let age = self.options.lookup_age_micros;
        let received_before = TimestampMicros::new(self.now.micros().saturating_sub(age));
        for id in self.unmatched.unclaimed(received_before, LOOKUPS_PER_TICK) {
            if self.ids_looked_up.insert(id.clone()) {
                out.effects.push(Effect::LookUpExternalId(id));
            }
        }
    }

    /// What the store says of an exchange id: the order, or that it knows none.
    pub fn found(
        &mut self,
        now: TimestampMicros,
        id: &ExternalOrderId,
        tracked: Option<TrackedOrder>,
        out: &mut Outbox,
    ) {
        self.advance(now);
        self.ids_looked_up.remove(id);
        let Some(tracked) = tracked else { return };
        let order_id = tracked.order().order_id;
        if !self.has(order_id) {
            let order = Arc::clone(tracked.order());
            out.effects.push(Effect::Publish { order, event: None });
            self.load(tracked);
        }
        if self.by_external_id.get(id) == Some(&order_id) {
            let first_event = out.events.len();
            self.deliver_unmatched(id, order_id, out);
            self.deliver_unreadable(id, order_id, out);
            self.note_ended_since(first_event, out);
        }
    }
}
