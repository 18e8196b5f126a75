//! What the tests of the engines stand on: the engines, a clock in their hands, and everything that
//! they decided.

use std::sync::Arc;

use super::*;
use crate::order::{Anomaly, Event, Fill, Order, ReportKind, Status};
use crate::types::*;

pub(super) const OPTIONS: EngineOptions = EngineOptions {
    submit_window_micros: 1_000,
    clock_tolerance_micros: 100,
    grace_micros: 500,
    unmatched_report_age_micros: 10_000,
    lookup_age_micros: 1_000_000,
    unknown_span_micros: 500,
    doubt_age_micros: 2_000,
    max_doubt_pause_micros: 8_000,
    ended_window_micros: 1_000_000,
    relook_pauses_micros: [1_000, 2_000, 3_000, 4_000, 5_000],
    shares_users: false,
    accounts: AccountRules { mode: AccountMode::Unchecked, collar_percent: 5, opening_cents: 0 },
};
const START: u64 = 1_000_000;

/// The engines and everything that they decided.
pub(super) struct Rig {
    pub(super) engines: Engines,
    pub(super) now: u64,
    pub(super) log: Vec<Event>,
    /// Effects since [`take`](Self::take).
    effects: Vec<Effect>,
    next: u64,
}

impl Rig {
    pub(super) fn new() -> Self {
        Self::with(OPTIONS)
    }

    pub(super) fn with(options: EngineOptions) -> Self {
        let engines = with_accounts(options);
        Self { engines, now: START, log: Vec::new(), effects: Vec::new(), next: 0 }
    }

    pub(super) fn act(&mut self, act: impl FnOnce(&mut Engines, TimestampMicros, &mut Outbox)) {
        let mut out = Outbox::new();
        act(&mut self.engines, TimestampMicros::new(self.now), &mut out);
        self.engines.debug_assert_lists();
        self.log.append(&mut out.events);
        self.effects.append(&mut out.effects);
    }

    pub(super) fn request(
        &mut self,
        user: &str,
        key: Option<&str>,
        num_shares: Shares,
    ) -> CreateOrder {
        self.next += 1;
        let user = UserId::new(user).unwrap();
        CreateOrder {
            order_id: OrderId::new(u128::from(self.now) * 1_000, self.next, user.partition()),
            user,
            client_order_id: key.map(|key| ClientOrderId::new(key).unwrap()),
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Sell,
            limit_price: PriceCents::new(100).ok(),
            time_in_force: TimeInForce::Gtc,
            num_shares,
            last_price: None,
            created_at: TimestampMicros::new(self.now),
        }
    }

    /// A pending order of alice for 10 shares, answered to `ReplyTo(1)`.
    pub(super) fn pending(&mut self) -> OrderId {
        let request = self.request("alice", None, 10);
        let order_id = request.order_id;
        self.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
        order_id
    }

    /// A submitted order, without pending effects.
    pub(super) fn submitted(&mut self) -> OrderId {
        let order_id = self.pending();
        self.accept(order_id, "x");
        self.effects.clear();
        order_id
    }

    pub(super) fn accept(&mut self, order_id: OrderId, id: &str) {
        self.submit_answer(order_id, SubmitOutcome::Accepted(external(id)));
    }

    pub(super) fn submit_answer(&mut self, order_id: OrderId, outcome: SubmitOutcome) {
        self.act(|engines, now, out| engines.submit_answer(now, order_id, outcome, out));
    }

    pub(super) fn cancel(&mut self, order_id: OrderId, to: u64) {
        let user = UserId::new("alice").unwrap();
        self.act(|engines, now, out| engines.cancel(now, (&user, order_id), ReplyTo(to), out));
    }

    pub(super) fn cancel_answer(&mut self, order_id: OrderId, outcome: CancelOutcome) {
        self.act(|engines, now, out| engines.cancel_answer(now, order_id, outcome, out));
    }

    pub(super) fn record(&mut self, order_id: OrderId, answer: QueryAnswer) {
        let asked_at = TimestampMicros::new(self.now);
        self.act(|engines, now, out| {
            engines.query_answer(now, order_id, Some((asked_at, answer)), out);
        });
    }

    pub(super) fn record_lost(&mut self, order_id: OrderId) {
        self.act(|engines, now, out| engines.query_answer(now, order_id, None, out));
    }

    pub(super) fn report(&mut self, id: &str, kind: ReportKind) {
        let report = Report::new(external(id), kind);
        self.act(|engines, now, out| engines.report(now, report, out));
    }

    /// A report by a line of the feed.
    pub(super) fn line(&mut self, id: &str, sequence: u64, kind: ReportKind) {
        let report = Report { sequence: Some(sequence), ..Report::new(external(id), kind) };
        self.act(|engines, now, out| engines.report(now, report, out));
    }

