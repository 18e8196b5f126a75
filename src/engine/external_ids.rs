//! The index from exchange ids to orders. Ids are unique at least within a trading day. If the
//! exchange gives one id to two orders, their records tell them apart, and no cancel is sent before
//! that.

use super::engines::Engines;
use super::outbox::{Alert, Effect, Outbox};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// How long after the end of its order an exchange id is free for another order. A trading day is
/// shorter.
pub const ID_REUSE_MICROS: u64 = 12 * 3_600 * 1_000_000;
/// Maximum number of tracked ids that several orders share. An exchange that exceeds it is not one
/// to trade with, and operators were alerted long before.
const MAX_AMBIGUOUS_IDS: usize = 4_096;

impl Engines {
    /// Indexes an order by the id that only its record names, unless another order has that id.
    pub(super) fn index_other_id(&mut self, order_id: OrderId, out: &mut Outbox) {
        let entry = self.engine(order_id.partition()).orders.get(&order_id);
        let named = entry.and_then(|entry| entry.underway.record_id.as_ref());
        // Nearly every record names the id that the order was accepted under.
        let Some(id) = named.filter(|named| named.is_other).map(|named| named.id.clone()) else {
            return;
        };
        if self.by_external_id.get(&id).is_none() {
            self.by_external_id.insert(id.clone(), order_id);
            let first_event = out.events.len();
            self.deliver_unmatched(&id, order_id, out);
            self.note_ended_since(first_event, out);
        }
    }

    /// Indexes an order by its exchange id. Returns false if the id belongs to another order
    /// already: then only their records tell what belongs to which. The id of an order that ended
    /// long ago is free again.
    pub(super) fn index(
        &mut self,
        external_order_id: &ExternalOrderId,
        order_id: OrderId,
        at: TimestampMicros,
    ) -> bool {
        let known = *self.by_external_id.get_or_insert(external_order_id.clone(), order_id);
        if known == order_id {
            return true;
        }
        // None before the second order comes.
        let sharing = self.ambiguous.get(external_order_id).map(Vec::as_slice).unwrap_or_default();
        assert!(sharing.is_empty() || sharing.len() > 1, "an ambiguous id is shared");
        let is_free_of = |known: &OrderId| {
            *known == order_id
                || self.order(*known).is_none_or(|order| {
                    !order.is_open() && at.micros_since(order.updated_at) > ID_REUSE_MICROS
                })
        };
        if is_free_of(&known) && sharing.iter().all(is_free_of) {
            self.by_external_id.insert(external_order_id.clone(), order_id);
            if let Some(sharing) = self.ambiguous.remove(external_order_id) {
                self.mark_sharing(&sharing, false);
            }
            debug_assert_eq!(
                self.by_external_id.get(external_order_id),
                Some(&order_id),
                "an id that is free again belongs to the newer order"
            );
            return true;
        }
        if self.ambiguous.len() < MAX_AMBIGUOUS_IDS {
            let sharing = self.ambiguous.entry(external_order_id.clone()).or_default();
            for order_id in [known, order_id] {
                if !sharing.contains(&order_id) {
                    sharing.push(order_id);
                }
            }
            assert!(sharing.len() > 1, "an ambiguous id is shared");
            assert!(self.ambiguous.len() <= MAX_AMBIGUOUS_IDS, "ambiguous ids are bounded");
            self.mark_sharing(&[known, order_id], true);
        }
        false
    }

    /// The id of a newly accepted order belongs to an order that ended lately and has left memory:
    /// brings that one back, so that both are known to share it.
    pub fn id_used_again(
        &mut self,
        now: TimestampMicros,
        (id, before): (&ExternalOrderId, OrderId),
        out: &mut Outbox,
    ) {
        self.advance(now);
        if self.has(before) {
            self.share_id(id, before, out);
        } else {
            self.look_up_order(before, true, out);
        }
    }

    /// Notes that an order in memory has this id, and asks about all that share it.
    pub(super) fn share_id(&mut self, id: &ExternalOrderId, order_id: OrderId, out: &mut Outbox) {
        let Some(created_at) = self.order(order_id).map(|order| order.created_at) else {
            unreachable!("order {order_id} is in memory: its caller checked or loaded it");
        };
        let is_alone = self.index(id, order_id, created_at);
        if !is_alone {
            out.effects.push(Effect::Alert(Alert::ExternalIdReused { order_id }));
            self.reconcile_sharing(id, out);
        }
    }

