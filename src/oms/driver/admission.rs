//! Which requests are taken, and which are refused unrecorded, with why.

use std::time::Duration;

use super::Driver;
use crate::engine::{CancelReply, CreateOrder, CreateReply};
use crate::oms::limits::{
    MAX_UNCOMMITTED_EVENTS, MAX_UNSTORED_EVENTS, MAX_WAITING_CREATES, MAX_WAITING_REPLIES,
};
use crate::oms::order_commands::{CancelCommand, CreateCommand};
use crate::oms::replies::Waiter;
use crate::oms::stages::Stage;
use crate::types::{Moment, MonotonicMicros};

impl Driver {
    /// Whether inputs may be taken: not while the log is behind.
    pub(crate) fn takes_inputs(&self) -> bool {
        let uncommitted = self.last_event.0.saturating_sub(self.wal.committed().0);
        self.unappended.is_empty() && uncommitted < MAX_UNCOMMITTED_EVENTS
    }

    /// Whether cancels may be taken: not while too many requests wait for answers either.
    pub(crate) fn takes_cancels(&self) -> bool {
        self.takes_inputs() && self.has_room_for_cancel()
    }

    /// Whether creates may be taken: they leave cancels a share of what may wait.
    pub(crate) fn takes_creates(&self) -> bool {
        self.takes_inputs() && self.has_room_for_create()
    }

    /// Whether one more cancel may wait for its answer.
    pub(in crate::oms) fn has_room_for_cancel(&self) -> bool {
        self.replies.len() < MAX_WAITING_REPLIES
    }

    /// Whether one more create may wait for its answer.
    pub(in crate::oms) fn has_room_for_create(&self) -> bool {
        self.replies.len() < MAX_WAITING_CREATES
    }

    /// Takes a request for an order, or refuses it unrecorded.
    pub(crate) fn create(&mut self, now: Moment, command: CreateCommand) {
        let CreateCommand { request, key_checked_at, arrived, asked, reply } = command;
        if let Some(scope) = self.kill_switch.halted(&request.user, request.symbol) {
            self.metrics.halted_creates.inc();
            // The client may have gone.
            let _gone = reply.send(CreateReply::Halted(scope));
            return;
        }
        if !self.queues.circuit.borrow_mut().admits(now.monotonic) {
            self.metrics.away_creates.inc();
            let _gone = reply.send(CreateReply::ExchangeAway);
            return;
        }
        if self.is_turned_away(now) {
            self.metrics.throttled_creates.inc();
            let _gone = reply.send(CreateReply::ExchangeBusy);
            return;
        }
        let key_is_unsure =
            request.client_order_id.is_some() && self.ended.may_have_forgotten_key(key_checked_at);
        if self.wal.is_out_of_space() && !self.repeats(&request) {
            self.metrics.refused_creates.inc();
            let _gone = reply.send(CreateReply::NoRoom);
            return;
        }
        if self.is_backed_up() || key_is_unsure {
            self.metrics.refused_creates.inc();
            let _gone = reply.send(CreateReply::Unavailable);
            return;
        }
        if self.postgres_refuses_create(now, &request) {
            self.metrics.postgres_refused.inc();
            let _gone = reply.send(CreateReply::Unavailable);
            return;
        }
        if !self.wal.is_out_of_space() {
            self.metrics.creates.inc();
        }
        let order_id = request.order_id;
        self.queues.clock.take(order_id, arrived, asked);
        let deadline = self.reply_deadline(now);
        let waiter = (Waiter::Create(reply), self.asker(&request.user));
        let to = self.replies.add(waiter, order_id, deadline);
        self.engines.create(now.wall, request, to, &mut self.outbox);
        self.gate();
        self.queues.clock.end(order_id, Stage::Decide);
    }

    /// Whether an order would only wait for an exchange that takes no more for now.
    fn is_turned_away(&self, now: Moment) -> bool {
        let window = Duration::from_micros(self.options.engine.submit_window_micros);
        let throttle = self.queues.throttles.submits.borrow();
        throttle.turns_away(now.monotonic, window, self.options.reply_timeout)
    }

    /// Takes a request to cancel an order.
    pub(crate) fn cancel(&mut self, now: Moment, command: CancelCommand) {
        if self.holds_too_much() {
            self.metrics.postgres_refused.inc();
            refuse_cancel(command, CancelReply::Unavailable);
            return;
        }
        let CancelCommand { user, order_id, reply } = command;
        self.metrics.cancels.inc();
        let waiter = (Waiter::Cancel(reply), self.asker(&user));
        let to = self.replies.add(waiter, order_id, self.reply_deadline(now));
        self.engines.cancel(now.wall, (&user, order_id), to, &mut self.outbox);
        self.gate();
    }

    /// Whether a request asks for an order that is there already: answering it records nothing.
    pub(super) fn repeats(&self, request: &CreateOrder) -> bool {
        let key = request.client_order_id.as_ref();
        key.is_some_and(|key| self.engines.knows_key(&request.user, key))
    }

    /// Whether an order would only wait.
    fn is_backed_up(&self) -> bool {
        let unstored = self.last_event.0.saturating_sub((self.stored)().0);
        let is_backlogged =
            self.postgres.as_ref().is_some_and(|side| side.progress.is_backlogged());
        self.queues.is_backed_up() || unstored >= MAX_UNSTORED_EVENTS || is_backlogged
    }

    fn reply_deadline(&self, now: Moment) -> MonotonicMicros {
        now.monotonic.saturating_add(self.options.reply_timeout)
    }
}

/// Refuses a request that cannot be taken.
pub(in crate::oms) fn refuse_cancel(command: CancelCommand, reply: CancelReply) {
    let _gone = command.reply.send(reply);
}

/// Refuses a request that cannot be taken.
pub(in crate::oms) fn refuse_create(command: CreateCommand, reply: CreateReply) {
    let _gone = command.reply.send(reply);
}