    /// An order that failed because the exchange did not know it.
    pub(super) fn failed(&mut self) -> OrderId {
        let order_id = self.pending();
        self.sweep(1_200);
        self.record(order_id, QueryAnswer::Unknown { as_of: None });
        self.sweep(OPTIONS.grace_micros);
        self.record(order_id, QueryAnswer::Unknown { as_of: None });
        assert_eq!(self.status(order_id), Status::Failed);
        self.effects.clear();
        order_id
    }

    /// A fully filled order.
    pub(super) fn filled(&mut self, id: &str) -> OrderId {
        let order_id = self.pending();
        self.accept(order_id, id);
        self.report(id, filled(id, 10));
        order_id
    }

    pub(super) fn log_position(&mut self) {
        self.act(|engines, now, out| engines.log_feed_position(now, out));
    }

    /// Advances time and runs what is due.
    pub(super) fn sweep(&mut self, micros: u64) {
        self.now += micros;
        self.act(|engines, now, out| {
            engines.tick(now, 100, out);
        });
    }

    pub(super) fn reconcile(&mut self) {
        self.act(|engines, now, out| engines.reconcile_some(now, 100, out));
    }

    pub(super) fn order(&self, order_id: OrderId) -> &Arc<Order> {
        self.engines.order(order_id).unwrap()
    }

    pub(super) fn status(&self, order_id: OrderId) -> Status {
        self.order(order_id).status
    }

    pub(super) fn take(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    pub(super) fn queries(&mut self) -> usize {
        self.take().iter().filter(|effect| matches!(effect, Effect::Query(_))).count()
    }

    /// Restarts from the log.
    pub(super) fn restart(&mut self) {
        let before = std::mem::replace(&mut self.engines, with_accounts(OPTIONS));
        for event in &self.log {
            self.engines.replay(event).unwrap();
        }
        let sorted = |engines: &Engines| {
            let accounts = engines.accounts();
            let accounts = accounts.map(|(user, account)| (user.clone(), account.clone()));
            accounts.collect::<std::collections::BTreeMap<_, _>>()
        };
        let versions = |engines: &Engines| {
            let orders = engines.orders().map(|order| (order.order_id, order.version));
            orders.collect::<std::collections::BTreeMap<_, _>>()
        };
        // Some tests lose the end of their log.
        if versions(&self.engines) == versions(&before) {
            assert_eq!(sorted(&self.engines), sorted(&before), "a replay equals the live state");
        }
        self.effects.clear();
        self.act(Engines::start);
    }
}

/// Engines that keep accounts from the beginning of their log on, if they may.
fn with_accounts(options: EngineOptions) -> Engines {
    let mut engines = Engines::new(options);
    if engines.lacks_accounts() {
        engines.accounts_have_begun();
    }
    engines
}

pub(super) fn external(id: &str) -> ExternalOrderId {
    ExternalOrderId::new(id).unwrap()
}

pub(super) fn fill(id: &str, num_shares: Shares) -> Fill {
    Fill {
        execution_id: ExecutionId::new(id).unwrap(),
        price: PriceCents::new(100).unwrap(),
        num_shares,
        executed_at: TimestampMicros::new(1),
    }
}

pub(super) fn filled(id: &str, num_shares: Shares) -> ReportKind {
    ReportKind::Filled(fill(id, num_shares))
}

pub(super) fn known(state: ExchangeOrderState, executions: Vec<Fill>) -> QueryAnswer {
    QueryAnswer::Known(record_of("x", state, executions))
}

pub(super) fn record_of(
    id: &str,
    state: ExchangeOrderState,
    executions: Vec<Fill>,
) -> ExchangeRecord {
    ExchangeRecord {
        external_order_id: external(id),
        state,
        filled_shares: executions.iter().map(|fill| fill.num_shares).sum(),
        executions,
        unreadable: Vec::new(),
        as_of: None,
    }
}

pub(super) fn has_alert(effects: &[Effect], wanted: Anomaly) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Alert(Alert::Order { anomaly, .. }) if *anomaly == wanted)
    })
}

pub(super) fn refused(why: CancelRefusal) -> CancelOutcome {
    CancelOutcome::Refused { why, reason: "no".into() }
}

pub(super) fn cancels(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Cancel { .. })).count()
}

pub(super) fn create_reply(effects: &[Effect]) -> Option<&CreateReply> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReplyCreate { reply, .. } => Some(reply),
        _ => None,
    })
}

pub(super) fn cancel_replies(effects: &[Effect]) -> Vec<(u64, &CancelReply)> {
    let reply = |effect| match effect {
        &Effect::ReplyCancel { to: ReplyTo(to), ref reply } => Some((to, reply)),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}
