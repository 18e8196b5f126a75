//! A confirmed cancel whose record is late.

use super::test_rig::{Rig, filled, known};
use super::*;
use crate::order::Status;

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
