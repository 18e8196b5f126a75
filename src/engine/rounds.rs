//! Rounds through all open orders, and through those that have ended of late: after a gap of the feed or
//! a restart, to make up for what was missed, and once in a while, to compare.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::engines::Engines;
use super::outbox::{Effect, Outbox};
use super::partition::Engine;
use crate::order::{Event, TrackedOrder};
use crate::types::{OrderId, TimestampMicros};

/// Where the rounds stand.
#[derive(Debug, Default)]
pub(super) struct Rounds {
    /// How far the round that makes up for a gap has come.
    reconciling: Option<ReconcileCursor>,
    /// How far the periodic comparison of all open orders has come.
    comparing: Option<ReconcileCursor>,
    /// How many of those that have ended of late have been asked about in the round that makes up for a
    /// gap.
    ended_reconciled: usize,
    /// Counts the gaps of this run that are made up for.
    reconciliation: u32,
    /// Where the feed stood when the round that goes on began: session and sequence. And when that was.
    reconciles_up_to: ((u32, u64), TimestampMicros),
    /// Another gap was found while one was being made up for: all orders are asked about once more.
    reconciles_again: bool,
}

/// How far a round has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct ReconcileCursor {
    partition: usize,
    after: Option<OrderId>,
}

impl Engines {
    /// Begins to reconcile all open orders with the exchange, from the first. Where that goes on, those that
    /// have been asked about already are asked once more after it.
    pub fn begin_reconciliation(&mut self) {
        self.rounds.reconciliation = self.rounds.reconciliation.wrapping_add(1).max(1);
        let has_asked =
            self.rounds.reconciling.is_some_and(|cursor| cursor != ReconcileCursor::default());
        if has_asked {
            self.rounds.reconciles_again = true;
        } else {
            self.begin_round();
        }
    }

    /// Goes through all open orders from the first: those are asked about that have not been since
    /// the last gap.
    fn begin_round(&mut self) {
        self.rounds.reconciles_up_to = (self.feed.place(), self.now);
        self.rounds.reconciling = Some(ReconcileCursor::default());
        self.rounds.ended_reconciled = 0;
    }

    /// Whether open orders remain to be asked about.
    pub fn is_reconciling(&self) -> bool {
        self.rounds.reconciling.is_some() || self.rounds.reconciles_again
    }

    /// Begins to compare all open orders with the exchange's record of them, unless that is being
    /// done. Unlike a reconciliation it holds up nothing: no line is known to be missing.
    pub fn begin_comparison(&mut self) {
        self.rounds.comparing.get_or_insert_default();
    }

    /// Whether open orders remain to be compared.
    pub fn is_comparing(&self) -> bool {
        self.rounds.comparing.is_some()
    }

    /// Asks about the next open orders that have been quiet for the grace, and looks at `limit` of
    /// them at most.
    pub fn compare_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        let Some(mut cursor) = self.rounds.comparing.take() else { return };
        let (partitions, mut turn) = self.parts(out);
        let mut room = limit;
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            if room == 0 {
                self.rounds.comparing = Some(cursor);
                return;
            }
            let (looked_at, last) = engine.compare_open(cursor.after, room, &mut turn);
            room -= looked_at;
            cursor = match last {
                Some(last) => ReconcileCursor { after: Some(last), ..cursor },
                None => ReconcileCursor { partition: cursor.partition + 1, after: None },
            };
        }
    }

    /// Asks about the next open orders, at most `limit`.
    pub fn reconcile_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        let Some(mut cursor) = self.rounds.reconciling else { return };
        let asked_before = out.effects.len();
        let reconciliation = self.rounds.reconciliation;
        let (partitions, mut turn) = self.parts(out);
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            let room = limit.saturating_sub(turn.out.effects.len() - asked_before);
            if room == 0 {
                self.rounds.reconciling = Some(cursor);
                return;
            }
            cursor = match engine.reconcile_open((cursor.after, reconciliation), room, &mut turn) {
                Some(last) => ReconcileCursor { after: Some(last), ..cursor },
                None => ReconcileCursor { partition: cursor.partition + 1, after: None },
            };
        }
        self.rounds.reconciling = Some(cursor);
        // Last, so that those are among them that have ended meanwhile.
        while let Some((_, order_id)) = self.ended.get(self.rounds.ended_reconciled).copied() {
            if out.effects.len() - asked_before >= limit {
                return;
            }
            self.rounds.ended_reconciled += 1;
            if self.has(order_id) {
                let (partitions, mut turn) = self.parts(out);
                if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                    engine.reconcile_once(order_id, reconciliation, &mut turn);
                }
            } else {
                self.find_order(order_id, true, out);
            }
        }
        self.rounds.reconciling = None;
    }

    /// Asks the store for an order that has left memory, to ask the exchange about it.
    pub(super) fn find_order(&mut self, order_id: OrderId, reconciles: bool, out: &mut Outbox) {
        match self.orders_looked_up.entry(order_id) {
            Entry::Occupied(mut known) => *known.get_mut() |= reconciles,
            Entry::Vacant(entry) => {
                entry.insert(reconciles);
                out.effects.push(Effect::LookUpOrder(order_id));
            }
        }
    }

    /// How many orders the store is being asked for.
    pub fn orders_being_found(&self) -> usize {
        self.orders_looked_up.len()
    }

    /// What the store says of one of our ids: the order, or that it knows none.
    pub fn found_order(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        tracked: Option<TrackedOrder>,
        out: &mut Outbox,
    ) {
        self.advance(now);
        let reconciles = self.orders_looked_up.remove(&order_id).unwrap_or(false);
        if !self.has(order_id)
            && let Some(tracked) = tracked
        {
            let order = Arc::clone(tracked.order());
            out.effects.push(Effect::Publish { order, event: None });
            self.load(tracked);
        }
        if reconciles {
            self.reconcile(now, order_id, out);
        } else {
            self.turn(now, order_id.partition(), out, |engine, turn| engine.look(order_id, turn));
        }
    }

    /// Asks about an order in memory, again and again until there is an answer.
    pub fn reconcile(&mut self, now: TimestampMicros, order_id: OrderId, out: &mut Outbox) {
        self.turn(now, order_id.partition(), out, |engine, turn| engine.reconcile(order_id, turn));
    }

    /// Logs the feed position if it moved, and before it whatever it passes that no order has taken.
    /// Not while orders are being reconciled: a restart then reconciles the same orders again.
    pub fn log_feed_position(&mut self, now: TimestampMicros, out: &mut Outbox) {
        self.advance(now);
        let is_reconciled = self.rounds.reconciling.is_none() && self.orders_looked_up.is_empty();
        if !is_reconciled
            || !self.partitions().iter().all(Engine::is_reconciled)
            || self.is_looking_up()
        {
            return;
        }
        let position = if self.rounds.reconciles_again {
            let (place, began_at) = self.rounds.reconciles_up_to;
            self.feed.take_unlogged_up_to(place, began_at)
        } else {
            self.feed.take_unlogged(self.now)
        };
        if let Some(position) = position {
            out.events
                .extend(self.unmatched.take_unlogged().into_iter().map(Event::UnmatchedReport));
            self.forget_ended_before(position.at);
            out.events.push(Event::FeedPosition(position));
        }
        if std::mem::take(&mut self.rounds.reconciles_again) {
            self.begin_round();
        }
    }

    /// Whether the store is being asked whose something unreadable is: only memory knows of it.
    fn is_looking_up(&self) -> bool {
        self.unreadable_of_unknown.keys().any(|id| self.ids_looked_up.contains(id))
    }
}
