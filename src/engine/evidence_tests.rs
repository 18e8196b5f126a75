//! What counts as evidence about an order, one rule per test.

use super::test_rig::{OPTIONS, Rig, fill, filled, has_alert, record_of};
use super::*;
use crate::order::{
    Anomaly, CaseCause, CaseOutcome, Ending, Fill, OperatorAct, OrderParts, ReportKind, Status,
};
use crate::types::*;

/// A record with exactly these executions.
fn record(executions: &[Fill]) -> ExchangeRecord {
    record_of("x", ExchangeOrderState::Open, executions.to_vec())
}

fn as_of(session: &str, sequence: u64, record: ExchangeRecord) -> ExchangeRecord {
    let session = session.into();
    ExchangeRecord { as_of: Some(FeedPlace { session, sequence }), ..record }
}

/// An order with executions of 4 and 3 shares, shown by lines 1 and 2 of session "s".
fn twice_filled() -> (Rig, OrderId) {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.line("x", 1, filled("e1", 4));
    rig.line("x", 2, filled("e2", 3));
    rig.take();
    (rig, order_id)
}

fn answer(rig: &mut Rig, order_id: OrderId, record: ExchangeRecord) {
    rig.record(order_id, QueryAnswer::Known(record));
}

fn filled_shares(rig: &Rig, order_id: OrderId) -> Shares {
    rig.order(order_id).filled_shares
}

fn causes(rig: &Rig) -> Vec<CaseCause> {
    rig.engines.open_cases().map(|(_, open)| open.case.cause).collect()
}

#[test]
fn a_record_that_may_lag_adds_executions_and_never_removes_one() {
    let (mut rig, order_id) = twice_filled();
    for records in 0..20 {
        answer(&mut rig, order_id, record(&[fill("e1", 4)]));
        assert_eq!(filled_shares(&rig, order_id), 7, "after {records} records");
        rig.sweep(OPTIONS.max_doubt_pause_micros);
    }
    answer(&mut rig, order_id, record(&[fill("e1", 4), fill("e3", 1)]));
    assert_eq!(filled_shares(&rig, order_id), 8);
    assert_eq!(causes(&rig), [CaseCause::Doubtful]);
}

#[test]
fn a_doubtful_execution_is_queried_with_growing_pauses_and_alerted_once() {
    let (mut rig, order_id) = twice_filled();
    let mut queried_after = Vec::new();
    let mut alerts = 0;
    let mut waited = 0;
    answer(&mut rig, order_id, record(&[fill("e1", 4)]));
    while queried_after.len() < 6 {
        rig.sweep(100);
        waited += 100;
        let effects = rig.take();
        alerts += effects
            .iter()
            .filter(|effect| {
                let anomaly = Anomaly::DoubtfulExecution;
                **effect == Effect::Alert(Alert::Order { order_id, anomaly })
            })
            .count();
        if effects.contains(&Effect::Query(order_id)) {
            queried_after.push(waited);
            waited = 0;
            answer(&mut rig, order_id, record(&[fill("e1", 4)]));
        }
    }
    assert_eq!(queried_after, [500, 1_000, 2_000, 4_000, 8_000, 8_000]);
    assert_eq!(alerts, 1);
    // The record has caught up: nothing is doubtful.
    answer(&mut rig, order_id, record(&[fill("e1", 4), fill("e2", 3)]));
    assert_eq!(causes(&rig), []);
    rig.sweep(100_000);
    assert_eq!(rig.queries(), 0);
}

#[test]
fn a_truncated_list_makes_nothing_doubtful() {
    let (mut rig, order_id) = twice_filled();
    let cut = ExchangeRecord { filled_shares: 7, ..record(&[]) };
    for _ in 0..5 {
        answer(&mut rig, order_id, as_of("s", 9, cut.clone()));
        rig.sweep(OPTIONS.doubt_age_micros);
    }
    assert_eq!(filled_shares(&rig, order_id), 7);
    assert_eq!(causes(&rig), []);
}

#[test]
fn a_record_takes_back_what_it_proves_void_and_nothing_newer() {
    for (place, left) in [(("s", 1), 7), (("s", 2), 4), (("s", 9), 4), (("t", 9), 7)] {
        let (mut rig, order_id) = twice_filled();
        answer(&mut rig, order_id, as_of(place.0, place.1, record(&[fill("e1", 4)])));
        assert_eq!(filled_shares(&rig, order_id), left, "{place:?}");
        assert_eq!(has_alert(&rig.take(), Anomaly::TakenBack), left == 4);
    }
}

