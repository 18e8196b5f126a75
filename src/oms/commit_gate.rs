//! The commit gate: effects of a decision happen once its events are durable.
//!
//! Every effect waits for the log. Where Postgres is awaited, what readers and clients see then waits for
//! Postgres too, in a queue of its own; what the exchange hears does so where another node may take over. Pure: reads no clock and does
//! nothing itself.

use std::collections::VecDeque;

use super::limits::EFFECTS_PER_SLICE;
use crate::engine::{CancelReply, CreateReply, Effect, Outbox};
use crate::order::Event;
use crate::wal::Lsn;

/// Decisions that are not durable yet.
#[derive(Debug)]
pub(super) struct CommitGate {
    /// The last event decided, appended or not.
    last_event: Lsn,
    /// Events that are not appended yet, oldest first.
    unappended: VecDeque<Event>,
    /// Effects in the order of their decisions, so their gates only rise.
    awaiting_log: VecDeque<GatedEffect>,
    /// Effects that are durable and wait for Postgres, in the same order. Empty where Postgres is not
    /// awaited.
    awaiting_postgres: VecDeque<GatedEffect>,
    /// Queries in `awaiting_log`.
    queries: usize,
    /// Whether what the exchange hears waits for Postgres too.
    exchange_waits: bool,
}

/// An effect and the events that it waits for.
#[derive(Debug)]
pub(super) struct GatedEffect {
    pub(super) effect: Effect,
    /// The last event of its decision: must be durable first.
    pub(super) gate: Lsn,
    /// The event that made the version or moved the account which it publishes, if it is a new one.
    pub(super) change: Option<Lsn>,
    /// The last event before its decision.
    before: Lsn,
}

/// How far the log and Postgres have come.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reached {
    /// Up to here the log is durable.
    pub(super) log: Lsn,
    /// Up to here Postgres has followed; `None` where it is not awaited.
    pub(super) postgres: Option<Lsn>,
}

/// Positions that no effect lags any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Released {
    /// All effects up to here that wait for the log alone have been released.
    pub(super) durable: Lsn,
    /// All effects up to here have been released.
    pub(super) shown: Lsn,
}

impl CommitGate {
    /// An empty gate after a log that was recovered up to `recovered`. `exchange_waits`: where
    /// Postgres is awaited, what the exchange hears waits for it too.
    pub(super) fn new(recovered: Lsn, exchange_waits: bool) -> Self {
        Self {
            last_event: recovered,
            unappended: VecDeque::new(),
            awaiting_log: VecDeque::new(),
            awaiting_postgres: VecDeque::new(),
            queries: 0,
            exchange_waits,
        }
    }

    /// Takes what the engines decided together. Returns how many orders for the exchange are among it.
    pub(super) fn admit(&mut self, decided: &mut Outbox) -> usize {
        let before = self.last_event;
        let events = decided.events.len();
        self.last_event = Lsn(before.0 + events as u64);
        self.unappended.extend(decided.events.drain(..));
        let mut submits = 0;
        for effect in decided.effects.drain(..) {
            let mut change = None;
            match &effect {
                Effect::Publish { event, .. } => {
                    assert!(
                        event.is_none_or(|place| place < events),
                        "a version that is published was made by an event of its decision"
                    );
                    change = event.map(|place| Lsn(before.0 + 1 + place as u64));
                }
                Effect::PublishAccount { event, .. } => {
                    assert!(*event < events, "an account is moved by an event of its decision");
                    change = Some(Lsn(before.0 + 1 + *event as u64));
                }
                Effect::Query(_) => self.queries += 1,
                Effect::Submit(_) => submits += 1,
                _ => {}
            }
            let gate = self.last_event;
            assert!(
                self.awaiting_log.back().is_none_or(|last| last.gate <= gate),
                "gates only rise"
            );
            self.awaiting_log.push_back(GatedEffect { effect, gate, change, before });
        }
        self.assert_invariants();
        submits
    }

    fn assert_invariants(&self) {
        assert!(self.unappended.len() as u64 <= self.last_event.0, "events wait once");
        assert!(self.queries <= self.awaiting_log.len(), "a query that is counted waits");
        let (log, postgres) = (self.awaiting_log.back(), self.awaiting_postgres.back());
        assert!(
            log.is_none_or(|last| last.gate <= self.last_event),
            "effects wait for events that were decided"
        );
        assert!(
            postgres.is_none_or(|last| last.gate <= self.last_event),
            "effects wait for events that were decided"
        );
        assert!(
            self.awaiting_log
                .front()
                .is_none_or(|next| postgres.is_none_or(|p| p.gate <= next.gate)),
            "what waits for Postgres was durable before what waits for the log"
        );
    }

    /// The last event decided.
    pub(super) fn last_event(&self) -> Lsn {
        self.last_event
    }

