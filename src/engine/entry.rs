//! An order in memory: its logged state, and what is in flight for it in this run.

use std::collections::HashMap;

use smallvec::SmallVec;

use super::outbox::{CancelReply, CreateReply, Effect, Outbox, ReplyTo};
use crate::order::{Change, Ending, Order, Status, TrackedOrder};
use crate::types::{ExecutionId, ExternalOrderId, TimestampMicros};
use std::sync::Arc;

/// One order in the engine: its logged state and what only this run knows.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tracked: TrackedOrder,
    pub(super) waiting: SmallVec<[Waiting; 1]>,
    pub(super) underway: Underway,
}

/// What is in flight for an order. Nothing of it survives a restart, which reconciles every open
/// order with the exchange instead.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// Whether the engine's set of open orders has it.
    pub(super) listed_open: bool,
    /// Whether the engine's set of unreconciled orders has it.
    pub(super) listed_unreconciled: bool,
    /// Whether the engine's queue of watched orders has it.
    pub(super) watched: bool,
    pub(super) submit: SubmitFate,
    /// A cancel was sent for the current request; only a periodic query allows another one.
    pub(super) cancel_sent: bool,
    /// A cancel is in flight.
    pub(super) cancel_unanswered: bool,
    /// The exchange confirmed the cancel; its record, with the last fills before the cancel, is
    /// being queried.
    pub(super) cancel_confirmed: bool,
    /// A query is in flight.
    pub(super) query: Option<QueryReason>,
    /// When the last query was asked for; it is sent later.
    pub(super) asked_at: TimestampMicros,
    /// The queries that have returned without an answer since the last one that had one.
    pub(super) lost_queries: Option<LostQueries>,
    /// A scheduled query has not been answered: it is repeated if its answer is lost.
    pub(super) owes_query: bool,
    /// The answer to the query in flight may be stale: query once more after it.
    pub(super) query_again: bool,
    /// The order must be reconciled: query until answered.
    pub(super) unreconciled: bool,
    /// The last reconciliation in which it was queried.
    pub(super) reconciliation: u32,
    /// What a record must cover to reconcile it.
    pub(super) reconciling: Option<Reconciling>,
    /// When to query it again, apart from the watch queue.
    pub(super) next_query_at: Option<TimestampMicros>,
    /// Another time to query it, whatever is learned before, and even if it has left memory by
    /// then.
    pub(super) extra_query_at: Option<TimestampMicros>,
    /// Its time in the engine's set of scheduled queries.
    pub(super) listed_query_at: Option<TimestampMicros>,
    /// Whether the engine's set of orders with open cases has it.
    pub(super) listed_case: bool,
    /// The exchange gave its id to another order as well.
    pub(super) shares_external_id: bool,
    /// The id in the exchange's record, unless that is simply the order's own.
    pub(super) record_id: Option<Box<RecordId>>,
    /// The feed session in which it ended, if in this run.
    pub(super) ended_in: Option<u32>,
    /// The first of the agreeing "unknown order" answers.
    pub(super) unknown: Option<UnknownAnswer>,
    /// Feed position at the last unreadable line about the order.
    pub(super) unreadable_after: Option<(u32, u64)>,
    /// Feed lines that have shown its executions.
    pub(super) lines: ExecutionLines,
    /// Possible differences between the exchange's record and ours. Boxed because rare.
    pub(super) doubt: Option<Box<Doubt>>,
}

/// What this run knows about an order's submit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum SubmitFate {
    /// An earlier run submitted it.
    #[default]
    BeforeThisRun,
    /// In flight.
    InFlight,
    /// Answered.
    Answered,
    /// The answer was lost.
    Lost,
    /// No answer in time.
    TimedOut,
}

/// A pending reconciliation: a record from before the gap does not complete it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reconciling {
    pub(super) since: TimestampMicros,
    /// Feed position after the gap: session and sequence.
    pub(super) feed: (u32, u64),
}

/// Queries about one order that returned without an answer, while the exchange answered something
/// between any two of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct LostQueries {
    /// When the first of them returned.
    pub(super) since: TimestampMicros,
    /// The exchange's latest answer, of whatever kind, when the last of them returned.
    pub(super) answered_at: TimestampMicros,
}

