//! The orders thread under the kill switch and mass cancels.

use super::fake_exchange::FakeExchange;
use super::test_node::{Node, accepted, options, request};
use super::*;
use crate::exchange::wire::ExchangeStatus;
use crate::order::Status;
use crate::testing::wait_until;
use crate::types::{Clock, Symbol, UserId};

fn request_in(user: &str, symbol: &str) -> CreateOrder {
    CreateOrder { symbol: Symbol::new(symbol).unwrap(), ..request(user, None, 10) }
}

fn user(name: &str) -> Option<UserId> {
    UserId::new(name).ok()
}

fn asked(node: &Node, scope: CancelScope) -> u64 {
    node.commands.mass_cancel(scope).unwrap().recv().unwrap().asked
}

#[test]
fn halted_creates_are_refused_without_a_record_and_cancels_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    let switch = node.commands.kill_switch();
    let change =
        HaltChange { users: Some(user("alice").into_iter().collect()), ..HaltChange::default() };
    switch.change(change, Clock.now()).unwrap();
    let events = node.metrics.events.get();
    assert_eq!(node.create(request("alice", None, 10)), CreateReply::Halted(HaltScope::User));
    assert_eq!(node.metrics.events.get(), events, "nothing was recorded");
    accepted(node.create(request("bob", None, 10)));
    assert!(matches!(node.cancel(&order), CancelReply::Cancelled(_)));
    switch.change(HaltChange { all: Some(true), ..HaltChange::default() }, Clock.now()).unwrap();
    node.stop();

    let node = Node::start(directory.path(), options(&exchange));
    assert_eq!(node.create(request("bob", None, 10)), CreateReply::Halted(HaltScope::All));
    assert_eq!(exchange.requests("/v1/orders"), 2);
    node.stop();
}

#[test]
fn mass_cancels_cancel_exactly_their_scope() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let waiting: Vec<_> = (0..1_200)
        .map(|number| {
            let symbol = if number % 2 == 0 { "IBM" } else { "SPY" };
            node.send(request_in(&format!("user-{}", number % 100), symbol)).unwrap()
        })
        .collect();
    let orders: Vec<_> = waiting.into_iter().map(|reply| accepted(reply.recv().unwrap())).collect();
    let all = CancelScope::default();
    let ibm = Symbol::new("IBM").ok();
    let only = CancelScope { user: user("user-8"), symbol: Symbol::new("SPY").ok() };
    assert_eq!(asked(&node, only), 0, "user-8 has orders in IBM alone");
    assert_eq!(asked(&node, CancelScope { user: user("user-8"), symbol: None }), 12);
    assert_eq!(asked(&node, CancelScope { user: None, symbol: ibm }), 600 - 12);
    assert_eq!(asked(&node, all.clone()), 600);
    assert_eq!(asked(&node, all), 0, "each order is cancelled once");
    for order in &orders {
        assert_eq!(node.wait_for(order, Status::Cancelled).reason, None);
    }
    exchange.wait_until(|book| {
        book.orders.values().all(|order| order.status == ExchangeStatus::Cancelled)
    });
    assert!(exchange.requests("/v1/cancels") < 100, "{}", exchange.requests("/v1/cancels"));
    node.stop();
}

#[test]
fn a_mass_cancel_is_recorded_while_the_exchange_is_away_and_sent_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let orders: Vec<_> = (0..600).map(|_| node.send(request("alice", None, 10)).unwrap()).collect();
    let orders: Vec<_> = orders.into_iter().map(|reply| accepted(reply.recv().unwrap())).collect();
    exchange.with(|book| book.mute_all = true);
    assert_eq!(asked(&node, CancelScope::default()), 600);
    assert_eq!(node.read(&orders[599]).status, Status::PendingCancel);
    node.stop();
    exchange.with(|book| book.mute_all = false);

    let node = Node::start(directory.path(), options(&exchange));
    for order in &orders {
        node.wait_for(order, Status::Cancelled);
    }
    node.stop();
}

#[test]
fn an_awaited_cancel_overtakes_a_mass_cancel() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let orders: Vec<_> =
        (0..4_000).map(|_| node.send(request("alice", None, 10)).unwrap()).collect();
    for reply in orders {
        accepted(reply.recv().unwrap());
    }
    let order = accepted(node.create(request("bob", None, 10)));
    let _waiting = exchange.with(|book| {
        // While the records are locked nothing is answered, so both requests are queued before any
        // answer.
        let scope = CancelScope { user: user("alice"), symbol: None };
        let mass = node.commands.mass_cancel(scope).unwrap();
        assert_eq!(mass.recv().unwrap().asked, 4_000);
        let waiting = node.commands.cancel(order.user.clone(), order.order_id).unwrap();
        wait_until(|| node.read(&order).status == Status::PendingCancel);
        book.cancel_batches.clear();
        waiting
    });
    let id = order.external_order_id.clone().unwrap();
    exchange.wait_until(|book| {
        let place = book.cancel_batches.iter().position(|batch| batch.contains(&id));
        assert!(
            book.cancel_batches.len() <= 3 || place.is_some(),
            "the cancel waits for the mass cancel"
        );
        place.is_some()
    });
    node.stop();
}
