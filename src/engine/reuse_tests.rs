//! Exchange ids that are reused for another order in a later session.

use super::test_rig::{OPTIONS, Rig, cancels, external, fill, filled, known};
use super::*;
use crate::order::ReportKind;
use crate::types::{ExternalOrderId, OrderId};

/// An order that was cancelled under the id "x" in an earlier session.
fn cancelled() -> (Rig, OrderId) {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let order_id = rig.submitted();
    rig.line("x", 1, ReportKind::Cancelled);
    rig.engines.feed_session(&"t".into(), 0);
    rig.reconcile();
    rig.record(order_id, known(ExchangeOrderState::Cancelled, Vec::new()));
    rig.take();
    (rig, order_id)
}

/// That order, out of memory after a line named it, and a new one accepted under the same id.
fn accepted_after(line: ReportKind) -> (Rig, OrderId, OrderId) {
    let (mut rig, old) = cancelled();
    let new = rig.pending();
    rig.line("x", 1, line);
    rig.record(old, known(ExchangeOrderState::Cancelled, Vec::new()));
    let version = rig.order(old).version;
    assert!(rig.engines.forget(old, version).is_some());
    rig.take();
    rig.accept(new, "x");
    (rig, old, new)
}

#[test]
fn a_line_ahead_of_the_accept_queries_both_orders() {
    let (mut rig, old, new) = accepted_after(ReportKind::Cancelled);
    let effects = rig.take();
    assert!(effects.contains(&Effect::Query(new)), "its end was taken by the other");
    assert!(effects.contains(&Effect::LookUpOrder(old)));
}

#[test]
fn a_line_of_the_session_in_which_an_order_ended_belongs_to_it() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let old = rig.submitted();
    rig.line("x", 1, ReportKind::Cancelled);
    rig.line("x", 1, ReportKind::Cancelled);
    let new = rig.pending();
    let version = rig.order(old).version;
    assert!(rig.engines.forget(old, version).is_some());
    rig.take();
    rig.accept(new, "x");
    assert_eq!(rig.queries(), 0);
}

#[test]
fn an_order_is_cancelled_even_if_an_ended_one_had_its_id() {
    let (mut rig, old) = cancelled();
    let new = rig.pending();
    rig.accept(new, "x");
    rig.record(old, known(ExchangeOrderState::Cancelled, Vec::new()));
    rig.cancel(new, 2);
    let is_cancel = |effect: &Effect| matches!(effect, Effect::Cancel { .. });
    assert!(!rig.take().iter().any(is_cancel), "its record has not arrived");
    rig.record(new, known(ExchangeOrderState::Open, vec![fill("e", 1)]));
    rig.sweep(OPTIONS.grace_micros);
    rig.record(new, known(ExchangeOrderState::Open, vec![fill("e", 1)]));
    assert!(rig.take().iter().any(is_cancel));
}

#[test]
fn an_unreadable_line_under_a_shared_id_queries_both_orders() {
    let (mut rig, old) = cancelled();
    let new = rig.pending();
    rig.accept(new, "x");
    for order_id in [old, new] {
        rig.record(order_id, known(ExchangeOrderState::Cancelled, Vec::new()));
    }
    rig.take();
    let id = ExternalOrderId::new("x").unwrap();
    rig.act(|engines, now, out| engines.unreadable(now, &id, "a line", out));
    let effects = rig.take();
    for order_id in [old, new] {
        assert!(effects.contains(&Effect::Query(order_id)));
    }
}

#[test]
fn a_fill_ahead_of_the_accept_counts_for_the_known_order_until_the_records_arrive() {
    let (mut rig, old) = cancelled();
    let new = rig.pending();
    rig.line("x", 1, filled("e", 2));
    assert_eq!(rig.order(old).filled_shares, 2);
    rig.accept(new, "x");
    let covering = |state, executions| {
        let QueryAnswer::Known(record) = known(state, executions) else { panic!("a record") };
        let as_of = Some(FeedPlace { session: "t".into(), sequence: 1 });
        QueryAnswer::Known(ExchangeRecord { as_of, ..record })
    };
    rig.record(old, covering(ExchangeOrderState::Cancelled, Vec::new()));
    rig.record(new, covering(ExchangeOrderState::Open, vec![fill("e", 2)]));
    assert_eq!((rig.order(old).filled_shares, rig.order(new).filled_shares), (0, 2));
}

#[test]
fn an_order_that_has_left_memory_comes_back_when_its_id_is_used_again() {
    let mut rig = Rig::new();
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let old = rig.submitted();
    rig.line("x", 1, filled("first", 10));
    let stored = rig.engines.tracked(old).cloned();
    let version = rig.order(old).version;
    assert!(rig.engines.forget(old, version).is_some());
    let new = rig.pending();
    rig.accept(new, "x");
    rig.take();
    let id = ExternalOrderId::new("x").unwrap();
    rig.act(|engines, now, out| engines.id_used_again(now, (&id, old), out));
    assert_eq!(rig.take(), [Effect::LookUpOrder(old)]);
    rig.act(|engines, now, out| engines.found_order(now, old, stored, out));
    let effects = rig.take();
    for effect in [
        Effect::Alert(Alert::ExternalIdReused { order_id: old }),
        Effect::Query(old),
        Effect::Query(new),
    ] {
        assert!(effects.contains(&effect), "{effect:?} is missing: {effects:?}");
    }
    // The line of the earlier order comes again.
    rig.line("x", 1, filled("first", 10));
    assert_eq!(rig.order(new).filled_shares, 0);
    assert!(rig.engines.open_case_count() > 0);
}

