use super::super::test_rig::{Rig, fill, has_alert};
use super::*;
use crate::order::{Anomaly, CaseCause, CaseOutcome, Fill, OperatorAct, Status};
use crate::types::{PriceCents, Shares};

fn finding(order_id: OrderId, listed: &[Fill], unlisted: &[&str]) -> DayFinding {
    DayFinding {
        trade_date: "2026-11-27".parse().unwrap(),
        order_id,
        listed: listed.to_vec(),
        unlisted: unlisted.iter().map(|id| ExecutionId::new(id).unwrap()).collect(),
    }
}

fn take(rig: &mut Rig, finding: &DayFinding) {
    rig.act(|engines, now, out| engines.take_finding(now, finding.clone(), out));
}

fn filled_shares(rig: &Rig, order_id: OrderId) -> Shares {
    rig.order(order_id).filled_shares
}

fn repairs(effects: &[Effect]) -> usize {
    let is_ours =
        |effect: &&Effect| matches!(effect, Effect::Repaired { cause: RepairCause::DayEnd, .. });
    effects.iter().filter(is_ours).count()
}

#[test]
fn a_listed_execution_counts_once_and_is_a_repair() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let found = finding(order_id, &[fill("e1", 4), fill("e2", 6)], &[]);
    take(&mut rig, &found);
    assert_eq!((filled_shares(&rig, order_id), rig.status(order_id)), (10, Status::Filled));
    assert_eq!(repairs(&rig.take()), 2);
    let records = rig.log.len();
    take(&mut rig, &found);
    assert_eq!((rig.log.len(), repairs(&rig.take())), (records, 0), "known by now");
    rig.restart();
    assert_eq!(filled_shares(&rig, order_id), 10);
}

#[test]
fn a_listed_execution_with_other_numbers_becomes_a_case() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    take(&mut rig, &finding(order_id, &[fill("e1", 4)], &[]));
    rig.take();
    let other = Fill { price: PriceCents::new(101).unwrap(), ..fill("e1", 4) };
    take(&mut rig, &finding(order_id, &[other], &[]));
    let causes: Vec<_> = rig.engines.open_cases().map(|(_, open)| open.case.cause).collect();
    assert_eq!((causes, filled_shares(&rig, order_id)), (vec![CaseCause::IdUsedAgain], 4));
    assert_eq!(repairs(&rig.take()), 0);
}

#[test]
fn an_unlisted_execution_counts_until_somebody_decides() {
    let mut rig = Rig::new();
    let order_id = rig.filled("x");
    rig.take();
    let found = finding(order_id, &[], &["x", "never-counted"]);
    for _ in 0..2 {
        take(&mut rig, &found);
        assert_eq!(rig.engines.open_case_count(), 1, "once");
    }
    assert!(has_alert(&rig.take(), Anomaly::DoubtfulExecution));
    assert_eq!(filled_shares(&rig, order_id), 10);
    let (_, open) = rig.engines.open_cases().next().unwrap();
    assert!(open.case.text.contains("2026-11-27"), "{}", open.case.text);
    let number = open.number;
    rig.act(|engines, now, out| {
        let act = OperatorAct { by: "bob".into(), reason: "as the exchange says".into() };
        engines.decide_case(now, (order_id, number), (CaseOutcome::Discarded, act), out);
    });
    assert_eq!(filled_shares(&rig, order_id), 0);
}

#[test]
fn an_order_that_has_left_memory_is_looked_up() {
    let mut rig = Rig::new();
    let order_id = rig.filled("x");
    let tracked = rig.engines.tracked(order_id).unwrap().clone();
    let version = tracked.order().version;
    assert!(rig.engines.forget(order_id, version).is_some());
    rig.take();
    let found = finding(order_id, &[fill("late", 2)], &["x"]);
    for _ in 0..2 {
        take(&mut rig, &found);
    }
    assert_eq!(rig.take(), [Effect::LookUpOrder(order_id)], "once for all findings");
    rig.act(|engines, now, out| engines.found_order(now, order_id, Some(tracked), out));
    assert_eq!(filled_shares(&rig, order_id), 12, "an over-fill is a fact");
    assert_eq!(rig.engines.open_case_count(), 1);
    assert_eq!(repairs(&rig.take()), 1);
    // The store may not know it either.
    let unknown = OrderId::from_u128(7);
    take(&mut rig, &finding(unknown, &[fill("e", 1)], &[]));
    rig.act(|engines, now, out| engines.found_order(now, unknown, None, out));
    assert_eq!(rig.engines.orders_being_found(), 0);
}

#[test]
fn no_more_findings_are_taken_while_many_orders_are_being_looked_up() {
    let mut rig = Rig::new();
    let order = |number: u128| OrderId::from_u128(number << 64);
    for number in 1..=64 {
        assert!(!rig.engines.has_many_findings(), "{number}");
        take(&mut rig, &finding(order(number), &[fill("e", 1)], &[]));
    }
    assert!(rig.engines.has_many_findings());
    rig.act(|engines, now, out| engines.found_order(now, order(1), None, out));
    assert!(!rig.engines.has_many_findings());
}