    /// The oldest event that is not appended, and the number that the log will give it.
    pub(super) fn next_to_append(&self) -> Option<(Lsn, &Event)> {
        let event = self.unappended.front()?;
        let next = Lsn(self.last_event.0 + 1 - self.unappended.len() as u64);
        assert!(next <= self.last_event, "an event that is appended was decided");
        Some((next, event))
    }

    /// The log has taken that event.
    pub(super) fn appended(&mut self) {
        let event = self.unappended.pop_front();
        assert!(event.is_some(), "only an event that waits can be appended");
        self.assert_invariants();
    }

    /// Whether the log has taken every event.
    pub(super) fn is_appended(&self) -> bool {
        self.unappended.is_empty()
    }

    /// Events decided that are not durable while the log is durable up to `committed`.
    pub(super) fn uncommitted(&self, committed: Lsn) -> u64 {
        assert!(committed <= self.last_event, "the log has nothing that was not decided");
        self.last_event.0 - committed.0
    }

    /// Whether [`release`](Self::release) would find something.
    pub(super) fn has_free(&self, reached: Reached) -> bool {
        let is_free = |queue: &VecDeque<GatedEffect>, upto| {
            queue.front().is_some_and(|gated| gated.gate <= upto)
        };
        is_free(&self.awaiting_log, reached.log)
            || reached.postgres.is_some_and(|upto| is_free(&self.awaiting_postgres, upto))
    }

    /// Moves effects whose events have been reached to the end of `free`, a bounded number: those that
    /// Postgres held back first.
    pub(super) fn release(&mut self, reached: Reached, free: &mut Vec<GatedEffect>) -> Released {
        let Reached { log, postgres } = reached;
        assert!(log <= self.last_event, "the log has nothing that was not decided");
        if let Some(upto) = postgres {
            let count = free_count(&self.awaiting_postgres, upto);
            free.extend(self.awaiting_postgres.drain(..count));
        }
        let count = free_count(&self.awaiting_log, log);
        for gated in self.awaiting_log.drain(..count) {
            assert!(gated.gate <= log, "an effect waits for its events");
            if matches!(gated.effect, Effect::Query(_)) {
                assert!(self.queries > 0, "every query that waits is counted");
                self.queries -= 1;
            }
            let is_for_exchange = matches!(gated.effect, Effect::Submit(_) | Effect::Cancel { .. });
            let waits =
                waits_for_postgres(&gated.effect) || (is_for_exchange && self.exchange_waits);
            if postgres.is_some() && waits {
                self.awaiting_postgres.push_back(gated);
            } else {
                free.push(gated);
            }
        }
        let durable = done_to(&self.awaiting_log, log);
        let shown =
            postgres.map_or(durable, |upto| durable.min(done_to(&self.awaiting_postgres, upto)));
        assert!(durable <= log, "nothing is released before it is durable");
        assert!(shown <= durable, "nothing is shown before it is durable");
        self.assert_invariants();
        Released { durable, shown }
    }

    /// Queries to the exchange that wait for the log.
    pub(super) fn queries(&self) -> usize {
        self.queries
    }

    /// Effects that wait for the log.
    pub(super) fn awaiting_log(&self) -> usize {
        self.awaiting_log.len()
    }

    /// Effects that wait for Postgres.
    pub(super) fn awaiting_postgres(&self) -> usize {
        self.awaiting_postgres.len()
    }

    /// The event that the last effect waiting for Postgres waits for.
    pub(super) fn last_awaiting_postgres(&self) -> Option<Lsn> {
        self.awaiting_postgres.back().map(|gated| gated.gate)
    }
}

/// Up to where a queue that has reached `upto` holds nothing back. Events decided together count only
/// together, so this stops before the first decision with an effect left.
fn done_to(queue: &VecDeque<GatedEffect>, upto: Lsn) -> Lsn {
    queue.front().map_or(upto, |next| upto.min(next.before))
}

/// How many effects of a queue one slice may release.
fn free_count(queue: &VecDeque<GatedEffect>, upto: Lsn) -> usize {
    queue.iter().take(EFFECTS_PER_SLICE).take_while(|gated| gated.gate <= upto).count()
}

