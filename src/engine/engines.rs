use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;

use compact_str::CompactString;

use super::feed_progress::FeedProgress;
use super::held::{HeldLine, HeldReports, Kept};
use super::inputs::{
    CancelOutcome, CreateOrder, EngineOptions, QueryAnswer, Report, SubmitOutcome,
};
use super::outbox::{Alert, Effect, Outbox, ReplyTo};
use super::partition::{Engine, Turn, UnknownOrder};
use super::spread_map::SpreadMap;
use super::unclaimed::Unclaimed;
use crate::order::{Change, Event, Order, TrackedOrder};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, USER_PARTITIONS, UserId,
    UserPartition,
};

/// Hash tables of exchange ids: as many as the engines have for their orders together.
const EXTERNAL_ID_TABLES: usize = 1_024;

/// How long after its order has ended an id of the exchange may mean another order. A trading day is
/// shorter.
const ID_REUSE_MICROS: u64 = 12 * 3_600 * 1_000_000;
/// Ids of several orders that are told apart, at most: an exchange that does it more often is not one
/// to trade with, and an operator has long been told.
const MAX_AMBIGUOUS_IDS: usize = 4_096;

/// All engines of a node and what belongs to none of them.
#[derive(Debug)]
pub struct Engines {
    partitions: [Engine; USER_PARTITIONS],
    /// Which order an exchange id means: reports carry nothing else.
    pub(super) by_external_id: SpreadMap<ExternalOrderId, OrderId, RandomState>,
    pub(super) held: HeldReports,
    /// Exchange ids that the store is being asked about. At most one for each held report.
    pub(super) finding: HashSet<ExternalOrderId>,
    /// Reports that no order has claimed, and of which nobody has been told.
    unclaimed: Unclaimed,
    pub(super) feed: FeedProgress,
    settling: Option<SettleCursor>,
    /// How far the periodic comparison of all open orders has come.
    comparing: Option<SettleCursor>,
    /// Orders that have ended within the window before the last logged feed position, or since, and
    /// when, oldest first. Where the feed loses lines, late fills and busts may be among them, so these
    /// are asked about as well. Most have left memory: 24 bytes each, 56 MB on a host that takes a
    /// quarter of the peak.
    pub(super) ended: VecDeque<(TimestampMicros, OrderId)>,
    /// How many of them have been asked about in the settlement that goes on.
    ended_settled: usize,
    /// Counts the settlements of this run.
    settlement: u32,
    /// Where the feed stood when the settlement that goes on began: session and sequence. And when.
    settles_up_to: ((u32, u64), TimestampMicros),
    /// Another gap was found while one was being made up for: all orders are asked about once more.
    settles_again: bool,
    /// Orders that the store is being asked for, to ask the exchange about them, and whether that
    /// settles them.
    pub(super) finding_orders: HashMap<OrderId, bool>,
    /// What could not be read of orders that are not known (yet), and when it came.
    pub(super) unreadable_of_unknown: HashMap<ExternalOrderId, (CompactString, TimestampMicros)>,
    /// Ids that the exchange gave to several orders, and which these are.
    pub(super) ambiguous: HashMap<ExternalOrderId, Vec<OrderId>>,
    /// Time as the inputs tell it; never goes back.
    pub(super) now: TimestampMicros,
    pub(super) options: EngineOptions,
}

/// How far settling all open orders has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct SettleCursor {
    partition: usize,
    after: Option<OrderId>,
}

impl Engines {
    /// Engines without orders.
    pub fn new(options: EngineOptions) -> Self {
        Self {
            partitions: std::array::from_fn(|_| Engine::default()),
            by_external_id: SpreadMap::new(EXTERNAL_ID_TABLES),
            held: HeldReports::default(),
            finding: HashSet::new(),
            unclaimed: Unclaimed::default(),
            feed: FeedProgress::default(),
            settling: None,
            comparing: None,
            ended: VecDeque::new(),
            settlement: 0,
            settles_up_to: ((0, 0), TimestampMicros::default()),
            settles_again: false,
            ended_settled: 0,
            finding_orders: HashMap::new(),
            unreadable_of_unknown: HashMap::new(),
            ambiguous: HashMap::new(),
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
            Event::HeldReport(report) => {
                self.held.hold(report.clone().into(), true);
            }
            Event::FeedPosition(position) => {
                self.feed.replay(position);
                self.forget_ended_before(position.at);
            }
        }
        Ok(())
    }

