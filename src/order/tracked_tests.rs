//! Every pair of the transition table, exercised with orders that reached each status by real
//! changes.

use strum::VariantArray;

use super::*;
use crate::types::*;

const AT: TimestampMicros = TimestampMicros::new(1_000_000);

fn created(num_shares: Shares) -> Created {
    let user = UserId::new("alice").unwrap();
    Created {
        order_id: OrderId::new(1, 1, user.partition()),
        user,
        client_order_id: None,
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: None,
        time_in_force: TimeInForce::Day,
        num_shares,
        created_at: AT,
        submit_before: AT,
        reservation: crate::money::Reservation::Nothing,
    }
}

fn take(order: &mut TrackedOrder, change: Change) -> Applied {
    let order_id = order.order().order_id;
    order.apply(&Changed { order_id, at: AT, change })
}

fn accepted(id: &str) -> Change {
    Change::Accepted { external_order_id: ExternalOrderId::new(id).unwrap() }
}

fn filled(id: &str, num_shares: Shares) -> Change {
    Change::Filled(Fill {
        execution_id: ExecutionId::new(id).unwrap(),
        price: PriceCents::new(100).unwrap(),
        num_shares,
        executed_at: AT,
    })
}

fn busted(id: &str) -> Change {
    Change::Busted { execution_id: ExecutionId::new(id).unwrap() }
}

const CANCELLED: Change = Change::Cancelled { cause: CancelCause::Cancelled };
const EXPIRED_BY_EXCHANGE: Change = Change::Cancelled { cause: CancelCause::Expired };

fn rejected() -> Change {
    Change::Rejected { reason: "no".into() }
}

fn cancel_rejected() -> Change {
    Change::CancelRejected { reason: "no".into() }
}

/// An order of 10 shares that reached a status by ordinary changes.
fn in_status(status: Status) -> TrackedOrder {
    let mut order = TrackedOrder::new(&created(10));
    let changes: Vec<Change> = match status {
        Status::Pending => vec![],
        Status::Submitted => vec![accepted("x")],
        Status::PartiallyFilled => vec![accepted("x"), filled("e1", 4)],
        Status::Filled => vec![accepted("x"), filled("e1", 10)],
        Status::PendingCancel => vec![accepted("x"), filled("e1", 4), Change::CancelRequested],
        Status::Cancelled => {
            vec![accepted("x"), filled("e1", 4), Change::CancelRequested, CANCELLED]
        }
        Status::Failed => vec![rejected()],
    };
    for change in changes {
        assert!(take(&mut order, change).recorded);
    }
    assert_eq!(order.order().status, status);
    order
}

/// Applies a change to an order in a status: the new status, whether it was recorded, the anomaly.
fn after(status: Status, change: Change) -> (Status, bool, Option<Anomaly>) {
    let mut order = in_status(status);
    let version = order.order().version;
    let applied = take(&mut order, change);
    assert_eq!(order.order().version, version + u64::from(applied.recorded));
    (order.order().status, applied.recorded, applied.anomaly)
}

use Status::{Cancelled, Failed, Filled, PartiallyFilled, Pending, PendingCancel, Submitted};

#[test]
fn an_accept_submits_a_pending_order() {
    assert_eq!(after(Pending, accepted("x")), (Submitted, true, None));
    for status in [Submitted, PartiallyFilled, Filled, PendingCancel, Cancelled] {
        assert_eq!(after(status, accepted("x")), (status, false, None), "a repetition");
        let second = Some(Anomaly::SecondExternalId);
        assert_eq!(after(status, accepted("y")), (status, false, second));
    }
    assert_eq!(after(Failed, accepted("x")), (Failed, true, Some(Anomaly::LateAccept)));
}

#[test]
fn a_late_accept_makes_a_stray_until_it_is_cancelled() {
    let mut order = in_status(Failed);
    take(&mut order, accepted("x"));
    assert!(order.order().is_stray() && order.order().wants_cancel() && order.order().is_open());
    assert!(take(&mut order, CANCELLED).recorded);
    assert_eq!(order.order().status, Failed);
    assert!(!order.order().is_stray() && !order.order().is_open());
    assert!(!take(&mut order, CANCELLED).recorded);
}

#[test]
fn a_reject_fails_a_pending_order_only() {
    assert_eq!(after(Pending, rejected()), (Failed, true, None));
    for status in [Submitted, PartiallyFilled, Filled, PendingCancel, Cancelled] {
        assert_eq!(after(status, rejected()), (status, false, Some(Anomaly::Contradiction)));
    }
    assert_eq!(after(Failed, rejected()), (Failed, false, None));
    assert_eq!(in_status(Failed).order().reason.as_deref(), Some("no"));
}

