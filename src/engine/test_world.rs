//! A small world around the engines: clients, a log that commits late, a network that loses,
//! reorders and delays, an exchange that keeps its word, and crashes. Every move is chosen from
//! outside, so that a failing run can be repeated and shrunk. Checks the invariants as it goes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::store_model::StoreModel;
use super::*;
use crate::order::{Event, Fill, Order, ReportKind, Status, TrackedOrder};
use crate::types::*;

/// One move of the world. Numbers choose among what there is, modulo its count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    Create {
        user: u8,
        key: u8,
        shares: u8,
    },
    Cancel {
        order: u8,
    },
    /// The reply timeout of the oldest request.
    GiveUpWaiting,
    /// Some more events become durable, and what waited for them happens.
    Commit {
        events: u8,
    },
    /// A submit arrives at the exchange.
    Submit {
        pick: u8,
        fate: Fate,
    },
    /// A cancel arrives at the exchange.
    SendCancel {
        pick: u8,
        fate: Fate,
    },
    /// A query arrives at the exchange.
    Query {
        pick: u8,
        fate: Fate,
    },
    /// An answer arrives here.
    Answer {
        pick: u8,
    },
    /// The exchange trades for an order.
    Trade {
        order: u8,
        shares: u8,
    },
    /// The exchange takes an execution back.
    Bust {
        order: u8,
    },
    /// The exchange ends an order unasked.
    End {
        order: u8,
        expires: bool,
    },
    /// The feed brings its next lines.
    Feed {
        lines: u8,
    },
    /// The feed goes back and repeats lines.
    FeedAgain {
        lines: u8,
    },
    /// The feed loses lines and says so.
    FeedGap {
        lines: u8,
    },
    LogPosition,
    Wait {
        millis: u8,
    },
    Sweep,
    /// The store follows the log.
    Store {
        events: u8,
    },
    /// An order is forgotten, if it may be.
    Forget {
        order: u8,
    },
    /// The store says what it knows of an exchange id.
    Found {
        pick: u8,
    },
    /// The process dies; some events that were on their way to the disk may have got there.
    Crash {
        torn: u8,
    },
}

/// What the network does to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Fine,
    /// The exchange never gets it.
    Lost,
    /// The exchange gets it, but the answer never comes.
    AnswerLost,
    /// The exchange says no.
    Refused,
}

#[derive(Debug)]
struct ExchangeOrder {
    external_order_id: ExternalOrderId,
    shares: Shares,
    state: Option<ExchangeOrderState>,
    executions: Vec<Fill>,
}

impl ExchangeOrder {
    fn filled(&self) -> Shares {
        self.executions.iter().map(|fill| fill.num_shares).sum()
    }
}

#[derive(Debug, Clone)]
enum Answer {
    Submit(OrderId, SubmitOutcome),
    Cancel(OrderId, CancelOutcome),
    Query(OrderId, Option<(TimestampMicros, QueryAnswer)>),
}

#[derive(Debug)]
pub(super) struct World {
    engines: Engines,
    out: Outbox,
    log: Vec<Event>,
    durable: usize,
    gated: VecDeque<(usize, Effect)>,
    now: u64,
    next_id: u64,
    submits: Vec<Arc<Order>>,
    cancels: Vec<(OrderId, ExternalOrderId)>,
    queries: Vec<(OrderId, TimestampMicros)>,
    answers: Vec<Answer>,
    lookups: Vec<Result<ExternalOrderId, OrderId>>,
    store: StoreModel,
    exchange: BTreeMap<OrderId, ExchangeOrder>,
    executions: u64,
    feed: Vec<Report>,
    feed_taken: usize,
    waiting: VecDeque<(OrderId, ReplyTo)>,
    next_reply: u64,
    /// What readers have seen, over all starts.
    seen: BTreeMap<OrderId, Arc<Order>>,
    /// Which order each user's key was said to name.
    named: BTreeMap<(UserId, ClientOrderId), OrderId>,
    created: Vec<(UserId, OrderId)>,
    /// Orders that had an execution taken back.
    busted: BTreeSet<OrderId>,
    pub(super) crashes: usize,
}

const START: u64 = 1_000_000_000;

