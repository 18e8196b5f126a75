//! What the exchange leaves unsaid: answers that never come, lists that are short, orders that it may
//! have although they are called failed.

use super::test_rig::{OPTIONS, Rig, fill, filled, record_of};
use super::*;
use crate::order::{
    CaseCause, CaseOutcome, Change, Ending, Event, OperatorAct, ReportKind, Status,
};
use crate::types::{ExternalOrderId, OrderId};

fn open(id: &str) -> QueryAnswer {
    QueryAnswer::Known(record_of(id, ExchangeOrderState::Open, Vec::new()))
}

fn causes(rig: &Rig) -> Vec<CaseCause> {
    rig.engines.open_cases().map(|(_, open)| open.case.cause).collect()
}

fn close(rig: &mut Rig, order_id: OrderId) {
    let act = OperatorAct { by: "ann".into(), reason: "stuck".into() };
    rig.act(|engines, now, out| {
        engines.close_order(now, order_id, act, out);
    });
}

fn forget(rig: &mut Rig, order_id: OrderId) -> bool {
    let version = rig.order(order_id).version;
    rig.engines.forget(order_id, version).is_some()
}

fn logged_positions(rig: &Rig) -> usize {
    rig.log.iter().filter(|event| matches!(event, Event::FeedPosition(_))).count()
}

#[test]
fn an_order_stays_in_memory_until_its_submit_is_answered() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    close(&mut rig, order_id);
    assert_eq!(rig.order(order_id).ending(), Some(Ending::FailedByOperator));
    assert!(!forget(&mut rig, order_id));
    rig.accept(order_id, "x");
    rig.report("x", filled("e1", 4));
    assert_eq!(rig.order(order_id).filled_shares, 4, "the exchange had it");
}

#[test]
fn an_order_that_an_operator_calls_failed_is_queried_again_and_after_a_restart() {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    close(&mut rig, order_id);
    rig.take();
    rig.submit_answer(order_id, SubmitOutcome::Unknown);
    assert_eq!(rig.queries(), 1, "at once");
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    rig.sweep(OPTIONS.relook_pauses_micros[0]);
    assert_eq!(rig.queries(), 1, "later");
    rig.restart();
    rig.sweep(1);
    assert_eq!(rig.queries(), 1, "after a restart");
    rig.record(order_id, open("x"));
    rig.report("x", filled("e1", 10));
    assert_eq!(rig.order(order_id).filled_shares, 10);
}

/// Two submitted orders during a reconciliation, the first of which the exchange never answers about.
fn one_unanswered() -> (Rig, OrderId, OrderId) {
    let mut rig = Rig::new();
    let (silent, other) = (rig.pending(), rig.pending());
    rig.accept(silent, "x");
    rig.accept(other, "y");
    rig.engines.feed_session(&"s".into(), 1);
    rig.reconcile();
    rig.take();
    (rig, silent, other)
}

#[test]
fn one_order_without_answers_holds_up_no_position_and_is_a_case() {
    let (mut rig, silent, other) = one_unanswered();
    let mut waited = 0;
    while logged_positions(&rig) == 0 {
        assert!(waited < 10 * OPTIONS.unmatched_report_age_micros, "it waits forever");
        rig.record_lost(silent);
        rig.record(other, open("y"));
        rig.log_position();
        rig.sweep(OPTIONS.grace_micros);
        waited += OPTIONS.grace_micros;
    }
    assert!(waited >= OPTIONS.unmatched_report_age_micros, "only after a while: {waited}");
    assert_eq!(causes(&rig), [CaseCause::Unreadable]);
    rig.restart();
    rig.sweep(1);
    assert!(rig.take().contains(&Effect::Query(silent)), "a restart does not forget it");
    rig.record(silent, open("x"));
    rig.sweep(OPTIONS.unmatched_report_age_micros);
    rig.record(silent, open("x"));
    assert_eq!(causes(&rig), []);
}

#[test]
fn an_exchange_that_is_away_makes_no_cases() {
    let (mut rig, silent, other) = one_unanswered();
    for _ in 0..100 {
        rig.record_lost(silent);
        rig.record_lost(other);
        rig.log_position();
        rig.sweep(OPTIONS.grace_micros);
    }
    assert_eq!(causes(&rig), []);
    assert_eq!(logged_positions(&rig), 0, "nothing is reconciled");
}

#[test]
fn a_gap_during_a_round_is_reconciled_although_an_answer_of_the_round_is_missing() {
    let mut rig = Rig::new();
    let (first, silent) = (rig.pending(), rig.pending());
    rig.accept(first, "x");
    rig.accept(silent, "y");
    rig.engines.feed_session(&"s".into(), 1);
    rig.act(|engines, now, out| engines.reconcile_some(now, 1, out));
    rig.record(first, open("x"));
    rig.engines.feed_session(&"s".into(), 5);
    rig.reconcile();
    rig.log_position();
    rig.take();
    rig.reconcile();
    assert_eq!(rig.queries(), 0, "the round may still end");
    rig.sweep(OPTIONS.unmatched_report_age_micros);
    rig.record(first, open("x"));
    rig.take();
    rig.log_position();
    rig.reconcile();
    assert!(rig.take().contains(&Effect::Query(first)), "lines about it may be in the second gap");
}