/// The exchange's id in a record that was queried by our id.
#[derive(Debug, Clone)]
pub(super) struct RecordId {
    pub(super) id: ExternalOrderId,
    /// When the first of the consecutive records with this id came.
    pub(super) since: TimestampMicros,
    /// Whether it differs from the id that the order was accepted under, and has been repeated long
    /// enough to be believed.
    pub(super) is_other: bool,
}

/// The first "unknown order" answer about an order that the exchange should know, or should never
/// come to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnknownAnswer {
    pub(super) since: TimestampMicros,
    /// Feed position at that time: session and sequence.
    pub(super) feed: (u32, u64),
}

/// Executions that count here and may be missing from the exchange's record.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Executions counted while the query was in flight: its answer may be older.
    pub(super) counted_meanwhile: Vec<ExecutionId>,
    /// When the exchange's record first lacked an execution that it should have.
    pub(super) missing_since: Option<TimestampMicros>,
    /// When a record with `as_of` first lacked one, and the feed position at that time: session and
    /// sequence.
    pub(super) covered_since: Option<(TimestampMicros, (u32, u64))>,
    /// Number of consecutive doubtful records.
    pub(super) records: u32,
}

/// The lines of the current feed session that have shown executions of an order.
#[derive(Debug, Default)]
pub(super) struct ExecutionLines {
    session: u32,
    few: SmallVec<[(ExecutionId, u64); 1]>,
    /// All of them, once there are more than a few.
    many: Option<Box<ManyLines>>,
}

/// Boxed: hardly any order has this many.
#[derive(Debug)]
struct ManyLines(HashMap<ExecutionId, u64>);

/// Up to this many executions are searched linearly; more are hashed.
const LINEAR_SEARCH_LIMIT: usize = 16;

/// Where an execution was shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// By this line of the current feed session.
    ByLine(u64),
    /// By a record; its line is still to come.
    ByRecord,
    /// In an earlier session, or in an earlier run of this process.
    Before,
}

impl ExecutionLines {
    /// Placeholder for a line that is still to come.
    const STILL_TO_COME: u64 = u64::MAX;

    pub(super) fn note_line(&mut self, id: &ExecutionId, (session, sequence): (u32, u64)) {
        self.begin(session);
        self.assert_invariants();
        if let Some(many) = &mut self.many {
            let known = many.0.entry(id.clone()).or_insert(sequence);
            *known = sequence.min(*known);
            return;
        }
        match self.few.iter_mut().find(|(known, _)| known == id) {
            Some((_, known)) => *known = sequence.min(*known),
            None => self.few.push((id.clone(), sequence)),
        }
        if self.few.len() > LINEAR_SEARCH_LIMIT {
            let many: HashMap<_, _> = self.few.drain(..).collect();
            assert_eq!(many.len(), LINEAR_SEARCH_LIMIT + 1, "an execution is noted once");
            self.many = Some(Box::new(ManyLines(many)));
        }
    }

    pub(super) fn note_record(&mut self, id: &ExecutionId, session: u32) {
        self.note_line(id, (session, Self::STILL_TO_COME));
    }

    pub(super) fn shown(&self, id: &ExecutionId, session: u32) -> Shown {
        self.assert_invariants();
        if self.session != session {
            return Shown::Before;
        }
        let sequence = match &self.many {
            Some(many) => many.0.get(id),
            None => self.few.iter().find(|(known, _)| known == id).map(|(_, sequence)| sequence),
        };
        match sequence.copied() {
            Some(Self::STILL_TO_COME) => Shown::ByRecord,
            Some(sequence) => Shown::ByLine(sequence),
            None => Shown::Before,
        }
    }

    fn assert_invariants(&self) {
        assert!(self.few.len() <= LINEAR_SEARCH_LIMIT, "few lines are searched linearly");
        assert!(self.many.is_none() || self.few.is_empty(), "lines are noted in one place");
    }

    fn begin(&mut self, session: u32) {
        assert!(self.session <= session, "feed sessions are numbered upwards");
        if self.session != session {
            self.session = session;
            self.few.clear();
            self.many = None;
        }
    }
}

/// Why a query was sent. After a periodic query a cancel may be sent again; after a follow-up it
/// may not, or query and cancel could trigger each other forever.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryReason {
    FollowUp,
    Periodic,
}