#[test]
fn a_reopened_order_is_queried_until_a_record_covers_what_ended_it() {
    let (mut rig, order_id) = twice_filled();
    rig.line("x", 3, filled("e3", 3));
    // Line 4, the bust of e3, was lost.
    rig.line("x", 5, ReportKind::Cancelled);
    rig.engines.feed_reached(5);
    assert_eq!(rig.status(order_id), Status::Filled);
    for _ in 0..3 {
        rig.take();
        answer(&mut rig, order_id, as_of("s", 4, record(&[fill("e1", 4), fill("e2", 3)])));
        assert_eq!(rig.status(order_id), Status::PartiallyFilled);
        rig.sweep(OPTIONS.grace_micros);
        assert!(rig.take().contains(&Effect::Query(order_id)));
    }
    let executions = vec![fill("e1", 4), fill("e2", 3)];
    let ended = record_of("x", ExchangeOrderState::Cancelled, executions);
    answer(&mut rig, order_id, as_of("s", 5, ended));
    assert_eq!((rig.status(order_id), filled_shares(&rig, order_id)), (Status::Cancelled, 7));
    rig.sweep(OPTIONS.max_doubt_pause_micros);
    assert_eq!(rig.queries(), 0);
}

#[test]
fn an_execution_of_an_earlier_session_or_run_takes_two_records_of_this_one() {
    for restart in [false, true] {
        let (mut rig, order_id) = twice_filled();
        if restart {
            rig.restart();
        }
        rig.engines.feed_session(&"t".into(), 5);
        // Until then a posted execution may be ahead of its line.
        rig.sweep(OPTIONS.doubt_age_micros);
        for (session, sequence, left) in [("s", 9, 7), ("t", 5, 7), ("t", 4, 7), ("t", 5, 4)] {
            answer(&mut rig, order_id, as_of(session, sequence, record(&[fill("e1", 4)])));
            assert_eq!(filled_shares(&rig, order_id), left, "{session} {sequence}");
            rig.sweep(OPTIONS.unknown_span_micros);
        }
    }
}

#[test]
fn an_execution_shown_only_by_a_record_is_not_taken_back_by_an_older_one() {
    let (mut rig, order_id) = twice_filled();
    let all = [fill("e1", 4), fill("e2", 3), fill("e3", 1)];
    answer(&mut rig, order_id, as_of("s", 2, record(&all)));
    for _ in 0..3 {
        answer(&mut rig, order_id, as_of("s", 2, record(&all[..2])));
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    assert_eq!(filled_shares(&rig, order_id), 8);
    rig.line("x", 3, filled("e3", 1));
    answer(&mut rig, order_id, as_of("s", 3, record(&all[..2])));
    assert_eq!(filled_shares(&rig, order_id), 7);
}

#[test]
fn a_taken_back_execution_counts_when_shown_again_and_a_busted_one_does_not() {
    let (mut rig, order_id) = twice_filled();
    answer(&mut rig, order_id, as_of("s", 2, record(&[fill("e1", 4)])));
    assert_eq!(filled_shares(&rig, order_id), 4);
    rig.line("x", 3, filled("e2", 3));
    assert_eq!(filled_shares(&rig, order_id), 7, "by a line");
    answer(&mut rig, order_id, as_of("s", 3, record(&[fill("e1", 4)])));
    answer(&mut rig, order_id, record(&[fill("e1", 4), fill("e2", 3)]));
    assert_eq!(filled_shares(&rig, order_id), 7, "by a record");
    let execution_id = ExecutionId::new("e2").unwrap();
    rig.line("x", 4, ReportKind::Busted { execution_id });
    rig.line("x", 5, filled("e2", 3));
    answer(&mut rig, order_id, record(&[fill("e1", 4), fill("e2", 3)]));
    assert_eq!(filled_shares(&rig, order_id), 4);
    let parts = OrderParts::of_tracked(rig.engines.tracked(order_id).unwrap());
    rig.restart();
    assert_eq!(OrderParts::of_tracked(rig.engines.tracked(order_id).unwrap()), parts);
}

#[test]
fn doubtful_executions_that_explain_an_over_fill_are_taken_back_at_once() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    // Its bust is lost with the session.
    rig.line("x", 1, filled("e1", 6));
    rig.engines.feed_session(&"t".into(), 0);
    rig.reconcile();
    answer(&mut rig, order_id, record(&[]));
    rig.take();
    rig.line("x", 1, filled("e2", 10));
    assert_eq!(filled_shares(&rig, order_id), 16);
    assert!(rig.take().contains(&Effect::Query(order_id)), "queried at once");
    let all = ExchangeRecord { state: ExchangeOrderState::Filled, ..record(&[fill("e2", 10)]) };
    answer(&mut rig, order_id, all);
    assert_eq!((filled_shares(&rig, order_id), rig.status(order_id)), (10, Status::Filled));
}

