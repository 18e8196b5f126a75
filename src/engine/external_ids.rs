//! The index from exchange ids to orders. Ids are unique at least within a trading day. If the
//! exchange gives one id to two orders, their records tell them apart, and no cancel is sent before
//! that.

use super::engines::Engines;
use super::inputs::{ExchangeOrderState, QueryAnswer};
use super::outbox::{Alert, Effect, Outbox};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserPartition};

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
        // None before the second order comes.
        let sharing = self.ambiguous.get(external_order_id).map(Vec::as_slice).unwrap_or_default();
        assert!(sharing.is_empty() || sharing.len() > 1, "an ambiguous id is shared");
        if sharing.is_empty() && known == order_id {
            return true;
        }
        if sharing.contains(&order_id) {
            self.mark_sharing(&[order_id], true);
            return false;
        }
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

    /// Several orders have an id, of which other nodes may have some. Asks about those that are here, and
    /// looks up those that have left memory. News each time that there is another order among them.
    pub fn id_is_shared(
        &mut self,
        now: TimestampMicros,
        (id, orders): (&ExternalOrderId, &[OrderId]),
        is_here: impl Fn(OrderId) -> bool,
        out: &mut Outbox,
    ) {
        self.advance(now);
        let is_full = self.ambiguous.len() >= MAX_AMBIGUOUS_IDS;
        if orders.len() < 2 || is_full && !self.ambiguous.contains_key(id) {
            return;
        }
        let sharing = self.ambiguous.entry(id.clone()).or_default();
        let known = sharing.len();
        for order_id in orders {
            if !sharing.contains(order_id) {
                sharing.push(*order_id);
            }
        }
        if sharing.len() == known {
            return;
        }
        assert!(sharing.len() > 1, "an ambiguous id is shared");
        let sharing = sharing.clone();
        self.mark_sharing(&sharing, true);
        for order_id in sharing {
            if self.has(order_id) {
                out.effects.push(Effect::Alert(Alert::ExternalIdReused { order_id }));
                self.reconcile_in_turn(order_id, out);
            } else if is_here(order_id) {
                self.look_up_order(order_id, true, out);
            }
        }
    }

    /// Looks up the orders of a partition that has come which share an id and have ended.
    pub(super) fn look_up_sharing(&mut self, partition: UserPartition, out: &mut Outbox) {
        let sharing = self.ambiguous.values().flatten().copied();
        let of_partition = sharing.filter(|order_id| order_id.partition() == partition);
        for order_id in of_partition.collect::<Vec<_>>() {
            if !self.has(order_id) {
                self.look_up_order(order_id, true, out);
            }
        }
    }

    /// Whether a line under this id may be of several orders, of which this node has at least one.
    pub(super) fn is_ambiguous(&self, id: &ExternalOrderId) -> bool {
        !self.ambiguous.is_empty()
            && self.ambiguous.get(id).is_some_and(|sharing| sharing.iter().any(|id| self.has(*id)))
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
    /// under it: no order may be cancelled in place of another. Each query tries them again, and the
    /// exchange is asked about the orders of other nodes.
    pub(super) fn withhold_cancels(&mut self, first_effect: usize, out: &mut Outbox) {
        assert!(first_effect <= out.effects.len(), "effects are only added");
        let mut elsewhere = Vec::new();
        for effect in out.effects.iter_mut().skip(first_effect) {
            let Effect::Cancel { order_id, external_order_id, .. } = effect else { continue };
            let order_id = *order_id;
            if self.is_cancel_certain(order_id, external_order_id) {
                continue;
            }
            let sharing = self.ambiguous.get(external_order_id).into_iter().flatten();
            elsewhere.extend(sharing.copied().filter(|other| self.is_elsewhere(*other)));
            let orders = &mut self.engine_mut(order_id.partition()).orders;
            let Some(entry) = orders.get_mut(&order_id) else {
                unreachable!("order {order_id} is in memory: this turn cancels it");
            };
            assert!(entry.underway.cancel_unanswered, "a cancel is withheld before it is answered");
            entry.underway.cancel_sent = false;
            entry.underway.cancel_unanswered = false;
            *effect = Effect::Alert(Alert::ExternalIdReused { order_id });
        }
        out.effects.extend(elsewhere.into_iter().map(Effect::Query));
    }

    /// Whether an order that shares an id is another node's.
    pub(super) fn is_elsewhere(&self, order_id: OrderId) -> bool {
        self.options.shares_users && !self.has(order_id)
    }

    /// Takes note of the exchange's record of another node's order that shares an id. Cancels that waited
    /// for it are tried again.
    pub(super) fn note_record_elsewhere(
        &mut self,
        order_id: OrderId,
        answer: &QueryAnswer,
        out: &mut Outbox,
    ) {
        let shares = |(_, sharing): &(&ExternalOrderId, &Vec<OrderId>)| sharing.contains(&order_id);
        let shared: Vec<_> = self
            .ambiguous
            .iter()
            .filter(shares)
            .map(|(id, orders)| (id.clone(), orders.clone()))
            .collect();
        let open_under = match answer {
            QueryAnswer::Known(record) if record.state == ExchangeOrderState::Open => {
                Some(record.external_order_id.clone())
            }
            QueryAnswer::Known(_) | QueryAnswer::Unknown { .. } | QueryAnswer::Rejected { .. } => {
                None
            }
            QueryAnswer::Unreadable { .. } => return,
        };
        if shared.is_empty() {
            return;
        }
        self.open_elsewhere.insert(order_id, open_under);
        for (id, orders) in shared {
            for waiting in orders {
                let wants_cancel = self.order(waiting).is_some_and(|order| order.wants_cancel());
                if wants_cancel && self.is_cancel_certain(waiting, &id) {
                    self.reconcile_in_turn(waiting, out);
                }
            }
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
            if self.is_elsewhere(*other) {
                // Nothing is known of it before the exchange has answered.
                return self
                    .open_elsewhere
                    .get(other)
                    .is_none_or(|under| under.as_ref() == Some(id));
            }
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
