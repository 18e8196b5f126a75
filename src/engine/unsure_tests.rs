//! What stays unsure about an order is asked about again, holds up nothing else, and is decided by
//! numbers and not by names alone.

use super::race_tests::{Desk, OPTIONS, fill, filled, record_of};
use super::*;
use crate::order::{
    CaseCause, CaseOutcome, Event, Fill, MAX_OPEN_CASES, OperatorAct, ReportKind, Status,
};
use crate::types::*;

fn record(executions: &[Fill]) -> QueryAnswer {
    QueryAnswer::Known(record_of("x", ExchangeOrderState::Open, executions.to_vec()))
}

fn causes(desk: &Desk) -> Vec<CaseCause> {
    desk.engines.open_cases().map(|(_, open)| open.case.cause).collect()
}

fn filled_shares(desk: &Desk, order_id: OrderId) -> Shares {
    desk.order(order_id).filled_shares
}

/// Lets an operator decide the only open case.
fn decide(desk: &mut Desk, order_id: OrderId, outcome: CaseOutcome) {
    let number = desk.engines.open_cases().map(|(_, open)| open.number).next().unwrap();
    let act = OperatorAct { by: "bob".into(), reason: "told by phone".into() };
    desk.act(|engines, now, out| {
        let reply = engines.decide_case(now, (order_id, number), (outcome, act), out);
        assert!(matches!(reply, OperatorReply::Done(_)));
    });
}

/// Sweeps until the order is asked about; how long that took.
fn until_asked(desk: &mut Desk, order_id: OrderId) -> u64 {
    desk.take();
    for step in 1..=10_000 {
        desk.sweep(100);
        if desk.take().contains(&Effect::Query(order_id)) {
            return step * 100;
        }
    }
    panic!("nobody asks about {order_id}");
}

#[test]
fn a_line_is_confirmed_by_a_record_with_its_numbers_alone() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    desk.report("x", ReportKind::Filled(fill("e1", 5_000)));
    assert_eq!(causes(&desk), [CaseCause::LargerThanOrder]);
    desk.record(order_id, record(&[fill("e1", 5)]));
    assert_eq!((filled_shares(&desk, order_id), causes(&desk)), (5, vec![]));
}

#[test]
fn a_question_without_an_answer_is_asked_again() {
    // An order called failed, also after a start at which the exchange is away.
    for restarts in [false, true] {
        let mut desk = Desk::new();
        let order_id = desk.failed();
        if restarts {
            desk.restart();
        }
        for _ in 0..5 {
            until_asked(&mut desk, order_id);
            desk.record_lost(order_id);
        }
    }
    // One that ended with something in doubt.
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    desk.report("x", filled("e1", 10));
    desk.record(order_id, record(&[]));
    let pauses: Vec<u64> = (0..8)
        .map(|_| {
            let pause = until_asked(&mut desk, order_id);
            desk.record_lost(order_id);
            pause
        })
        .collect();
    assert!(pauses.is_sorted() && pauses.last() > pauses.first(), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= OPTIONS.max_doubt_pause_micros), "{pauses:?}");
}

#[test]
fn a_record_that_cannot_be_read_holds_up_no_position_and_is_asked_for_again() {
    let mut desk = Desk::new();
    desk.engines.feed_session(&"s".into(), 0);
    desk.reconcile();
    let order_id = desk.submitted();
    desk.engines.feed_session(&"s".into(), 9);
    desk.reconcile();
    let unreadable = || QueryAnswer::Unreadable { text: "its status is odd".into() };
    desk.record(order_id, unreadable());
    desk.log_position();
    assert!(
        matches!(desk.log.last(), Some(Event::FeedPosition(position)) if position.sequence == 9)
    );
    assert_eq!(causes(&desk), [CaseCause::Unreadable]);
    let pauses: Vec<u64> = (0..6)
        .map(|_| {
            let pause = until_asked(&mut desk, order_id);
            desk.record(order_id, unreadable());
            pause
        })
        .collect();
    assert!(pauses.is_sorted() && pauses.last() > pauses.first(), "{pauses:?}");
    assert_eq!(causes(&desk), [CaseCause::Unreadable], "once");
    desk.sweep(OPTIONS.unmatched_report_age_micros);
    desk.record(order_id, record(&[fill("e1", 4)]));
    assert_eq!((filled_shares(&desk, order_id), causes(&desk)), (4, vec![]));
}

#[test]
fn an_order_with_an_open_case_is_asked_about_after_a_start_though_it_has_ended() {
    let mut desk = Desk::new();
    let order_id = desk.filled("x");
    desk.report("x", ReportKind::Filled(fill("late", 99)));
    assert_eq!(causes(&desk), [CaseCause::LargerThanOrder]);
    desk.restart();
    assert!(until_asked(&mut desk, order_id) <= OPTIONS.grace_micros);
}