#[test]
fn a_record_from_before_its_line_does_not_explain_an_over_fill() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.line("x", 1, filled("e1", 10));
    rig.line("x", 2, filled("e2", 3));
    let old = ExchangeRecord { state: ExchangeOrderState::Filled, ..record(&[fill("e1", 10)]) };
    answer(&mut rig, order_id, as_of("s", 1, old.clone()));
    assert_eq!(filled_shares(&rig, order_id), 13);
    answer(&mut rig, order_id, as_of("s", 2, old));
    assert_eq!(filled_shares(&rig, order_id), 10, "the record covers its line");
}

#[test]
fn an_explained_over_fill_is_queried_again() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 10));
    rig.report("x", filled("e2", 3));
    rig.take();
    // A truncated list with a matching total fits the order, too.
    let cut = ExchangeRecord { state: ExchangeOrderState::Filled, ..record(&[fill("e1", 10)]) };
    answer(&mut rig, order_id, cut);
    assert_eq!(filled_shares(&rig, order_id), 10);
    rig.take();
    rig.sweep(OPTIONS.relook_pauses_micros[0]);
    assert_eq!(rig.queries(), 1);
    let all = [fill("e1", 10), fill("e2", 3)];
    answer(
        &mut rig,
        order_id,
        ExchangeRecord { state: ExchangeOrderState::Filled, ..record(&all) },
    );
    assert_eq!(filled_shares(&rig, order_id), 13);
}

#[test]
fn an_over_fill_that_the_record_confirms_stays() {
    let (mut rig, order_id) = twice_filled();
    rig.line("x", 3, filled("e3", 5));
    assert!(has_alert(&rig.take(), Anomaly::OverFill));
    answer(&mut rig, order_id, record(&[fill("e1", 4), fill("e2", 3), fill("e3", 5)]));
    assert_eq!(filled_shares(&rig, order_id), 12);
}

#[test]
fn an_unknown_order_fails_by_two_records_of_which_the_second_is_new_enough() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 7);
    let order_id = rig.pending();
    let unknown = |sequence| QueryAnswer::Unknown {
        as_of: Some(FeedPlace { session: "s".into(), sequence }),
    };
    rig.sweep(1_200);
    rig.record(order_id, unknown(7));
    assert_eq!(rig.status(order_id), Status::Pending, "one record");
    rig.sweep(400);
    rig.record(order_id, unknown(7));
    assert_eq!(rig.status(order_id), Status::Pending, "too soon after the first");
    rig.sweep(600);
    rig.record(order_id, unknown(6));
    assert_eq!(rig.status(order_id), Status::Pending, "a record older than the first");
    rig.sweep(600);
    rig.record(order_id, unknown(7));
    assert_eq!(rig.status(order_id), Status::Failed);
}

#[test]
fn a_failed_order_is_queried_again_and_cancelled_if_it_is_live() {
    let mut rig = Rig::new();
    let order_id = rig.failed();
    let mut queried = Vec::new();
    for millis in 1..=6 {
        rig.sweep(1_000);
        if rig.queries() > 0 {
            queried.push(millis);
            rig.record(order_id, QueryAnswer::Unknown { as_of: None });
        }
    }
    assert_eq!(queried, [1, 2, 3, 4, 5]);

    let mut rig = Rig::new();
    let order_id = rig.failed();
    rig.restart();
    rig.reconcile();
    rig.take();
    answer(&mut rig, order_id, record(&[fill("e1", 4)]));
    assert_eq!((rig.status(order_id), filled_shares(&rig, order_id)), (Status::Failed, 4));
    let effects = rig.take();
    assert!(has_alert(&effects, Anomaly::LateAccept) && has_alert(&effects, Anomaly::FillOfFailed));
    assert!(effects.iter().any(|effect| matches!(effect, Effect::Cancel { .. })));
}

