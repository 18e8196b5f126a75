//! One rule per test: what the engines decide when commands, answers and reports cross. Also the
//! rig of the other engine tests.

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
        let engines = Engines::new(OPTIONS);
        Self { engines, now: START, log: Vec::new(), effects: Vec::new(), next: 0 }
    }

    pub(super) fn act(&mut self, act: impl FnOnce(&mut Engines, TimestampMicros, &mut Outbox)) {
        let mut out = Outbox::new();
        act(&mut self.engines, TimestampMicros::new(self.now), &mut out);
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
        self.engines = Engines::new(OPTIONS);
        for event in &self.log {
            self.engines.replay(event).unwrap();
        }
        self.effects.clear();
        self.act(Engines::start);
    }
}

fn external(id: &str) -> ExternalOrderId {
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

fn refused(why: CancelRefusal) -> CancelOutcome {
    CancelOutcome::Refused { why, reason: "no".into() }
}

fn cancels(effects: &[Effect]) -> usize {
    effects.iter().filter(|effect| matches!(effect, Effect::Cancel { .. })).count()
}

fn create_reply(effects: &[Effect]) -> Option<&CreateReply> {
    effects.iter().find_map(|effect| match effect {
        Effect::ReplyCreate { reply, .. } => Some(reply),
        _ => None,
    })
}

fn cancel_replies(effects: &[Effect]) -> Vec<(u64, &CancelReply)> {
    let reply = |effect| match effect {
        &Effect::ReplyCancel { to: ReplyTo(to), ref reply } => Some((to, reply)),
        _ => None,
    };
    effects.iter().filter_map(reply).collect()
}

pub(super) fn has_alert(effects: &[Effect], wanted: Anomaly) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Alert(Alert::Order { anomaly, .. }) if *anomaly == wanted)
    })
}

#[test]
fn a_create_is_recorded_published_and_submitted_in_this_order() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    assert!(matches!(&rig.log[..], [Event::Created(created)] if created.order_id == order_id));
    assert!(matches!(&rig.take()[..], [Effect::Publish { .. }, Effect::Submit(_)]));
    rig.accept(order_id, "x");
    let effects = rig.take();
    assert!(matches!(&effects[..], [Effect::Publish { .. }, Effect::ReplyCreate { .. }]));
    assert!(matches!(create_reply(&effects), Some(CreateReply::Accepted(_))));
}

#[test]
fn a_key_names_one_order_of_one_user() {
    let mut rig = Rig::new();
    let create = |rig: &mut Rig, user: &str, shares| {
        let request = rig.request(user, Some("k"), shares);
        rig.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
        create_reply(&rig.take()).cloned()
    };
    assert_eq!(create(&mut rig, "alice", 10), None, "it waits for the exchange");
    assert!(matches!(create(&mut rig, "alice", 10), Some(CreateReply::Duplicate(_))));
    assert!(matches!(create(&mut rig, "alice", 11), Some(CreateReply::Conflict(_))));
    assert_eq!(create(&mut rig, "bob", 11), None, "each user has keys of their own");
    rig.restart();
    assert!(matches!(create(&mut rig, "alice", 10), Some(CreateReply::Duplicate(_))));
    assert_eq!(rig.log.len(), 2);
}

#[test]
fn an_unknown_outcome_is_queried_and_never_resubmitted() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.take();
    rig.submit_answer(order_id, SubmitOutcome::Unknown);
    assert_eq!(rig.take(), [Effect::Query(order_id)]);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!(rig.take(), [], "it may still arrive");
    assert_eq!(rig.status(order_id), Status::Pending);
    rig.sweep(400);
    assert_eq!(rig.take(), [], "not before its grace is over");
    rig.sweep(701);
    assert_eq!(rig.take(), [Effect::Query(order_id)]);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!(rig.status(order_id), Status::Pending, "one record may be stale");
    rig.sweep(500);
    assert_eq!(rig.take(), [Effect::Query(order_id)]);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!(rig.status(order_id), Status::Failed, "two records agree");
    assert!(matches!(create_reply(&rig.take()), Some(CreateReply::Rejected(_))));
}