pub(super) const OPTIONS: EngineOptions = EngineOptions {
    submit_window_micros: 100_000,
    clock_tolerance_micros: 0,
    grace_micros: 50_000,
    unmatched_report_age_micros: 10_000_000,
    lookup_age_micros: 20_000,
    unknown_span_micros: 50_000,
    doubt_age_micros: 100_000,
    max_doubt_pause_micros: 200_000,
    ended_window_micros: 1_000_000_000,
    relook_pauses_micros: [100_000, 200_000, 300_000, 400_000, 500_000],
};

fn pick<T>(from: &[T], number: u8) -> Option<usize> {
    (!from.is_empty()).then(|| usize::from(number) % from.len())
}

impl World {
    pub(super) fn new() -> Self {
        let mut world = Self {
            engines: Engines::new(OPTIONS),
            out: Outbox::new(),
            log: Vec::new(),
            durable: 0,
            gated: VecDeque::new(),
            now: START,
            next_id: 0,
            submits: Vec::new(),
            cancels: Vec::new(),
            queries: Vec::new(),
            answers: Vec::new(),
            lookups: Vec::new(),
            store: StoreModel::default(),
            exchange: BTreeMap::new(),
            executions: 0,
            feed: Vec::new(),
            feed_taken: 0,
            waiting: VecDeque::new(),
            next_reply: 0,
            seen: BTreeMap::new(),
            named: BTreeMap::new(),
            created: Vec::new(),
            busted: BTreeSet::new(),
            crashes: 0,
        };
        world.start();
        world
    }

    fn time(&self) -> TimestampMicros {
        TimestampMicros::new(self.now)
    }

    fn start(&mut self) {
        self.engines.start(self.time(), &mut self.out);
        let position = self.engines.feed_position().map_or(0, |(_, sequence)| sequence);
        self.feed_taken = usize::try_from(position).unwrap();
        assert!(self.feed_taken <= self.feed.len());
        self.engines.feed_session(&"s".into(), position);
        self.gate();
    }

    fn gate(&mut self) {
        self.log.append(&mut self.out.events);
        let gate = self.log.len();
        self.gated.extend(self.out.effects.drain(..).map(|effect| (gate, effect)));
    }

    pub(super) fn step(&mut self, step: Move) {
        let now = self.time();
        match step {
            Move::Create { user, key, shares } => self.create(user, key, shares),
            Move::Cancel { order } => self.cancel(order),
            Move::GiveUpWaiting => {
                if let Some((order_id, to)) = self.waiting.pop_front() {
                    self.engines.reply_timeout(now, order_id, to, &mut self.out);
                }
            }
            Move::Commit { events } => {
                self.durable = (self.durable + usize::from(events)).min(self.log.len());
                self.release();
            }
            Move::Submit { pick: number, fate } => {
                if let Some(place) = pick(&self.submits, number) {
                    let order = self.submits.remove(place);
                    self.arrive(&order, fate);
                }
            }
            Move::SendCancel { pick: number, fate } => {
                if let Some(place) = pick(&self.cancels, number) {
                    let (order_id, external_order_id) = self.cancels.remove(place);
                    self.arrive_cancel(order_id, &external_order_id, fate);
                }
            }
            Move::Query { pick: number, fate } => {
                if let Some(place) = pick(&self.queries, number) {
                    let (order_id, asked_at) = self.queries.remove(place);
                    let is_answered = matches!(fate, Fate::Fine);
                    let answer = is_answered.then(|| (asked_at, self.record_of(order_id)));
                    self.answers.push(Answer::Query(order_id, answer));
                }
            }
            Move::Answer { pick: number } => {
                if let Some(place) = pick(&self.answers, number) {
                    let answer = self.answers.remove(place);
                    self.take_answer(answer);
                }
            }
            Move::Trade { order, shares } => self.trade(order, shares),
            Move::Bust { order } => self.bust(order),
            Move::End { order, expires } => self.end(order, expires),
            Move::Feed { lines } => self.take_feed(usize::from(lines)),
            Move::FeedAgain { lines } => {
                self.feed_taken = self.feed_taken.saturating_sub(usize::from(lines));
            }
            Move::FeedGap { lines } => self.lose_feed(usize::from(lines)),
            Move::LogPosition => self.engines.log_feed_position(now, &mut self.out),
            Move::Wait { millis } => self.now += u64::from(millis) * 1_000,
            Move::Sweep => {
                self.engines.tick(now, 3, &mut self.out);
                self.engines.reconcile_some(now, 3, &mut self.out);
            }
            Move::Store { events } => {
                let until = (self.store.position + usize::from(events)).min(self.durable);
                self.store.follow(&self.log, until);
            }
            Move::Forget { order } => self.forget(order),
            Move::Found { pick: number } => {
                if let Some(place) = pick(&self.lookups, number) {
                    match self.lookups.remove(place) {
                        Ok(id) => {
                            let found = self.store.by_external_id(&id);
                            self.engines.found(now, &id, found, &mut self.out);
                        }
                        Err(order_id) => {
                            let found = self.store.orders.get(&order_id).cloned();
                            self.engines.found_order(now, order_id, found, &mut self.out);
                        }
                    }
                }
            }
            Move::Crash { torn } => self.crash(usize::from(torn)),
        }
        self.gate();
    }

