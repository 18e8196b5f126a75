//! What waits, and how it is let out.
//!
//! Everything waits for the log. Where Postgres is awaited, what readers and clients see waits for
//! Postgres behind that, in its own order; what the exchange is to hear does not.

use std::collections::VecDeque;
use std::sync::Arc;

use super::Driver;
use crate::engine::{CancelReply, CreateReply, Effect};
use crate::oms::answers::Wanted;
use crate::oms::limits::EFFECTS_PER_SLICE;
use crate::oms::stages::Stage;
use crate::order::Order;
use crate::types::Moment;
use crate::wal::Lsn;

/// An effect that waits.
pub(super) struct GatedEffect {
    /// The last event before those that were decided together with it.
    before: Lsn,
    /// The event that must be durable first.
    pub(super) gate: Lsn,
    /// The event that made the version which it shows, if it shows one.
    change: Option<Lsn>,
    effect: Effect,
}

impl Driver {
    /// Moves what the engines decided behind the gate: effects wait for every event so far.
    pub(super) fn gate(&mut self) {
        let before = self.last_event;
        self.last_event = Lsn(before.0 + self.outbox.events.len() as u64);
        self.unappended.extend(self.outbox.events.drain(..));
        for effect in self.outbox.effects.drain(..) {
            let mut change = None;
            match &effect {
                Effect::Publish { event, .. } => {
                    change = event.map(|place| Lsn(before.0 + 1 + place as u64));
                }
                Effect::Query(_) => self.gated_queries += 1,
                Effect::Submit(_) => self.queues.gathering.borrow_mut().on_their_way += 1,
                _ => {}
            }
            self.gated.push_back(GatedEffect { before, gate: self.last_event, change, effect });
        }
    }

    /// Whether [`release`](Self::release) has something to do.
    pub(crate) fn has_free_effects(&self) -> bool {
        let is_free = |queue: &VecDeque<GatedEffect>, upto| {
            queue.front().is_some_and(|gated: &GatedEffect| gated.gate <= upto)
        };
        is_free(&self.gated, self.wal.committed())
            || self
                .awaited
                .as_ref()
                .is_some_and(|postgres| is_free(&self.awaiting_postgres, postgres.has()))
    }

    /// Does what waited for events that are durable now: first readers see the new state, then
    /// everybody is answered and the exchange is told. True when more could be done.
    pub(crate) fn release(&mut self, now: Moment) -> bool {
        let committed = self.wal.committed();
        let mut gated = std::mem::take(&mut self.gated);
        let (durable, shown) = match self.look_at_postgres() {
            None => {
                self.let_out(&mut gated, committed, now);
                let durable = done_to(&gated, committed);
                (durable, durable)
            }
            Some(has) => {
                let mut held = std::mem::take(&mut self.awaiting_postgres);
                self.let_out(&mut held, has, now);
                self.pass_on((&mut gated, &mut held), committed, now);
                self.mark_postgres(now, held.back().map(|last| last.gate));
                let durable = done_to(&gated, committed);
                let shown = durable.min(done_to(&held, has));
                self.awaiting_postgres = held;
                (durable, shown)
            }
        };
        self.gated = gated;
        // Before Postgres has what was recovered it is behind what has been said at the start.
        self.shown_to = self.shown_to.max(shown);
        self.views.show(self.shown_to);
        (self.shown)(self.shown_to);
        // What the exchange is told that we have, the log has. Readers see it as well, or will when
        // Postgres has it.
        self.webhooks.answer(durable);
        self.mass_cancels.answer(shown);
        self.operator_acts.answer(shown);
        self.has_free_effects()
    }

    /// Does what waited for everything up to `upto`, a bounded number.
    fn let_out(&mut self, queue: &mut VecDeque<GatedEffect>, upto: Lsn, now: Moment) {
        let count = free_count(queue, upto);
        for gated in queue.iter().take(count) {
            if let Effect::Publish { order, .. } = &gated.effect {
                self.ended.note(order, gated.gate, now.monotonic);
                match gated.change {
                    Some(lsn) => {
                        self.recent.push_back((lsn, order.user.clone()));
                        self.views.publish_change(Arc::clone(order), lsn);
                    }
                    None => self.views.publish(Arc::clone(order)),
                }
            }
        }
        self.watchers.tell(queue.iter().take(count).filter_map(|gated| match &gated.effect {
            Effect::Publish { order, .. } => Some(&order.user),
            _ => None,
        }));
        let mut submits = Vec::new();
        queue.drain(..count).for_each(|gated| self.perform(gated.effect, &mut submits, now));
        self.submit(submits);
    }