#[test]
fn a_reply_timeout_answers_with_the_current_version() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.take();
    rig.act(|engines, now, out| engines.reply_timeout(now, order_id, ReplyTo(1), out));
    assert!(matches!(create_reply(&rig.take()), Some(CreateReply::Pending(_))));
    rig.act(|engines, now, out| engines.reply_timeout(now, order_id, ReplyTo(1), out));
    assert_eq!(rig.take(), []);
    rig.accept(order_id, "x");
    assert_eq!(create_reply(&rig.take()), None, "each client is answered once");
}

#[test]
fn a_cancel_before_the_accept_is_sent_after_it() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.cancel(order_id, 2);
    assert_eq!(cancels(&rig.take()), 0);
    assert_eq!(rig.status(order_id), Status::Pending);
    rig.accept(order_id, "x");
    assert_eq!(cancels(&rig.take()), 1);
    assert_eq!(rig.status(order_id), Status::PendingCancel);
    rig.restart();
    rig.reconcile();
    assert_eq!(rig.queries(), 1);
    rig.record(order_id, known(ExchangeOrderState::Open, vec![]));
    assert_eq!(cancels(&rig.take()), 1, "also after a restart");
}

#[test]
fn a_cancel_before_a_reject_answers_conflict() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.cancel(order_id, 2);
    rig.submit_answer(order_id, SubmitOutcome::Refused { reason: "no".into() });
    let effects = rig.take();
    assert!(matches!(cancel_replies(&effects)[..], [(2, CancelReply::Conflict(_))]));
    assert!(matches!(create_reply(&effects), Some(CreateReply::Rejected(_))));
    assert_eq!(cancels(&effects), 0);
}

#[test]
fn concurrent_cancels_share_one_request() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    for to in [2, 3, 4] {
        rig.cancel(order_id, to);
    }
    assert_eq!(cancels(&rig.take()), 1, "one cancel for all of them");
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    assert_eq!(rig.queries(), 1, "for its last fills");
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("e1", 4)]));
    let effects = rig.take();
    let replies = cancel_replies(&effects);
    assert_eq!(replies.iter().map(|(to, _)| *to).collect::<Vec<_>>(), [2, 3, 4]);
    for (_, reply) in replies {
        assert!(matches!(reply, CancelReply::Cancelled(order) if order.filled_shares == 4));
    }
    rig.report("x", filled("e1", 4));
    rig.report("x", ReportKind::Cancelled);
    assert_eq!(rig.take(), [], "the feed repeats the record");
    rig.cancel(order_id, 5);
    assert!(matches!(cancel_replies(&rig.take())[..], [(5, CancelReply::Cancelled(_))]));
}

#[test]
fn a_confirmed_cancel_stands_if_the_record_is_lost() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    rig.take();
    rig.record_lost(order_id);
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::Cancelled(_))]));
    rig.sweep(500);
    assert_eq!(rig.queries(), 1, "the record may have fills");
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("e1", 4)]));
    assert_eq!(rig.order(order_id).filled_shares, 4);
    assert_eq!(rig.status(order_id), Status::Cancelled);
}

#[test]
fn a_record_from_before_the_cancel_is_queried_again() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.sweep(500);
    assert_eq!(rig.queries(), 1);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    assert_eq!(rig.take(), [], "one query is in flight");
    rig.record(order_id, known(ExchangeOrderState::Open, vec![]));
    assert_eq!(rig.take(), [Effect::Query(order_id)], "the record was stale");
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![]));
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::Cancelled(_))]));
}

#[test]
fn the_last_fill_wins_over_the_cancel() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.report("x", filled("e1", 4));
    assert_eq!(rig.status(order_id), Status::PendingCancel, "shares are left");
    rig.report("x", filled("e2", 6));
    let effects = rig.take();
    assert!(matches!(cancel_replies(&effects)[..], [(2, CancelReply::Conflict(order))]
            if order.status == Status::Filled));
    rig.cancel_answer(order_id, refused(CancelRefusal::AlreadyEnded));
    rig.record(order_id, known(ExchangeOrderState::Filled, vec![fill("e1", 4), fill("e2", 6)]));
    assert_eq!(rig.status(order_id), Status::Filled);
    assert_eq!(rig.order(order_id).filled_shares, 10);
}

