use std::collections::HashMap;

use smallvec::SmallVec;

use super::outbox::{CancelReply, CreateReply, Effect, Outbox, ReplyTo};
use super::repair::SubmitFate;
use crate::order::{Change, Ending, Order, Status, TrackedOrder};
use crate::types::{ExecutionId, ExternalOrderId, TimestampMicros};
use std::sync::Arc;

/// One order in the engine: what the log says of it, and what only this run knows.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) tracked: TrackedOrder,
    pub(super) waiting: SmallVec<[Waiting; 1]>,
    pub(super) underway: Underway,
}

/// What is underway for an order. Nothing of it survives a restart, which reconciles every open order
/// with the exchange instead.
#[derive(Debug, Default)]
pub(super) struct Underway {
    /// In the engine's set of open orders.
    pub(super) listed_open: bool,
    /// In the engine's set of orders that owe a reconciling query.
    pub(super) listed_unreconciled: bool,
    /// In the engine's queue of orders to look at when their grace is over.
    pub(super) watched: bool,
    /// What this run knows of its submit.
    pub(super) submit: SubmitFate,
    /// A cancel was sent for the request that stands, and not to be sent again unbidden.
    pub(super) cancel_sent: bool,
    /// A cancel is at the exchange and unanswered.
    pub(super) cancel_unanswered: bool,
    /// The exchange said that the cancel took effect; its record of the order, with the last fills
    /// before that, is being asked for.
    pub(super) cancel_confirmed: bool,
    /// A query is at the exchange and unanswered.
    pub(super) query: Option<QueryReason>,
    /// What the unanswered query will say may be old news: ask once more then.
    pub(super) ask_again: bool,
    /// A reconciling query is owed: it is asked again until it is answered.
    pub(super) unreconciled: bool,
    /// The last reconciliation in which it was asked about.
    pub(super) reconciliation: u32,
    /// What a record has to cover to reconcile it.
    pub(super) reconciling: Option<Reconciling>,
    /// When it is to be asked about again, beside the grace.
    pub(super) look_at: Option<TimestampMicros>,
    /// Another time to ask about it, whatever is learned before and whether it is in memory then.
    pub(super) extra_look: Option<TimestampMicros>,
    /// Under which time it stands in the engine's queue of such looks.
    pub(super) listed_look: Option<TimestampMicros>,
    /// In the engine's set of orders with open cases.
    pub(super) listed_case: bool,
    /// The exchange gave its id to another order as well.
    pub(super) shares_external_id: bool,
    /// Under which id the exchange's record has the order, where that is not simply its own.
    pub(super) record_id: Option<Box<RecordId>>,
    /// The feed session in which it ended, if that was in this run.
    pub(super) ended_in: Option<u32>,
    /// The exchange does not know the order.
    pub(super) unknown: Option<UnknownLook>,
    /// Where the feed stood when a line about the order could last not be read.
    pub(super) unreadable_after: Option<(u32, u64)>,
    /// Lines of the feed that have shown its executions.
    pub(super) lines: ExecutionLines,
    /// What the exchange's record and ours may differ in. Rare, and so behind a pointer.
    pub(super) doubt: Option<Box<Doubt>>,
}

/// A reconciliation of one order: a record from before the gap that it makes up for reconciles nothing.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reconciling {
    pub(super) since: TimestampMicros,
    /// Where the feed stood behind the gap: session and sequence.
    pub(super) feed: (u32, u64),
}

/// The exchange's id of an order as its record names it, which is asked for by our own id.
#[derive(Debug, Clone)]
pub(super) struct RecordId {
    pub(super) id: ExternalOrderId,
    /// Since when all records have named this one.
    pub(super) since: TimestampMicros,
    /// Whether it is another one than the order was accepted under, and has been named long enough to
    /// be believed.
    pub(super) is_other: bool,
}

/// The first look at which the exchange did not know an order that it should know, or should never
/// come to know.
#[derive(Debug, Clone, Copy)]
pub(super) struct UnknownLook {
    pub(super) since: TimestampMicros,
    /// Where the feed stood then: session and sequence.
    pub(super) feed: (u32, u64),
}

/// Executions that count here and may not be in the exchange's record.
#[derive(Debug, Default)]
pub(super) struct Doubt {
    /// Counted while the unanswered query was underway: its answer may be older.
    pub(super) counted_meanwhile: Vec<ExecutionId>,
    /// When the exchange's record first lacked one that it should have.
    pub(super) missing_since: Option<TimestampMicros>,
    /// When one that says how complete it is first lacked one, and where the feed stood then: session
    /// and sequence.
    pub(super) covered_since: Option<(TimestampMicros, (u32, u64))>,
    /// How many records in a row have been in doubt.
    pub(super) looks: u32,
}

/// Which lines of the feed session that is being read have shown executions of an order.
#[derive(Debug, Default)]
pub(super) struct ExecutionLines {
    session: u32,
    few: SmallVec<[(ExecutionId, u64); 1]>,
    /// All of them where there are more than a few.
    many: Option<Box<ManyLines>>,
}

