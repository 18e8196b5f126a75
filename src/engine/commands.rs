//! Commands of users: create, cancel, and the reply timeout.

use std::sync::Arc;

use super::answers::end_confirmed_cancel;
use super::entry::{QueryReason, SubmitFate, Waiting, cancel_answer};
use super::inputs::CreateOrder;
use super::outbox::{CancelReply, CreateReply, Effect, ReplyTo};
use super::partition::{Engine, Turn, Work};
use crate::money::Reservation;
use crate::order::{Change, Created, Event, Status};
use crate::types::{OrderId, UserId};

impl Engine {
    /// Records and submits an order, unless its key already names one.
    pub(super) fn create(&mut self, request: CreateOrder, to: ReplyTo, turn: &mut Turn<'_>) {
        let first = request.client_order_id.as_ref().and_then(|key| {
            self.by_key(&request.user, key) // a key names its order for good
        });
        if let Some(first) = first {
            let reply = request.repeat_of(Arc::clone(first));
            turn.out.effects.push(Effect::ReplyCreate { to, reply });
            return;
        }
        if self.orders.contains_key(&request.order_id) {
            // An id has 56 random bits and the time. On a collision nothing is recorded.
            turn.out.effects.push(Effect::ReplyCreate { to, reply: CreateReply::Unavailable });
            return;
        }
        let mut funding = match self.fund(&request, turn) {
            Ok(funding) => funding,
            Err(reply) => {
                turn.out.effects.push(Effect::ReplyCreate { to, reply });
                return;
            }
        };
        self.open_account(&mut funding, turn);
        let order_id = request.order_id;
        let created = self.created_event(request, funding.reservation, turn);
        self.insert(&created);
        let submitted = self.with_order(order_id, turn, |work| {
            assert_eq!(work.order().version, 1, "a new order is in its first version");
            assert_eq!(work.order().status, Status::Pending, "a new order is pending");
            work.entry.waiting.push(Waiting::ForCreate(to));
            work.entry.underway.submit = SubmitFate::InFlight;
            let order = Arc::clone(work.order());
            let account = work.accounts.snapshot(&order.user);
            work.turn.out.record(Event::Created(created), &order, account);
            work.turn.out.effects.push(Effect::Submit(order));
        });
        assert!(submitted.is_some(), "a created order is in memory");
    }

    fn created_event(
        &self,
        request: CreateOrder,
        reservation: Reservation,
        turn: &Turn<'_>,
    ) -> Created {
        // All orders of a user share one copy of the name.
        let known = self.keys.get_key_value(&request.user).map(|(known, _)| known);
        let user = known.or_else(|| self.accounts.name_of(&request.user)).cloned();
        let user = user.unwrap_or(request.user);
        let recorded_at = turn.now.max(request.created_at);
        let submit_before = recorded_at.saturating_add_micros(turn.options.submit_window_micros);
        assert!(submit_before >= request.created_at, "a deadline follows the creation");
        assert_eq!(user.partition(), request.order_id.partition(), "an order is its user's");
        Created {
            order_id: request.order_id,
            user,
            client_order_id: request.client_order_id,
            symbol: request.symbol,
            side: request.side,
            limit_price: request.limit_price,
            time_in_force: request.time_in_force,
            num_shares: request.num_shares,
            created_at: request.created_at,
            submit_before,
            reservation,
        }
    }

    /// Records a cancel request and sends it as soon as the exchange's id is known.
    pub(super) fn cancel(
        &mut self,
        user: &UserId,
        order_id: OrderId,
        to: ReplyTo,
        turn: &mut Turn<'_>,
    ) {
        let is_theirs = self.order(order_id).is_some_and(|order| order.user == *user);
        if !is_theirs {
            turn.out.effects.push(Effect::ReplyCancel { to, reply: CancelReply::NotFound });
            return;
        }
        let taken = self.with_order(order_id, turn, |work| {
            request_cancel(work);
            match cancel_answer(work.order()) {
                None => {
                    assert!(work.order().awaits_cancel(), "a client waits for a recorded cancel");
                    work.entry.waiting.push(Waiting::ForCancel(to));
                }
                Some(reply) => work.turn.out.effects.push(Effect::ReplyCancel { to, reply }),
            }
        });
        assert!(taken.is_some(), "an order to cancel is in memory");
    }

    /// Answers a client whose wait timed out: with the order as it is, or as cancelled if the
    /// exchange has confirmed the cancel. Does nothing if the client already has its answer.
    pub(super) fn reply_timeout(&mut self, order_id: OrderId, to: ReplyTo, turn: &mut Turn<'_>) {
        self.with_order(order_id, turn, |work| {
            // The exchange has confirmed the cancel and only its record is late. Do not keep the
            // client waiting for it; reconcile the fills that it may hold.
            let awaits_cancel = work.entry.waiting.contains(&Waiting::ForCancel(to));
            if awaits_cancel && work.entry.underway.cancel_confirmed {
                work.entry.underway.unreconciled = true;
                end_confirmed_cancel(work);
            }
        });
        // Answered already, if the order has left memory.
        let Some(entry) = self.orders.get_mut(&order_id) else { return };
        let is_ours = |waiting: &Waiting| match *waiting {
            Waiting::ForCreate(other) | Waiting::ForCancel(other) => other == to,
        };
        // Answered already.
        let Some(place) = entry.waiting.iter().position(is_ours) else { return };
        let order = Arc::clone(entry.tracked.order());
        let is_undecided = matches!(order.status, Status::Pending | Status::PendingCancel);
        assert!(
            is_undecided || order.external_order_id.is_none(),
            "a client waits only for what is not known"
        );
        assert_ne!(order.status, Status::Failed, "a failed order has an outcome to tell");
        turn.out.effects.push(match entry.waiting.remove(place) {
            Waiting::ForCreate(to) => {
                Effect::ReplyCreate { to, reply: CreateReply::Pending(order) }
            }
            Waiting::ForCancel(to) => {
                Effect::ReplyCancel { to, reply: CancelReply::Pending(order) }
            }
        });
    }
}

/// Records a cancel request. Returns false if one was recorded before or nothing is left to cancel.
pub(super) fn request_cancel(work: &mut Work<'_, '_>) -> bool {
    let was_pending_cancel = work.order().status == Status::PendingCancel;
    let version_before = work.order().version;
    work.record(Change::CancelRequested);
    if was_pending_cancel && !work.entry.underway.cancel_unanswered {
        // An earlier cancel returned without an outcome: query now instead of waiting.
        work.entry.query(QueryReason::Periodic, work.turn.now, work.turn.out);
    }
    let order = work.order();
    assert!(
        order.awaits_cancel() || order.status.is_terminal(),
        "an order whose cancel was requested awaits it until it has ended"
    );
    let is_new = order.version != version_before;
    assert!(!(is_new && was_pending_cancel), "a pending cancel is not requested again");
    is_new
}