/// An order under the id "x" on a node that shares the users, and one of another node.
fn shared_with_another_node() -> (Rig, OrderId, OrderId) {
    let mut rig = Rig::with(EngineOptions { shares_users: true, ..OPTIONS });
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let ours = rig.submitted();
    let theirs = rig.request("bob", None, 10).order_id;
    assert_ne!(theirs.partition(), ours.partition());
    tell_shared(&mut rig, [ours, theirs]);
    (rig, ours, theirs)
}

fn tell_shared(rig: &mut Rig, orders: [OrderId; 2]) {
    let partition = orders[0].partition();
    let is_here = |order_id: OrderId| order_id.partition() == partition;
    rig.act(|engines, now, out| {
        engines.id_is_shared(now, (&external("x"), &orders), is_here, out);
    });
}

#[test]
fn a_line_under_an_id_that_an_order_of_another_node_has_too_counts_once_a_record_shows_it() {
    let (mut rig, ours, theirs) = shared_with_another_node();
    assert_eq!(
        rig.take(),
        [Effect::Alert(Alert::ExternalIdReused { order_id: ours }), Effect::Query(ours)]
    );
    tell_shared(&mut rig, [theirs, ours]);
    assert_eq!(rig.take(), [], "it is known");
    rig.line("x", 1, filled("e", 2));
    assert_eq!((rig.order(ours).filled_shares, rig.engines.open_case_count()), (0, 1));
    rig.record(ours, known(ExchangeOrderState::Open, vec![fill("e", 2)]));
    assert_eq!((rig.order(ours).filled_shares, rig.engines.open_case_count()), (2, 0));
}

#[test]
fn an_order_is_not_cancelled_in_place_of_one_of_another_node() {
    let (mut rig, ours, theirs) = shared_with_another_node();
    rig.record(ours, known(ExchangeOrderState::Open, Vec::new()));
    rig.take();
    rig.cancel(ours, 2);
    let effects = rig.take();
    assert_eq!(cancels(&effects), 0);
    assert!(effects.contains(&Effect::Query(theirs)), "{effects:?}");
    rig.record(theirs, known(ExchangeOrderState::Open, Vec::new()));
    let record = |rig: &mut Rig| {
        rig.sweep(OPTIONS.grace_micros);
        rig.record(ours, known(ExchangeOrderState::Open, Vec::new()));
        rig.take()
    };
    let effects = record(&mut rig);
    assert_eq!(cancels(&effects), 0, "the exchange has both under this id");
    assert!(effects.contains(&Effect::Query(theirs)), "it is asked again");
    rig.record(theirs, known(ExchangeOrderState::Cancelled, Vec::new()));
    assert!(rig.take().contains(&Effect::Query(ours)), "the way is free");
    assert_eq!(cancels(&record(&mut rig)), 1);
}

#[test]
fn an_order_that_shares_its_id_comes_back_when_its_partition_does() {
    let mut rig = Rig::with(EngineOptions { shares_users: true, ..OPTIONS });
    let [ours, theirs] = ["alice", "bob"].map(|user| rig.request(user, None, 10).order_id);
    rig.act(|engines, now, out| {
        engines.id_is_shared(now, (&external("x"), &[ours, theirs]), |_| false, out);
    });
    assert_eq!(rig.take(), [], "both are other nodes'");
    rig.act(|engines, now, out| engines.adopted(now, ours.partition(), out));
    assert_eq!(rig.take(), [Effect::LookUpOrder(ours)]);
}

#[test]
fn an_id_stays_shared_when_one_of_its_orders_goes_to_another_node() {
    let mut rig = Rig::with(EngineOptions { shares_users: true, ..OPTIONS });
    rig.engines.feed_session(&"s".into(), 0);
    rig.reconcile();
    let mine = rig.submitted();
    let request = rig.request("bob", None, 10);
    let (theirs, partition) = (request.order_id, request.user.partition());
    assert_ne!(partition, mine.partition());
    rig.act(|engines, now, out| engines.create(now, request, ReplyTo(2), out));
    rig.accept(theirs, "x");
    assert!(rig.take().contains(&Effect::Alert(Alert::ExternalIdReused { order_id: theirs })));
    rig.act(|engines, _, out| drop(engines.drop_partition(partition, out)));
    rig.line("x", 1, filled("first", 10));
    assert_eq!(rig.order(mine).filled_shares, 0, "it may be the other's");
}
