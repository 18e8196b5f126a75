//! What happens once it is durable.

use std::sync::Arc;

use super::Driver;
use crate::engine::Effect;
use crate::oms::answers::OrderLookup;
use crate::oms::stages::Stage;
use crate::order::Order;
use crate::types::Moment;

impl Driver {
    /// Whether [`release`](Self::release) has something to do.
    pub(crate) fn has_free_effects(&self) -> bool {
        self.gate.has_free(self.reached())
    }

    /// Does what waited for events that are durable now: first readers see the new state, then
    /// clients are answered and the exchange is told. True when more could be done.
    pub(crate) fn release(&mut self, now: Moment) -> bool {
        if self.awaited.as_mut().is_some_and(|postgres| postgres.has_just_recovered()) {
            self.publisher.views().reveal();
            tracing::info!("Postgres has everything that was recovered: orders can be read");
        }
        let mut free = std::mem::take(&mut self.free);
        assert!(free.is_empty(), "effects happen within their slice");
        let released = self.gate.release(self.reached(), &mut free);
        self.publisher.publish(&free, now);
        let mut submits = Vec::new();
        for gated in free.drain(..) {
            self.perform(gated.effect, &mut submits, now);
        }
        self.free = free;
        assert!(self.free.is_empty(), "effects happen within their slice");
        self.queues.submits.push_expected(submits);
        if let Some(postgres) = &mut self.awaited {
            postgres.mark(now, self.gate.last_awaiting_postgres());
        }
        self.publisher.show(released.shown);
        // The exchange is told that we have what the log has, where the next process reads that. Readers
        // see it too, or will once Postgres has it.
        let confirmed = if self.options.is_member { released.shown } else { released.durable };
        self.webhooks.answer(confirmed);
        self.mass_cancels.answer(released.shown);
        self.operator_acts.answer(released.shown);
        self.end_moves(released.shown);
        self.has_free_effects()
    }

    /// Does one thing that waits for nothing any more. Orders for the exchange gather in `submits`.
    fn perform(&mut self, effect: Effect, submits: &mut Vec<Arc<Order>>, now: Moment) {
        match effect {
            // Readers have seen it.
            Effect::Publish { .. } | Effect::PublishAccount { .. } => {}
            Effect::Submit(order) => {
                assert_eq!(order.version, 1, "an order is submitted once: when it is created");
                self.queues.clock.end(order.order_id, Stage::FirstCommit);
                submits.push(order);
            }
            Effect::Cancel { order_id, external_order_id, is_awaited } => {
                let queues = &self.queues;
                let queue = if is_awaited { &queues.cancels } else { &queues.unawaited_cancels };
                queue.push((order_id, external_order_id));
            }
            Effect::Query(order_id) => self.queues.queries.push(order_id),
            Effect::LookUpExternalId(id) => self.queues.lookups.push(OrderLookup::ByExternalId(id)),
            Effect::LookUpOrder(order_id) => {
                self.queues.lookups.push(OrderLookup::ByOrderId(order_id))
            }
            Effect::ReplyCreate { to, reply } => {
                if let Some(order) = reply.order() {
                    self.queues.clock.finish(order.order_id);
                }
                self.replies.create(to, reply);
            }
            Effect::ReplyCancel { to, reply } => self.replies.cancel(to, reply),
            Effect::Repaired { order_id, cause } => self.metrics.repaired(order_id, cause),
            Effect::Alert(alert) => {
                self.metrics.alert(&alert);
                self.alert_log.log(&alert, now.monotonic);
            }
        }
    }
}
