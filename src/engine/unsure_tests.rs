//! Whatever is unsure about an order is queried again, holds up nothing else, and is decided by
//! numbers, not by ids alone.

use super::test_rig::{OPTIONS, Rig, fill, filled, has_alert, record_of};
use super::*;
use crate::order::{
    Anomaly, CaseCause, CaseOutcome, Event, Fill, MAX_OPEN_CASES, OperatorAct, ReportKind, Status,
};
use crate::types::*;

fn record(executions: &[Fill]) -> QueryAnswer {
    QueryAnswer::Known(record_of("x", ExchangeOrderState::Open, executions.to_vec()))
}

fn causes(rig: &Rig) -> Vec<CaseCause> {
    rig.engines.open_cases().map(|(_, open)| open.case.cause).collect()
}

fn filled_shares(rig: &Rig, order_id: OrderId) -> Shares {
    rig.order(order_id).filled_shares
}

/// Decides the only open case as an operator.
fn decide(rig: &mut Rig, order_id: OrderId, outcome: CaseOutcome) {
    let number = rig.engines.open_cases().map(|(_, open)| open.number).next().unwrap();
    let act = OperatorAct { by: "bob".into(), reason: "told by phone".into() };
    rig.act(|engines, now, out| {
        let reply = engines.decide_case(now, (order_id, number), (outcome, act), out);
        assert!(matches!(reply, OperatorReply::Done(_)));
    });
}

/// Sweeps until the order is queried; returns how long that took, in microseconds.
fn micros_until_queried(rig: &mut Rig, order_id: OrderId) -> u64 {
    rig.take();
    for step in 1..=10_000 {
        rig.sweep(100);
        if rig.take().contains(&Effect::Query(order_id)) {
            return step * 100;
        }
    }
    panic!("{order_id} is never queried");
}

#[test]
fn only_a_record_with_the_same_numbers_confirms_a_line() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", ReportKind::Filled(fill("e1", 5_000)));
    assert_eq!(causes(&rig), [CaseCause::LargerThanOrder]);
    rig.record(order_id, record(&[fill("e1", 5)]));
    assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (5, vec![]));
}

#[test]
fn a_query_without_an_answer_is_repeated() {
    // A failed order, also after a restart while the exchange is away.
    for restarts in [false, true] {
        let mut rig = Rig::new();
        let order_id = rig.failed();
        if restarts {
            rig.restart();
        }
        for _ in 0..5 {
            micros_until_queried(&mut rig, order_id);
            rig.record_lost(order_id);
        }
    }
    // An order whose over-fill a record explained: that is no proof.
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 10));
    rig.report("x", filled("e2", 3));
    let cut = record_of("x", ExchangeOrderState::Filled, vec![fill("e1", 10)]);
    rig.record(order_id, QueryAnswer::Known(cut));
    assert_eq!(filled_shares(&rig, order_id), 10);
    for _ in 0..5 {
        micros_until_queried(&mut rig, order_id);
        rig.record_lost(order_id);
    }
    // An order that ended with a doubtful execution.
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 10));
    rig.record(order_id, record(&[]));
    let pauses: Vec<u64> = (0..8)
        .map(|_| {
            let pause = micros_until_queried(&mut rig, order_id);
            rig.record_lost(order_id);
            pause
        })
        .collect();
    assert!(pauses.is_sorted() && pauses.last() > pauses.first(), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= OPTIONS.max_doubt_pause_micros), "{pauses:?}");
}

#[test]
fn an_unreadable_record_holds_up_no_position_and_is_queried_again() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let order_id = rig.submitted();
    rig.engines.feed_session(&"s".into(), 9);
    rig.reconcile();
    let unreadable = || QueryAnswer::Unreadable { text: "its status is odd".into() };
    rig.record(order_id, unreadable());
    rig.log_position();
    assert!(
        matches!(rig.log.last(), Some(Event::FeedPosition(position)) if position.sequence == 9)
    );
    assert_eq!(causes(&rig), [CaseCause::Unreadable]);
    let pauses: Vec<u64> = (0..6)
        .map(|_| {
            let pause = micros_until_queried(&mut rig, order_id);
            rig.record(order_id, unreadable());
            pause
        })
        .collect();
    assert!(pauses.is_sorted() && pauses.last() > pauses.first(), "{pauses:?}");
    assert_eq!(causes(&rig), [CaseCause::Unreadable], "once");
    rig.sweep(OPTIONS.unmatched_report_age_micros);
    rig.record(order_id, record(&[fill("e1", 4)]));
    assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (4, vec![]));
}

#[test]
fn an_ended_order_with_an_open_case_is_queried_after_a_restart() {
    let mut rig = Rig::new();
    let order_id = rig.filled("x");
    rig.report("x", ReportKind::Filled(fill("late", 99)));
    assert_eq!(causes(&rig), [CaseCause::LargerThanOrder]);
    rig.restart();
    assert!(micros_until_queried(&mut rig, order_id) <= OPTIONS.grace_micros);
}