#[test]
fn an_unknown_order_after_its_deadline_fails_if_pending() {
    assert_eq!(after(Pending, Change::NotAccepted), (Failed, true, None));
    let unknown = Some(Anomaly::UnknownAtExchange);
    for status in [Submitted, PartiallyFilled, Filled, PendingCancel, Cancelled] {
        assert_eq!(after(status, Change::NotAccepted), (status, false, unknown));
    }
    assert_eq!(after(Failed, Change::NotAccepted), (Failed, false, None));
}

#[test]
fn a_cancel_request_makes_an_accepted_order_pending_cancel() {
    assert_eq!(after(Pending, Change::CancelRequested), (Pending, true, None), "recorded");
    assert_eq!(after(Submitted, Change::CancelRequested), (PendingCancel, true, None));
    assert_eq!(after(PartiallyFilled, Change::CancelRequested), (PendingCancel, true, None));
    for status in [Filled, PendingCancel, Cancelled, Failed] {
        assert_eq!(after(status, Change::CancelRequested), (status, false, None));
    }
    let mut order = in_status(Pending);
    take(&mut order, Change::CancelRequested);
    assert!(!take(&mut order, Change::CancelRequested).recorded, "requested already");
    take(&mut order, accepted("x"));
    assert_eq!(order.order().status, PendingCancel, "sent after the accept");
    assert!(order.order().wants_cancel());
}

#[test]
fn cancelled_and_expired_orders_keep_their_fills() {
    for change in [CANCELLED, EXPIRED_BY_EXCHANGE] {
        for status in [Pending, Submitted, PartiallyFilled, PendingCancel] {
            assert_eq!(after(status, change.clone()), (Cancelled, true, None));
        }
        let contradiction = Some(Anomaly::Contradiction);
        assert_eq!(after(Filled, change.clone()), (Filled, false, contradiction));
        assert_eq!(after(Cancelled, change.clone()), (Cancelled, false, None));
        assert_eq!(after(Failed, change), (Failed, false, None));
    }
    let order = in_status(Cancelled);
    assert_eq!(order.order().filled_shares, 4, "its fills stand");
    assert_eq!(order.order().ending(), Some(Ending::CancelledByUser));
    assert_eq!(order.order().reason, None);
    let mut order = in_status(PartiallyFilled);
    take(&mut order, EXPIRED_BY_EXCHANGE);
    assert_eq!(order.order().ending(), Some(Ending::Expired));
    assert_eq!(order.order().reason.as_deref(), Some("expired"));
    let mut order = in_status(Submitted);
    take(&mut order, CANCELLED);
    assert_eq!(order.order().ending(), Some(Ending::CancelledByExchange));
    assert!(order.order().reason.is_some());
}

#[test]
fn a_rejected_cancel_restores_the_status_of_the_fills() {
    assert_eq!(after(PendingCancel, cancel_rejected()), (PartiallyFilled, true, None));
    for status in [Pending, Submitted, PartiallyFilled, Filled, Cancelled, Failed] {
        assert_eq!(after(status, cancel_rejected()), (status, false, None));
    }
    let mut order = in_status(Submitted);
    take(&mut order, Change::CancelRequested);
    take(&mut order, cancel_rejected());
    assert_eq!(order.order().status, Submitted, "as before the cancel");
}

#[test]
fn a_fill_changes_the_status_and_raises_its_anomalies() {
    assert_eq!(after(Pending, filled("e2", 3)), (PartiallyFilled, true, None));
    assert_eq!(after(Pending, filled("e2", 10)), (Filled, true, None));
    assert_eq!(after(Submitted, filled("e2", 3)), (PartiallyFilled, true, None));
    assert_eq!(after(Submitted, filled("e2", 10)), (Filled, true, None));
    assert_eq!(after(PartiallyFilled, filled("e2", 5)), (PartiallyFilled, true, None));
    assert_eq!(after(PartiallyFilled, filled("e2", 6)), (Filled, true, None));
    assert_eq!(after(PendingCancel, filled("e2", 5)), (PendingCancel, true, None));
    assert_eq!(after(PendingCancel, filled("e2", 6)), (Filled, true, None));
    let late = Some(Anomaly::LateFill);
    assert_eq!(after(Cancelled, filled("e2", 5)), (PartiallyFilled, true, late));
    assert_eq!(after(Cancelled, filled("e2", 6)), (Filled, true, late));
    assert_eq!(after(Filled, filled("e2", 1)), (Filled, true, Some(Anomaly::OverFill)));
    assert_eq!(after(Failed, filled("e2", 1)), (Failed, true, Some(Anomaly::FillOfFailed)));
}

