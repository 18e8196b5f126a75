//! Partitions that move between nodes: adopts the orders of one that comes, drops those of one that goes.

use std::collections::HashSet;
use std::sync::Arc;

use super::engines::Engines;
use super::entry::Waiting;
use super::outbox::{CancelReply, CreateReply, Effect, Outbox};
use super::partition::Engine;
use crate::order::{Adopted, Event, TrackedOrder};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserId, UserPartition};

/// An order of an adopted partition that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EndedOrder {
    /// When it ended.
    pub at: TimestampMicros,
    pub order_id: OrderId,
    /// The exchange's id, if it had one.
    pub external_order_id: Option<ExternalOrderId>,
}

impl Engines {
    /// Takes over orders of a partition, as the log of another node left them: the open ones, and
    /// those that need to be looked at. [`adopted`](Self::adopted) follows the last of them.
    pub fn adopt(&mut self, now: TimestampMicros, orders: Vec<TrackedOrder>, out: &mut Outbox) {
        self.advance(now);
        let (events, adopted) = (out.events.len(), orders.len());
        for tracked in orders {
            self.load_adopted(tracked, out);
        }
        assert_eq!(out.events.len(), events + adopted, "every adopted order is recorded");
    }

    /// All orders of a partition have been adopted: delivers reports that wait for them and asks the
    /// exchange about them.
    pub fn adopted(&mut self, now: TimestampMicros, partition: UserPartition, out: &mut Outbox) {
        self.advance(now);
        let (first_event, first_effect) = (out.events.len(), out.effects.len());
        for id in self.unmatched.ids() {
            let order_id = self.by_external_id.get(&id).copied();
            let is_here = |id: &OrderId| id.partition() == partition && self.has(*id);
            if let Some(order_id) = order_id.filter(is_here) {
                self.deliver_unmatched(&id, order_id, out);
            }
        }
        self.withhold_cancels(first_effect, out);
        self.look_up_sharing(partition, out);
        let (partitions, turn) = self.parts(out);
        let Some(engine) = partitions.get_mut(partition.index()) else {
            unreachable!("every partition has an engine: {partition:?}");
        };
        engine.schedule_unsure(&turn);
        self.note_ended_since(first_event, out);
        let decided = out.events.iter().skip(first_event).filter_map(Event::order_id);
        assert!(
            decided.map(OrderId::partition).all(|of| of == partition),
            "reports are delivered to orders of the partition that has come"
        );
        self.begin_reconciliation();
        assert!(self.is_reconciling(), "adopted orders are reconciled");
    }

    /// Takes note of the orders of adopted partitions that ended lately, and asks the exchange about
    /// them: lines about them may have come to nobody.
    pub fn adopt_ended(&mut self, now: TimestampMicros, ended: Vec<EndedOrder>) {
        self.advance(now);
        for EndedOrder { at, order_id, external_order_id } in ended {
            if let Some(id) = external_order_id.filter(|_| !self.has(order_id)) {
                self.forgotten_ids.add(self.now, &id);
            }
            self.ended.push_back((at, order_id));
        }
        // Stable, since it merges what is sorted already.
        self.ended.make_contiguous().sort();
        self.begin_reconciliation();
        assert!(self.is_reconciling(), "orders that ended elsewhere are reconciled");
    }

    /// Loads an order that the log does not have, and records it there.
    pub(super) fn load_adopted(&mut self, tracked: TrackedOrder, out: &mut Outbox) {
        let order = Arc::clone(tracked.order());
        let order_id = order.order_id;
        assert!(
            !self.has(order_id),
            "order {order_id} is adopted once: its owner was another node"
        );
        let adopted = Adopted { at: self.now, order: tracked.clone() };
        out.events.push(Event::Adopted(Box::new(adopted)));
        out.effects.push(Effect::Publish { order, event: None, account: None });
        self.load(tracked);
        assert!(self.has(order_id), "an adopted order is in memory");
    }

    /// Drops a partition that another node takes over. Clients that wait for an outcome are answered
    /// without it: the other node learns it. Returns the users of its orders.
    pub fn drop_partition(&mut self, partition: UserPartition, out: &mut Outbox) -> Vec<UserId> {
        let engine = std::mem::take::<Engine>(self.engine_mut(partition));
        let mut users = HashSet::new();
        for entry in engine.orders.values() {
            assert_eq!(
                entry.order().order_id.partition(),
                partition,
                "an engine has the orders of its own partition"
            );
            users.insert(entry.order().user.clone());
            for waiting in &entry.waiting {
                out.effects.push(match *waiting {
                    Waiting::ForCreate(to) => {
                        let reply = CreateReply::Pending(Arc::clone(entry.order()));
                        Effect::ReplyCreate { to, reply }
                    }
                    Waiting::ForCancel(to) => {
                        let reply = CancelReply::Pending(Arc::clone(entry.order()));
                        Effect::ReplyCancel { to, reply }
                    }
                });
            }
            let order = entry.order();
            if let Some(id) = &order.external_order_id {
                self.forget_id(id, order.order_id);
            }
            if let Some(named) = &entry.underway.record_id {
                self.forget_id(&named.id, order.order_id);
            }
        }
        let stays = |order_id: &OrderId| order_id.partition() != partition;
        self.ended.retain(|(_, order_id)| stays(order_id));
        self.orders_looked_up.retain(|order_id, _| stays(order_id));
        self.findings.retain(|order_id, _| stays(order_id));
        self.used_late.retain(|_, order_id| stays(order_id));
        // Ids that its orders share with others stay shared: they are another node's now.
        self.open_elsewhere.retain(|order_id, _| stays(order_id));
        if self.is_reconciling() {
            // Its cursor counts ended orders that are gone.
            self.begin_reconciliation();
        }
        users.into_iter().collect()
    }

    fn forget_id(&mut self, id: &ExternalOrderId, order_id: OrderId) {
        if self.by_external_id.get(id) == Some(&order_id) {
            self.by_external_id.remove(id);
        }
    }

    /// Whether an order of the partition waits for the exchange's answer to its submit or cancel, or
    /// a client for ours.
    pub fn has_underway(&self, partition: UserPartition) -> bool {
        self.engine(partition).orders.values().any(super::entry::Entry::has_requests_underway)
    }
}