/// Whether the effect shows somebody an order, which Postgres must have then. An answer without an order shows nothing.
fn waits_for_postgres(effect: &Effect) -> bool {
    match effect {
        Effect::Publish { .. } | Effect::PublishAccount { .. } => true,
        Effect::ReplyCreate { reply, .. } => match reply {
            CreateReply::Accepted(_)
            | CreateReply::Rejected(_)
            | CreateReply::Pending(_)
            | CreateReply::Duplicate(_)
            | CreateReply::Conflict(_) => true,
            CreateReply::Halted(_)
            | CreateReply::ExchangeAway
            | CreateReply::ExchangeBusy
            | CreateReply::Unfunded(_)
            | CreateReply::PriceUnavailable
            | CreateReply::KeyUnsure
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::ReplyTo;
    use crate::order::test_events::{accepted, created};
    use crate::order::{Order, TrackedOrder};
    use crate::types::OrderId;
    use std::sync::Arc;

    fn order() -> Arc<Order> {
        Arc::clone(TrackedOrder::new(&created(7)).order())
    }

    /// A decision of two events: a version to publish, an order to send, and an answer.
    fn decide(gate: &mut CommitGate) -> usize {
        let mut decided = Outbox::new();
        decided.events.extend([Event::Created(created(7)), accepted(7)]);
        let reply = CancelReply::Pending(order());
        decided.effects.extend([
            Effect::Publish { order: order(), event: Some(1), account: None },
            Effect::Submit(order()),
            Effect::Query(OrderId::from_u128(7)),
            Effect::ReplyCancel { to: ReplyTo(1), reply },
        ]);
        gate.admit(&mut decided)
    }

    fn kinds(free: &mut Vec<GatedEffect>) -> Vec<&'static str> {
        let kinds = free.drain(..).map(|gated| match gated.effect {
            Effect::Publish { .. } => "publish",
            Effect::Submit(_) => "submit",
            Effect::Query(_) => "query",
            Effect::ReplyCancel { .. } => "reply",
            _ => "other",
        });
        kinds.collect()
    }

    #[test]
    fn nothing_happens_before_all_events_of_a_decision_are_durable() {
        let (mut gate, mut free) = (CommitGate::new(Lsn(10), false), Vec::new());
        assert_eq!(decide(&mut gate), 1, "one order for the exchange");
        assert_eq!((gate.last_event(), gate.queries()), (Lsn(12), 1));
        let reached = |log| Reached { log: Lsn(log), postgres: None };
        assert!(!gate.has_free(reached(11)));
        let released = gate.release(reached(11), &mut free);
        assert_eq!(released, Released { durable: Lsn(10), shown: Lsn(10) }, "half of a decision");
        assert!(free.is_empty());
        let released = gate.release(reached(12), &mut free);
        assert_eq!(released, Released { durable: Lsn(12), shown: Lsn(12) });
        let change = free.first().map(|gated| gated.change);
        assert_eq!(change, Some(Some(Lsn(12))), "the second event made the version");
        assert_eq!(kinds(&mut free), ["publish", "submit", "query", "reply"]);
        assert_eq!(gate.queries(), 0);
    }

    #[test]
    fn what_people_see_waits_for_postgres_and_what_the_exchange_hears_does_not() {
        let (mut gate, mut free) = (CommitGate::new(Lsn(0), false), Vec::new());
        decide(&mut gate);
        let reached = |log, postgres| Reached { log: Lsn(log), postgres: Some(Lsn(postgres)) };
        let released = gate.release(reached(2, 0), &mut free);
        assert_eq!(released, Released { durable: Lsn(2), shown: Lsn(0) });
        assert_eq!(kinds(&mut free), ["submit", "query"]);
        assert_eq!((gate.awaiting_postgres(), gate.last_awaiting_postgres()), (2, Some(Lsn(2))));
        assert!(!gate.has_free(reached(2, 1)));
        let released = gate.release(reached(2, 2), &mut free);
        assert_eq!(released, Released { durable: Lsn(2), shown: Lsn(2) });
        assert_eq!(kinds(&mut free), ["publish", "reply"]);
    }

    #[test]
    fn where_another_node_may_take_over_the_exchange_waits_for_postgres_too() {
        let (mut gate, mut free) = (CommitGate::new(Lsn(0), true), Vec::new());
        decide(&mut gate);
        let reached = |log, postgres| Reached { log: Lsn(log), postgres: Some(Lsn(postgres)) };
        gate.release(reached(2, 1), &mut free);
        assert_eq!(kinds(&mut free), ["query"], "a question changes nothing there");
        gate.release(reached(2, 2), &mut free);
        assert_eq!(kinds(&mut free), ["publish", "submit", "reply"]);
    }

    #[test]
    fn a_slice_is_bounded_and_positions_wait_for_the_rest() {
        let (mut gate, mut free) = (CommitGate::new(Lsn(0), false), Vec::new());
        for _ in 0..EFFECTS_PER_SLICE {
            decide(&mut gate);
        }
        let all = Reached { log: gate.last_event(), postgres: None };
        let released = gate.release(all, &mut free);
        assert_eq!(free.len(), EFFECTS_PER_SLICE);
        assert!(released.shown < gate.last_event());
        assert!(gate.has_free(all));
    }

    #[test]
    fn events_are_appended_in_their_order_with_the_numbers_that_were_promised() {
        let mut gate = CommitGate::new(Lsn(10), false);
        decide(&mut gate);
        let mut numbers = Vec::new();
        while let Some((lsn, _)) = gate.next_to_append() {
            numbers.push(lsn);
            gate.appended();
        }
        assert_eq!(numbers, [Lsn(11), Lsn(12)]);
        assert!(gate.is_appended());
        assert_eq!(gate.uncommitted(Lsn(10)), 2);
    }
}
