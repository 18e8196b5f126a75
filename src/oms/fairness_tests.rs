//! Nobody waits for unrelated work: creates do not delay cancels, and what needs no record happens
//! at once.

use std::time::Duration;

use super::fake_exchange::{FakeExchange, Fault};
use super::limits::{CREATE_QUEUE_CAPACITY, MAX_WAITING_CREATES};
use super::test_node::{Node, accepted, options, request};
use super::*;

#[test]
fn effects_that_wait_for_no_event_happen_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // No timer wakes the thread.
    options.sweep_interval = Duration::from_secs(3_600);
    options.cleanup_interval = Duration::from_secs(3_600);
    options.reply_timeout = Duration::from_secs(3_600);
    let node = Node::start(directory.path(), options);
    let order = accepted(node.create(request("alice", Some("k"), 10)));
    let again = node.create(request("alice", Some("k"), 10));
    assert!(matches!(again, CreateReply::Duplicate(same) if same.order_id == order.order_id));
    exchange.fault(Fault::TakeAndCut);
    accepted(node.create(request("alice", None, 10)));
    node.stop();
}

#[test]
fn cancels_are_answered_while_creates_fill_every_queue() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // Nothing times out: whatever waits does so for the whole test.
    options.reply_timeout = Duration::from_secs(3_600);
    options.session.request_timeout = Duration::from_secs(3_600);
    options.engine.submit_window_micros = 3_600_000_000;
    // And nothing is queried: that many queries would be a load of their own.
    options.engine.grace_micros = 3_600_000_000;
    let node = Node::start(directory.path(), options);
    let orders: Vec<_> =
        (0..300).map(|_| accepted(node.create(request("alice", None, 10)))).collect();
    exchange.with(|book| book.hold_submits = true);
    // Fill the replies that creates may await, then the queue of creates.
    let mut flood = Vec::new();
    while flood.len() < MAX_WAITING_CREATES + CREATE_QUEUE_CAPACITY {
        match node.send(request("mallory", None, 1)) {
            Ok(reply) => flood.push(reply),
            Err(Overloaded) => std::thread::yield_now(),
        }
    }
    for order in &orders {
        // Keep the flood going.
        flood.extend(node.send(request("mallory", None, 1)));
        assert!(matches!(node.cancel(order), CancelReply::Cancelled(_)));
    }
    assert_eq!(node.metrics.refused_creates.get(), 0, "no accepted create is refused later");
    exchange.with(|book| book.hold_submits = false);
    for reply in flood {
        accepted(reply.recv().unwrap());
    }
    node.stop();
}