/// A client that waits for an answer about an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Waiting {
    ForCreate(ReplyTo),
    ForCancel(ReplyTo),
}

impl Entry {
    pub(super) fn new(tracked: TrackedOrder) -> Self {
        Self { tracked, waiting: SmallVec::new(), underway: Underway::default() }
    }

    pub(super) fn order(&self) -> &Arc<Order> {
        self.tracked.order()
    }

    /// Notes what the answer to the query in flight may not include yet: an execution, or the order.
    pub(super) fn note_beside_query(&mut self, change: &Change) {
        if self.underway.query.is_none() {
            return;
        }
        match change {
            Change::Filled(fill) => {
                let doubt = self.underway.doubt.get_or_insert_default();
                doubt.counted_meanwhile.push(fill.execution_id.clone());
            }
            Change::Accepted { .. } => self.underway.query_again = true,
            _ => {}
        }
    }

    /// Queries the exchange's record, unless a query is in flight.
    pub(super) fn query(&mut self, reason: QueryReason, now: TimestampMicros, out: &mut Outbox) {
        assert!(self.underway.asked_at <= now, "the time of queries never goes back");
        if self.underway.query.is_none() {
            self.underway.query = Some(reason);
            self.underway.asked_at = now;
            if let Some(doubt) = &mut self.underway.doubt {
                doubt.counted_meanwhile.clear();
            }
            out.effects.push(Effect::Query(self.order().order_id));
        }
    }

    /// Queries a record that is not older than now.
    pub(super) fn query_fresh(
        &mut self,
        reason: QueryReason,
        now: TimestampMicros,
        out: &mut Outbox,
    ) {
        self.underway.query_again = self.underway.query.is_some();
        self.query(reason, now, out);
        assert!(self.underway.query.is_some(), "a record is on its way");
    }

    /// Sends the pending cancel, once per request.
    pub(super) fn send_cancel(&mut self, out: &mut Outbox) {
        if !self.order().wants_cancel() {
            self.underway.cancel_sent = false;
            self.underway.cancel_confirmed = false;
            return;
        }
        if self.underway.cancel_sent || self.underway.cancel_unanswered {
            return;
        }
        let order = self.tracked.order();
        let other = self.underway.record_id.as_ref().filter(|named| named.is_other);
        let id = other.map(|named| &named.id).or(order.external_order_id.as_ref());
        let Some(external_order_id) = id.cloned() else {
            unreachable!("an order wants a cancel only once the exchange's id is known");
        };
        let order_id = order.order_id;
        let is_awaited =
            self.waiting.iter().any(|waiting| matches!(waiting, Waiting::ForCancel(_)));
        self.underway.cancel_sent = true;
        self.underway.cancel_unanswered = true;
        out.effects.push(Effect::Cancel { order_id, external_order_id, is_awaited });
    }

    /// Answers the clients whose outcome is known.
    pub(super) fn answer_waiting(&mut self, out: &mut Outbox) {
        let order = self.tracked.order();
        let (waited, effects_before) = (self.waiting.len(), out.effects.len());
        self.waiting.retain(|waiting| {
            let effect = match *waiting {
                Waiting::ForCreate(to) => {
                    create_answer(order).map(|reply| Effect::ReplyCreate { to, reply })
                }
                Waiting::ForCancel(to) => {
                    cancel_answer(order).map(|reply| Effect::ReplyCancel { to, reply })
                }
            };
            match effect {
                Some(effect) => {
                    out.effects.push(effect);
                    false
                }
                None => true,
            }
        });
        let answered = out.effects.len() - effects_before;
        assert_eq!(self.waiting.len() + answered, waited, "a client waits, or is answered once");
    }

    /// Whether it ended, or may have ended, before this feed session began.
    pub(super) fn has_ended_before(&self, session: u32) -> bool {
        matches!(self.order().status, Status::Filled | Status::Cancelled)
            && self.underway.ended_in != Some(session)
    }