    fn create(&mut self, user: u8, key: u8, shares: u8) {
        let user = UserId::new(&format!("user-{}", user % 3)).unwrap();
        let key = key % 6;
        let client_order_id = (key > 0).then(|| ClientOrderId::new(&format!("k{key}")).unwrap());
        self.next_id += 1;
        let request = CreateOrder {
            order_id: OrderId::new(u128::from(self.now) * 1_000, self.next_id, user.partition()),
            user: user.clone(),
            client_order_id,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: u64::from(shares % 4) + 1,
            created_at: self.time(),
        };
        // Whoever asks looks into the store first: a key may name an order that was forgotten.
        let stored = request.client_order_id.as_ref().and_then(|key| {
            self.store.by_key(&request.user, key).map(|tracked| Arc::clone(tracked.order()))
        });
        if let Some(order) = stored {
            self.check_name(&order);
            return;
        }
        let order_id = request.order_id;
        let to = self.new_reply(order_id);
        self.engines.create(self.time(), request, to, &mut self.out);
        self.created.push((user, order_id));
    }

    fn forget(&mut self, number: u8) {
        let Some(place) = pick(&self.created, number) else { return };
        let order_id = self.created[place].1;
        let Some(order) = self.engines.order(order_id) else { return };
        let version = order.version;
        let is_about = |event: &Event| match event {
            Event::Created(created) => created.order_id == order_id,
            Event::Changed(changed) => changed.order_id == order_id,
            Event::UnmatchedReport(_) | Event::FeedPosition(_) => false,
        };
        let last = self.log.iter().rposition(is_about).unwrap();
        if last < self.store.position
            && let Some(order) = self.engines.forget(order_id, version)
        {
            assert_eq!(&order, self.store.orders[&order_id].order(), "the store has it");
        }
    }

    fn new_reply(&mut self, order_id: OrderId) -> ReplyTo {
        self.next_reply += 1;
        let to = ReplyTo(self.next_reply);
        self.waiting.push_back((order_id, to));
        to
    }

    fn cancel(&mut self, order: u8) {
        let Some(place) = pick(&self.created, order) else { return };
        let (user, order_id) = self.created[place].clone();
        if !self.engines.has(order_id) && self.store.orders.contains_key(&order_id) {
            // Answered from the store: it has ended.
            return;
        }
        let to = self.new_reply(order_id);
        self.engines.cancel(self.time(), (&user, order_id), to, &mut self.out);
    }

    /// Does what waited for events that are durable now.
    fn release(&mut self) {
        while self.gated.front().is_some_and(|(gate, _)| *gate <= self.durable) {
            let (_, effect) = self.gated.pop_front().unwrap();
            match effect {
                Effect::Publish { order, .. } => self.publish(order),
                Effect::Submit(order) => self.submits.push(order),
                Effect::Cancel { order_id, external_order_id, .. } => {
                    self.cancels.push((order_id, external_order_id));
                }
                Effect::Query(order_id) => self.queries.push((order_id, self.time())),
                Effect::LookUpExternalId(id) => self.lookups.push(Ok(id)),
                Effect::LookUpOrder(order_id) => self.lookups.push(Err(order_id)),
                Effect::ReplyCreate { to, reply } => {
                    self.answered(to);
                    self.check_create_reply(reply);
                }
                Effect::ReplyCancel { to, reply } => {
                    self.answered(to);
                    self.check_cancel_reply(reply);
                }
                Effect::Alert(_) | Effect::Repaired { .. } => {}
            }
        }
    }

    fn answered(&mut self, to: ReplyTo) {
        self.waiting.retain(|(_, other)| *other != to);
    }

