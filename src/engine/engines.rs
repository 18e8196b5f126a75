use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;

use compact_str::CompactString;

use super::feed_progress::FeedProgress;
use super::inputs::{
    CancelOutcome, CreateOrder, EngineOptions, QueryAnswer, Report, SubmitOutcome,
};
use super::outbox::{Alert, Effect, Outbox, ReplyTo};
use super::partition::{Engine, Turn, UnknownOrder};
use super::rounds::Rounds;
use super::spread_map::SpreadMap;
use super::unclaimed::Unclaimed;
use super::unmatched::{Kept, UnmatchedLine, UnmatchedReports};
use crate::order::{Change, Event, Order, TrackedOrder};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, USER_PARTITIONS, UserId,
    UserPartition,
};

/// Hash tables of exchange ids: as many as the engines have for their orders together.
const EXTERNAL_ID_TABLES: usize = 1_024;

/// All engines of a node and what belongs to none of them.
#[derive(Debug)]
pub struct Engines {
    partitions: [Engine; USER_PARTITIONS],
    /// Which order an exchange id means: reports carry nothing else.
    pub(super) by_external_id: SpreadMap<ExternalOrderId, OrderId, RandomState>,
    pub(super) unmatched: UnmatchedReports,
    /// Exchange ids that the store is being asked about. At most one for each unmatched report.
    pub(super) ids_looked_up: HashSet<ExternalOrderId>,
    /// Reports that no order has claimed, and of which nobody has been told.
    unclaimed: Unclaimed,
    pub(super) feed: FeedProgress,
    /// Rounds through all open orders.
    pub(super) rounds: Rounds,
    /// Orders that have ended within the window before the last logged feed position, or since, and
    /// when, oldest first. Where the feed loses lines, late fills and busts may be among them, so these
    /// are asked about as well. Most have left memory: 24 bytes each, 56 MB on a host that takes a
    /// quarter of the peak.
    pub(super) ended: VecDeque<(TimestampMicros, OrderId)>,
    /// Orders that the store is being asked for, to ask the exchange about them, and whether that
    /// reconciles them.
    pub(super) orders_looked_up: HashMap<OrderId, bool>,
    /// What could not be read of orders that are not known (yet), and when it came.
    pub(super) unreadable_of_unknown: HashMap<ExternalOrderId, (CompactString, TimestampMicros)>,
    /// Ids that the exchange gave to several orders, and which these are.
    pub(super) ambiguous: HashMap<ExternalOrderId, Vec<OrderId>>,
    /// Ids of orders that had ended before this session of the feed, and that lines have named in it.
    pub(super) used_late: HashMap<ExternalOrderId, OrderId>,
    /// Time as the inputs tell it; never goes back.
    pub(super) now: TimestampMicros,
    pub(super) options: EngineOptions,
}