    /// Whether it is in a terminal state with nothing in flight, waiting or unsure.
    pub(super) fn is_idle(&self) -> bool {
        let underway = &self.underway;
        let is_idle = !self.order().is_open()
            && self.waiting.is_empty()
            && underway.submit != SubmitFate::InFlight
            && underway.query.is_none()
            && !underway.unreconciled
            && !underway.shares_external_id
            && !underway.cancel_unanswered
            && self.tracked.cases().is_empty()
            && underway.doubt.as_ref().is_none_or(|doubt| doubt.missing_since.is_none());
        assert!(!(is_idle && self.has_requests_underway()), "an idle order waits for no answer");
        assert!(!(is_idle && self.needs_watch()), "an idle order needs no query");
        is_idle
    }

    /// Whether the exchange owes an answer to its submit or cancel, or a client waits for ours.
    pub(super) fn has_requests_underway(&self) -> bool {
        let underway = &self.underway;
        !self.waiting.is_empty()
            || underway.submit == SubmitFate::InFlight
            || underway.cancel_unanswered
    }

    /// What holds between the parts of an entry once an input has worked on it.
    pub(super) fn assert_invariants(&self) {
        let (order, underway) = (self.order(), &self.underway);
        let wants_cancel = order.wants_cancel();
        assert!(!underway.cancel_sent || wants_cancel, "only a wanted cancel is sent");
        assert!(!underway.cancel_confirmed || wants_cancel, "only a wanted cancel is confirmed");
        assert!(
            !underway.query_again || underway.query.is_some(),
            "a stale answer is one to a query in flight"
        );
        assert!(
            !underway.cancel_unanswered || order.external_order_id.is_some(),
            "an order is cancelled under the exchange's id"
        );
        assert!(
            underway.reconciling.is_none() || underway.unreconciled,
            "an order is unreconciled until a record has covered the gap"
        );
        assert!(
            underway.record_id.as_ref().is_none_or(|named| {
                !named.is_other
                    || order.external_order_id.as_ref().is_some_and(|id| *id != named.id)
            }),
            "another id is one beside that which the order was accepted under"
        );
        assert_eq!(underway.listed_open, order.is_open(), "the set of open orders is complete");
        assert_eq!(
            underway.listed_unreconciled, underway.unreconciled,
            "the set of unreconciled orders is complete"
        );
        assert_eq!(
            underway.listed_case,
            !self.tracked.cases().is_empty(),
            "the set of orders with open cases is complete"
        );
        assert_eq!(
            underway.listed_query_at, underway.next_query_at,
            "the set of scheduled queries is complete"
        );
        assert!(underway.watched || !self.needs_watch(), "what the exchange may forget is watched");
        debug_assert!(
            self.waiting.iter().all(|waiting| match waiting {
                Waiting::ForCreate(_) => create_answer(order).is_none(),
                Waiting::ForCancel(_) => cancel_answer(order).is_none(),
            }),
            "a client waits only for what is not known"
        );
    }

    /// Whether it must be queried if the exchange stays silent.
    pub(super) fn needs_watch(&self) -> bool {
        let order = self.order();
        matches!(order.status, Status::Pending | Status::PendingCancel)
            || order.is_stray()
            || self.underway.unreconciled
    }
}

/// The answer to a create, once known. An order is accepted when the exchange's id is known: a fill
/// without it proves the order but does not name it.
fn create_answer(order: &Arc<Order>) -> Option<CreateReply> {
    if order.status == Status::Failed {
        return Some(CreateReply::Rejected(Arc::clone(order)));
    }
    let is_accepted = order.external_order_id.is_some();
    assert!(!(is_accepted && order.status == Status::Pending), "an accepted order is not pending");
    is_accepted.then(|| CreateReply::Accepted(Arc::clone(order)))
}

/// The answer to a cancel of an order in its current version, once known.
pub fn cancel_answer(order: &Arc<Order>) -> Option<CancelReply> {
    assert!(
        !order.awaits_cancel() || matches!(order.status, Status::Pending | Status::PendingCancel),
        "a cancel that is awaited has no outcome yet: {:?}",
        order.status
    );
    match order.status {
        Status::Pending | Status::PendingCancel => None,
        Status::Cancelled if order.ending() == Some(Ending::CancelledByUser) => {
            Some(CancelReply::Cancelled(Arc::clone(order)))
        }
        Status::Submitted
        | Status::PartiallyFilled
        | Status::Filled
        | Status::Cancelled
        | Status::Failed => Some(CancelReply::Conflict(Arc::clone(order))),
    }
}