    /// Ends recovery: gives reports whose orders are known now to them, and begins to settle every
    /// open order with the exchange.
    pub fn start(&mut self, now: TimestampMicros, out: &mut Outbox) {
        self.advance(now);
        for id in self.held.ids() {
            if let Some(order_id) = self.by_external_id.get(&id).copied() {
                self.deliver_held(&id, order_id, out);
            }
        }
        let (partitions, turn) = self.parts(out);
        for engine in partitions {
            engine.look_at_unsure_again(&turn);
        }
        self.note_ended_since(0, out);
        self.begin_settlement();
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
        self.turn(now, order_id.partition(), out, |engine, turn| match answer {
            Some((asked_at, answer)) => engine.query_answer(order_id, asked_at, answer, turn),
            None => engine.query_lost(order_id, turn),
        });
        self.index_other_id(order_id, out);
    }

    /// Gives an order the lines that name it by the id that only its record has, unless another order
    /// has that id.
    fn index_other_id(&mut self, order_id: OrderId, out: &mut Outbox) {
        let entry = self.engine(order_id.partition()).orders.get(&order_id);
        let named = entry.and_then(|entry| entry.underway.record_id.as_ref());
        let Some(id) = named.filter(|named| named.is_other).map(|named| named.id.clone()) else {
            return;
        };
        if self.by_external_id.get(&id).is_none() {
            self.by_external_id.insert(id.clone(), order_id);
            let first_event = out.events.len();
            self.deliver_held(&id, order_id, out);
            self.note_ended_since(first_event, out);
        }
    }

    /// Something that the exchange reported unasked. About an id that is not known (yet) it is
    /// kept for a while.
    pub fn report(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        if let Some(report) = self.report_known(now, report, out) {
            let received_at = self.now;
            self.held.hold(HeldLine::new(report, received_at), false);
        }
    }

    /// Something that the exchange reported and will forget once we say that we have it: what is
    /// not known (yet) is logged with everything else that this decides.
    pub fn report_durably(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        let Some(report) = self.report_known(now, report, out) else { return };
        let held = HeldLine::new(report, self.now);
        match self.held.hold_logged(&held) {
            Kept::Logged => {}
            Kept::Unlogged => out.events.push(Event::HeldReport(held.report)),
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
            self.turn(now, order_id.partition(), out, |engine, turn| {
                engine.report(order_id, report, turn);
            });
            return None;
        }
        self.advance(now);
        Some(report)
    }

    /// Lines of this numbering follow after `sequence`, and some before it may have been missed:
    /// all open orders are settled with the exchange.
    pub fn feed_session(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin(session, sequence);
        self.begin_settlement();
    }

    /// The same where the numbering has begun again under the session's name.
    pub fn feed_renumbered(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin_again(session, sequence);
        self.begin_settlement();
    }

    /// Every line of the feed up to here has been taken.
    pub fn feed_reached(&mut self, sequence: u64) {
        self.feed.reach(sequence);
    }

    /// The last position taken, or recovered: where a feed should go on.
    pub fn feed_position(&self) -> Option<(&CompactString, u64)> {
        self.feed.position()
    }

    /// Logs the feed position if it moved, and before it whatever it passes that no order has taken.
    /// Not while orders are being settled: a restart then settles the same orders again.
    pub fn log_feed_position(&mut self, now: TimestampMicros, out: &mut Outbox) {
        self.advance(now);
        let is_settled = self.settling.is_none() && self.finding_orders.is_empty();
        if !is_settled || !self.partitions.iter().all(Engine::is_settled) || self.is_looking_up() {
            return;
        }
        let position = if self.settles_again {
            let (place, began_at) = self.settles_up_to;
            self.feed.take_unlogged_up_to(place, began_at)
        } else {
            self.feed.take_unlogged(self.now)
        };
        if let Some(position) = position {
            out.events.extend(self.held.take_unlogged().into_iter().map(Event::HeldReport));
            self.forget_ended_before(position.at);
            out.events.push(Event::FeedPosition(position));
        }
        if std::mem::take(&mut self.settles_again) {
            self.begin_round();
        }
    }

    /// Whether the store is being asked whose something unreadable is: only memory knows of it.
    fn is_looking_up(&self) -> bool {
        self.unreadable_of_unknown.keys().any(|id| self.finding.contains(id))
    }

