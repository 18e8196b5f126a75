//! More reports about foreign orders than are kept.

use super::test_rig::Rig;
use super::unmatched::MAX_UNMATCHED_REPORTS;
use super::*;
use crate::order::ReportKind;

/// One report about an order of ours, then as many about foreign orders as are kept.
fn flooded() -> (Rig, crate::types::OrderId) {
    let mut rig = Rig::new();
    let order_id = rig.pending();
    rig.report("ours", ReportKind::Cancelled);
    rig.take();
    rig.now += 1;
    for number in 0..MAX_UNMATCHED_REPORTS {
        rig.report(&format!("theirs-{number}"), ReportKind::Cancelled);
    }
    (rig, order_id)
}

#[test]
fn a_flood_queries_nothing_and_is_alerted_once() {
    let (mut rig, _order_id) = flooded();
    assert_eq!(rig.engines.unmatched_reports(), MAX_UNMATCHED_REPORTS);
    assert_eq!(rig.take(), []);
    assert!(!rig.engines.is_reconciling());
    rig.sweep(1);
    assert_eq!(rig.take(), [Effect::Alert(Alert::ReportsOverflowed { count: 1 })]);
    rig.report("theirs", ReportKind::Cancelled);
    rig.sweep(1);
    assert_eq!(rig.take(), [], "the next alert is due a minute later");
}

#[test]
fn an_order_whose_report_may_have_been_discarded_is_queried_once_accepted() {
    let (mut rig, order_id) = flooded();
    rig.accept(order_id, "ours");
    assert!(rig.take().contains(&Effect::Query(order_id)));
    // A later order is not.
    let later = rig.pending();
    rig.accept(later, "later");
    assert!(!rig.take().contains(&Effect::Query(later)));
}
