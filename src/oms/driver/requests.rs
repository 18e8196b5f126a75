//! Requests of clients and operators.

use crate::engine::{CancelReply, CashReply, CreateReply};
use crate::oms::admission::Load;
use crate::oms::limits::MAX_CASH_IDS;
use crate::oms::operator::{CashCommand, OperatorActs, OperatorCommand};
use crate::oms::order_commands::{CancelCommand, CreateCommand};
use crate::oms::replies::Waiter;
use crate::oms::stages::Stage;
use crate::order::Event;
use crate::types::{Moment, MonotonicMicros, UserId};
use crate::wal::Lsn;

use super::Driver;

impl Driver {
    /// Takes a request for an order, or refuses it unrecorded.
    pub(crate) fn create(&mut self, now: Moment, command: CreateCommand) {
        if !self.partitions.serves(command.request.user.partition()) {
            self.metrics.refused_creates.inc();
            refuse_create(command, CreateReply::Unavailable);
            return;
        }
        let is_postgres_late = self.postgres_refuses(now);
        if let Some(postgres) = &mut self.awaited {
            postgres.tell(is_postgres_late);
        }
        let is_out_of_space = self.wal.is_out_of_space();
        let load = Load {
            queues: &self.queues,
            publisher: &self.publisher,
            last_event: self.gate.last_event(),
            is_out_of_space,
            is_postgres_backlogged: self.is_postgres_backlogged(),
            is_postgres_late,
            engines: &self.engines,
        };
        if let Some(refusal) = self.admission.refusal(now, &command, &load) {
            refusal.count(&self.metrics);
            refuse_create(command, refusal.reply());
            return;
        }
        assert!(self.has_room_for_create(), "creates leave cancels their share of what may wait");
        let CreateCommand { request, arrived, asked, reply, .. } = command;
        let order_id = request.order_id;
        self.queues.clock.take(order_id, arrived, asked);
        let waiter = (Waiter::Create(reply), self.asker(&request.user));
        let to = self.replies.add(waiter, order_id, self.reply_deadline(now));
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        self.engines.create(now.wall, request, to, &mut self.outbox);
        assert!(!self.outbox.is_empty(), "a request is recorded, or answered at once");
        // A repeated request records nothing.
        if self.outbox.events.iter().any(|event| matches!(event, Event::Created(_))) {
            self.metrics.creates.inc();
        }
        self.admit_decided();
        self.queues.clock.end(order_id, Stage::Decide);
    }

    /// Takes a request to cancel an order.
    pub(crate) fn cancel(&mut self, now: Moment, command: CancelCommand) {
        if !self.partitions.serves(command.user.partition()) {
            refuse_cancel(command, CancelReply::Unavailable);
            return;
        }
        if self.gate.awaiting_postgres() >= self.options.limits.max_held_for_cancels() {
            self.metrics.postgres_refused.inc();
            refuse_cancel(command, CancelReply::Unavailable);
            return;
        }
        assert!(self.has_room_for_cancel(), "waiting requests are bounded");
        let CancelCommand { user, order_id, reply } = command;
        self.metrics.cancels.inc();
        let waiter = (Waiter::Cancel(reply), self.asker(&user));
        let to = self.replies.add(waiter, order_id, self.reply_deadline(now));
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        self.engines.cancel(now.wall, (&user, order_id), to, &mut self.outbox);
        self.admit_decided();
    }

    /// Does what an operator has decided about an order, or shows what waits for a decision.
    pub(in crate::oms) fn operate(&mut self, now: Moment, command: OperatorCommand) {
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        let command = match command {
            OperatorCommand::Cash(command) => match self.refusal_of_cash(&command) {
                Some(refusal) => {
                    // The operator may be gone.
                    let _gone = command.reply.send(refusal);
                    return;
                }
                None => OperatorCommand::Cash(command),
            },
            command => command,
        };
        let (engines, out) = (&mut self.engines, &mut self.outbox);
        let answer = OperatorActs::act(command, engines, now.wall, out);
        let last_event = Lsn(self.gate.last_event().0 + self.outbox.events.len() as u64);
        self.cash_ids.note(&self.outbox.events, last_event);
        self.admit_decided();
        assert_eq!(self.gate.last_event(), last_event, "what was decided is in the gate");
        if let Some(answer) = answer {
            self.operator_acts.gate(last_event, answer);
        }
    }

    /// Why cash cannot be moved now, if so.
    fn refusal_of_cash(&self, command: &CashCommand) -> Option<CashReply> {
        if !self.partitions.serves(command.request.user.partition()) {
            return Some(CashReply::Unavailable);
        }
        if self.wal.is_out_of_space() {
            return Some(CashReply::NoRoom);
        }
        if self.cash_ids.may_have_forgotten(command.checked_at) {
            return Some(CashReply::CheckAgain);
        }
        (self.cash_ids.len() >= MAX_CASH_IDS).then_some(CashReply::Unavailable)
    }

    /// Goes on with the mass cancel under work.
    pub(in crate::oms) fn mass_cancel(&mut self, now: Moment) {
        assert!(self.outbox.is_empty(), "what was decided before is in the gate");
        let ended = self.mass_cancels.sweep(&mut self.engines, now.wall, &mut self.outbox);
        self.admit_decided();
        if ended {
            let patience = self.options.reply_timeout + self.options.postgres_patience;
            let give_up = now.monotonic.saturating_add(patience);
            let give_up = self.awaited.is_some().then_some(give_up);
            let asked = self.mass_cancels.gate(self.gate.last_event(), give_up);
            self.metrics.mass_cancelled.inc_by(asked);
        }
    }

    fn is_postgres_backlogged(&self) -> bool {
        self.postgres.as_ref().is_some_and(|side| side.progress.is_backlogged())
    }

    /// Who asks, where that has to be remembered: a client that is answered with what readers see
    /// sees only its own orders.
    fn asker(&self, user: &UserId) -> Option<UserId> {
        self.awaited.is_some().then(|| user.clone())
    }

    pub(super) fn reply_deadline(&self, now: Moment) -> MonotonicMicros {
        now.monotonic.saturating_add(self.options.reply_timeout)
    }
}

/// Refuses a request that cannot be taken.
pub(in crate::oms) fn refuse_cancel(command: CancelCommand, reply: CancelReply) {
    assert!(
        matches!(reply, CancelReply::NoRoom | CancelReply::Unavailable),
        "a refused cancel has no outcome: {reply:?}"
    );
    // The client may have gone.
    let _gone = command.reply.send(reply);
}

/// Refuses a request that cannot be taken.
pub(in crate::oms) fn refuse_create(command: CreateCommand, reply: CreateReply) {
    assert!(reply.order().is_none(), "a refused request has made no order");
    // The client may have gone.
    let _gone = command.reply.send(reply);
}