/// Behind a pointer, because nearly no order has so many.
#[derive(Debug)]
struct ManyLines(HashMap<ExecutionId, u64>);

/// Up to this many executions are looked through one by one; more are hashed.
const LINEAR_SEARCH_LIMIT: usize = 16;

/// What shows that an execution is one of the feed session that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    /// A line of it.
    ByLine(u64),
    /// A record, whose line is still to come.
    ByRecord,
    /// Nothing: it comes from an earlier session, or from an earlier run of this process.
    Before,
}

impl ExecutionLines {
    /// Stands for a line that is still to come.
    const STILL_TO_COME: u64 = u64::MAX;

    pub(super) fn note_line(&mut self, id: &ExecutionId, (session, sequence): (u32, u64)) {
        self.begin(session);
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
            self.many = Some(Box::new(ManyLines(self.few.drain(..).collect())));
        }
    }

    pub(super) fn note_record(&mut self, id: &ExecutionId, session: u32) {
        self.note_line(id, (session, Self::STILL_TO_COME));
    }

    pub(super) fn shown(&self, id: &ExecutionId, session: u32) -> Shown {
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

    fn begin(&mut self, session: u32) {
        if self.session != session {
            self.session = session;
            self.few.clear();
            self.many = None;
        }
    }
}

/// Why the exchange was asked. A periodic look may send a cancel again; the query that follows an
/// answer may not, or the two could chase each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QueryReason {
    FollowUp,
    PeriodicLook,
}

/// Somebody who waits for an answer about an order.
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

    /// Takes note of what the answer to an unanswered query may not have yet.
    pub(super) fn note_fill(&mut self, change: &Change) {
        if let Change::Filled(fill) = change
            && self.underway.query.is_some()
        {
            let doubt = self.underway.doubt.get_or_insert_default();
            doubt.counted_meanwhile.push(fill.execution_id.clone());
        }
    }

    /// Asks the exchange for its record unless that is underway.
    pub(super) fn ask(&mut self, reason: QueryReason, out: &mut Outbox) {
        if self.underway.query.is_none() {
            self.underway.query = Some(reason);
            if let Some(doubt) = &mut self.underway.doubt {
                doubt.counted_meanwhile.clear();
            }
            out.effects.push(Effect::Query(self.order().order_id));
        }
    }

    /// Asks for a record that is not older than this moment.
    pub(super) fn ask_anew(&mut self, reason: QueryReason, out: &mut Outbox) {
        self.underway.ask_again = self.underway.query.is_some();
        self.ask(reason, out);
    }

    /// Sends the cancel that the order wants, once for each request.
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
        if let Some(external_order_id) = id.cloned() {
            let order_id = order.order_id;
            let is_awaited =
                self.waiting.iter().any(|waiting| matches!(waiting, Waiting::ForCancel(_)));
            self.underway.cancel_sent = true;
            self.underway.cancel_unanswered = true;
            out.effects.push(Effect::Cancel { order_id, external_order_id, is_awaited });
        }
    }

    /// Answers everybody whose question has an answer now.
    pub(super) fn answer_waiting(&mut self, out: &mut Outbox) {
        let order = self.tracked.order();
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
    }

    /// Whether it had ended before a session of the feed began, or may have.
    pub(super) fn has_ended_before(&self, session: u32) -> bool {
        matches!(self.order().status, Status::Filled | Status::Cancelled)
            && self.underway.ended_in != Some(session)
    }

    /// Whether it has ended, nobody waits for it, and nothing that was asked about it is unanswered.
    pub(super) fn is_idle(&self) -> bool {
        let underway = &self.underway;
        !self.order().is_open()
            && self.waiting.is_empty()
            && underway.query.is_none()
            && !underway.unreconciled
            && !underway.shares_external_id
            && !underway.cancel_unanswered
            && self.tracked.cases().is_empty()
            && underway.doubt.as_ref().is_none_or(|doubt| doubt.missing_since.is_none())
    }

    /// Whether the order has to be looked at if nothing happens.
    pub(super) fn needs_watch(&self) -> bool {
        let order = self.order();
        matches!(order.status, Status::Pending | Status::PendingCancel)
            || order.is_stray()
            || self.underway.unreconciled
    }
}

/// The answer to a create, once there is one: the exchange's id counts as its acceptance, because
/// a fill without it proves the order but does not name it.
fn create_answer(order: &Arc<Order>) -> Option<CreateReply> {
    if order.status == Status::Failed {
        return Some(CreateReply::Rejected(Arc::clone(order)));
    }
    order.external_order_id.is_some().then(|| CreateReply::Accepted(Arc::clone(order)))
}

/// The answer to a cancel of an order as it stands, once there is one.
pub fn cancel_answer(order: &Arc<Order>) -> Option<CancelReply> {
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