    fn publish(&mut self, order: Arc<Order>) {
        if let Some(before) = self.seen.get(&order.order_id) {
            if before.version == order.version {
                assert_eq!(*before, order, "an order comes back from the store as it was");
                return;
            }
            assert!(before.version < order.version, "a version never goes back");
            let reopened = before.status.is_terminal() && before.status != order.status;
            assert!(
                !reopened || before.filled_shares != order.filled_shares || before.is_stray(),
                "terminal stays terminal but for the late fill and the bust: {before:?} {order:?}"
            );
        }
        // A fill that the exchange's record brought can overtake the bust that made room for it.
        let may_overtake = self.busted.contains(&order.order_id);
        assert!(
            order.filled_shares <= order.num_shares || may_overtake,
            "this exchange never over-fills"
        );
        self.seen.insert(order.order_id, order);
    }

    fn check_create_reply(&mut self, reply: CreateReply) {
        match reply {
            CreateReply::Accepted(order) => {
                assert!(order.external_order_id.is_some() && order.status != Status::Pending);
                self.check_read(&order);
                self.check_name(&order);
            }
            CreateReply::Rejected(order) => {
                assert_eq!(order.status, Status::Failed);
                self.check_read(&order);
            }
            CreateReply::Pending(order) | CreateReply::Duplicate(order) => {
                self.check_read(&order);
                self.check_name(&order);
            }
            CreateReply::Conflict(order) => self.check_name(&order),
            CreateReply::OutcomeUnknown
            | CreateReply::NoRoom
            | CreateReply::Unavailable
            | CreateReply::Halted(_)
            | CreateReply::ExchangeAway
            | CreateReply::ExchangeBusy => {
                panic!("ids are unique here, and the engines take everything else")
            }
        }
    }

    fn check_cancel_reply(&mut self, reply: CancelReply) {
        match reply {
            CancelReply::Cancelled(order) => {
                assert_eq!(order.status, Status::Cancelled);
                self.check_read(&order);
                let record = &self.exchange[&order.order_id];
                assert_ne!(record.state, Some(ExchangeOrderState::Open), "it is cancelled there");
            }
            CancelReply::Pending(order) | CancelReply::Conflict(order) => self.check_read(&order),
            // A create that was a repetition brought no order of its own.
            CancelReply::NotFound => {}
            CancelReply::OutcomeUnknown | CancelReply::NoRoom | CancelReply::Unavailable => {
                panic!("never refused here")
            }
        }
    }

    fn check_read(&self, order: &Order) {
        let seen = self.seen.get(&order.order_id).expect("an answer is readable");
        assert!(seen.version >= order.version, "a read after an answer is as new as the answer");
    }

    fn check_name(&mut self, order: &Order) {
        if let Some(key) = &order.client_order_id {
            let name = (order.user.clone(), key.clone());
            let first = *self.named.entry(name).or_insert(order.order_id);
            assert_eq!(first, order.order_id, "a key names one order for good");
        }
    }

    /// A submit arrives at the exchange.
    fn arrive(&mut self, order: &Order, fate: Fate) {
        let order_id = order.order_id;
        assert!(
            self.log[..self.durable].iter().any(
                |event| matches!(event, Event::Created(created) if created.order_id == order_id)
            ),
            "no order exists at the exchange without a durable record"
        );
        assert!(!self.exchange.contains_key(&order_id), "an order is never placed twice");
        let is_late = self.now > order.submit_before.micros();
        let state = match fate {
            Fate::Lost => None,
            Fate::Refused => Some(None),
            Fate::Fine | Fate::AnswerLost if is_late => Some(None),
            Fate::Fine | Fate::AnswerLost => Some(Some(ExchangeOrderState::Open)),
        };
        let mut outcome = SubmitOutcome::Unknown;
        if let Some(state) = state {
            let external = format!("X{}", self.exchange.len());
            let external_order_id = ExternalOrderId::new(&external).unwrap();
            if fate != Fate::AnswerLost {
                outcome = match state {
                    Some(_) => SubmitOutcome::Accepted(external_order_id.clone()),
                    None => SubmitOutcome::Refused { reason: "no".into() },
                };
            }
            let shares = order.num_shares;
            let executions = Vec::new();
            let order = ExchangeOrder { external_order_id, shares, state, executions };
            self.exchange.insert(order_id, order);
        }
        self.answers.push(Answer::Submit(order_id, outcome));
    }