impl Engines {
    /// Engines without orders.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Engine::default()),
            by_external_id: SpreadMap::new(EXTERNAL_ID_TABLES),
            unmatched: UnmatchedReports::default(),
            ids_looked_up: HashSet::new(),
            unclaimed: Unclaimed::default(),
            feed: FeedProgress::default(),
            rounds: Rounds::default(),
            ended: VecDeque::new(),
            orders_looked_up: HashMap::new(),
            unreadable_of_unknown: HashMap::new(),
            ambiguous: HashMap::new(),
            used_late: HashMap::new(),
            now: TimestampMicros::default(),
            options,
        }
    }

    /// Takes an event of the log, in recovery.
    ///
    /// # Errors
    /// The event is about an order that is not in memory: the store has it, or the log is not whole.
    pub fn replay(&mut self, event: &Event) -> Result<(), UnknownOrder> {
        match event {
            Event::Created(created) => {
                self.engine_mut(created.order_id.partition()).apply(event)?;
            }
            Event::Changed(changed) => {
                self.engine_mut(changed.order_id.partition()).apply(event)?;
                match news_for_node(event) {
                    Some(News::Accepted(id, order_id)) => {
                        self.index(&id, order_id, changed.at);
                    }
                    Some(News::MayHaveEnded(order_id)) => {
                        self.note_if_ended(order_id, changed.at);
                    }
                    None => {}
                }
            }
            Event::UnmatchedReport(report) => {
                self.unmatched.hold(report.clone().into(), true);
            }
            Event::FeedPosition(position) => {
                self.feed.replay(position);
                self.forget_ended_before(position.at);
            }
        }
        Ok(())
    }

    /// Ends recovery: gives reports whose orders are known now to them, and begins to reconcile every
    /// open order with the exchange.
    pub fn start(&mut self, now: TimestampMicros, out: &mut Outbox) {
        self.advance(now);
        for id in self.unmatched.ids() {
            if let Some(order_id) = self.by_external_id.get(&id).copied() {
                self.deliver_unmatched(&id, order_id, out);
            }
        }
        let (partitions, turn) = self.parts(out);
        for engine in partitions {
            engine.look_at_unsure_again(&turn);
        }
        self.note_ended_since(0, out);
        self.begin_reconciliation();
    }

    /// Takes note of orders that have ended with events which no turn has looked at.
    pub(super) fn note_ended_since(&mut self, first_event: usize, out: &Outbox) {
        for event in out.events.iter().skip(first_event) {
            if let Some(News::MayHaveEnded(order_id)) = news_for_node(event) {
                self.note_if_ended(order_id, self.now);
            }
        }
    }

    /// A user's order.
    pub fn create(
        &mut self,
        now: TimestampMicros,
        request: CreateOrder,
        to: ReplyTo,
        out: &mut Outbox,
    ) {
        self.turn(now, request.user.partition(), out, |engine, turn| {
            engine.create(request, to, turn);
        });
    }

    /// A user's wish to cancel.
    pub fn cancel(
        &mut self,
        now: TimestampMicros,
        request: (&UserId, OrderId),
        to: ReplyTo,
        out: &mut Outbox,
    ) {
        let (user, order_id) = request;
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.cancel(user, order_id, to, turn);
        });
    }

    /// Somebody has waited long enough for an outcome.
    pub fn reply_timeout(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        to: ReplyTo,
        out: &mut Outbox,
    ) {
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.reply_timeout(order_id, to, turn);
        });
    }

    /// The answer to a submit.
    pub fn submit_answer(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        outcome: SubmitOutcome,
        out: &mut Outbox,
    ) {
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.submit_answer(order_id, outcome, turn);
        });
    }

    /// The answer to a cancel.
    pub fn cancel_answer(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        outcome: CancelOutcome,
        out: &mut Outbox,
    ) {
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.cancel_answer(order_id, outcome, turn);
        });
    }

    /// The exchange's record of an order, with the time at which it was asked for; `None` when no
    /// answer came.
    pub fn query_answer(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        answer: Option<(TimestampMicros, QueryAnswer)>,
        out: &mut Outbox,
    ) {
        let is_named = match &answer {
            Some((_, QueryAnswer::Known(record))) => {
                let order = self.order(order_id);
                order.is_some_and(|order| order.external_order_id.is_none())
                    && self.unmatched.has(&record.external_order_id)
            }
            Some(_) | None => false,
        };
        self.turn(now, order_id.partition(), out, |engine, turn| match answer {
            Some((asked_at, answer)) => engine.query_answer(order_id, asked_at, answer, turn),
            None => engine.query_lost(order_id, turn),
        });
        self.index_other_id(order_id, out);
        if is_named {
            // What was kept for the order counts since, and only another record can judge that.
            self.reconcile(now, order_id, out);
        }
    }

    /// Something that the exchange reported unasked. About an id that is not known (yet) it is
    /// kept for a while.
    pub fn report(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        if let Some(report) = self.report_known(now, report, out) {
            let received_at = self.now;
            self.unmatched.hold(UnmatchedLine::new(report, received_at), false);
        }
    }

    /// Something that the exchange reported and will forget once we say that we have it: what is
    /// not known (yet) is logged with everything else that this decides.
    pub fn report_durably(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        let Some(report) = self.report_known(now, report, out) else { return };
        let unmatched = UnmatchedLine::new(report, self.now);
        match self.unmatched.hold_logged(&unmatched) {
            Kept::Logged => {}
            Kept::Unlogged => out.events.push(Event::UnmatchedReport(unmatched.report)),
        }
    }

    /// Gives a report to its order. A report about an id that is not known (yet) comes back.
    fn report_known(
        &mut self,
        now: TimestampMicros,
        report: Report,
        out: &mut Outbox,
    ) -> Option<Report> {
        if !self.ambiguous.is_empty() && self.ambiguous.contains_key(&report.external_order_id) {
            self.quarantine_ambiguous(now, report, out);
            return None;
        }
        let known = self.by_external_id.get(&report.external_order_id).copied();
        if let Some(order_id) = known {
            self.note_used_late(&report.external_order_id, order_id);
            self.turn(now, order_id.partition(), out, |engine, turn| {
                engine.report(order_id, report, turn);
            });
            return None;
        }
        self.advance(now);
        Some(report)
    }

    /// Lines of this numbering follow after `sequence`, and some before it may have been missed:
    /// all open orders are reconciled with the exchange.
    pub fn feed_session(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin(session, sequence);
        self.used_late.clear();
        self.begin_reconciliation();
    }

    /// The same where the numbering has begun again under the session's name.
    pub fn feed_renumbered(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin_again(session, sequence);
        self.used_late.clear();
        self.begin_reconciliation();
    }

    /// Every line of the feed up to here has been taken.
    pub fn feed_reached(&mut self, sequence: u64) {
        self.feed.reach(sequence);
    }

    /// The last position taken, or recovered: where a feed should go on.
    pub fn feed_position(&self) -> Option<(&CompactString, u64)> {
        self.feed.position()
    }

    /// Looks at what has waited too long: asks about at most `limit` orders of each partition.
    /// True when more are due.
    pub fn tick(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) -> bool {
        self.advance(now);
        let age = self.options.unmatched_report_age_micros;
        let received_before = TimestampMicros::new(self.now.micros().saturating_sub(age));
        self.unclaimed.expired += self.unmatched.expire(received_before);
        self.unclaimed.overflowed += self.unmatched.take_given_up();
        self.unclaimed.alert(self.now, out);
        self.find_unclaimed(out);
        self.expire_unreadable(out);
        let (partitions, mut turn) = self.parts(out);
        let mut more = false;
        let mut absent = Vec::new();
        for engine in partitions {
            more |= engine.look_at_due(limit, &mut turn);
            more |= engine.look_again(limit, &mut absent, &mut turn);
        }
        for order_id in absent {
            self.find_order(order_id, false, out);
        }
        more
    }

    /// An order as it stands, durable or not.
    pub fn order(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        self.engine(order_id.partition()).order(order_id)
    }

    /// Whether a user's own key names an order in memory, durable or not.
    pub fn knows_key(&self, user: &UserId, key: &ClientOrderId) -> bool {
        self.engine(user.partition()).by_key(user, key).is_some()
    }

    /// Every order in memory, in no order.
    pub fn orders(&self) -> impl Iterator<Item = &Arc<Order>> {
        self.partitions.iter().flat_map(Engine::orders)
    }

    /// Every order of a partition in memory, in no order.
    pub fn orders_of(&self, partition: UserPartition) -> impl Iterator<Item = &Arc<Order>> {
        self.engine(partition).orders()
    }

    /// Orders that the exchange may still change.
    pub fn open_orders(&self) -> usize {
        self.partitions.iter().map(Engine::open_orders).sum()
    }

    /// Reports about unknown orders that are kept.
    pub fn unmatched_reports(&self) -> usize {
        self.unmatched.len()
    }

    /// An order with its executions and cases.
    pub fn tracked(&self, order_id: OrderId) -> Option<&TrackedOrder> {
        self.engine(order_id.partition()).tracked(order_id)
    }

    pub(super) fn partitions(&self) -> &[Engine; USER_PARTITIONS] {
        &self.partitions
    }

    /// The engines, and the surroundings that they work in.
    pub(super) fn parts<'a>(&'a mut self, out: &'a mut Outbox) -> (&'a mut [Engine], Turn<'a>) {
        let Self { partitions, feed, options, now, .. } = self;
        let turn = Turn { now: *now, options, feed, is_quarantine_full: false, out };
        (partitions, turn)
    }

    /// Lets one engine work on an input and draws the consequences beyond it.
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
        if !self.ambiguous.is_empty() {
            self.hold_back_cancels(first_effect, out);
        }
        let mut next = first_new;
        while let Some(event) = out.events.get(next) {
            next += 1;
            match news_for_node(event) {
                Some(News::Accepted(external_order_id, order_id)) => {
                    if self.index(&external_order_id, order_id, self.now) {
                        self.deliver_unmatched(&external_order_id, order_id, out);
                        self.deliver_unreadable(&external_order_id, order_id, out);
                        self.make_up_for_given_up(order_id, out);
                        self.make_up_for_used_late(&external_order_id, order_id, out);
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

    /// Forgets which orders ended longer before this moment than any gap that is still to come could
    /// reach back.
    pub(super) fn forget_ended_before(&mut self, at: TimestampMicros) {
        let window = self.options.ended_window_micros;
        let is_old = |ended: &TimestampMicros| at.micros_since(*ended) > window;
        while self.ended.front().is_some_and(|(ended, _)| is_old(ended)) {
            self.ended.pop_front();
        }
    }

    /// Gives what was reported of an order before its id was known to it.
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
            let (partitions, mut turn) = self.parts(out);
            if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                engine.report(order_id, report, &mut turn);
            }
        }
    }

    pub(super) fn advance(&mut self, now: TimestampMicros) {
        self.now = self.now.max(now);
    }

    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn engine(&self, partition: UserPartition) -> &Engine {
        &self.partitions[partition.index()]
    }

    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn engine_mut(&mut self, partition: UserPartition) -> &mut Engine {
        &mut self.partitions[partition.index()]
    }
}

/// What of an order's changes matters beyond its engine.
enum News {
    Accepted(ExternalOrderId, OrderId),
    MayHaveEnded(OrderId),
}

fn news_for_node(event: &Event) -> Option<News> {
    let Event::Changed(changed) = event else { return None };
    match &changed.change {
        Change::Accepted { external_order_id } => {
            Some(News::Accepted(external_order_id.clone(), changed.order_id))
        }
        change => change.may_end().then_some(News::MayHaveEnded(changed.order_id)),
    }
}