#[test]
fn a_record_that_counts_more_than_it_lists_is_a_case_until_it_is_whole() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.report("x", filled("e1", 4));
    let short = ExchangeRecord {
        filled_shares: 7,
        ..record_of("x", ExchangeOrderState::Cancelled, vec![fill("e1", 4)])
    };
    for _ in 0..5 {
        rig.record(order_id, QueryAnswer::Known(short.clone()));
        rig.sweep(OPTIONS.doubt_age_micros);
    }
    assert_eq!(causes(&rig), [CaseCause::ShortList], "once");
    assert!(!forget(&mut rig, order_id));
    let whole = record_of("x", ExchangeOrderState::Cancelled, vec![fill("e1", 4), fill("e2", 3)]);
    rig.record(order_id, QueryAnswer::Known(whole));
    assert_eq!((causes(&rig), rig.order(order_id).filled_shares), (Vec::new(), 7));
}

#[test]
fn a_line_about_the_second_id_of_a_forgotten_order_is_kept() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    for _ in 0..2 {
        let renamed = record_of("x2", ExchangeOrderState::Open, Vec::new());
        rig.record(order_id, QueryAnswer::Known(renamed));
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    rig.report("x2", filled("e1", 10));
    let filled = record_of("x2", ExchangeOrderState::Filled, vec![fill("e1", 10)]);
    rig.record(order_id, QueryAnswer::Known(filled));
    let numbers: Vec<u64> = rig.engines.open_cases().map(|(_, open)| open.number).collect();
    for number in numbers {
        let act = OperatorAct { by: "ann".into(), reason: "seen".into() };
        let decision = (CaseOutcome::Discarded, act);
        rig.act(|engines, now, out| {
            engines.decide_case(now, (order_id, number), decision, out);
        });
    }
    assert!(forget(&mut rig, order_id));
    rig.report("x2", ReportKind::Cancelled);
    assert_eq!(rig.engines.unmatched_reports(), 1);
}

#[test]
fn an_unmatched_line_of_a_shared_id_is_nobodys_after_a_restart() {
    let mut rig = Rig::new();
    let report = Report::new(ExternalOrderId::new("x").unwrap(), filled("e1", 4));
    rig.act(|engines, now, out| engines.report_durably(now, report, out));
    let (first, second) = (rig.pending(), rig.pending());
    rig.accept(first, "x");
    rig.accept(second, "x");
    // The process died before the line was counted.
    rig.log.retain(|event| !matches!(event, Event::Changed(changed) if matches!(changed.change, Change::Filled(_))));
    rig.restart();
    assert_eq!((rig.order(first).filled_shares, rig.order(second).filled_shares), (0, 0));
    assert_eq!(causes(&rig), [CaseCause::AmbiguousOrder; 2]);
    assert_eq!(rig.status(first), Status::Submitted);
}

/// A fill by a line that the exchange posted.
fn post(rig: &mut Rig, session: &str, sequence: u64, id: &str, shares: u64) {
    let report = Report {
        sequence: Some(sequence),
        posted_in: Some(session.into()),
        ..Report::new(ExternalOrderId::new("x").unwrap(), filled(id, shares))
    };
    rig.act(|engines, now, out| engines.report_durably(now, report, out));
}

#[test]
fn a_posted_execution_counts_until_a_record_covers_its_own_line() {
    for (session, line) in [("s", 105), ("other", 5), ("", 5)] {
        let mut rig = Rig::new();
        rig.engines.feed_session(&"s".into(), 0);
        let order_id = rig.submitted();
        rig.engines.feed_reached(100);
        post(&mut rig, session, line, "e1", 6);
        let empty = |sequence| {
            let as_of = Some(FeedPlace { session: "s".into(), sequence });
            let record = record_of("x", ExchangeOrderState::Open, Vec::new());
            QueryAnswer::Known(ExchangeRecord { as_of, ..record })
        };
        for _ in 0..5 {
            rig.record(order_id, empty(100));
            rig.sweep(OPTIONS.doubt_age_micros);
        }
        assert_eq!(rig.order(order_id).filled_shares, 6, "{session} {line}");
        rig.record(order_id, empty(105));
        let left = if session == "s" { 0 } else { 6 };
        assert_eq!(rig.order(order_id).filled_shares, left, "{session} {line}");
    }
}

#[test]
fn a_posted_execution_outlives_a_restart_for_as_long_as_its_line_may_take() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.reconcile();
    rig.record(order_id, open("x"));
    rig.engines.feed_reached(100);
    rig.log_position();
    post(&mut rig, "s", 105, "e1", 6);
    rig.restart();
    let empty = || {
        let as_of = Some(FeedPlace { session: "s".into(), sequence: 100 });
        let record = record_of("x", ExchangeOrderState::Open, Vec::new());
        QueryAnswer::Known(ExchangeRecord { as_of, ..record })
    };
    rig.record(order_id, empty());
    rig.sweep(OPTIONS.unknown_span_micros);
    rig.record(order_id, empty());
    assert_eq!(rig.order(order_id).filled_shares, 6);
}

#[test]
fn a_session_name_that_comes_back_is_no_evidence() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.engines.feed_reached(900);
    rig.engines.feed_session(&"t".into(), 0);
    rig.engines.feed_session(&"s".into(), 0);
    rig.line("x", 3, filled("e1", 6));
    let as_of = Some(FeedPlace { session: "s".into(), sequence: 900 });
    let old = record_of("x", ExchangeOrderState::Open, Vec::new());
    let old = QueryAnswer::Known(ExchangeRecord { as_of, ..old });
    for _ in 0..5 {
        rig.record(order_id, old.clone());
        rig.sweep(OPTIONS.doubt_age_micros);
    }
    assert_eq!(rig.order(order_id).filled_shares, 6, "of the first session of that name");
}