#[test]
fn an_id_reused_a_day_later_belongs_to_the_new_order() {
    let mut rig = Rig::new();
    let orders = [rig.pending(), rig.pending()];
    for order_id in orders {
        rig.accept(order_id, "x");
    }
    for order_id in orders {
        rig.record(
            order_id,
            QueryAnswer::Known(record_of("x", ExchangeOrderState::Cancelled, vec![])),
        );
    }
    for order_id in orders {
        assert_eq!(rig.status(order_id), Status::Cancelled);
        let version = rig.order(order_id).version;
        assert!(
            rig.engines.forget(order_id, version).is_none(),
            "the store cannot tell them apart"
        );
    }
    rig.sweep(24 * 3_600 * 1_000_000);
    let third = rig.pending();
    rig.accept(third, "x");
    rig.report("x", filled("e1", 4));
    assert_eq!((filled_shares(&rig, third), causes(&rig)), (4, vec![]));
    let version = rig.order(orders[0]).version;
    assert!(rig.engines.forget(orders[0], version).is_some());
}

#[test]
fn a_gap_during_a_reconciliation_adds_a_second_round() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let orders: Vec<OrderId> = (0..3)
        .map(|number| {
            let order_id = rig.pending();
            rig.accept(order_id, &format!("x{number}"));
            order_id
        })
        .collect();
    let answer = |rig: &mut Rig| {
        for effect in rig.take() {
            if let Effect::Query(order_id) = effect {
                let place = orders.iter().position(|known| *known == order_id).unwrap();
                let record = record_of(&format!("x{place}"), ExchangeOrderState::Open, vec![]);
                rig.record(order_id, QueryAnswer::Known(record));
            }
        }
    };
    rig.reconcile();
    answer(&mut rig);
    rig.log_position();
    rig.engines.feed_session(&"s".into(), 10);
    let mut positions = Vec::new();
    for round in 0..12 {
        // Gap after gap before one round ends.
        if round < 6 {
            rig.engines.feed_session(&"s".into(), 20 + round);
        }
        rig.act(|engines, now, out| engines.reconcile_some(now, 1, out));
        answer(&mut rig);
        rig.log.clear();
        rig.log_position();
        positions.extend(rig.log.iter().filter_map(|event| match event {
            Event::FeedPosition(position) => Some(position.sequence),
            _ => None,
        }));
    }
    assert!(positions.len() >= 2, "{positions:?}");
    assert!(positions.is_sorted() && positions[0] < 25, "{positions:?}");
    assert_eq!(positions.last(), Some(&25));
    assert!(!rig.engines.is_reconciling());
}

#[test]
fn an_order_with_too_many_cases_is_queried_with_pauses() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let count = MAX_OPEN_CASES + 4;
    let id = |number: usize| format!("e{number}");
    let ours: Vec<Fill> = (0..count).map(|number| fill(&id(number), 1)).collect();
    let theirs: Vec<Fill> = (0..count).map(|number| fill(&id(number), 2)).collect();
    for fill in &ours {
        rig.report("x", ReportKind::Filled(fill.clone()));
    }
    let mut queried = 0;
    for _ in 0..50 {
        queried += rig.queries();
        rig.record(order_id, record(&theirs));
    }
    assert_eq!(causes(&rig).len(), MAX_OPEN_CASES);
    assert!(queried <= MAX_OPEN_CASES + 2, "queried {queried} times");
}

#[test]
fn a_claim_to_replace_an_execution_is_decided_once() {
    let other = Fill { price: PriceCents::new(120).unwrap(), ..fill("e1", 3) };
    for (outcome, shares) in [(CaseOutcome::Discarded, 4), (CaseOutcome::Booked, 3)] {
        let mut rig = Rig::new();
        let order_id = rig.submitted();
        rig.report("x", filled("e1", 4));
        rig.record(order_id, record(std::slice::from_ref(&other)));
        assert_eq!(causes(&rig), [CaseCause::IdUsedAgain]);
        assert_eq!(filled_shares(&rig, order_id), 4);
        decide(&mut rig, order_id, outcome);
        assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (shares, vec![]));
        // The decision stands, whatever source repeats the claim.
        rig.record(order_id, record(std::slice::from_ref(&other)));
        rig.report("x", ReportKind::Filled(other.clone()));
        rig.report("x", filled("e1", 4));
        assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (shares, vec![]));
        let decided = rig.order(order_id).clone();
        rig.restart();
        assert_eq!(*rig.order(order_id), decided);
    }
}

#[test]
fn a_line_in_another_symbol_voids_nothing() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let spy = |fill: Fill| Report {
        symbol: Symbol::new("SPY").ok(),
        ..Report::new(ExternalOrderId::new("x").unwrap(), ReportKind::Filled(fill))
    };
    rig.report("x", filled("e1", 4));
    rig.act(|engines, now, out| engines.report(now, spy(fill("e1", 4)), out));
    assert_eq!(causes(&rig), [], "the execution is known");
    rig.act(|engines, now, out| engines.report(now, spy(fill("e2", 2)), out));
    assert_eq!(causes(&rig), [CaseCause::OtherSymbol]);
    rig.report("x", filled("e2", 2));
    assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (6, vec![]));
}