#[test]
fn recently_ended_orders_are_queried_after_a_gap() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let old = rig.filled("old");
    rig.sweep(OPTIONS.ended_window_micros + 1);
    let recent = rig.filled("recent");
    rig.engines.feed_reached(9);
    rig.log_position();
    rig.take();
    rig.engines.feed_session(&"t".into(), 0);
    rig.reconcile();
    let effects = rig.take();
    assert!(effects.contains(&Effect::Query(recent)) && !effects.contains(&Effect::Query(old)));
    // An order that has left memory comes from the store.
    let (tracked, version) =
        (rig.engines.tracked(recent).unwrap().clone(), rig.order(recent).version);
    rig.record(
        recent,
        QueryAnswer::Known(record_of(
            "recent",
            ExchangeOrderState::Filled,
            vec![fill("recent", 10)],
        )),
    );
    assert!(rig.engines.forget(recent, version).is_some());
    rig.engines.feed_session(&"u".into(), 0);
    rig.reconcile();
    assert!(rig.take().contains(&Effect::LookUpOrder(recent)));
    rig.act(|engines, now, out| engines.found_order(now, recent, Some(tracked), out));
    assert!(rig.take().contains(&Effect::Query(recent)));
}

#[test]
fn a_misfit_is_quarantined_and_queried_and_counts_once_confirmed() {
    let larger = Fill { num_shares: 11, ..fill("e1", 11) };
    let worse = Fill { price: PriceCents::new(99).unwrap(), ..fill("e1", 4) };
    for (odd, cause) in [(larger, CaseCause::LargerThanOrder), (worse, CaseCause::BeyondLimit)] {
        let mut rig = Rig::new();
        let order_id = rig.submitted();
        rig.report("x", ReportKind::Filled(odd.clone()));
        rig.report("x", ReportKind::Filled(odd.clone()));
        assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (0, vec![cause]));
        let effects = rig.take();
        assert!(has_alert(&effects, Anomaly::Quarantined));
        assert!(effects.contains(&Effect::Query(order_id)));
        rig.restart();
        assert_eq!(causes(&rig), [cause], "also after a restart");
        answer(&mut rig, order_id, record(&[]));
        assert_eq!(filled_shares(&rig, order_id), 0);
        rig.take();
        answer(&mut rig, order_id, record(std::slice::from_ref(&odd)));
        assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (odd.num_shares, vec![]));
        assert!(has_alert(&rig.take(), Anomaly::MisfitConfirmed));
    }
}

#[test]
fn a_line_in_another_symbol_changes_nothing() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let spy = Symbol::new("SPY").unwrap();
    for kind in [filled("e1", 4), ReportKind::Cancelled] {
        let id = ExternalOrderId::new("x").unwrap();
        let report = Report { symbol: Some(spy), ..Report::new(id, kind) };
        rig.act(|engines, now, out| engines.report(now, report, out));
    }
    assert_eq!(rig.status(order_id), Status::Submitted);
    assert_eq!(causes(&rig), [CaseCause::OtherSymbol; 2]);
}

#[test]
fn only_their_records_tell_apart_two_orders_with_one_id() {
    let mut rig = Rig::new();
    let first = rig.submitted();
    let second = rig.pending();
    rig.accept(second, "x");
    rig.report("x", filled("e1", 4));
    assert_eq!((filled_shares(&rig, first), filled_shares(&rig, second)), (0, 0));
    let effects = rig.take();
    assert!(effects.contains(&Effect::Query(first)) && effects.contains(&Effect::Query(second)));
    answer(&mut rig, second, record(&[fill("e1", 4)]));
    answer(&mut rig, first, record(&[]));
    assert_eq!((filled_shares(&rig, first), filled_shares(&rig, second)), (0, 4));
}

#[test]
fn the_record_of_another_order_is_not_taken() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let other = record_of("y", ExchangeOrderState::Cancelled, vec![fill("e1", 4)]);
    answer(&mut rig, order_id, other);
    assert_eq!((filled_shares(&rig, order_id), rig.status(order_id)), (0, Status::Submitted));
    assert!(has_alert(&rig.take(), Anomaly::SecondExternalId));
}

