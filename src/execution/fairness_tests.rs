//! Nobody waits for what does not concern them: what needs no record is done at once.

use std::time::Duration;

use super::fake_exchange::{FakeExchange, Fault};
use super::run_tests::{Node, accepted, options, request};
use super::*;

#[test]
fn what_waits_for_no_event_is_done_at_once() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // Nothing wakes the thread by itself.
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
