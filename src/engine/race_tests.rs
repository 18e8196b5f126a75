//! One rule per test: what the engines decide when creates, answers, reports and restarts cross.

use super::test_rig::{
    OPTIONS, Rig, cancel_replies, cancels, create_reply, fill, filled, has_alert, known, record_of,
};
use super::*;
use crate::order::{Anomaly, Event, Fill, ReportKind, Status};

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
fn an_ended_order_that_the_exchange_no_longer_knows_stays_as_it_is() {
    let mut rig = Rig::new();
    let order_id = rig.filled("x");
    rig.take();
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert_eq!((rig.take(), rig.status(order_id)), (vec![], Status::Filled));
}

#[test]
fn a_record_that_says_filled_and_shows_fewer_shares_is_alerted() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.record(order_id, known(ExchangeOrderState::Filled, vec![fill("e1", 4)]));
    assert!(has_alert(&rig.take(), Anomaly::Contradiction));
    assert_eq!(rig.status(order_id), Status::PartiallyFilled);
}

#[test]
fn a_tick_queries_a_few_orders_of_a_partition_and_says_whether_more_are_due() {
    let mut rig = Rig::new();
    let orders = [rig.pending(), rig.pending()];
    let tick_by_one = |rig: &mut Rig| {
        for is_more_due in [true, false] {
            rig.act(|engines, now, out| assert_eq!(engines.tick(now, 1, out), is_more_due));
            assert_eq!(rig.queries(), 1);
        }
    };
    rig.now += OPTIONS.grace_micros;
    rig.take();
    tick_by_one(&mut rig);
    // Both fail, and are queried again later.
    for micros in [700, OPTIONS.unknown_span_micros] {
        rig.sweep(micros);
        for order_id in orders {
            rig.record(order_id, QueryAnswer::Unknown { as_of: None });
        }
    }
    assert_eq!(orders.map(|order_id| rig.status(order_id)), [Status::Failed; 2]);
    rig.take();
    rig.now += OPTIONS.relook_pauses_micros[0];
    tick_by_one(&mut rig);
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