#[test]
fn decisions_of_operators_are_final() {
    let act = || OperatorAct { by: "bob".into(), reason: "told by phone".into() };
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    let odd = |id: &str| Fill { price: PriceCents::new(99).unwrap(), ..fill(id, 4) };
    for id in ["e1", "e2"] {
        rig.report("x", ReportKind::Filled(odd(id)));
    }
    let numbers: Vec<u64> = rig.engines.open_cases().map(|(_, open)| open.number).collect();
    for (number, outcome) in
        [(numbers[0], CaseOutcome::Booked), (numbers[1], CaseOutcome::Discarded)]
    {
        rig.act(|engines, now, out| {
            let reply = engines.decide_case(now, (order_id, number), (outcome, act()), out);
            assert!(matches!(reply, OperatorReply::Done(_)));
            let again = engines.decide_case(now, (order_id, number), (outcome, act()), out);
            assert_eq!(again, OperatorReply::UnknownCase);
        });
    }
    assert_eq!((filled_shares(&rig, order_id), causes(&rig)), (4, vec![]));
    rig.report("x", ReportKind::Filled(odd("e2")));
    answer(&mut rig, order_id, record(&[odd("e1"), odd("e2")]));
    assert_eq!(filled_shares(&rig, order_id), 4, "discarded for good");
    rig.act(|engines, now, out| {
        let reply = engines.close_order(now, order_id, act(), out);
        assert!(matches!(reply, OperatorReply::Done(_)));
        let again = engines.close_order(now, order_id, act(), out);
        assert!(matches!(again, OperatorReply::HasEnded(_)));
    });
    let closed = rig.order(order_id).clone();
    assert_eq!(closed.ending(), Some(Ending::ClosedByOperator));
    assert_eq!(closed.reason.as_deref(), Some("closed by bob: told by phone"));
    rig.restart();
    assert_eq!(*rig.order(order_id), closed);
}

#[test]
fn an_unreadable_line_is_kept_until_a_record_is_certainly_newer() {
    let (mut rig, order_id) = twice_filled();
    rig.engines.feed_reached(2);
    let id = ExternalOrderId::new("x").unwrap();
    rig.act(|engines, now, out| engines.unreadable(now, &id, "{\"sequence\":3", out));
    assert!(rig.take().contains(&Effect::Query(order_id)));
    let both = || record(&[fill("e1", 4), fill("e2", 3)]);
    answer(&mut rig, order_id, as_of("s", 2, both()));
    assert_eq!(causes(&rig), [CaseCause::Unreadable]);
    rig.sweep(500);
    assert!(rig.take().contains(&Effect::Query(order_id)), "queried again");
    answer(&mut rig, order_id, as_of("s", 3, both()));
    assert_eq!(causes(&rig), []);
}

#[test]
fn only_a_record_from_after_a_gap_reconciles_the_order() {
    let (mut rig, order_id) = twice_filled();
    rig.engines.feed_reached(2);
    rig.engines.feed_session(&"s".into(), 9);
    rig.reconcile();
    let both = || record(&[fill("e1", 4), fill("e2", 3)]);
    let positions = |rig: &Rig| {
        rig.log.iter().filter(|event| matches!(event, crate::order::Event::FeedPosition(_))).count()
    };
    answer(&mut rig, order_id, as_of("s", 8, both()));
    rig.log_position();
    assert_eq!(positions(&rig), 0, "it may lack lines lost in the gap");
    rig.sweep(OPTIONS.grace_micros);
    assert!(rig.take().contains(&Effect::Query(order_id)), "queried again");
    answer(&mut rig, order_id, as_of("s", 9, both()));
    rig.log_position();
    assert_eq!(positions(&rig), 1);
    // A record without `as_of` reconciles it too, and is queried twice more.
    rig.engines.feed_session(&"s".into(), 19);
    rig.reconcile();
    answer(&mut rig, order_id, both());
    rig.log_position();
    assert_eq!(positions(&rig), 2);
    rig.take();
    let mut queried = 0;
    for _ in 0..100 {
        rig.sweep(100);
        if rig.queries() > 0 {
            queried += 1;
            answer(&mut rig, order_id, both());
        }
    }
    assert_eq!(queried, 2);
}
