//! Rounds of queries: reconciliation of all open and recently ended orders after a gap in the feed
//! or a restart, and the periodic comparison of open orders.

use std::collections::hash_map::Entry;
use std::sync::Arc;

use super::engines::Engines;
use super::outbox::{Effect, Outbox};
use super::partition::Engine;
use super::round_progress::ReconcileCursor;
use crate::order::{Event, TrackedOrder};
use crate::types::{OrderId, TimestampMicros, USER_PARTITIONS};

impl Engines {
    /// Begins to reconcile all open orders with the exchange. During a reconciliation, the orders
    /// already queried are queried once more after it.
    pub fn begin_reconciliation(&mut self) {
        self.rounds.reconciliation = self.rounds.reconciliation.wrapping_add(1).max(1);
        let has_queried =
            self.rounds.reconciling.is_some_and(|cursor| cursor != ReconcileCursor::default());
        if has_queried {
            self.rounds.reconciles_again = true;
        } else {
            self.begin_round();
        }
        assert!(self.rounds.reconciliation > 0, "reconciliations are numbered from 1");
        assert!(self.is_reconciling(), "a reconciliation that begins is in progress");
    }

    /// Starts at the first open order; queries those that were not queried since the last gap.
    fn begin_round(&mut self) {
        assert!(
            self.rounds.reconciling.is_none_or(|cursor| cursor == ReconcileCursor::default()),
            "a round begins when the one before it has ended, or has asked about nothing"
        );
        self.rounds.reconciles_up_to = (self.feed.place(), self.now);
        self.rounds.reconciling = Some(ReconcileCursor::default());
        self.rounds.ended_reconciled = 0;
    }

    /// Whether orders remain to be queried.
    pub fn is_reconciling(&self) -> bool {
        self.rounds.reconciling.is_some() || self.rounds.reconciles_again
    }

    /// Begins to compare all open orders with the exchange's records, unless in progress. Unlike a
    /// reconciliation it holds nothing up: no line is known to be missing.
    pub fn begin_comparison(&mut self) {
        self.rounds.comparing.get_or_insert_default();
    }

    /// Whether orders remain to be compared.
    pub fn is_comparing(&self) -> bool {
        self.rounds.comparing.is_some()
    }

