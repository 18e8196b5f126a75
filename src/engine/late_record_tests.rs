//! Records and answers that come late.

use super::test_rig::{OPTIONS, Rig, fill, filled, known, record_of};
use super::*;
use crate::order::{Event, Status};
use crate::types::OrderId;

#[test]
fn a_confirmed_cancel_is_answered_without_its_record() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.cancel(order_id, 7);
    rig.cancel_answer(order_id, CancelOutcome::Cancelled);
    rig.take();
    rig.act(|engines, now, out| engines.reply_timeout(now, order_id, ReplyTo(7), out));
    let answered = rig.take().into_iter().any(|effect| {
        matches!(effect, Effect::ReplyCancel { to: ReplyTo(7), reply: CancelReply::Cancelled(_) })
    });
    assert!(answered, "the exchange confirmed it");
    assert_eq!(rig.status(order_id), Status::Cancelled);

    // The record still adds the fills from before the cancel.
    let crate::order::ReportKind::Filled(fill) = filled("before", 4) else { panic!("a fill") };
    rig.record(order_id, known(ExchangeOrderState::Cancelled, vec![fill]));
    assert_eq!(rig.order(order_id).filled_shares, 4);
}

#[test]
fn two_lookups_are_as_far_apart_as_they_were_asked_for() {
    for is_accepted in [false, true] {
        let mut rig = Rig::new();
        let order_id = rig.pending();
        if is_accepted {
            rig.accept(order_id, "x");
        }
        rig.now += 10 * OPTIONS.submit_window_micros;
        let unknown = || QueryAnswer::Unknown { as_of: None };
        let ask = |rig: &mut Rig| {
            rig.take();
            rig.act(|engines, now, out| engines.reconcile(now, order_id, out));
            assert_eq!(rig.queries(), 1);
        };
        ask(&mut rig);
        rig.record(order_id, unknown());
        let before = rig.status(order_id);
        // At once, and answered very late: the exchange may have said both in one moment.
        ask(&mut rig);
        rig.now += 100 * OPTIONS.unknown_span_micros;
        rig.record(order_id, unknown());
        assert_eq!((rig.status(order_id), rig.engines.open_case_count()), (before, 0));
        rig.sweep(0);
        assert!(rig.take().contains(&Effect::Query(order_id)), "it is asked again at once");
        rig.record(order_id, unknown());
        let has_failed = rig.status(order_id) == Status::Failed;
        assert_eq!((has_failed, rig.engines.open_case_count() == 1), (!is_accepted, is_accepted));
    }
}

#[test]
fn a_record_that_shows_less_than_is_known_reconciles_nothing() {
    let record = |state, executions| {
        QueryAnswer::Known(ExchangeRecord { as_of: None, ..record_of("x", state, executions) })
    };
    let open = || record(ExchangeOrderState::Open, Vec::new());
    let unknown = || QueryAnswer::Unknown { as_of: None };
    let is_filled = || record(ExchangeOrderState::Open, vec![fill("e1", 4)]);
    let behind: [fn(&mut Rig, OrderId) -> (); 2] =
        [|_, _| {}, |rig, _| rig.report("x", filled("e1", 4))];
    for (happen, answers, whole) in
        [(behind[0], vec![unknown()], open()), (behind[1], vec![unknown(), open()], is_filled())]
    {
        let mut rig = Rig::new();
        let order_id = rig.submitted();
        happen(&mut rig, order_id);
        rig.engines.feed_session(&"s".into(), 9);
        rig.reconcile();
        for answer in answers {
            rig.record(order_id, answer);
            rig.log_position();
            assert_eq!(positions(&rig), 0, "a fill in the gap may be lacking");
            rig.sweep(OPTIONS.grace_micros);
            assert!(rig.take().contains(&Effect::Query(order_id)), "queried again");
        }
        rig.record(order_id, whole);
        rig.log_position();
        assert_eq!(positions(&rig), 1);
    }
}

#[test]
fn a_record_that_shows_less_for_ever_holds_nothing_up_for_ever() {
    let mut rig = Rig::new();
    let order_id = rig.submitted();
    rig.engines.feed_session(&"s".into(), 9);
    rig.reconcile();
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    rig.sweep(OPTIONS.unmatched_report_age_micros);
    rig.record(order_id, QueryAnswer::Unknown { as_of: None });
    rig.log_position();
    assert_eq!(positions(&rig), 1);
}

fn positions(rig: &Rig) -> usize {
    rig.log.iter().filter(|event| matches!(event, Event::FeedPosition(_))).count()
}
