//! Requests that wait for an answer.

use std::collections::VecDeque;
use std::time::Duration;

use slab::Slab;

use super::limits::MAX_WAITING_REPLIES;
use crate::engine::{CancelReply, CreateReply, ReplyTo};
use crate::types::{MonotonicMicros, OrderId, UserId};

/// The half of a name that is the number of its slot; the other one is the slot's generation.
const KEY_MASK: u64 = 0xffff_ffff;

/// Requests that wait for an answer. A slot lives until the answer or the reply timeout, whether or
/// not anybody still listens, so none leaks.
#[derive(Debug, Default)]
pub(super) struct Replies {
    slots: Slab<Slot>,
    /// Counts the slots ever taken, so that a `ReplyTo` never names two requests.
    generation: u32,
    /// Ordered by deadline, as the timeout is the same for all.
    deadlines: VecDeque<(MonotonicMicros, OrderId, ReplyTo)>,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    sender: Waiter,
    /// The user of the request, if answers wait for Postgres.
    user: Option<UserId>,
}

#[derive(Debug)]
pub(super) enum Waiter {
    Create(oneshot::Sender<CreateReply>),
    Cancel(oneshot::Sender<CancelReply>),
}

/// The kind of a waiting request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RequestKind {
    Create,
    Cancel,
}

impl Replies {
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Takes a slot for a request about an order.
    pub(super) fn add(
        &mut self,
        (waiter, user): (Waiter, Option<UserId>),
        order_id: OrderId,
        deadline: MonotonicMicros,
    ) -> ReplyTo {
        assert!(self.slots.len() < MAX_WAITING_REPLIES, "waiting requests are bounded");
        self.generation = self.generation.wrapping_add(1);
        let generation = self.generation;
        let key = self.slots.insert(Slot { generation, sender: waiter, user });
        assert!(key as u64 <= KEY_MASK, "a slot's number fits its half of the name");
        let to = ReplyTo((u64::from(generation) << 32) | key as u64);
        assert_eq!(parts(to), (key, generation), "a name is taken apart as it was made");
        self.assert_in_order(deadline);
        self.deadlines.push_back((deadline, order_id, to));
        to
    }

    pub(super) fn create(&mut self, to: ReplyTo, reply: CreateReply) {
        match self.take(to) {
            // The client may be gone; this does not affect the order.
            Some(Waiter::Create(sender)) => drop(sender.send(reply)),
            Some(Waiter::Cancel(_)) => {
                unreachable!("a cancel has no answer of a create: {reply:?}")
            }
            // Answered before.
            None => {}
        }
    }

    pub(super) fn cancel(&mut self, to: ReplyTo, reply: CancelReply) {
        match self.take(to) {
            Some(Waiter::Cancel(sender)) => drop(sender.send(reply)),
            Some(Waiter::Create(_)) => {
                unreachable!("a create has no answer of a cancel: {reply:?}")
            }
            // Answered before.
            None => {}
        }
    }

    /// The next unanswered request past its deadline at `now`.
    pub(super) fn next_overdue(&mut self, now: MonotonicMicros) -> Option<(OrderId, ReplyTo)> {
        while let Some(&(deadline, order_id, to)) = self.deadlines.front() {
            let waits = self.slot(to).is_some();
            if waits && deadline > now {
                return None;
            }
            self.deadlines.pop_front();
            if waits {
                return Some((order_id, to));
            }
        }
        None
    }

    /// Gives a request that is past its deadline another one, which no other exceeds.
    pub(super) fn postpone(&mut self, order_id: OrderId, to: ReplyTo, deadline: MonotonicMicros) {
        assert!(self.slot(to).is_some(), "only a request that waits is postponed");
        self.assert_in_order(deadline);
        self.deadlines.push_back((deadline, order_id, to));
    }

    /// Time left until the next deadline.
    pub(super) fn until_overdue(&self, now: MonotonicMicros) -> Option<Duration> {
        self.deadlines.front().map(|(deadline, ..)| deadline.saturating_since(now))
    }

    /// The kind of the request, and its user if that was given; `None` once it was answered.
    pub(super) fn kind_and_user(&self, to: ReplyTo) -> Option<(RequestKind, Option<&UserId>)> {
        let slot = self.slot(to)?;
        let kind = match slot.sender {
            Waiter::Create(_) => RequestKind::Create,
            Waiter::Cancel(_) => RequestKind::Cancel,
        };
        Some((kind, slot.user.as_ref()))
    }

    fn assert_in_order(&self, deadline: MonotonicMicros) {
        assert!(
            self.deadlines.back().is_none_or(|(last, ..)| *last <= deadline),
            "requests wait in the order of their deadlines"
        );
    }

    fn slot(&self, to: ReplyTo) -> Option<&Slot> {
        let (key, generation) = parts(to);
        self.slots.get(key).filter(|slot| slot.generation == generation)
    }

    fn take(&mut self, to: ReplyTo) -> Option<Waiter> {
        self.slot(to)?;
        let sender = self.slots.remove(parts(to).0).sender;
        assert!(self.slot(to).is_none(), "a request is answered once");
        Some(sender)
    }
}

/// Splits what `add` combined.
const fn parts(to: ReplyTo) -> (usize, u32) {
    ((to.0 & KEY_MASK) as usize, (to.0 >> 32) as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_answered_once_and_its_name_is_never_reused() {
        let mut replies = Replies::default();
        let order_id = OrderId::from_u128(1);
        let now = MonotonicMicros::new(1);
        let (sender, first) = oneshot::channel();
        let to = replies.add((Waiter::Create(sender), None), order_id, now);
        replies.create(to, CreateReply::Unavailable);
        assert_eq!(first.recv(), Ok(CreateReply::Unavailable));
        let (sender, second) = oneshot::channel();
        let again = replies.add((Waiter::Create(sender), None), order_id, now);
        replies.create(to, CreateReply::Unavailable);
        assert!(second.try_recv().is_err(), "an old name reaches no request");
        assert_eq!(replies.next_overdue(now), Some((order_id, again)));
        assert_eq!(replies.next_overdue(now), None);
        assert_eq!(replies.len(), 1, "the slot stays until the answer");
    }
}