    /// Looks at what has waited too long: asks about at most `limit` orders of each partition.
    /// True when more are due.
    pub fn tick(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) -> bool {
        self.advance(now);
        let age = self.options.held_report_age_micros;
        let received_before = TimestampMicros::new(self.now.micros().saturating_sub(age));
        self.unclaimed.expired += self.held.expire(received_before);
        self.unclaimed.overflowed += self.held.take_given_up();
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

    /// Begins to settle all open orders with the exchange, from the first. Where that goes on, those that
    /// have been asked about already are asked once more after it.
    pub fn begin_settlement(&mut self) {
        self.settlement = self.settlement.wrapping_add(1).max(1);
        let has_asked = self.settling.is_some_and(|cursor| cursor != SettleCursor::default());
        if has_asked {
            self.settles_again = true;
        } else {
            self.begin_round();
        }
    }

    /// Goes through all open orders from the first: those are asked about that have not been since
    /// the last gap.
    fn begin_round(&mut self) {
        self.settles_up_to = (self.feed.place(), self.now);
        self.settling = Some(SettleCursor::default());
        self.ended_settled = 0;
    }

    /// Whether open orders remain to be asked about.
    pub fn is_settling(&self) -> bool {
        self.settling.is_some() || self.settles_again
    }

    /// Begins to compare all open orders with the exchange's record of them, unless that is being
    /// done. Unlike a settlement it holds up nothing: no line is known to be missing.
    pub fn begin_comparison(&mut self) {
        self.comparing.get_or_insert_default();
    }

    /// Whether open orders remain to be compared.
    pub fn is_comparing(&self) -> bool {
        self.comparing.is_some()
    }

    /// Asks about the next open orders that have been quiet for the grace, and looks at `limit` of
    /// them at most.
    pub fn compare_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        let Some(mut cursor) = self.comparing.take() else { return };
        let (partitions, mut turn) = self.parts(out);
        let mut room = limit;
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            if room == 0 {
                self.comparing = Some(cursor);
                return;
            }
            let (looked_at, last) = engine.compare_open(cursor.after, room, &mut turn);
            room -= looked_at;
            cursor = match last {
                Some(last) => SettleCursor { after: Some(last), ..cursor },
                None => SettleCursor { partition: cursor.partition + 1, after: None },
            };
        }
    }

    /// Asks about the next open orders, at most `limit`.
    pub fn settle_some(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) {
        self.advance(now);
        let Some(mut cursor) = self.settling else { return };
        let asked_before = out.effects.len();
        let settlement = self.settlement;
        let (partitions, mut turn) = self.parts(out);
        while let Some(engine) = partitions.get_mut(cursor.partition) {
            let room = limit.saturating_sub(turn.out.effects.len() - asked_before);
            if room == 0 {
                self.settling = Some(cursor);
                return;
            }
            cursor = match engine.settle_open((cursor.after, settlement), room, &mut turn) {
                Some(last) => SettleCursor { after: Some(last), ..cursor },
                None => SettleCursor { partition: cursor.partition + 1, after: None },
            };
        }
        self.settling = Some(cursor);
        // Last, so that those are among them that have ended meanwhile.
        while let Some((_, order_id)) = self.ended.get(self.ended_settled).copied() {
            if out.effects.len() - asked_before >= limit {
                return;
            }
            self.ended_settled += 1;
            if self.has(order_id) {
                let (partitions, mut turn) = self.parts(out);
                if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                    engine.settle_once(order_id, settlement, &mut turn);
                }
            } else {
                self.find_order(order_id, true, out);
            }
        }
        self.settling = None;
    }

    /// Asks the store for an order that has left memory, to ask the exchange about it.
    fn find_order(&mut self, order_id: OrderId, settles: bool, out: &mut Outbox) {
        match self.finding_orders.entry(order_id) {
            Entry::Occupied(mut known) => *known.get_mut() |= settles,
            Entry::Vacant(entry) => {
                entry.insert(settles);
                out.effects.push(Effect::FindOrder(order_id));
            }
        }
    }

    /// How many orders the store is being asked for.
    pub fn orders_being_found(&self) -> usize {
        self.finding_orders.len()
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
        let settles = self.finding_orders.remove(&order_id).unwrap_or(false);
        if !self.has(order_id)
            && let Some(tracked) = tracked
        {
            let order = Arc::clone(tracked.order());
            out.effects.push(Effect::Publish { order, event: None });
            self.load(tracked);
        }
        if settles {
            self.settle(now, order_id, out);
        } else {
            self.turn(now, order_id.partition(), out, |engine, turn| engine.look(order_id, turn));
        }
    }

    /// Asks about an order in memory, again and again until there is an answer.
    pub fn settle(&mut self, now: TimestampMicros, order_id: OrderId, out: &mut Outbox) {
        self.turn(now, order_id.partition(), out, |engine, turn| engine.settle(order_id, turn));
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
    pub fn held_reports(&self) -> usize {
        self.held.len()
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
                        self.deliver_held(&external_order_id, order_id, out);
                        self.deliver_unreadable(&external_order_id, order_id, out);
                        self.make_up_for_given_up(order_id, out);
                    } else {
                        out.effects.push(Effect::Alert(Alert::ExternalIdReused { order_id }));
                        self.settle_sharing(&external_order_id, out);
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
    fn forget_ended_before(&mut self, at: TimestampMicros) {
        let window = self.options.ended_window_micros;
        let is_old = |ended: &TimestampMicros| at.micros_since(*ended) > window;
        while self.ended.front().is_some_and(|(ended, _)| is_old(ended)) {
            self.ended.pop_front();
        }
    }

    /// Gives what was reported of an order before its id was known to it.
    pub(super) fn deliver_held(
        &mut self,
        id: &ExternalOrderId,
        order_id: OrderId,
        out: &mut Outbox,
    ) {
        for report in self.held.take(id) {
            let (partitions, mut turn) = self.parts(out);
            if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                engine.report(order_id, report, &mut turn);
            }
        }
    }

    /// Asks about an order that only now has an id, where reports of that time were given up: they
    /// may have been its own.
    fn make_up_for_given_up(&mut self, order_id: OrderId, out: &mut Outbox) {
        let created_at = self.order(order_id).map(|order| order.created_at);
        if created_at.is_some_and(|created_at| self.held.may_have_given_up(created_at)) {
            let (partitions, mut turn) = self.parts(out);
            if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                engine.settle(order_id, &mut turn);
            }
        }
    }

    /// Remembers which order an exchange id means. False when it means another one already: then
    /// only their records tell what belongs to which. An id of an order that ended long before is
    /// free again, since ids are unique within a trading day at least.
    pub(super) fn index(
        &mut self,
        external_order_id: &ExternalOrderId,
        order_id: OrderId,
        at: TimestampMicros,
    ) -> bool {
        let known = *self.by_external_id.get_or_insert(external_order_id.clone(), order_id);
        if known == order_id {
            return true;
        }
        let sharing = self.ambiguous.get(external_order_id).map(Vec::as_slice).unwrap_or_default();
        let is_over = |known: &OrderId| {
            *known == order_id
                || self.order(*known).is_none_or(|order| {
                    !order.is_open() && at.micros_since(order.updated_at) > ID_REUSE_MICROS
                })
        };
        if is_over(&known) && sharing.iter().all(is_over) {
            self.by_external_id.insert(external_order_id.clone(), order_id);
            if let Some(sharing) = self.ambiguous.remove(external_order_id) {
                self.mark_sharing(&sharing, false);
            }
            return true;
        }
        if self.ambiguous.len() < MAX_AMBIGUOUS_IDS {
            let sharing = self.ambiguous.entry(external_order_id.clone()).or_default();
            for order_id in [known, order_id] {
                if !sharing.contains(&order_id) {
                    sharing.push(order_id);
                }
            }
            self.mark_sharing(&[known, order_id], true);
        }
        false
    }

    /// Has the records tell which of the orders under an id is there under it.
    fn settle_sharing(&mut self, id: &ExternalOrderId, out: &mut Outbox) {
        for order_id in self.ambiguous.get(id).cloned().unwrap_or_default() {
            let (partitions, mut turn) = self.parts(out);
            if let Some(engine) = partitions.get_mut(order_id.partition().index()) {
                engine.settle(order_id, &mut turn);
            }
        }
    }

    /// Keeps back cancels under an id of several orders, but where the exchange's records have one of
    /// them alone under it: no order may be cancelled for another. They are tried again at each look.
    fn hold_back_cancels(&mut self, first_effect: usize, out: &mut Outbox) {
        let mut place = first_effect;
        while let Some(effect) = out.effects.get(place) {
            let Effect::Cancel { order_id, external_order_id, .. } = effect else {
                place += 1;
                continue;
            };
            let order_id = *order_id;
            if self.is_cancel_certain(order_id, external_order_id) {
                place += 1;
                continue;
            }
            if let Some(entry) = self.engine_mut(order_id.partition()).orders.get_mut(&order_id) {
                entry.underway.cancel_sent = false;
                entry.underway.cancel_unanswered = false;
            }
            if let Some(effect) = out.effects.get_mut(place) {
                *effect = Effect::Alert(Alert::ExternalIdReused { order_id });
            }
        }
    }

    fn is_cancel_certain(&self, order_id: OrderId, id: &ExternalOrderId) -> bool {
        let Some(sharing) = self.ambiguous.get(id) else { return true };
        let is_recorded = |order_id: &OrderId| {
            let entry = self.engine(order_id.partition()).orders.get(order_id);
            let named = entry.and_then(|entry| entry.underway.record_id.as_ref());
            named.is_some_and(|named| named.id == *id)
        };
        is_recorded(&order_id)
            && sharing.iter().all(|other| *other == order_id || !is_recorded(other))
    }

    /// Keeps orders in memory that share an id of the exchange: the store can name only one of them.
    fn mark_sharing(&mut self, orders: &[OrderId], is_sharing: bool) {
        for order_id in orders {
            if let Some(entry) = self.engine_mut(order_id.partition()).orders.get_mut(order_id) {
                entry.underway.shares_external_id = is_sharing;
                entry.underway.record_id = None;
            }
        }
    }

    pub(super) fn advance(&mut self, now: TimestampMicros) {
        self.now = self.now.max(now);
    }

    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    fn engine(&self, partition: UserPartition) -> &Engine {
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
