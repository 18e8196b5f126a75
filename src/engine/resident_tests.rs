//! Orders that leave memory, those that come back from the store, and a start from it.

use super::test_rig::{OPTIONS, Rig, external, filled};
use super::*;
use crate::order::{FeedPosition, ReportKind, Status, TrackedOrder, UnmatchedReport};
use crate::types::*;

/// Reports are looked up before they expire.
const WITH_LOOKUPS: EngineOptions = EngineOptions { lookup_age_micros: 1_000, ..OPTIONS };

fn create(rig: &mut Rig, key: &str) -> OrderId {
    let request = rig.request("alice", Some(key), 10);
    let order_id = request.order_id;
    rig.act(|engines, now, out| engines.create(now, request, ReplyTo(1), out));
    order_id
}

fn forget(rig: &mut Rig, order_id: OrderId) -> bool {
    let version = rig.order(order_id).version;
    rig.engines.forget(order_id, version).is_some()
}

/// An order that was cancelled under the id "x" and has left memory, as the store has it.
fn forgotten() -> (Rig, TrackedOrder) {
    let mut rig = Rig::with(WITH_LOOKUPS);
    let order_id = create(&mut rig, "k");
    rig.accept(order_id, "x");
    rig.report("x", ReportKind::Cancelled);
    let stored = rig.engines.tracked(order_id).unwrap().clone();
    assert!(forget(&mut rig, order_id));
    rig.take();
    (rig, stored)
}

#[test]
fn a_report_about_an_order_out_of_memory_brings_it_back() {
    let (mut rig, stored) = forgotten();
    let order_id = stored.order().order_id;
    rig.report("x", filled("late", 4));
    assert_eq!(rig.take(), []);
    rig.sweep(WITH_LOOKUPS.lookup_age_micros);
    assert_eq!(rig.take(), [Effect::LookUpExternalId(external("x"))]);
    rig.act(|engines, now, out| engines.found(now, &external("x"), Some(stored), out));
    assert_eq!((rig.order(order_id).filled_shares, rig.engines.unmatched_reports()), (4, 0));
    assert_eq!(rig.status(order_id), Status::PartiallyFilled);
    assert_eq!(rig.queries(), 1, "its record has the rest");
}

#[test]
fn a_report_about_an_order_that_the_store_does_not_have_is_kept_and_looked_up_once() {
    let mut rig = Rig::with(WITH_LOOKUPS);
    rig.report("theirs", ReportKind::Cancelled);
    rig.sweep(WITH_LOOKUPS.lookup_age_micros);
    assert_eq!(rig.take(), [Effect::LookUpExternalId(external("theirs"))]);
    rig.act(|engines, now, out| engines.found(now, &external("theirs"), None, out));
    rig.sweep(WITH_LOOKUPS.lookup_age_micros);
    assert_eq!(rig.take(), []);
    assert_eq!(rig.engines.unmatched_reports(), 1);
}

#[test]
fn an_order_stays_in_memory_while_the_store_is_asked_for_it() {
    let (mut rig, stored) = forgotten();
    let order_id = stored.order().order_id;
    rig.report("x", ReportKind::Cancelled);
    rig.sweep(WITH_LOOKUPS.lookup_age_micros);
    rig.engines.load(stored.clone());
    assert!(!forget(&mut rig, order_id), "the answer would be older than what memory had");
    rig.act(|engines, now, out| engines.found(now, &external("x"), Some(stored), out));
    assert_eq!(rig.engines.orders().count(), 1);
}

#[test]
fn an_order_is_forgotten_at_its_last_version_and_with_its_key() {
    let mut rig = Rig::new();
    let orders = ["k1", "k2"].map(|key| create(&mut rig, key));
    let user = UserId::new("alice").unwrap();
    let knows = |rig: &Rig| {
        ["k1", "k2"].map(|key| rig.engines.knows_key(&user, &ClientOrderId::new(key).unwrap()))
    };
    assert!(!forget(&mut rig, orders[0]), "it is open");
    for (order_id, id) in orders.into_iter().zip(["x1", "x2"]) {
        rig.accept(order_id, id);
        rig.report(id, filled(id, 10));
    }
    let version = rig.order(orders[0]).version;
    assert!(rig.engines.forget(orders[0], version - 1).is_none(), "it has changed since");
    assert_eq!(knows(&rig), [true, true]);
    for (order_id, known) in orders.into_iter().zip([[false, true], [false, false]]) {
        assert!(forget(&mut rig, order_id));
        assert_eq!(knows(&rig), known);
    }
}

#[test]
fn a_second_gap_does_not_look_up_an_order_again() {
    let (mut rig, stored) = forgotten();
    for session in ["s", "t", "u"] {
        rig.engines.feed_session(&session.into(), 0);
        rig.reconcile();
    }
    let order_id = stored.order().order_id;
    assert_eq!(rig.take(), [Effect::LookUpOrder(order_id)]);
    assert_eq!(rig.engines.orders_being_found(), 1);
}

#[test]
fn ended_orders_are_reconciled_a_few_at_a_time() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    for id in ["a", "b"] {
        rig.filled(id);
    }
    rig.take();
    rig.engines.feed_session(&"t".into(), 0);
    for queries in [1, 1, 0] {
        rig.act(|engines, now, out| engines.reconcile_some(now, 1, out));
        assert_eq!(rig.queries(), queries);
    }
}

#[test]
fn a_start_from_the_store_goes_on_where_the_node_was() {
    let mut before = Rig::new();
    let (open, ended) = (before.submitted(), before.filled("ended"));
    let mut rig = Rig::new();
    let at = TimestampMicros::new(rig.now);
    rig.engines.load(before.engines.tracked(open).unwrap().clone());
    let position = FeedPosition { session: "s".into(), sequence: 7, at, past: vec!["r".into()] };
    let external_order_id = external("early");
    let early = UnmatchedReport { external_order_id, kind: ReportKind::Cancelled, received_at: at };
    rig.engines.load_node(Some(position), vec![early], vec![(at, ended)]);
    rig.act(Engines::start);
    assert_eq!(rig.engines.feed_position(), Some((&"s".into(), 7)));
    assert_eq!(rig.engines.unmatched_reports(), 1);
    assert_eq!(rig.engines.orders().map(|order| order.order_id).collect::<Vec<_>>(), [open]);
    rig.take();
    rig.reconcile();
    let effects = rig.take();
    assert!(effects.contains(&Effect::Query(open)));
    assert!(effects.contains(&Effect::LookUpOrder(ended)), "its last lines may be missing");
}
