//! One rule per test: what the engines decide when a cancel crosses answers, reports and timeouts.

use super::test_rig::{
    Rig, cancel_replies, cancels, create_reply, fill, filled, has_alert, known, refused,
};
use super::*;
use crate::order::{Anomaly, ReportKind, Status};
use crate::types::UserId;

#[test]
fn a_reply_timeout_of_a_cancel_answers_with_the_current_version() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.take();
    rig.act(|engines, now, out| engines.reply_timeout(now, order_id, ReplyTo(2), out));
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::Pending(order))]
            if order.status == Status::PendingCancel));
}

#[test]
fn only_its_user_cancels_an_order() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let bob = UserId::new("bob").unwrap();
    rig.act(|engines, now, out| engines.cancel(now, (&bob, order_id), ReplyTo(2), out));
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::NotFound)]));
    assert_eq!(rig.status(order_id), Status::Submitted);
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
fn a_cancel_after_one_without_an_outcome_queries_at_once() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.cancel_answer(order_id, CancelOutcome::Unknown);
    rig.take();
    rig.cancel(order_id, 3);
    assert_eq!(rig.take(), [Effect::Query(order_id)]);
}

#[test]
fn a_cancel_that_the_feed_reports_ahead_of_the_answer_is_answered_once() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.report("x", ReportKind::Cancelled);
    assert!(matches!(cancel_replies(&rig.take())[..], [(2, CancelReply::Cancelled(_))]));
    let version = rig.order(order_id).version;
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    assert_eq!((rig.take(), rig.order(order_id).version), (vec![], version));
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
