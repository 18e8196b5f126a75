//! Feed sessions that restart their numbering, and records that name other sessions.

use super::test_rig::{OPTIONS, Rig, fill, filled, record_of};
use super::*;
use crate::order::{Ending, Status};
use crate::types::OrderId;

fn covering(session: &str, sequence: u64, executions: &[crate::order::Fill]) -> QueryAnswer {
    let as_of = Some(FeedPlace { session: session.into(), sequence });
    let record = record_of("x", ExchangeOrderState::Open, executions.to_vec());
    QueryAnswer::Known(ExchangeRecord { as_of, ..record })
}

fn unknown(session: &str, sequence: u64) -> QueryAnswer {
    QueryAnswer::Unknown { as_of: Some(FeedPlace { session: session.into(), sequence }) }
}

/// An order with an execution shown by line 2, after the session restarted its numbering.
fn filled_after_renumbering() -> (Rig, OrderId) {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.engines.feed_reached(900);
    rig.engines.feed_session(&"s".into(), 1);
    rig.line("x", 2, filled("e2", 3));
    rig.engines.feed_reached(2);
    (rig, order_id)
}

#[test]
fn a_record_from_before_a_renumbering_proves_nothing() {
    let (mut rig, order_id) = filled_after_renumbering();
    for restart in [false, true] {
        if restart {
            for _ in 0..2 {
                rig.reconcile();
                rig.record(order_id, covering("s", 2, &[fill("e2", 3)]));
                rig.log_position();
            }
            rig.restart();
            rig.line("x", 3, filled("e3", 1));
        }
        for _ in 0..3 {
            rig.record(order_id, covering("s", 900, &[]));
            rig.sweep(OPTIONS.unknown_span_micros);
        }
        assert_eq!(rig.order(order_id).filled_shares, 3 + u64::from(restart), "{restart}");
    }
    assert_eq!(rig.engines.feed_position(), Some((&"s".into(), 2)), "under the exchange's name");
    // Under a new session name `as_of` is trusted again.
    rig.engines.feed_session(&"t".into(), 0);
    rig.line("x", 1, filled("e4", 1));
    rig.record(order_id, covering("t", 1, &[fill("e2", 3), fill("e3", 1)]));
    assert_eq!(rig.order(order_id).filled_shares, 4);
}

#[test]
fn a_renumbering_reported_by_the_reader_holds_at_any_sequence() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.engines.feed_renumbered(&"s".into(), 4);
    rig.line("x", 5, filled("e5", 3));
    rig.record(order_id, covering("s", 5, &[]));
    assert_eq!(rig.order(order_id).filled_shares, 3);
}

#[test]
fn a_node_that_reads_the_feed_in_turn_with_others_goes_back_without_a_new_numbering() {
    let mut rig = Rig::with(EngineOptions { shares_users: true, ..OPTIONS });
    rig.engines.feed_session(&"s".into(), 0);
    let order_id = rig.submitted();
    rig.line("x", 900, filled("e1", 3));
    rig.engines.feed_reached(900);
    // The other node's lines begin with one that was taken here.
    rig.engines.feed_session(&"s".into(), 899);
    assert_eq!(rig.engines.feed_position(), Some((&"s".into(), 900)));
    rig.line("x", 901, filled("e2", 1));
    rig.engines.feed_reached(901);
    // A record that is complete up to there takes an execution back that it lacks.
    rig.record(order_id, covering("s", 901, &[fill("e1", 3)]));
    assert_eq!(rig.order(order_id).filled_shares, 3);
    // A numbering that restarts is told as such.
    rig.engines.feed_renumbered(&"s".into(), 4);
    rig.line("x", 5, filled("e3", 1));
    rig.record(order_id, covering("s", 901, &[fill("e1", 3)]));
    assert_eq!(rig.order(order_id).filled_shares, 4);
}

#[test]
fn an_order_fails_even_if_all_records_name_another_session() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 7);
    let order_id = rig.pending();
    rig.sweep(1_200);
    let mut records = 0_u64;
    while rig.status(order_id) == Status::Pending {
        assert!(records < 100, "it waits forever");
        records += 1;
        rig.record(order_id, unknown("before", 99));
        rig.sweep(OPTIONS.unknown_span_micros);
    }
    assert!(records * OPTIONS.unknown_span_micros > OPTIONS.unmatched_report_age_micros);
}

#[test]
fn a_lost_answer_does_not_end_the_queries_about_a_failed_order() {
    let mut rig = Rig::new();
    let order_id = rig.failed();
    rig.sweep(OPTIONS.relook_pauses_micros[0]);
    assert_eq!(rig.queries(), 1);
    rig.record_lost(order_id);
    rig.sweep(OPTIONS.grace_micros);
    assert_eq!(rig.queries(), 1, "queried again");
}

#[test]
fn a_record_from_before_the_accept_does_not_end_the_queries_about_an_unreadable_line() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.act(|engines, now, out| engines.unreadable_of(now, order_id, "a line", out));
    rig.take();
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    rig.sweep(OPTIONS.grace_micros);
    assert_eq!(rig.queries(), 1, "queried again");
    rig.record(
        order_id,
        QueryAnswer::Known(record_of("x", ExchangeOrderState::Expired, Vec::new())),
    );
    assert_eq!(rig.order(order_id).ending(), Some(Ending::Expired));
}