#[test]
fn a_fill_before_the_accept_counts_and_the_accept_changes_no_status() {
    for (shares, status) in [(4, PartiallyFilled), (10, Filled)] {
        let mut order = in_status(Pending);
        take(&mut order, filled("e1", shares));
        assert_eq!(order.order().status, status);
        assert!(take(&mut order, accepted("x")).recorded);
        assert_eq!(order.order().status, status);
        assert!(order.order().external_order_id.is_some());
    }
    let mut order = in_status(Pending);
    take(&mut order, Change::CancelRequested);
    take(&mut order, filled("e1", 4));
    assert_eq!(order.order().status, PendingCancel, "the fill proves that it is at the exchange");
    assert!(!order.order().wants_cancel(), "its id there is not known yet");
    take(&mut order, accepted("x"));
    assert!(order.order().wants_cancel());
}

#[test]
fn an_over_fill_is_recorded_in_full() {
    let mut order = in_status(PartiallyFilled);
    let applied = take(&mut order, filled("e2", 9));
    assert_eq!(applied.anomaly, Some(Anomaly::OverFill));
    assert_eq!((order.order().filled_shares, order.order().shares_left()), (13, 0));
    assert_eq!(order.order().filled_value_cents, 1_300);
    assert_eq!(order.order().status, Filled);
}

#[test]
fn a_busted_execution_never_counts_again() {
    assert_eq!(after(Filled, busted("e1")), (Submitted, true, None));
    assert_eq!(after(PartiallyFilled, busted("e1")), (Submitted, true, None));
    assert_eq!(after(PendingCancel, busted("e1")), (PendingCancel, true, None));
    assert_eq!(after(Cancelled, busted("e1")), (Cancelled, true, None));
    for &status in Status::VARIANTS {
        let mut order = in_status(status);
        let filled_before = order.order().filled_shares;
        assert!(take(&mut order, busted("never-seen")).recorded, "recorded before its trade");
        assert_eq!(order.order().status, status);
        assert_eq!(order.order().filled_shares, filled_before);
        assert!(!take(&mut order, busted("never-seen")).recorded);
        assert!(!take(&mut order, filled("never-seen", 1)).recorded, "it never counts");
    }
    let mut order = in_status(Filled);
    take(&mut order, busted("e1"));
    assert_eq!((order.order().filled_shares, order.order().filled_value_cents), (0, 0));
    assert!(!take(&mut order, filled("e1", 10)).recorded, "a busted execution stays busted");
    take(&mut order, filled("e2", 10));
    assert_eq!(order.order().status, Filled);
}

#[test]
fn sums_that_were_too_large_are_right_again_once_they_fit() {
    let nonsense = |id: &str, num_shares: Shares| {
        Change::Filled(Fill {
            execution_id: ExecutionId::new(id).unwrap(),
            price: PriceCents::new(MAX_PRICE_CENTS).unwrap(),
            num_shares,
            executed_at: AT,
        })
    };
    let mut order = in_status(Submitted);
    let sums =
        |order: &TrackedOrder| (order.order().filled_shares, order.order().filled_value_cents);
    take(&mut order, filled("e1", 4));
    take(&mut order, nonsense("value", 1_000_000_000_000));
    assert_eq!(sums(&order), (1_000_000_000_004, i64::MAX));
    take(&mut order, nonsense("shares", Shares::MAX));
    assert_eq!(sums(&order), (Shares::MAX, i64::MAX));
    take(&mut order, busted("shares"));
    assert_eq!(sums(&order), (1_000_000_000_004, i64::MAX));
    take(&mut order, busted("value"));
    assert_eq!(sums(&order), (4, 400));
}

#[test]
fn the_same_execution_again_is_nothing_in_any_status() {
    for &status in Status::VARIANTS {
        let mut order = in_status(status);
        take(&mut order, filled("again", 1));
        let before = Arc::clone(order.order());
        let applied = take(&mut order, filled("again", 1));
        assert_eq!(applied, Applied { recorded: false, anomaly: None });
        assert_eq!(*order.order(), before);
    }
}

#[test]
fn what_is_known_changes_nothing() {
    for &status in Status::VARIANTS {
        assert_eq!(ruling(status, Step::Repeated), Ruling::Nothing);
    }
}

#[test]
fn terminal_stays_terminal_but_for_the_late_fill_and_the_bust() {
    for &status in Status::VARIANTS.iter().filter(|status| status.is_terminal()) {
        let changes = [
            accepted("x"),
            accepted("y"),
            rejected(),
            Change::NotAccepted,
            Change::CancelRequested,
            CANCELLED,
            EXPIRED_BY_EXCHANGE,
            cancel_rejected(),
        ];
        for change in changes {
            assert_eq!(after(status, change).0, status);
        }
    }
}
