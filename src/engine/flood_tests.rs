//! Reports of orders that are not ours, more than are kept.

use super::race_tests::Desk;
use super::unmatched::MAX_UNMATCHED_REPORTS;
use super::*;
use crate::order::ReportKind;

/// Reports as many orders of somebody else as are kept, and one of ours before them.
fn flooded() -> (Desk, crate::types::OrderId) {
    let mut desk = Desk::new();
    let order_id = desk.pending();
    desk.report("ours", ReportKind::Cancelled);
    desk.take();
    desk.now += 1;
    for number in 0..MAX_UNMATCHED_REPORTS {
        desk.report(&format!("theirs-{number}"), ReportKind::Cancelled);
    }
    (desk, order_id)
}

#[test]
fn a_flood_asks_about_nothing_and_is_told_of_once() {
    let (mut desk, _order_id) = flooded();
    assert_eq!(desk.engines.unmatched_reports(), MAX_UNMATCHED_REPORTS);
    assert_eq!(desk.take(), []);
    assert!(!desk.engines.is_reconciling());
    desk.sweep(1);
    assert_eq!(desk.take(), [Effect::Alert(Alert::ReportsOverflowed { count: 1 })]);
    desk.report("theirs", ReportKind::Cancelled);
    desk.sweep(1);
    assert_eq!(desk.take(), [], "the next comes a minute later");
}

#[test]
fn an_order_whose_report_may_have_been_given_up_is_asked_about_once_it_has_an_id() {
    let (mut desk, order_id) = flooded();
    desk.accept(order_id, "ours");
    assert!(desk.take().contains(&Effect::Query(order_id)));
    // And no later one.
    let later = desk.pending();
    desk.accept(later, "later");
    assert!(!desk.take().contains(&Effect::Query(later)));
}
