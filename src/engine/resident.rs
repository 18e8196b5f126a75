//! Residency: memory holds all open orders and, for a while, ended ones. The store has the rest,
//! and an order comes back from it when the exchange names it again.

use std::sync::Arc;

use super::engines::Engines;
use super::outbox::{Effect, Outbox};
use super::partition::Engine;
use crate::order::{FeedPosition, Order, TrackedOrder, UnmatchedReport};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserPartition};

/// Maximum reports looked up in the store per tick of one second: an exchange that reports some
/// hundred foreign orders a second does not delay the lookup of ours.
const LOOKUPS_PER_TICK: usize = 1_024;

impl Engines {
    /// Loads an order from the store, in recovery.
    pub fn load(&mut self, tracked: TrackedOrder) {
        let order_id = tracked.order().order_id;
        let order = Arc::clone(tracked.order());
        self.engine_mut(order_id.partition()).load(tracked);
        if let Some(external_order_id) = &order.external_order_id {
            self.index(external_order_id, order_id, order.created_at);
        }
    }

    /// Replaces a partition by one that was loaded separately, in recovery.
    pub fn load_partition(&mut self, partition: UserPartition, engine: Engine) {
        let is_empty = self.engine(partition).orders().next().is_none();
        assert!(is_empty, "a partition is loaded once: {partition:?}");
        engine.debug_assert_lists();
        let orders: Vec<Arc<Order>> = engine.orders().cloned().collect();
        *self.engine_mut(partition) = engine;
        for order in orders {
            assert_eq!(
                order.order_id.partition(),
                partition,
                "an engine has the orders of its own partition"
            );
            if let Some(external_order_id) = &order.external_order_id {
                self.index(external_order_id, order.order_id, order.created_at);
            }
        }
    }

    /// Loads the node's state from the store, in recovery: the feed position, the unmatched
    /// reports, and the recently ended orders with the time of their end, as far back as a gap may
    /// reach.
    pub fn load_node(
        &mut self,
        feed_position: Option<FeedPosition>,
        unmatched: Vec<UnmatchedReport>,
        ended: Vec<(TimestampMicros, OrderId)>,
    ) {
        assert!(self.ended.is_empty(), "the node's state is loaded before orders end");
        assert_eq!(self.unmatched.len(), 0, "the node's state is loaded before reports come");
        if let Some(position) = &feed_position {
            self.feed.replay(position);
        }
        for report in unmatched {
            self.unmatched.add(report.into(), true);
        }
        self.ended = ended.into();
    }

    pub fn has(&self, order_id: OrderId) -> bool {
        self.order(order_id).is_some()
    }

    /// Drops an order from memory that the store has at this version. Only if it is idle and
    /// unchanged since; returns it if dropped.
    pub fn forget(&mut self, order_id: OrderId, version: u64) -> Option<Arc<Order>> {
        let external_order_id = self.order(order_id)?.external_order_id.clone();
        if external_order_id.as_ref().is_some_and(|id| self.ids_looked_up.contains(id)) {
            // The lookup's answer must not be older than the order dropped here.
            return None;
        }
        if self.orders_looked_up.contains_key(&order_id) {
            return None;
        }
        let entry = self.engine(order_id.partition()).orders.get(&order_id);
        let other_id =
            entry.and_then(|entry| entry.underway.record_id.as_ref()).map(|named| named.id.clone());
        let order = self.engine_mut(order_id.partition()).forget(order_id, version)?;
        assert_eq!(order.version, version, "the store has the version that is forgotten");
        assert!(!self.has(order_id), "a forgotten order has left memory");
        for id in external_order_id.iter().chain(&other_id) {
            if self.by_external_id.get(id) == Some(&order_id) {
                self.by_external_id.remove(id);
            }
            debug_assert_ne!(self.by_external_id.get(id), Some(&order_id), "its id is free");
        }
        if self.options.shares_users
            && let Some(id) = &external_order_id
        {
            self.forgotten_ids.add(self.now, id);
        }
        Some(order)
    }

    /// Looks up in the store the orders of reports that stayed unmatched for longer than an answer
    /// to a submit takes: they may have ended and left memory.
    pub(super) fn look_up_unmatched(&mut self, out: &mut Outbox) {
        let received_before = self.before_now(self.options.lookup_age_micros);
        for id in self.unmatched.not_looked_up(received_before, LOOKUPS_PER_TICK) {
            let is_ours = !self.options.shares_users || self.forgotten_ids.may_have(&id);
            if is_ours && self.ids_looked_up.insert(id.clone()) {
                out.effects.push(Effect::LookUpExternalId(id));
            }
        }
    }

    /// Brings an order back from the store.
    pub(super) fn bring_back(&mut self, tracked: TrackedOrder, out: &mut Outbox) {
        let order_id = tracked.order().order_id;
        assert!(!self.has(order_id), "order {order_id} comes back only once it has left memory");
        if self.options.shares_users {
            self.load_adopted(tracked, out);
            return;
        }
        let order = Arc::clone(tracked.order());
        out.effects.push(Effect::Publish { order, event: None, account: None });
        self.load(tracked);
        assert!(self.has(order_id), "an order that was brought back is in memory");
    }

    /// Takes the store's answer to a lookup by exchange id: the order, or `None`.
    pub fn found(
        &mut self,
        now: TimestampMicros,
        id: &ExternalOrderId,
        tracked: Option<TrackedOrder>,
        out: &mut Outbox,
    ) {
        self.advance(now);
        self.ids_looked_up.remove(id);
        // An order that nobody here has heard of.
        let Some(tracked) = tracked else { return };
        let order_id = tracked.order().order_id;
        if !self.has(order_id) {
            self.bring_back(tracked, out);
        }
        if self.by_external_id.get(id) == Some(&order_id) {
            let first_event = out.events.len();
            self.deliver_unmatched(id, order_id, out);
            self.deliver_unreadable(id, order_id, out);
            self.note_ended_since(first_event, out);
        }
    }
}
