//! What counts as a repair, and the periodic comparison that finds most repairs.

use super::test_rig::{Rig, known};
use super::*;
use crate::order::{Fill, Status};
use crate::types::*;

/// The causes of the repairs among the effects.
fn repairs(effects: &[Effect]) -> Vec<RepairCause> {
    let cause = |effect: &Effect| match effect {
        Effect::Repaired { cause, .. } => Some(*cause),
        _ => None,
    };
    effects.iter().filter_map(cause).collect()
}

#[test]
fn repairs_of_a_submit_name_their_cause() {
    for (outcome, cause) in [
        (SubmitOutcome::Unknown, RepairCause::LostReply),
        (SubmitOutcome::TimedOut, RepairCause::Timeout),
    ] {
        for answer in [
            known(ExchangeOrderState::Open, Vec::new()),
            QueryAnswer::Rejected { reason: "no".into() },
        ] {
            let mut rig = Rig::new();
            let order_id = rig.pending();
            rig.submit_answer(order_id, outcome.clone());
            rig.record(order_id, answer);
            assert_eq!(repairs(&rig.take()), [cause]);
        }
    }
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.sweep(500);
    rig.record(order_id, known(ExchangeOrderState::Open, Vec::new()));
    assert_eq!(repairs(&rig.take()), [], "the query overtook the answer");

    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.submit_answer(order_id, SubmitOutcome::TimedOut);
    for _ in 0..2 {
        rig.sweep(2_000);
        rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    }
    assert_eq!(repairs(&rig.take()), [RepairCause::NeverAccepted]);

    let mut rig = Rig::new();
    let order_id = rig.pending();
    let mut restarted = Rig::new();
    for event in &rig.log {
        restarted.engines.replay(event).unwrap();
    }
    restarted.act(|engines, now, out| engines.start(now, out));
    restarted.reconcile();
    restarted.record(order_id, known(ExchangeOrderState::Open, Vec::new()));
    assert_eq!(repairs(&restarted.take()), [RepairCause::Crash]);
}

#[test]
fn a_comparison_finds_what_was_never_reported() {
    let fill = Fill {
        execution_id: ExecutionId::new("e").unwrap(),
        price: PriceCents::new(100).unwrap(),
        num_shares: 4,
        executed_at: TimestampMicros::new(1),
    };
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let compare = |rig: &mut Rig| {
        rig.act(|engines, now, out| {
            engines.begin_comparison();
            engines.compare_some(now, 100, out);
            assert!(!engines.is_comparing());
        });
        rig.queries()
    };
    rig.reconcile();
    assert_eq!(rig.queries(), 0, "there was no gap");
    assert_eq!(compare(&mut rig), 0, "it is newer than the grace");
    rig.now += 500;
    assert_eq!(compare(&mut rig), 1);
    assert_eq!(compare(&mut rig), 0, "a query is in flight");
    rig.record(order_id, known(ExchangeOrderState::Open, vec![fill.clone()]));
    assert_eq!(repairs(&rig.take()), [RepairCause::MissedFill]);
    assert_eq!(rig.order(order_id).filled_shares, 4);
    rig.now += 500;
    assert_eq!(compare(&mut rig), 1);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill]));
    assert_eq!(repairs(&rig.take()), [RepairCause::MissedCancel]);
    assert_eq!(rig.status(order_id), Status::Cancelled);
}

#[test]
fn a_confirmed_cancel_repairs_nothing() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 2);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    rig.record(order_id, known(ExchangeOrderState::Cancelled, Vec::new()));
    assert_eq!(repairs(&rig.take()), []);
}

#[test]
fn a_comparison_continues_where_it_stopped() {
    let mut rig = Rig::new();
    let mut orders = 0;
    for user in 0..40 {
        for _ in 0..5 {
            let request = rig.request(&format!("user-{user}"), None, 1);
            let order_id = request.order_id;
            rig.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
            orders += 1;
            rig.accept(order_id, &format!("x{orders}"));
        }
    }
    rig.now += 500;
    rig.take();
    rig.engines.begin_comparison();
    let mut queried = 0;
    while rig.engines.is_comparing() {
        rig.act(|engines, now, out| engines.compare_some(now, 7, out));
        let queries = rig.queries();
        assert!(queries <= 7, "{queries}");
        queried += queries;
    }
    assert_eq!(queried, orders);
}
