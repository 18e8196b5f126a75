//! All engines of a node, and the state that belongs to none of them.

use std::collections::{HashMap, HashSet, VecDeque};
use std::hash::RandomState;
use std::sync::Arc;

use compact_str::CompactString;

use super::feed_progress::FeedProgress;
use super::forgotten_ids::ForgottenIds;
use super::inputs::{
    CancelOutcome, CreateOrder, DayFinding, EngineOptions, QueryAnswer, Report, SubmitOutcome,
};
use super::news::{News, news_for_node};
use super::outbox::{Outbox, ReplyTo};
use super::partition::{Engine, UnknownOrder};
use super::round_progress::Rounds;
use super::spread_map::SpreadMap;
use super::unclaimed::Unclaimed;
use super::unmatched::{LogState, UnmatchedLine, UnmatchedReports};
use crate::money::Account;
use crate::order::{Event, Order, TrackedOrder};
use crate::types::{
    ClientOrderId, ExternalOrderId, MAX_ORDER_SHARES, OrderId, TimestampMicros, USER_PARTITIONS,
    UserId, UserPartition,
};

/// Hash tables for exchange ids: as many as all engines together have for their orders.
const EXTERNAL_ID_TABLES: usize = 1_024;

/// All engines of a node, and the state that belongs to none of them.
#[derive(Debug)]
pub struct Engines {
    pub(super) partitions: [Engine; USER_PARTITIONS],
    /// The order of each exchange id. A report names its order by nothing else.
    pub(super) by_external_id: SpreadMap<ExternalOrderId, OrderId, RandomState>,
    pub(super) unmatched: UnmatchedReports,
    /// Exchange ids being looked up in the store. At most one per unmatched report.
    pub(super) ids_looked_up: HashSet<ExternalOrderId>,
    /// Discarded reports that operators have not been alerted about yet.
    unclaimed: Unclaimed,
    pub(super) feed: FeedProgress,
    pub(super) rounds: Rounds,
    /// Recently ended orders with the time of their end, oldest first: those within the window
    /// before the last logged feed position, or after it. After a gap in the feed they are queried
    /// too, because late fills and busts may be among the lost lines. Most have left memory. 24
    /// bytes each: 56 MB on a host that takes a quarter of the peak.
    pub(super) ended: VecDeque<(TimestampMicros, OrderId)>,
    /// Orders being looked up in the store in order to query them, and whether that query
    /// reconciles them.
    pub(super) orders_looked_up: HashMap<OrderId, bool>,
    /// Findings about some of these. Bounded by who compares: a few are under way at a time.
    pub(super) findings: HashMap<OrderId, Vec<DayFinding>>,
    /// Unreadable lines about ids that no known order has (yet), with their time of arrival.
    pub(super) unreadable_of_unknown: HashMap<ExternalOrderId, (CompactString, TimestampMicros)>,
    /// Ids that the exchange gave to several orders, with these orders. Some may be other nodes'.
    pub(super) ambiguous: HashMap<ExternalOrderId, Vec<OrderId>>,
    /// Other nodes' orders among those, as far as the exchange was asked about them: the id under which
    /// its record has them open, if they are.
    pub(super) open_elsewhere: HashMap<OrderId, Option<ExternalOrderId>>,
    /// Ids of orders that ended before the current feed session and were named by lines of it.
    pub(super) used_late: HashMap<ExternalOrderId, OrderId>,
    /// Ids of orders that ended lately and have left memory; only where other nodes have users.
    pub(super) forgotten_ids: ForgottenIds,
    /// The latest time of any input; never goes back.
    pub(super) now: TimestampMicros,
    /// When the exchange last answered anything.
    pub(super) answered_at: TimestampMicros,
    /// Accounts of before the log had any, to be recorded at the start.
    pub(super) accounts_to_begin: Option<Vec<(UserId, Account)>>,
    pub(super) options: EngineOptions,
}

