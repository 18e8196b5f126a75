//! Sessions of the feed whose numbering begins again, and records that name others.

use super::race_tests::{Desk, OPTIONS, fill, filled, record_of};
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

/// An order with an execution that line 2 has shown, of a numbering that began again under its name.
fn filled_after_renumbering() -> (Desk, OrderId) {
    let mut desk = Desk::new();
    desk.engines.feed_session(&"s".into(), 0);
    let order_id = desk.submitted();
    desk.engines.feed_reached(900);
    desk.engines.feed_session(&"s".into(), 1);
    desk.line("x", 2, filled("e2", 3));
    desk.engines.feed_reached(2);
    (desk, order_id)
}

#[test]
fn a_record_from_before_the_numbering_began_again_proves_nothing() {
    let (mut desk, order_id) = filled_after_renumbering();
    for restart in [false, true] {
        if restart {
            for _ in 0..2 {
                desk.reconcile();
                desk.record(order_id, covering("s", 2, &[fill("e2", 3)]));
                desk.log_position();
            }
            desk.restart();
            desk.line("x", 3, filled("e3", 1));
        }
        for _ in 0..3 {
            desk.record(order_id, covering("s", 900, &[]));
            desk.sweep(OPTIONS.unknown_span_micros);
        }
        assert_eq!(desk.order(order_id).filled_shares, 3 + u64::from(restart), "{restart}");
    }
    assert_eq!(desk.engines.feed_position(), Some((&"s".into(), 2)), "as the exchange names it");
    // A session with a name of its own is believed again.
    desk.engines.feed_session(&"t".into(), 0);
    desk.line("x", 1, filled("e4", 1));
    desk.record(order_id, covering("t", 1, &[fill("e2", 3), fill("e3", 1)]));
    assert_eq!(desk.order(order_id).filled_shares, 4);
}

#[test]
fn a_numbering_that_the_reader_saw_begin_again_is_one_wherever_it_stands() {
    let mut desk = Desk::new();
    desk.engines.feed_session(&"s".into(), 0);
    let order_id = desk.submitted();
    desk.engines.feed_renumbered(&"s".into(), 4);
    desk.line("x", 5, filled("e5", 3));
    desk.record(order_id, covering("s", 5, &[]));
    assert_eq!(desk.order(order_id).filled_shares, 3);
}

#[test]
fn an_order_fails_although_all_records_name_another_session() {
    let mut desk = Desk::new();
    desk.engines.feed_session(&"s".into(), 7);
    let order_id = desk.pending();
    desk.sweep(1_200);
    let mut looks = 0_u64;
    while desk.status(order_id) == Status::Pending {
        assert!(looks < 100, "it waits for ever");
        looks += 1;
        desk.record(order_id, unknown("before", 99));
        desk.sweep(OPTIONS.unknown_span_micros);
    }
    assert!(looks * OPTIONS.unknown_span_micros > OPTIONS.unmatched_report_age_micros);
}

#[test]
fn a_lost_answer_does_not_end_the_looks_at_a_failed_order() {
    let mut desk = Desk::new();
    let order_id = desk.failed();
    desk.sweep(OPTIONS.relook_pauses_micros[0]);
    assert_eq!(desk.queries(), 1);
    desk.record_lost(order_id);
    desk.sweep(OPTIONS.grace_micros);
    assert_eq!(desk.queries(), 1, "asked again");
}

#[test]
fn a_record_from_before_the_accept_does_not_end_the_looks_at_what_could_not_be_read() {
    let mut desk = Desk::new();
    let order_id = desk.submitted();
    desk.act(|engines, now, out| engines.unreadable_of(now, order_id, "a line", out));
    desk.take();
    desk.record(order_id, QueryAnswer::Unknown { as_of: None });
    desk.sweep(OPTIONS.grace_micros);
    assert_eq!(desk.queries(), 1, "asked again");
    desk.record(
        order_id,
        QueryAnswer::Known(record_of("x", ExchangeOrderState::Expired, Vec::new())),
    );
    assert_eq!(desk.order(order_id).ending(), Some(Ending::Expired));
}