#[test]
fn an_id_that_is_given_again_a_day_later_means_the_new_order() {
    let mut desk = Desk::new();
    let orders = [desk.pending(), desk.pending()];
    for order_id in orders {
        desk.accept(order_id, "x");
    }
    for order_id in orders {
        desk.record(
            order_id,
            QueryAnswer::Known(record_of("x", ExchangeOrderState::Cancelled, vec![])),
        );
    }
    for order_id in orders {
        assert_eq!(desk.status(order_id), Status::Cancelled);
        let version = desk.order(order_id).version;
        assert!(desk.engines.forget(order_id, version).is_none(), "only memory tells them apart");
    }
    desk.sweep(24 * 3_600 * 1_000_000);
    let third = desk.pending();
    desk.accept(third, "x");
    desk.report("x", filled("e1", 4));
    assert_eq!((filled_shares(&desk, third), causes(&desk)), (4, vec![]));
    let version = desk.order(orders[0]).version;
    assert!(desk.engines.forget(orders[0], version).is_some());
}

#[test]
fn a_gap_while_one_is_made_up_for_begins_nothing_anew_and_ends_in_a_second_round() {
    let mut desk = Desk::new();
    desk.engines.feed_session(&"s".into(), 0);
    let orders: Vec<OrderId> = (0..3)
        .map(|number| {
            let order_id = desk.pending();
            desk.accept(order_id, &format!("x{number}"));
            order_id
        })
        .collect();
    let answer = |desk: &mut Desk| {
        for effect in desk.take() {
            if let Effect::Query(order_id) = effect {
                let place = orders.iter().position(|known| *known == order_id).unwrap();
                let record = record_of(&format!("x{place}"), ExchangeOrderState::Open, vec![]);
                desk.record(order_id, QueryAnswer::Known(record));
            }
        }
    };
    desk.reconcile();
    answer(&mut desk);
    desk.log_position();
    desk.engines.feed_session(&"s".into(), 10);
    let mut positions = Vec::new();
    for round in 0..12 {
        // Again and again before one round has come to its end.
        if round < 6 {
            desk.engines.feed_session(&"s".into(), 20 + round);
        }
        desk.act(|engines, now, out| engines.reconcile_some(now, 1, out));
        answer(&mut desk);
        desk.log.clear();
        desk.log_position();
        positions.extend(desk.log.iter().filter_map(|event| match event {
            Event::FeedPosition(position) => Some(position.sequence),
            _ => None,
        }));
    }
    assert!(positions.len() >= 2, "{positions:?}");
    assert!(positions.is_sorted() && positions[0] < 25, "{positions:?}");
    assert_eq!(positions.last(), Some(&25));
    assert!(!desk.engines.is_reconciling());
}

#[test]
fn an_order_with_too_many_cases_is_not_asked_about_without_a_pause() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    let count = MAX_OPEN_CASES + 4;
    let id = |number: usize| format!("e{number}");
    let ours: Vec<Fill> = (0..count).map(|number| fill(&id(number), 1)).collect();
    let theirs: Vec<Fill> = (0..count).map(|number| fill(&id(number), 2)).collect();
    for fill in &ours {
        desk.report("x", ReportKind::Filled(fill.clone()));
    }
    let mut asked = 0;
    for _ in 0..50 {
        asked += desk.queries();
        desk.record(order_id, record(&theirs));
    }
    assert_eq!(causes(&desk).len(), MAX_OPEN_CASES);
    assert!(asked <= MAX_OPEN_CASES + 2, "asked {asked} times");
}

#[test]
fn a_claim_to_an_execution_that_counts_is_decided_once() {
    let other = Fill { price: PriceCents::new(120).unwrap(), ..fill("e1", 3) };
    for (outcome, shares) in [(CaseOutcome::Discarded, 4), (CaseOutcome::Booked, 3)] {
        let mut desk = Desk::new();
        let order_id = desk.submitted();
        desk.report("x", filled("e1", 4));
        desk.record(order_id, record(std::slice::from_ref(&other)));
        assert_eq!(causes(&desk), [CaseCause::IdUsedAgain]);
        assert_eq!(filled_shares(&desk, order_id), 4);
        decide(&mut desk, order_id, outcome);
        assert_eq!((filled_shares(&desk, order_id), causes(&desk)), (shares, vec![]));
        // It stays decided, whoever says it again.
        desk.record(order_id, record(std::slice::from_ref(&other)));
        desk.report("x", ReportKind::Filled(other.clone()));
        desk.report("x", filled("e1", 4));
        assert_eq!((filled_shares(&desk, order_id), causes(&desk)), (shares, vec![]));
        let decided = desk.order(order_id).clone();
        desk.restart();
        assert_eq!(*desk.order(order_id), decided);
    }
}