impl Engines {
    /// Creates engines without orders.
    pub fn new(options: EngineOptions) -> Self {
        assert!(options.relook_pauses_micros.is_sorted(), "orders are looked at ever less often");
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
            findings: HashMap::new(),
            unreadable_of_unknown: HashMap::new(),
            ambiguous: HashMap::new(),
            open_elsewhere: HashMap::new(),
            used_late: HashMap::new(),
            forgotten_ids: ForgottenIds::default(),
            now: TimestampMicros::default(),
            answered_at: TimestampMicros::default(),
            accounts_to_begin: None,
            options,
        }
    }

    /// Replays an event of the log.
    ///
    /// # Errors
    /// The event is about an order that is not in memory: the store has it, or the log is
    /// incomplete.
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
            Event::Adopted(adopted) => self.load(adopted.order.clone()),
            Event::CashMoved(moved) => {
                self.engine_mut(moved.user.partition()).apply(event)?;
            }
            Event::AccountAdopted(adopted) => {
                self.engine_mut(adopted.user.partition()).apply(event)?;
            }
            Event::AccountsBegun(_) => self.accounts_have_begun(),
            Event::UnmatchedReport(report) => {
                self.unmatched.add(report.clone().into(), true);
            }
            Event::FeedPosition(position) => {
                self.feed.replay(position);
                self.forget_ended_before(position.at);
            }
        }
        Ok(())
    }

    /// Ends recovery: delivers reports whose orders are now known, and begins to reconcile every
    /// open order with the exchange.
    pub fn start(&mut self, now: TimestampMicros, out: &mut Outbox) {
        assert!(out.is_empty(), "nothing is decided before the start");
        self.advance(now);
        self.begin_accounts(out);
        let first_event = out.events.len();
        for id in self.unmatched.ids() {
            if self.ambiguous.contains_key(&id) {
                for report in self.unmatched.take(&id) {
                    self.quarantine_ambiguous(now, report, out);
                }
            } else if let Some(order_id) = self.by_external_id.get(&id).copied() {
                self.deliver_unmatched(&id, order_id, out);
            }
        }
        self.withhold_cancels(0, out);
        let (partitions, turn) = self.parts(out);
        for engine in partitions {
            engine.schedule_unsure(&turn);
        }
        self.note_ended_since(first_event, out);
        self.begin_reconciliation();
        assert!(self.is_reconciling(), "a start reconciles all open orders");
        self.debug_assert_lists();
    }

    /// Notes the orders that ended with events from `first_event` on, which no turn has examined.
    pub(super) fn note_ended_since(&mut self, first_event: usize, out: &Outbox) {
        assert!(first_event <= out.events.len(), "events are only added");
        for event in out.events.iter().skip(first_event) {
            if let Some(News::MayHaveEnded(order_id)) = news_for_node(event) {
                self.note_if_ended(order_id, self.now);
            }
        }
    }

    /// Takes a create request.
    pub fn create(
        &mut self,
        now: TimestampMicros,
        request: CreateOrder,
        to: ReplyTo,
        out: &mut Outbox,
    ) {
        let partition = request.user.partition();
        assert_eq!(request.order_id.partition(), partition, "an order is in its user's partition");
        assert!(
            (1..=MAX_ORDER_SHARES).contains(&request.num_shares),
            "a validated order has some shares, and not too many"
        );
        self.turn(now, partition, out, |engine, turn| {
            engine.create(request, to, turn);
        });
    }

    /// Takes a cancel request.
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

    /// Takes a client's reply timeout.
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
        if matches!(outcome, SubmitOutcome::Accepted(_) | SubmitOutcome::Refused { .. }) {
            self.note_answer(now);
        }
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
        if matches!(outcome, CancelOutcome::Cancelled | CancelOutcome::Refused { .. }) {
            self.note_answer(now);
        }
        self.turn(now, order_id.partition(), out, |engine, turn| {
            engine.cancel_answer(order_id, outcome, turn);
        });
    }

    /// Takes the exchange's record of an order and the time of the query; `None` if no answer came.
    pub fn query_answer(
        &mut self,
        now: TimestampMicros,
        order_id: OrderId,
        answer: Option<(TimestampMicros, QueryAnswer)>,
        out: &mut Outbox,
    ) {
        if let Some((_, answer)) = &answer {
            self.note_answer(now);
            if self.is_elsewhere(order_id) {
                self.note_record_elsewhere(order_id, answer, out);
                return;
            }
        }
        let has_unmatched_reports = match &answer {
            Some((_, QueryAnswer::Known(record))) => {
                let order = self.order(order_id);
                order.is_some_and(|order| order.external_order_id.is_none())
                    && self.unmatched.has(&record.external_order_id)
            }
            Some(_) | None => false,
        };
        self.turn(now, order_id.partition(), out, |engine, turn| match answer {
            Some((queried_at, answer)) => engine.query_answer(order_id, queried_at, answer, turn),
            None => engine.query_lost(order_id, turn),
        });
        self.index_other_id(order_id, out);
        if has_unmatched_reports {
            // The unmatched reports were delivered after this record: only another one can judge
            // them.
            self.reconcile(now, order_id, out);
        }
    }

    /// Takes an unsolicited report. A report about an id that no order has (yet) is kept for a
    /// while.
    pub fn report(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        if let Some(report) = self.report_known(now, report, out) {
            let received_at = self.now;
            self.unmatched.add(UnmatchedLine::new(report, received_at), false);
        }
    }

    /// Takes an unsolicited report that the exchange forgets once acknowledged: an unmatched one is
    /// logged along with everything else that this input decides.
    pub fn report_durably(&mut self, now: TimestampMicros, report: Report, out: &mut Outbox) {
        // Its order has taken it.
        let Some(report) = self.report_known(now, report, out) else { return };
        let unmatched = UnmatchedLine::new(report, self.now);
        let state = self.unmatched.add_logged(&unmatched);
        assert!(
            self.unmatched.has(&unmatched.report.external_order_id),
            "an unmatched report is kept"
        );
        match state {
            LogState::Logged => {}
            LogState::Unlogged => out.events.push(Event::UnmatchedReport(unmatched.report)),
        }
    }

    /// Delivers a report to its order. Returns a report whose id no order has (yet).
    fn report_known(
        &mut self,
        now: TimestampMicros,
        report: Report,
        out: &mut Outbox,
    ) -> Option<Report> {
        if self.is_ambiguous(&report.external_order_id) {
            self.quarantine_ambiguous(now, report, out);
            return None;
        }
        let known = self.by_external_id.get(&report.external_order_id).copied();
        if let Some(order_id) = known.filter(|order_id| self.has(*order_id)) {
            self.note_used_late(&report.external_order_id, order_id);
            self.turn(now, order_id.partition(), out, |engine, turn| {
                engine.report(order_id, report, turn);
            });
            return None;
        }
        self.advance(now);
        Some(report)
    }

    /// The feed continues after `sequence` of this session, and earlier lines may have been missed:
    /// reconciles all open orders with the exchange.
    pub fn feed_session(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin(session, self.place_of(session, sequence));
        self.used_late.clear();
        self.begin_reconciliation();
    }

    /// Where the feed goes on. Where nodes read it in turn, the next one may name a place that the lines
    /// here have passed, which is a gap like any other: a numbering that restarts is told as such.
    fn place_of(&self, session: &CompactString, sequence: u64) -> u64 {
        let goes_on = self.options.shares_users && self.feed.is_current(session);
        if goes_on { sequence.max(self.feed.place().1) } else { sequence }
    }

    /// Like [`feed_session`](Self::feed_session), after the session restarted its numbering.
    pub fn feed_renumbered(&mut self, session: &CompactString, sequence: u64) {
        self.feed.begin_renumbered(session, sequence);
        self.used_late.clear();
        self.begin_reconciliation();
    }

    /// Every line of the feed up to `sequence` was taken.
    pub fn feed_reached(&mut self, sequence: u64) {
        self.feed.reach(sequence);
    }

    /// The last position taken or recovered, from which the feed should continue.
    pub fn feed_position(&self) -> Option<(&CompactString, u64)> {
        self.feed.position()
    }

    /// Handles everything that has waited too long. Queries at most `limit` orders of each
    /// partition; returns true if more are due.
    pub fn tick(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) -> bool {
        self.advance(now);
        let age = self.options.unmatched_report_age_micros;
        let received_before = self.before_now(age);
        let expired = self.unmatched.expire(received_before);
        let overflowed = self.unmatched.take_overflow_count();
        // Where other nodes have other users, lines about theirs expire all the time.
        if !self.options.shares_users {
            self.unclaimed.expired += expired;
            self.unclaimed.overflowed += overflowed;
        }
        self.unclaimed.alert(self.now, out);
        self.look_up_unmatched(out);
        self.expire_unreadable(out);
        self.query_due(now, limit, out)
    }

    /// So long before now; the beginning of all times if the clock is not as far.
    pub(super) fn before_now(&self, micros: u64) -> TimestampMicros {
        TimestampMicros::new(self.now.micros().saturating_sub(micros))
    }

    /// Queries the orders that are due, at most `limit` of each partition. Returns true if more are due.
    pub fn query_due(&mut self, now: TimestampMicros, limit: usize, out: &mut Outbox) -> bool {
        self.advance(now);
        let effects_before = out.effects.len();
        let (partitions, mut turn) = self.parts(out);
        let mut more = false;
        let mut absent = Vec::new();
        for engine in partitions {
            more |= engine.query_overdue(limit, &mut turn);
            more |= engine.run_scheduled_queries(limit, &mut absent, &mut turn);
        }
        assert!(absent.len() <= limit * USER_PARTITIONS, "a look has a limit in each partition");
        for order_id in absent {
            self.look_up_order(order_id, false, out);
        }
        let asked = out.effects.len() - effects_before;
        // Those that have waited too long, and those whose time has come.
        assert!(asked <= 2 * limit * USER_PARTITIONS, "each look of a partition has a limit");
        more
    }

    /// The current version of an order, durable or not.
    pub fn order(&self, order_id: OrderId) -> Option<&Arc<Order>> {
        self.engine(order_id.partition()).order(order_id)
    }

    /// Whether a client's key names an order in memory, durable or not.
    pub fn knows_key(&self, user: &UserId, key: &ClientOrderId) -> bool {
        self.engine(user.partition()).by_key(user, key).is_some()
    }

    /// All orders in memory, in no particular order.
    pub fn orders(&self) -> impl Iterator<Item = &Arc<Order>> {
        self.partitions.iter().flat_map(Engine::orders)
    }

    /// All orders of a partition in memory, in no particular order.
    pub fn orders_of(&self, partition: UserPartition) -> impl Iterator<Item = &Arc<Order>> {
        self.engine(partition).orders()
    }

    /// Number of orders that the exchange may still change.
    pub fn open_orders(&self) -> usize {
        self.partitions.iter().map(Engine::open_orders).sum()
    }

    /// Whether the exchange may still change any order of a partition.
    pub fn has_open_orders(&self, partition: UserPartition) -> bool {
        self.engine(partition).open_orders() > 0
    }

    /// Number of unmatched reports.
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

    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn engine(&self, partition: UserPartition) -> &Engine {
        &self.partitions[partition.index()]
    }

    #[expect(clippy::indexing_slicing, reason = "a partition is below USER_PARTITIONS")]
    pub(super) fn engine_mut(&mut self, partition: UserPartition) -> &mut Engine {
        &mut self.partitions[partition.index()]
    }
}