fn cancels(rig: &mut Rig) -> Vec<(OrderId, String)> {
    let cancels = rig.take().into_iter().filter_map(|effect| match effect {
        Effect::Cancel { order_id, external_order_id, .. } => {
            Some((order_id, external_order_id.to_string()))
        }
        _ => None,
    });
    cancels.collect()
}

fn named(id: &str, executions: &[Fill]) -> QueryAnswer {
    QueryAnswer::Known(record_of(id, ExchangeOrderState::Open, executions.to_vec()))
}

#[test]
fn its_record_identifies_an_order_accepted_under_the_id_of_another() {
    let mut rig = Rig::new();
    let [first, second] = [rig.pending(), rig.pending()];
    rig.accept(first, "x");
    rig.accept(second, "x");
    assert!(rig.take().contains(&Effect::Query(first)), "both are queried");
    rig.cancel(second, 2);
    assert_eq!(cancels(&mut rig), [], "the cancel could reach the other");
    rig.record(first, named("x", &[]));
    for _ in 0..2 {
        rig.record(second, named("y", &[fill("e1", 3)]));
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    rig.record(second, named("y", &[fill("e1", 3)]));
    assert_eq!((filled_shares(&rig, second), filled_shares(&rig, first)), (3, 0));
    assert_eq!(causes(&rig), [CaseCause::OtherExternalId]);
    assert_eq!(cancels(&mut rig), [(second, "y".to_owned())]);
    // Lines under that id are delivered to it, too.
    rig.report("y", filled("e2", 1));
    assert_eq!(filled_shares(&rig, second), 4);
    rig.cancel(first, 1);
    assert_eq!(cancels(&mut rig), [(first, "x".to_owned())]);
}

#[test]
fn no_cancel_reaches_an_order_with_the_id_of_a_lost_one() {
    let mut rig = Rig::new();
    let [old, new] = [rig.pending(), rig.pending()];
    rig.accept(old, "x");
    rig.record(old, named("x", &[]));
    rig.accept(new, "x");
    rig.cancel(old, 1);
    rig.record(old, QueryAnswer::Unknown { as_of: None });
    rig.record(new, named("x", &[]));
    for _ in 0..5 {
        rig.sweep(OPTIONS.grace_micros);
        rig.record(old, QueryAnswer::Unknown { as_of: None });
    }
    assert_eq!(cancels(&mut rig), []);
    rig.cancel(new, 2);
    assert_eq!(cancels(&mut rig), [(new, "x".to_owned())]);
}

#[test]
fn new_ids_for_known_orders_are_followed() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 2));
    for _ in 0..3 {
        rig.record(order_id, named("y", &[fill("e1", 2), fill("e2", 3)]));
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    assert_eq!(
        (filled_shares(&rig, order_id), causes(&rig)),
        (5, vec![CaseCause::OtherExternalId])
    );
    rig.report("y", filled("e3", 1));
    rig.cancel(order_id, 1);
    assert_eq!(cancels(&mut rig), [(order_id, "y".to_owned())]);
    rig.record(order_id, named("y", &[fill("e1", 2), fill("e2", 3), fill("e3", 1)]));
    assert_eq!(filled_shares(&rig, order_id), 6);
}

#[test]
fn an_accepted_order_that_the_exchange_no_longer_knows_opens_a_case() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let unknown = || QueryAnswer::Unknown { as_of: None };
    for _ in 0..40 {
        rig.record(order_id, unknown());
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    assert_eq!(causes(&rig), [CaseCause::UnknownAtExchange]);
    rig.record(order_id, record(&[]));
    assert_eq!(causes(&rig), []);
}

#[test]
fn a_query_from_before_the_order_was_accepted_is_repeated_and_alerts_nobody() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.submit_answer(order_id, SubmitOutcome::Unknown);
    assert!(rig.take().contains(&Effect::Query(order_id)));
    rig.accept(order_id, "x");
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    let effects = rig.take();
    assert!(!has_alert(&effects, Anomaly::UnknownAtExchange), "{effects:?}");
    assert!(effects.contains(&Effect::Query(order_id)), "{effects:?}");
    // The next one was asked after it.
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    assert!(has_alert(&rig.take(), Anomaly::UnknownAtExchange));
}

#[test]
fn unmatched_reports_delivered_by_a_record_are_judged_by_the_next_record() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let order_id = rig.pending();
    rig.line("x", 1, filled("e1", 10));
    rig.sweep(OPTIONS.grace_micros);
    rig.take();
    rig.record(order_id, QueryAnswer::Known(record_of("x", ExchangeOrderState::Open, vec![])));
    assert_eq!(rig.order(order_id).filled_shares, 10);
    assert!(rig.take().contains(&Effect::Query(order_id)), "the record did not include it");
}