    /// Does what waited for the log alone, and keeps for Postgres what waits for it as well.
    fn pass_on(
        &mut self,
        (queue, held): (&mut VecDeque<GatedEffect>, &mut VecDeque<GatedEffect>),
        committed: Lsn,
        now: Moment,
    ) {
        let count = free_count(queue, committed);
        let mut submits = Vec::new();
        for gated in queue.drain(..count) {
            if waits_for_postgres(&gated.effect) {
                held.push_back(gated);
            } else {
                self.perform(gated.effect, &mut submits, now);
            }
        }
        self.submit(submits);
    }

    /// Does one thing that need not wait any longer. Orders for the exchange gather in `submits`.
    fn perform(&mut self, effect: Effect, submits: &mut Vec<Arc<Order>>, now: Moment) {
        match effect {
            // Readers have seen it.
            Effect::Publish { .. } => {}
            Effect::Submit(order) => {
                self.queues.clock.end(order.order_id, Stage::FirstCommit);
                submits.push(order);
            }
            Effect::Cancel { order_id, external_order_id, is_awaited } => {
                let queues = &self.queues;
                let queue = if is_awaited { &queues.cancels } else { &queues.unawaited_cancels };
                queue.push((order_id, external_order_id));
            }
            Effect::Query(order_id) => {
                self.gated_queries -= 1;
                self.queues.queries.push(order_id);
            }
            Effect::LookUpExternalId(id) => self.queues.lookups.push(Wanted::Theirs(id)),
            Effect::LookUpOrder(order_id) => self.queues.lookups.push(Wanted::Ours(order_id)),
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
                self.alert_spells.log(&alert, now.monotonic);
            }
        }
    }

    fn submit(&self, submits: Vec<Arc<Order>>) {
        if !submits.is_empty() {
            self.queues.gathering.borrow_mut().on_their_way -= submits.len();
            self.queues.submits.extend(submits);
        }
    }
}

/// Up to where nothing is left of a queue that waits for `upto`: of events that were decided together
/// some may be there before the others, and none of them is shown before all are.
fn done_to(queue: &VecDeque<GatedEffect>, upto: Lsn) -> Lsn {
    queue.front().map_or(upto, |next| upto.min(next.before))
}

/// How many of a queue can be done in one slice.
fn free_count(queue: &VecDeque<GatedEffect>, upto: Lsn) -> usize {
    queue.iter().take(EFFECTS_PER_SLICE).take_while(|gated| gated.gate <= upto).count()
}

/// Whether somebody sees an order by it, which Postgres has to have then. What the exchange hears
/// never waits for Postgres, and an answer without an order has nothing that could.
fn waits_for_postgres(effect: &Effect) -> bool {
    match effect {
        Effect::Publish { .. } => true,
        Effect::ReplyCreate { reply, .. } => match reply {
            CreateReply::Accepted(_)
            | CreateReply::Rejected(_)
            | CreateReply::Pending(_)
            | CreateReply::Duplicate(_)
            | CreateReply::Conflict(_) => true,
            CreateReply::Halted(_)
            | CreateReply::ExchangeAway
            | CreateReply::ExchangeBusy
            | CreateReply::NoRoom
            | CreateReply::OutcomeUnknown
            | CreateReply::Unavailable => false,
        },
        Effect::ReplyCancel { reply, .. } => match reply {
            CancelReply::Cancelled(_) | CancelReply::Pending(_) | CancelReply::Conflict(_) => true,
            CancelReply::NotFound
            | CancelReply::NoRoom
            | CancelReply::OutcomeUnknown
            | CancelReply::Unavailable => false,
        },
        Effect::Submit(_)
        | Effect::Cancel { .. }
        | Effect::Query(_)
        | Effect::LookUpExternalId(_)
        | Effect::LookUpOrder(_)
        | Effect::Repaired { .. }
        | Effect::Alert(_) => false,
    }
}