#[test]
fn an_order_that_ended_before_its_cancel_arrived_is_queried() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.cancel_answer(order_id, refused(CancelRefusal::AlreadyEnded));
    assert_eq!(rig.status(order_id), Status::PendingCancel);
    rig.take();
    rig.record(order_id, known(ExchangeOrderState::Expired, vec![]));
    let effects = rig.take();
    assert!(
        matches!(cancel_replies(&effects)[..], [(2, CancelReply::Conflict(order))]
            if order.reason.as_deref() == Some("expired")),
        "it expired before the cancel"
    );
}

#[test]
fn a_declined_cancel_restores_the_status_of_the_fills() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 4));
    rig.cancel(order_id, 2);
    rig.take();
    rig.cancel_answer(order_id, refused(CancelRefusal::Declined));
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::Conflict(_))]));
    assert_eq!(rig.status(order_id), Status::PartiallyFilled);
    rig.cancel(order_id, 3);
    assert_eq!(cancels(&rig.take()), 1, "a new request sends a new cancel");
}

#[test]
fn a_cancel_without_an_outcome_is_resent_only_after_a_query() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.take();
    rig.cancel_answer(order_id, CancelOutcome::Unknown);
    assert_eq!(rig.take(), []);
    rig.sweep(500);
    assert_eq!(rig.take(), [Effect::Query(order_id)]);
    rig.record(order_id, known(ExchangeOrderState::Open, vec![]));
    assert_eq!(cancels(&rig.take()), 1, "it did not arrive");
}

#[test]
fn an_accepted_order_that_the_exchange_lost_needs_agreeing_queries() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.sweep(500);
    rig.take();
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    let effects = rig.take();
    assert!(has_alert(&effects, Anomaly::UnknownAtExchange));
    assert_eq!(rig.status(order_id), Status::PendingCancel);
    rig.cancel_answer(order_id, refused(CancelRefusal::UnknownOrder));
    assert_eq!(rig.status(order_id), Status::PendingCancel, "no second record yet");
    rig.sweep(500);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!(rig.status(order_id), Status::PendingCancel, "records lag");
    rig.sweep(15 * 500);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!(rig.status(order_id), Status::Cancelled);
}

#[test]
fn a_late_accept_of_a_failed_order_is_cancelled_and_alerted() {
    let mut rig = Rig::new();
    let order_id = rig.failed();
    rig.accept(order_id, "x");
    let effects = rig.take();
    assert!(has_alert(&effects, Anomaly::LateAccept));
    assert_eq!(cancels(&effects), 1);
    rig.restart();
    rig.reconcile();
    assert_eq!(rig.queries(), 1, "a stray order is open");
    rig.record(order_id, known(ExchangeOrderState::Open, vec![fill("e1", 4)]));
    let effects = rig.take();
    assert!(has_alert(&effects, Anomaly::FillOfFailed));
    assert_eq!(cancels(&effects), 1);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("e1", 4)]));
    assert_eq!(rig.status(order_id), Status::Failed);
    assert_eq!(rig.order(order_id).filled_shares, 4, "its fills stand");
    assert_eq!(rig.engines.open_orders(), 0);
}

#[test]
fn a_late_fill_reopens_the_order_until_its_record_comes() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![]));
    rig.take();
    rig.report("x", filled("late", 4));
    let effects = rig.take();
    assert!(has_alert(&effects, Anomaly::LateFill));
    assert!(effects.contains(&Effect::Query(order_id)));
    assert_eq!(rig.status(order_id), Status::PartiallyFilled);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("late", 4)]));
    assert_eq!(rig.status(order_id), Status::Cancelled);
    rig.take();
    rig.cancel(order_id, 3);
    let effects = rig.take();
    let replies = cancel_replies(&effects);
    assert!(matches!(replies[..], [(3, CancelReply::Cancelled(_))]), "still the user's cancel");
}