    fn arrive_cancel(&mut self, order_id: OrderId, id: &ExternalOrderId, fate: Fate) {
        let order = self.exchange.get_mut(&order_id).expect("only accepted orders are cancelled");
        assert_eq!(&order.external_order_id, id);
        let mut outcome = CancelOutcome::Unknown;
        let refused = |why| CancelOutcome::Refused { why, reason: "no".into() };
        if fate == Fate::Refused {
            outcome = refused(CancelRefusal::Declined);
        } else if fate != Fate::Lost {
            let answer = match order.state {
                Some(ExchangeOrderState::Open) => {
                    order.state = Some(ExchangeOrderState::Cancelled);
                    self.report(order_id, ReportKind::Cancelled);
                    CancelOutcome::Cancelled
                }
                Some(_) => refused(CancelRefusal::AlreadyEnded),
                None => refused(CancelRefusal::UnknownOrder),
            };
            if fate == Fate::Fine {
                outcome = answer;
            }
        }
        self.answers.push(Answer::Cancel(order_id, outcome));
    }

    fn record_of(&self, order_id: OrderId) -> QueryAnswer {
        match self.exchange.get(&order_id) {
            None => QueryAnswer::Unknown { as_of: None },
            Some(order) => match order.state {
                None => QueryAnswer::Rejected { reason: "no".into() },
                Some(state) => QueryAnswer::Known(ExchangeRecord {
                    external_order_id: order.external_order_id.clone(),
                    state,
                    filled_shares: order.filled(),
                    executions: order.executions.clone(),
                    unreadable: Vec::new(),
                    as_of: None,
                }),
            },
        }
    }

    fn take_answer(&mut self, answer: Answer) {
        let now = self.time();
        match answer {
            Answer::Submit(id, outcome) => {
                self.engines.submit_answer(now, id, outcome, &mut self.out);
            }
            Answer::Cancel(id, outcome) => {
                self.engines.cancel_answer(now, id, outcome, &mut self.out);
            }
            Answer::Query(id, answer) => {
                self.engines.query_answer(now, id, answer, &mut self.out);
            }
        }
    }

    fn report(&mut self, order_id: OrderId, kind: ReportKind) {
        let external_order_id = self.exchange[&order_id].external_order_id.clone();
        self.feed.push(Report::new(external_order_id, kind));
    }

    fn some_order(&self, number: u8) -> Option<OrderId> {
        let ids: Vec<OrderId> = self.exchange.keys().copied().collect();
        pick(&ids, number).map(|place| ids[place])
    }

    fn trade(&mut self, number: u8, shares: u8) {
        let Some(order_id) = self.some_order(number) else { return };
        let executed_at = self.time();
        let order = self.exchange.get_mut(&order_id).unwrap();
        if order.state != Some(ExchangeOrderState::Open) {
            return;
        }
        self.executions += 1;
        let fill = Fill {
            execution_id: ExecutionId::new(&format!("e{}", self.executions)).unwrap(),
            price: PriceCents::new(100).unwrap(),
            num_shares: (u64::from(shares % 3) + 1).min(order.shares - order.filled()),
            executed_at,
        };
        order.executions.push(fill.clone());
        if order.filled() == order.shares {
            order.state = Some(ExchangeOrderState::Filled);
        }
        self.report(order_id, ReportKind::Filled(fill));
    }

    fn bust(&mut self, number: u8) {
        let Some(order_id) = self.some_order(number) else { return };
        let order = self.exchange.get_mut(&order_id).unwrap();
        let Some(fill) = order.executions.pop() else { return };
        if order.state == Some(ExchangeOrderState::Filled) {
            order.state = Some(ExchangeOrderState::Open);
        }
        self.busted.insert(order_id);
        self.report(order_id, ReportKind::Busted { execution_id: fill.execution_id });
    }

    fn end(&mut self, number: u8, expires: bool) {
        let Some(order_id) = self.some_order(number) else { return };
        let order = self.exchange.get_mut(&order_id).unwrap();
        if order.state == Some(ExchangeOrderState::Open) {
            let (state, kind) = if expires {
                (ExchangeOrderState::Expired, ReportKind::Expired)
            } else {
                (ExchangeOrderState::Cancelled, ReportKind::Cancelled)
            };
            order.state = Some(state);
            self.report(order_id, kind);
        }
    }

    fn take_feed(&mut self, lines: usize) {
        for _ in 0..lines {
            let Some(report) = self.feed.get(self.feed_taken).cloned() else { return };
            self.engines.report(self.time(), report, &mut self.out);
            self.feed_taken += 1;
            self.engines.feed_reached(self.feed_taken as u64);
        }
    }

