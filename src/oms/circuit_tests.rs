//! The orders thread with an exchange that goes away and comes back.

use std::time::Duration;

use super::fake_exchange::FakeExchange;
use super::test_node::{Node, accepted, options, request};
use super::*;
use crate::order::Status;

#[test]
fn creates_are_refused_while_the_exchange_is_away_and_recorded_orders_go_on() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.reply_timeout = Duration::from_millis(5);
    let node = Node::start(directory.path(), options);
    let before = node.submitted(request("alice", None, 10));
    exchange.with(|book| book.mute_all = true);
    let mut recorded = Vec::new();
    loop {
        match node.create(request("alice", None, 10)) {
            CreateReply::Pending(order) => recorded.push(order),
            CreateReply::ExchangeAway => break,
            other => panic!("neither pending nor refused: {other:?}"),
        }
    }
    assert!(!recorded.is_empty());
    assert_eq!(node.commands.exchange_reachability(), ExchangeReachability::Away);
    let events = node.metrics.events.get();
    assert_eq!(node.create(request("alice", None, 10)), CreateReply::ExchangeAway);
    assert_eq!(node.metrics.events.get(), events, "nothing was recorded");
    assert!(matches!(node.cancel(&before), CancelReply::Pending(_)), "cancels go on");

    exchange.with(|book| book.mute_all = false);
    node.wait_for(&before, Status::Cancelled);
    // The probe is answered, then a single order is admitted.
    loop {
        match node.create(request("bob", None, 10)) {
            CreateReply::ExchangeAway => std::thread::yield_now(),
            CreateReply::Pending(order) => break drop(node.wait_for(&order, Status::Submitted)),
            CreateReply::Accepted(_) => break,
            other => panic!("not accepted: {other:?}"),
        }
    }
    assert_eq!(node.commands.exchange_reachability(), ExchangeReachability::Reachable);
    node.stop();
}

#[test]
fn an_exchange_that_answers_no_probe_gets_orders_again_once_it_takes_them() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.reply_timeout = Duration::from_millis(5);
    let node = Node::start(directory.path(), options);
    node.submitted(request("alice", None, 10));
    exchange.with(|book| (book.mute_all, book.babble_queries) = (true, true));
    while node.create(request("alice", None, 10)) != CreateReply::ExchangeAway {}
    exchange.with(|book| book.mute_all = false);
    // Far more tries than it takes.
    let is_taken = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        match node.create(request("bob", None, 10)) {
            CreateReply::ExchangeAway => false,
            CreateReply::Accepted(_) | CreateReply::Pending(_) => true,
            other => panic!("neither accepted nor refused: {other:?}"),
        }
    });
    assert!(is_taken, "new orders are refused for ever");
    let is_reachable = (0..3_000).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        node.commands.exchange_reachability() == ExchangeReachability::Reachable
    });
    assert!(is_reachable);
    node.stop();
}

#[test]
fn single_failures_refuse_no_orders() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    for _ in 0..6 {
        exchange.fault(super::fake_exchange::Fault::TakeAndCut);
        accepted(node.create(request("alice", None, 10)));
        accepted(node.create(request("alice", None, 10)));
    }
    assert_eq!(node.commands.exchange_reachability(), ExchangeReachability::Reachable);
    node.stop();
}