#[test]
fn a_bust_reopens_a_filled_order_and_queries_it() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 10));
    rig.take();
    rig.report("x", ReportKind::Busted { execution_id: fill("e1", 1).execution_id });
    assert_eq!(rig.status(order_id), Status::Submitted);
    assert_eq!(rig.queries(), 1);
    rig.report("x", filled("e1", 10));
    assert_eq!(rig.order(order_id).filled_shares, 0, "a repeated line does not undo a bust");
}

#[test]
fn an_early_fill_waits_for_its_accept_across_a_restart() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.engines.feed_session(&"s".into(), 6);
    rig.report("x", filled("early", 4));
    rig.engines.feed_reached(7);
    rig.reconcile();
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    rig.act(|engines, now, out| engines.log_feed_position(now, out));
    let [.., Event::UnmatchedReport(_), Event::FeedPosition(position)] = &rig.log[..] else {
        panic!("the report is logged before the position passes it: {:?}", rig.log);
    };
    assert_eq!((position.session.as_str(), position.sequence), ("s", 7));
    rig.restart();
    assert_eq!(rig.engines.unmatched_reports(), 1);
    rig.accept(order_id, "x");
    assert_eq!(rig.status(order_id), Status::PartiallyFilled);
    assert_eq!(rig.engines.unmatched_reports(), 0);
    rig.restart();
    assert_eq!(rig.order(order_id).filled_shares, 4);
    assert_eq!(rig.engines.unmatched_reports(), 0, "it was delivered");
}

#[test]
fn an_unmatched_report_expires_with_an_alert() {
    let mut rig = Rig::new();
    rig.report("nobody", ReportKind::Cancelled);
    rig.sweep(10_001);
    assert_eq!(rig.take(), [Effect::Alert(Alert::ReportsExpired { count: 1 })]);
}

#[test]
fn the_feed_position_waits_for_the_reconciliation_after_a_gap() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.engines.feed_session(&"s".into(), 20);
    // Its cancel arrives after the gap and before any query; a fill was lost in the gap.
    rig.report("x", ReportKind::Cancelled);
    rig.engines.feed_reached(21);
    let log = |rig: &mut Rig| {
        let length = rig.log.len();
        rig.act(|engines, now, out| engines.log_feed_position(now, out));
        rig.log.len() > length
    };
    assert!(!log(&mut rig));
    rig.take();
    rig.reconcile();
    assert_eq!(rig.queries(), 1, "an ended order may have missed lines too");
    assert!(!log(&mut rig));
    rig.restart();
    rig.reconcile();
    assert_eq!(rig.queries(), 1, "also after a restart");
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("lost", 3)]));
    assert_eq!(rig.order(order_id).filled_shares, 3);
    assert_eq!(rig.status(order_id), Status::Cancelled);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("lost", 3)]));
    rig.engines.feed_session(&"s".into(), 21);
    rig.reconcile();
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill("lost", 3)]));
    assert!(log(&mut rig));
}

#[test]
fn a_log_that_changes_an_order_it_never_created_is_rejected() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let mut engines = Engines::new(OPTIONS);
    assert_eq!(engines.replay(&rig.log[1]), Err(UnknownOrder { order_id }));
}

/// A record with these executions.
fn record_with(executions: &[Fill], state: ExchangeOrderState) -> QueryAnswer {
    let executions = executions.to_vec();
    QueryAnswer::Known(record_of("x", state, executions))
}

#[test]
fn an_execution_that_arrived_during_a_query_is_not_doubted() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    for round in 0..3 {
        rig.act(|engines, now, out| engines.reconcile(now, order_id, out));
        let newer = fill(&format!("e{round}"), 1);
        rig.report("x", ReportKind::Filled(newer));
        let before: Vec<Fill> = (0..round).map(|n| fill(&format!("e{n}"), 1)).collect();
        rig.record(order_id, record_with(&before, ExchangeOrderState::Open));
        rig.sweep(OPTIONS.grace_micros);
    }
    assert_eq!(rig.engines.order(order_id).unwrap().filled_shares, 3);
}