#[test]
fn a_line_in_another_symbol_is_no_reason_to_void_what_counts() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    let spy = |fill: Fill| Report {
        symbol: Symbol::new("SPY").ok(),
        ..Report::new(ExternalOrderId::new("x").unwrap(), ReportKind::Filled(fill))
    };
    desk.report("x", filled("e1", 4));
    desk.act(|engines, now, out| engines.report(now, spy(fill("e1", 4)), out));
    assert_eq!(causes(&desk), [], "it is known");
    desk.act(|engines, now, out| engines.report(now, spy(fill("e2", 2)), out));
    assert_eq!(causes(&desk), [CaseCause::OtherSymbol]);
    desk.report("x", filled("e2", 2));
    assert_eq!((filled_shares(&desk, order_id), causes(&desk)), (6, vec![]));
}

fn cancels(desk: &mut Desk) -> Vec<(OrderId, String)> {
    let cancels = desk.take().into_iter().filter_map(|effect| match effect {
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
fn an_order_that_was_accepted_under_the_id_of_another_is_told_by_its_record() {
    let mut desk = Desk::new();
    let [first, second] = [desk.pending(), desk.pending()];
    desk.accept(first, "x");
    desk.accept(second, "x");
    assert!(desk.take().contains(&Effect::Query(first)), "both are asked about");
    desk.cancel(second, 2);
    assert_eq!(cancels(&mut desk), [], "it could be the other's");
    desk.record(first, named("x", &[]));
    for _ in 0..2 {
        desk.record(second, named("y", &[fill("e1", 3)]));
        desk.sweep(OPTIONS.unknown_span_micros);
    }
    desk.record(second, named("y", &[fill("e1", 3)]));
    assert_eq!((filled_shares(&desk, second), filled_shares(&desk, first)), (3, 0));
    assert_eq!(causes(&desk), [CaseCause::OtherExternalId]);
    assert_eq!(cancels(&mut desk), [(second, "y".to_owned())]);
    // Its lines come under that id as well.
    desk.report("y", filled("e2", 1));
    assert_eq!(filled_shares(&desk, second), 4);
    desk.cancel(first, 1);
    assert_eq!(cancels(&mut desk), [(first, "x".to_owned())]);
}

#[test]
fn no_cancel_reaches_an_order_that_has_the_id_of_a_forgotten_one() {
    let mut desk = Desk::new();
    let [old, new] = [desk.pending(), desk.pending()];
    desk.accept(old, "x");
    desk.record(old, named("x", &[]));
    desk.accept(new, "x");
    desk.cancel(old, 1);
    desk.record(old, QueryAnswer::Unknown { as_of: None });
    desk.record(new, named("x", &[]));
    for _ in 0..5 {
        desk.sweep(OPTIONS.grace_micros);
        desk.record(old, QueryAnswer::Unknown { as_of: None });
    }
    assert_eq!(cancels(&mut desk), []);
    desk.cancel(new, 2);
    assert_eq!(cancels(&mut desk), [(new, "x".to_owned())]);
}

#[test]
fn an_exchange_that_names_its_orders_anew_is_followed() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    desk.report("x", filled("e1", 2));
    for _ in 0..3 {
        desk.record(order_id, named("y", &[fill("e1", 2), fill("e2", 3)]));
        desk.sweep(OPTIONS.unknown_span_micros);
    }
    assert_eq!(
        (filled_shares(&desk, order_id), causes(&desk)),
        (5, vec![CaseCause::OtherExternalId])
    );
    desk.report("y", filled("e3", 1));
    desk.cancel(order_id, 1);
    assert_eq!(cancels(&mut desk), [(order_id, "y".to_owned())]);
    desk.record(order_id, named("y", &[fill("e1", 2), fill("e2", 3), fill("e3", 1)]));
    assert_eq!(filled_shares(&desk, order_id), 6);
}

#[test]
fn an_accepted_order_that_the_exchange_no_longer_knows_is_listed() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    let unknown = || QueryAnswer::Unknown { as_of: None };
    for _ in 0..40 {
        desk.record(order_id, unknown());
        desk.sweep(OPTIONS.unknown_span_micros);
    }
    assert_eq!(causes(&desk), [CaseCause::UnknownAtExchange]);
    desk.record(order_id, record(&[]));
    assert_eq!(causes(&desk), []);
}
