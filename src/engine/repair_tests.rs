//! What counts as a repair, and the periodic comparison that finds most of them.

use super::race_tests::{Desk, known};
use super::*;
use crate::order::{Fill, Status};
use crate::types::*;

/// Why the effects say that orders were repaired.
fn repairs(effects: &[Effect]) -> Vec<RepairCause> {
    let cause = |effect: &Effect| match effect {
        Effect::Repaired { cause, .. } => Some(*cause),
        _ => None,
    };
    effects.iter().filter_map(cause).collect()
}

#[test]
fn repairs_of_a_submit_are_told_by_their_cause() {
    for (outcome, cause) in [
        (SubmitOutcome::Unknown, RepairCause::LostReply),
        (SubmitOutcome::TimedOut, RepairCause::Timeout),
    ] {
        for answer in [
            known(ExchangeOrderState::Open, Vec::new()),
            QueryAnswer::Rejected { reason: "no".into() },
        ] {
            let mut desk = Desk::new();
            let order_id = desk.pending();
            desk.submit_answer(order_id, outcome.clone());
            desk.record(order_id, answer);
            assert_eq!(repairs(&desk.take()), [cause]);
        }
    }
    let mut desk = Desk::new();
    let order_id = desk.pending();
    desk.sweep(500);
    desk.record(order_id, known(ExchangeOrderState::Open, Vec::new()));
    assert_eq!(repairs(&desk.take()), [], "its answer is only slower than the question");

    let mut desk = Desk::new();
    let order_id = desk.pending();
    desk.submit_answer(order_id, SubmitOutcome::TimedOut);
    for _ in 0..2 {
        desk.sweep(2_000);
        desk.record(order_id, QueryAnswer::Unknown { as_of: None });
    }
    assert_eq!(repairs(&desk.take()), [RepairCause::NeverAccepted]);

    let mut desk = Desk::new();
    let order_id = desk.pending();
    let mut restarted = Desk::new();
    for event in &desk.log {
        restarted.engines.replay(event).unwrap();
    }
    restarted.act(|engines, now, out| engines.start(now, out));
    restarted.reconcile();
    restarted.record(order_id, known(ExchangeOrderState::Open, Vec::new()));
    assert_eq!(repairs(&restarted.take()), [RepairCause::Crash]);
}

#[test]
fn comparing_finds_what_was_never_reported() {
    let fill = Fill {
        execution_id: ExecutionId::new("e").unwrap(),
        price: PriceCents::new(100).unwrap(),
        num_shares: 4,
        executed_at: TimestampMicros::new(1),
    };
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    let compare = |desk: &mut Desk| {
        desk.act(|engines, now, out| {
            engines.begin_comparison();
            engines.compare_some(now, 100, out);
            assert!(!engines.is_comparing());
        });
        desk.queries()
    };
    desk.reconcile();
    assert_eq!(desk.queries(), 0, "nothing was missing");
    assert_eq!(compare(&mut desk), 0, "it is too new");
    desk.now += 500;
    assert_eq!(compare(&mut desk), 1);
    assert_eq!(compare(&mut desk), 0, "the question is unanswered");
    desk.record(order_id, known(ExchangeOrderState::Open, vec![fill.clone()]));
    assert_eq!(repairs(&desk.take()), [RepairCause::MissedFill]);
    assert_eq!(desk.order(order_id).filled_shares, 4);
    desk.now += 500;
    assert_eq!(compare(&mut desk), 1);
    desk.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill]));
    assert_eq!(repairs(&desk.take()), [RepairCause::MissedCancel]);
    assert_eq!(desk.status(order_id), Status::Cancelled);
}

#[test]
fn a_confirmed_cancel_repairs_nothing() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    desk.cancel(order_id, 2);
    desk.cancel_answer(order_id, CancelOutcome::Cancelled);
    desk.record(order_id, known(ExchangeOrderState::Cancelled, Vec::new()));
    assert_eq!(repairs(&desk.take()), []);
}

#[test]
fn comparing_goes_on_where_it_stopped() {
    let mut desk = Desk::new();
    let mut orders = 0;
    for user in 0..40 {
        for _ in 0..5 {
            let request = desk.request(&format!("user-{user}"), None, 1);
            let order_id = request.order_id;
            desk.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
            orders += 1;
            desk.accept(order_id, &format!("x{orders}"));
        }
    }
    desk.now += 500;
    desk.take();
    desk.engines.begin_comparison();
    let mut asked = 0;
    while desk.engines.is_comparing() {
        desk.act(|engines, now, out| engines.compare_some(now, 7, out));
        let queries = desk.queries();
        assert!(queries <= 7, "{queries}");
        asked += queries;
    }
    assert_eq!(asked, orders);
}