    /// Skips lines, but no bust: only the feed tells it.
    fn lose_feed(&mut self, lines: usize) {
        let rest = self.feed[self.feed_taken..].iter().take(lines);
        let can_be_lost = |report: &&Report| !matches!(report.kind, ReportKind::Busted { .. });
        self.feed_taken += rest.take_while(can_be_lost).count();
        self.engines.feed_session(&"s".into(), self.feed_taken as u64);
    }

    fn crash(&mut self, torn: usize) {
        self.crashes += 1;
        self.log.truncate((self.durable + torn).min(self.log.len()));
        self.durable = self.log.len();
        self.gated.clear();
        self.waiting.clear();
        self.answers.clear();
        self.queries.clear();
        self.lookups.clear();
        self.out = Outbox::new();
        self.engines = self.store.recovered(&self.log, OPTIONS);
        let orders = self.readable();
        for (order_id, seen) in &self.seen {
            let order = orders.get(order_id).expect("what a reader saw survives");
            assert!(order.version >= seen.version, "what a reader saw survives");
            if order.version == seen.version {
                assert_eq!(order, seen, "the same version is the same order");
            }
        }
        // What recovery brought back is shown from the start.
        self.seen = orders;
        self.start();
    }

    /// Every order, from memory where it is there, else from the store.
    fn readable(&self) -> BTreeMap<OrderId, Arc<Order>> {
        let stored = self.store.orders.values().map(TrackedOrder::order);
        stored.chain(self.engines.orders()).map(|o| (o.order_id, Arc::clone(o))).collect()
    }

    /// The state that the log amounts to.
    fn replayed(&self) -> Engines {
        let mut engines = Engines::new(OPTIONS);
        for event in &self.log {
            engines.replay(event).unwrap();
        }
        engines
    }

    /// Replaying everything decided gives the state that deciding it gave.
    pub(super) fn check_replay(&self) {
        let replayed = self.replayed();
        let mut count = 0;
        for order in self.readable().values() {
            assert_eq!(replayed.order(order.order_id), Some(order));
            count += 1;
        }
        assert_eq!(replayed.orders().count(), count);
        assert_eq!(replayed.open_orders(), self.engines.open_orders());
        assert_eq!(replayed.feed_position().is_some(), self.log.iter().any(is_position));
    }

    /// Lets everything go well for a while, after which both sides agree about every order.
    pub(super) fn reconcile(&mut self) {
        for round in 0..12 {
            if round % 4 == 0 {
                self.engines.begin_reconciliation();
            }
            for _ in 0..64 {
                self.step(Move::Commit { events: u8::MAX });
                self.step(Move::Submit { pick: 0, fate: Fate::Fine });
                self.step(Move::SendCancel { pick: 0, fate: Fate::Fine });
                self.step(Move::Query { pick: 0, fate: Fate::Fine });
                self.step(Move::Feed { lines: u8::MAX });
                self.step(Move::Answer { pick: 0 });
                self.step(Move::Found { pick: 0 });
                self.step(Move::Sweep);
            }
            self.step(Move::Wait { millis: u8::MAX });
        }
        self.check_agreement();
        self.check_replay();
    }

    fn check_agreement(&self) {
        let orders = self.readable();
        for order_id in self.exchange.keys() {
            assert!(orders.contains_key(order_id), "every order there is known here");
        }
        for order in orders.values() {
            let seen = &self.seen[&order.order_id];
            assert_eq!(seen, order, "all is durable and shown");
            let record = self.exchange.get(&order.order_id);
            let filled = record.map_or(0, ExchangeOrder::filled);
            assert_eq!(order.filled_shares, filled, "every execution counts exactly once");
            let expected: &[Status] = match record.map(|record| record.state) {
                None | Some(None) => &[Status::Failed],
                Some(Some(ExchangeOrderState::Filled)) => &[Status::Filled],
                Some(Some(ExchangeOrderState::Open)) => {
                    &[Status::Submitted, Status::PartiallyFilled]
                }
                Some(Some(ExchangeOrderState::Cancelled | ExchangeOrderState::Expired)) => {
                    &[Status::Cancelled]
                }
            };
            assert!(expected.contains(&order.status), "{order:?}\n{record:?}");
        }
        assert!(self.waiting.is_empty(), "everybody has an answer");
    }
}

fn is_position(event: &Event) -> bool {
    matches!(event, Event::FeedPosition(_))
}