    /// Examines the next open orders, at most `limit`, and queries those that have been quiet for
    /// the grace.
    pub fn compare_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        // No comparison is in progress.
        let Some(mut cursor) = self.rounds.comparing.take() else { return };
        assert!(cursor.partition <= USER_PARTITIONS, "a round ends after the last partition");
        let (partitions, mut turn) = self.parts(out);
        let mut room = limit;
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            if room == 0 {
                self.rounds.comparing = Some(cursor);
                return;
            }
            let (examined, last) = engine.compare_open(cursor.after, room, &mut turn);
            assert!(examined <= room, "a round examines at most its limit");
            room -= examined;
            cursor = match last {
                Some(last) => ReconcileCursor { after: Some(last), ..cursor },
                None => ReconcileCursor { partition: cursor.partition + 1, after: None },
            };
        }
    }

    /// Queries the next orders, at most `limit`.
    pub fn reconcile_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        // Every order is asked about.
        let Some(mut cursor) = self.rounds.reconciling else { return };
        assert!(cursor.partition <= USER_PARTITIONS, "a round ends after the last partition");
        let effects_before = out.effects.len();
        let reconciliation = self.rounds.reconciliation;
        let (partitions, mut turn) = self.parts(out);
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            let sent = turn.out.effects.len() - effects_before;
            assert!(sent <= limit, "a round queries at most its limit");
            let room = limit - sent;
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
        // Ended orders come last, to include those that ended meanwhile.
        while let Some((_, order_id)) = self.ended.get(self.rounds.ended_reconciled).copied() {
            let sent = out.effects.len() - effects_before;
            assert!(sent <= limit, "a round queries at most its limit");
            if sent == limit {
                return;
            }
            self.rounds.ended_reconciled += 1;
            if self.has(order_id) {
                let (engine, mut turn) = self.engine_and_turn(order_id, out);
                engine.reconcile_once(order_id, reconciliation, &mut turn);
            } else {
                self.look_up_order(order_id, true, out);
            }
        }
        self.rounds.reconciling = None;
    }

    /// Looks up in the store an order that has left memory, in order to query it.
    pub(super) fn look_up_order(&mut self, order_id: OrderId, reconciles: bool, out: &mut Outbox) {
        assert!(!self.has(order_id), "order {order_id} is looked up once it has left memory");
        match self.orders_looked_up.entry(order_id) {
            Entry::Occupied(mut known) => *known.get_mut() |= reconciles,
            Entry::Vacant(entry) => {
                entry.insert(reconciles);
                out.effects.push(Effect::LookUpOrder(order_id));
            }
        }
    }

    /// Number of orders being looked up in the store.
    pub fn orders_being_found(&self) -> usize {
        self.orders_looked_up.len()
    }

    /// Takes the store's answer to a lookup by our id: the order, or `None`.
    pub fn found_order(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        tracked: Option<TrackedOrder>,
        out: &mut Outbox,
    ) {
        self.advance(now);
        // Nothing once its partition has gone to another node.
        let reconciles = self.orders_looked_up.remove(&order_id).unwrap_or(false);
        if let Some(tracked) = tracked.filter(|tracked| !self.has(tracked.order().order_id)) {
            let order = Arc::clone(tracked.order());
            self.bring_back(tracked, out);
            assert!(self.has(order.order_id), "an order that was brought back is in memory");
            if let Some(id) = &order.external_order_id {
                self.share_id(id, order.order_id, out);
            }
        }
        let was_for_findings = self.deliver_findings(order_id, out);
        if reconciles {
            self.reconcile(now, order_id, out);
        } else if !was_for_findings {
            self.turn(now, order_id.partition(), out, |engine, turn| engine.query(order_id, turn));
        }
    }

    /// Queries an order in memory until answered.
    pub fn reconcile(&mut self, now: TimestampMicros, order_id: OrderId, out: &mut Outbox) {
        self.turn(now, order_id.partition(), out, |engine, turn| engine.reconcile(order_id, turn));
    }

    /// Logs the feed position if it moved, and before it the unmatched reports that it passes. Does
    /// nothing while orders are being reconciled, so that a restart reconciles the same orders
    /// again.
    pub fn log_feed_position(&mut self, now: TimestampMicros, out: &mut Outbox) {
        self.advance(now);
        let is_reconciled = self.rounds.reconciling.is_none() && self.orders_looked_up.is_empty();
        if !is_reconciled
            || !self.partitions().iter().all(Engine::is_reconciled)
            || self.is_looking_up()
        {
            self.end_round_in_time();
            return;
        }
        let position = if self.rounds.reconciles_again {
            let (place, began_at) = self.rounds.reconciles_up_to;
            self.feed.take_unlogged_up_to(place, began_at)
        } else {
            self.feed.take_unlogged(self.now)
        };
        if let Some(position) = position {
            assert!(position.at <= self.now, "a position is not recorded ahead of time");
            assert!(position.sequence <= self.feed.place().1, "a position is logged once reached");
            out.events
                .extend(self.unmatched.take_unlogged().into_iter().map(Event::UnmatchedReport));
            self.forget_ended_before(position.at);
            out.events.push(Event::FeedPosition(position));
        }
        if std::mem::take(&mut self.rounds.reconciles_again) {
            self.begin_round();
        }
    }

    /// As [`log_feed_position`](Self::log_feed_position) on a node whose log begins anew with each
    /// process: nothing is logged, since no later process reads it.
    pub fn end_rounds(&mut self, now: TimestampMicros) {
        self.advance(now);
        self.forget_ended_before(self.now);
        self.forgotten_ids.drop_before(self.before_now(self.options.ended_window_micros));
        if self.rounds.reconciling.is_none() && std::mem::take(&mut self.rounds.reconciles_again) {
            self.begin_round();
        }
        assert!(
            !self.rounds.reconciles_again || self.rounds.reconciling.is_some(),
            "another round waits only for one that goes on"
        );
    }

    /// After another gap, orders wait for the answers to the round before it only for so long: lines
    /// about them may be lost, whatever holds up the answers about others.
    fn end_round_in_time(&mut self) {
        let (_, began_at) = self.rounds.reconciles_up_to;
        assert!(began_at <= self.now, "a round begins before it ends");
        let is_late = self.now.micros_since(began_at) >= self.options.unmatched_report_age_micros;
        if is_late
            && self.rounds.reconciling.is_none()
            && std::mem::take(&mut self.rounds.reconciles_again)
        {
            self.begin_round();
        }
    }

    /// Whether a lookup for an unreadable line is in progress: only memory knows that line.
    fn is_looking_up(&self) -> bool {
        self.unreadable_of_unknown.keys().any(|id| self.ids_looked_up.contains(id))
    }
}
