//! A turn: one engine takes an input, then what it decided has its consequences for the node.

use super::engines::Engines;
use super::news::{News, news_for_node};
use super::outbox::{Alert, Effect, Outbox};
use super::partition::{Engine, Turn};
use crate::types::{ExternalOrderId, OrderId, TimestampMicros, UserPartition};

impl Engines {
    /// Splits into the engines and the context of a turn.
    pub(super) fn parts<'a>(&'a mut self, out: &'a mut Outbox) -> (&'a mut [Engine], Turn<'a>) {
        let Self { partitions, feed, options, now, answered_at, .. } = self;
        let (now, answered_at) = (*now, *answered_at);
        assert!(answered_at <= now, "the exchange has answered before now");
        let turn = Turn { now, options, feed, answered_at, is_quarantine_full: false, out };
        (partitions, turn)
    }

    /// Splits into the engine of an order and the context of a turn.
    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn engine_and_turn<'a>(
        &'a mut self,
        order_id: OrderId,
        out: &'a mut Outbox,
    ) -> (&'a mut Engine, Turn<'a>) {
        let (partitions, turn) = self.parts(out);
        (&mut partitions[order_id.partition().index()], turn)
    }

    /// Runs one engine on an input, then applies the consequences beyond that engine.
    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn turn<R>(
        &mut self,
        now: TimestampMicros,
        partition: UserPartition,
        out: &mut Outbox,
        work: impl FnOnce(&mut Engine, &mut Turn<'_>) -> R,
    ) -> R {
        self.advance(now);
        let (first_new, first_effect) = (out.events.len(), out.effects.len());
        let (partitions, mut turn) = self.parts(out);
        let result = work(&mut partitions[partition.index()], &mut turn);
        assert!(
            out.events
                .iter()
                .skip(first_new)
                .all(|event| { event.partition_byte() == partition.get() }),
            "an engine decides about orders and accounts of its own partition"
        );
        if !self.ambiguous.is_empty() {
            self.withhold_cancels(first_effect, out);
        }
        let mut next = first_new;
        while let Some(event) = out.events.get(next) {
            next += 1;
            match news_for_node(event) {
                Some(News::Accepted(external_order_id, order_id)) => {
                    if self.index(&external_order_id, order_id, self.now) {
                        self.deliver_unmatched(&external_order_id, order_id, out);
                        self.deliver_unreadable(&external_order_id, order_id, out);
                        self.query_after_overflow(order_id, out);
                        self.query_after_late_use(&external_order_id, order_id, out);
                    } else {
                        out.effects.push(Effect::Alert(Alert::ExternalIdReused { order_id }));
                        self.reconcile_sharing(&external_order_id, out);
                    }
                }
                Some(News::MayHaveEnded(order_id)) => self.note_if_ended(order_id, self.now),
                None => {}
            }
        }
        result
    }

    pub(super) fn note_if_ended(&mut self, order_id: OrderId, at: TimestampMicros) {
        if self.order(order_id).is_some_and(|order| !order.is_open()) {
            self.ended.push_back((at, order_id));
        }
    }

    /// Drops ended orders that are too old for any future gap to reach back to.
    pub(super) fn forget_ended_before(&mut self, at: TimestampMicros) {
        let window = self.options.ended_window_micros;
        let is_old = |ended: &TimestampMicros| at.micros_since(*ended) > window;
        while self.ended.front().is_some_and(|(ended, _)| is_old(ended)) {
            self.ended.pop_front();
            // A round counts those that it has asked about. This one may still lie ahead of it.
            self.rounds.ended_reconciled = self.rounds.ended_reconciled.saturating_sub(1);
        }
        debug_assert!(
            self.ended.front().is_none_or(|(ended, _)| !is_old(ended)),
            "what a gap may reach back to is kept"
        );
    }

    /// Delivers the reports that arrived before the order's id was known.
    pub(super) fn deliver_unmatched(
        &mut self,
        id: &ExternalOrderId,
        order_id: OrderId,
        out: &mut Outbox,
    ) {
        let unmatched = self.unmatched.take(id);
        if !unmatched.is_empty() {
            self.note_used_late(id, order_id);
        }
        for report in unmatched {
            let (engine, mut turn) = self.engine_and_turn(order_id, out);
            engine.report(order_id, report, &mut turn);
        }
    }

    /// That lists and orders of all partitions agree. Looks at all of them.
    pub(super) fn debug_assert_lists(&self) {
        if cfg!(debug_assertions) {
            self.partitions.iter().for_each(Engine::debug_assert_lists);
        }
    }

    /// Time never goes back, whatever an input says.
    pub(super) fn advance(&mut self, now: TimestampMicros) {
        self.now = self.now.max(now);
    }

    pub(super) fn note_answer(&mut self, now: TimestampMicros) {
        self.advance(now);
        assert!(self.answered_at <= self.now, "answers come in the order of time");
        self.answered_at = self.now;
    }
}