    /// Queries all orders that share an id: their records tell which one has it.
    pub(super) fn reconcile_sharing(&mut self, id: &ExternalOrderId, out: &mut Outbox) {
        // None once there are too many ambiguous ids.
        for order_id in self.ambiguous.get(id).cloned().unwrap_or_default() {
            self.reconcile_in_turn(order_id, out);
        }
    }

    /// Reconciles an order in memory within the current turn.
    fn reconcile_in_turn(&mut self, order_id: OrderId, out: &mut Outbox) {
        let (engine, mut turn) = self.engine_and_turn(order_id, out);
        engine.reconcile(order_id, &mut turn);
    }

    /// Withholds cancels under a shared id, unless the exchange's records have only this order
    /// under it: no order may be cancelled in place of another. Each query tries them again.
    pub(super) fn withhold_cancels(&mut self, first_effect: usize, out: &mut Outbox) {
        assert!(first_effect <= out.effects.len(), "effects are only added");
        for effect in out.effects.iter_mut().skip(first_effect) {
            let Effect::Cancel { order_id, external_order_id, .. } = effect else { continue };
            let order_id = *order_id;
            if self.is_cancel_certain(order_id, external_order_id) {
                continue;
            }
            let orders = &mut self.engine_mut(order_id.partition()).orders;
            let Some(entry) = orders.get_mut(&order_id) else {
                unreachable!("order {order_id} is in memory: this turn cancels it");
            };
            assert!(entry.underway.cancel_unanswered, "a cancel is withheld before it is answered");
            entry.underway.cancel_sent = false;
            entry.underway.cancel_unanswered = false;
            *effect = Effect::Alert(Alert::ExternalIdReused { order_id });
        }
    }

    fn is_cancel_certain(&self, order_id: OrderId, id: &ExternalOrderId) -> bool {
        let Some(sharing) = self.ambiguous.get(id) else { return true };
        assert!(sharing.len() > 1, "an ambiguous id is shared");
        let is_recorded = |order_id: &OrderId| {
            let entry = self.engine(order_id.partition()).orders.get(order_id);
            let named = entry.and_then(|entry| entry.underway.record_id.as_ref());
            named.is_some_and(|named| named.id == *id)
        };
        // An order in a terminal state cannot be cancelled in place of the other.
        let may_be_meant = |other: &OrderId| {
            is_recorded(other) && self.order(*other).is_some_and(|order| order.is_open())
        };
        is_recorded(&order_id)
            && sharing.iter().all(|other| *other == order_id || !may_be_meant(other))
    }

    /// Notes that a line named an order that ended before this feed session: its id may belong to a
    /// new order whose accept is still to come.
    pub(super) fn note_used_late(&mut self, id: &ExternalOrderId, order_id: OrderId) {
        let (session, _) = self.feed.place();
        let entry = self.engine(order_id.partition()).orders.get(&order_id);
        let is_late = entry.is_some_and(|entry| entry.has_ended_before(session));
        if is_late && self.used_late.len() < MAX_AMBIGUOUS_IDS {
            self.used_late.insert(id.clone(), order_id);
        }
        assert!(self.used_late.len() <= MAX_AMBIGUOUS_IDS, "ids used late are bounded");
    }

    /// Queries a newly accepted order and the ended order that had its id before, if lines have
    /// named that id in this session: each may have taken what belongs to the other.
    pub(super) fn query_after_late_use(
        &mut self,
        id: &ExternalOrderId,
        order_id: OrderId,
        out: &mut Outbox,
    ) {
        // Nearly no id is used late.
        let Some(before) = self.used_late.remove(id).filter(|before| *before != order_id) else {
            return;
        };
        for order_id in [before, order_id] {
            if self.has(order_id) {
                self.reconcile_in_turn(order_id, out);
            } else {
                self.look_up_order(order_id, true, out);
            }
        }
    }

    /// Marks orders that share an exchange id. They stay in memory, because the store can name only
    /// one of them.
    pub(super) fn mark_sharing(&mut self, orders: &[OrderId], is_sharing: bool) {
        for order_id in orders {
            // One may have left memory before the other came.
            if let Some(entry) = self.engine_mut(order_id.partition()).orders.get_mut(order_id) {
                entry.underway.shares_external_id = is_sharing;
                entry.underway.record_id = None;
            }
        }
    }

    /// Queries an order that only now has an id if reports were discarded since it was created:
    /// they may have been its own.
    pub(super) fn query_after_overflow(&mut self, order_id: OrderId, out: &mut Outbox) {
        let created_at = self.order(order_id).map(|order| order.created_at);
        if created_at.is_some_and(|created_at| self.unmatched.may_have_overflowed(created_at)) {
            self.reconcile_in_turn(order_id, out);
        }
    }
}
