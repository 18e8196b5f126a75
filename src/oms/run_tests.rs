//! The orders thread with a real log, real TCP and a scripted exchange.

use std::time::Duration;

use serde_json::json;

use super::fake_exchange::{FakeExchange, Fault, fill};
use super::test_node::{Node, accepted, execution, options, request, trade};
use super::*;
use crate::exchange::{ExchangeAddress, OrderFeedMessage};
use crate::order::Status;
use crate::testing::wait_until;
use crate::types::{ExternalOrderId, UserId};
use crate::wal::Lsn;

#[test]
fn an_order_is_accepted_filled_and_found_after_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    assert_eq!(order.status, Status::Submitted);
    assert!(node.read(&order).version >= order.version, "reads show what was answered");
    node.feed.try_send(OrderFeedMessage::Session { session: "s".into(), sequence: 0 }).unwrap();
    // Accounts begun, created, accepted, and the position: the open order has been reconciled.
    wait_until(|| node.metrics.events.get() >= 4);
    node.line(trade(&exchange, 1, &order, 4));
    node.line(trade(&exchange, 1, &order, 4));
    node.line(trade(&exchange, 2, &order, 6));
    let filled = node.wait_for(&order, Status::Filled);
    assert_eq!((filled.filled_shares, filled.filled_value_cents), (10, 179_500));
    node.stop();

    let node = Node::start(directory.path(), options(&exchange));
    assert_eq!(node.read(&order), filled, "what a reader saw survives");
    assert_eq!(node.feed_position, Some(("s".into(), 2)));
    node.stop();
}

#[test]
fn a_refused_order_fails_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    exchange.fault(Fault::Refuse);
    match node.create(request("alice", None, 10)) {
        CreateReply::Rejected(order) => {
            assert_eq!(order.reason.as_deref(), Some("halted: not now"));
            assert_eq!(node.read(&order).status, Status::Failed);
        }
        other => panic!("not rejected: {other:?}"),
    }
    node.stop();
}

#[test]
fn an_unknown_outcome_is_queried_and_never_submitted_again() {
    for fault in [Fault::TakeAndCut, Fault::TakeAndBabble] {
        let directory = tempfile::tempdir().unwrap();
        let exchange = FakeExchange::start();
        let node = Node::start(directory.path(), options(&exchange));
        exchange.fault(fault);
        let order = accepted(node.create(request("alice", None, 10)));
        assert_eq!(order.status, Status::Submitted, "the query brought the accept");
        assert_eq!(exchange.requests("/v1/orders"), 1);
        node.stop();
    }
}

#[test]
fn an_order_that_never_arrived_fails_after_its_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // Long enough to be sent on a busy machine, short enough to wait for.
    options.engine.submit_window_micros = 500_000;
    let node = Node::start(directory.path(), options);
    exchange.fault(Fault::Cut);
    match node.create(request("alice", None, 10)) {
        CreateReply::Rejected(order) => {
            assert_eq!(order.reason.as_deref(), Some("not accepted in time"));
            assert!(order.updated_at > order.submit_before);
        }
        other => panic!("not rejected: {other:?}"),
    }
    assert_eq!(exchange.requests("/v1/orders"), 1);
    node.stop();
}

#[test]
fn a_client_gets_pending_after_the_reply_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.reply_timeout = Duration::from_millis(20);
    let node = Node::start(directory.path(), options);
    exchange.fault(Fault::TakeAndCut);
    exchange.with(|book| book.mute_queries = true);
    let order = match node.create(request("alice", None, 10)) {
        CreateReply::Pending(order) => order,
        other => panic!("not pending: {other:?}"),
    };
    assert_eq!(node.read(&order).status, Status::Pending);
    exchange.with(|book| book.mute_queries = false);
    node.wait_for(&order, Status::Submitted);
    node.stop();
}

#[test]
fn cancels_are_confirmed_joined_and_repeated() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    let cancel = || node.commands.cancel(order.user.clone(), order.order_id).unwrap();
    let joined = [cancel(), cancel(), cancel()];
    for receiver in joined {
        assert!(matches!(receiver.recv().unwrap(), CancelReply::Cancelled(_)));
    }
    assert!(matches!(node.cancel(&order), CancelReply::Cancelled(_)), "repeated");
    let stranger = UserId::new("mallory").unwrap();
    let reply = node.commands.cancel(stranger, order.order_id).unwrap().recv().unwrap();
    assert_eq!(reply, CancelReply::NotFound);

    let filled = accepted(node.create(request("alice", None, 10)));
    exchange.with(|book| {
        let record = book.orders.get_mut(&filled.order_id.to_string()).unwrap();
        fill(record, execution("e9", 10), true);
    });
    // The exchange answers "filled" before the feed reports it; its record has the execution.
    match node.cancel(&filled) {
        CancelReply::Conflict(order) => assert_eq!(order.status, Status::Filled),
        other => panic!("no conflict: {other:?}"),
    }
    node.stop();
}

#[test]
fn a_cancel_without_an_answer_is_reconciled() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.reply_timeout = Duration::from_millis(20);
    let node = Node::start(directory.path(), options);
    let order = node.submitted(request("alice", None, 10));
    exchange.with(|book| {
        book.mute_cancels = true;
        book.mute_queries = true;
    });
    match node.cancel(&order) {
        CancelReply::Pending(order) => assert_eq!(order.status, Status::PendingCancel),
        other => panic!("not pending: {other:?}"),
    }
    exchange.with(|book| book.mute_queries = false);
    node.wait_for(&order, Status::Cancelled);
    assert!(matches!(node.cancel(&order), CancelReply::Cancelled(_)));
    node.stop();
}

#[test]
fn a_fill_before_the_acceptance_counts() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    node.feed.try_send(OrderFeedMessage::Session { session: "s".into(), sequence: 6 }).unwrap();
    node.line(json!({"sequence": 7, "type": "trade", "executionId": "early", "symbol": "IBM",
        "priceInCents": 17_950, "numShares": 10, "orderId": "X-0", "timestamp": 1}));
    let order = accepted(node.create(request("alice", None, 10)));
    assert_eq!(order.external_order_id.as_ref().map(ExternalOrderId::as_str), Some("X-0"));
    node.wait_for(&order, Status::Filled);
    node.stop();
}

#[test]
fn a_key_names_one_order_across_restarts() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let replies: Vec<_> = (0..50)
        .map(|_| node.send(request("alice", Some("k"), 10)).unwrap())
        .map(|receiver| receiver.recv().unwrap())
        .collect();
    let order = accepted(replies[0].clone());
    for reply in &replies[1..] {
        assert!(matches!(reply, CreateReply::Duplicate(same) if same.order_id == order.order_id));
    }
    accepted(node.create(request("bob", Some("k"), 10)));
    node.stop();

    let node = Node::start(directory.path(), options(&exchange));
    let again = node.create(request("alice", Some("k"), 10));
    assert!(matches!(again, CreateReply::Duplicate(same) if same.order_id == order.order_id));
    let other = node.create(request("alice", Some("k"), 11));
    assert!(matches!(other, CreateReply::Conflict(same) if same.order_id == order.order_id));
    assert_eq!(exchange.with(|book| book.orders.len()), 2);
    node.stop();
}

#[test]
fn a_restart_reconciles_what_was_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut hasty = options(&exchange);
    hasty.reply_timeout = Duration::from_millis(5);
    hasty.engine.grace_micros = 60_000_000;
    let node = Node::start(directory.path(), hasty);
    let [filled, cancelled] = [(), ()].map(|()| node.submitted(request("alice", None, 10)));
    exchange.with(|book| {
        book.mute_queries = true;
        book.mute_cancels = true;
    });
    // Its acceptance is lost, and so is the cancel, which until then is only recorded.
    exchange.fault(Fault::TakeAndCut);
    let in_flight = match node.create(request("alice", None, 10)) {
        CreateReply::Pending(order) => order,
        other => panic!("not pending: {other:?}"),
    };
    assert!(matches!(node.cancel(&in_flight), CancelReply::Pending(_)));
    node.stop();
    exchange.with(|book| {
        book.mute_queries = false;
        book.mute_cancels = false;
        let record = book.orders.get_mut(&filled.order_id.to_string()).unwrap();
        fill(record, execution("missed", 10), true);
        let record = book.orders.get_mut(&cancelled.order_id.to_string()).unwrap();
        record.status = crate::exchange::wire::ExchangeStatus::Cancelled;
    });

    let node = Node::start(directory.path(), options(&exchange));
    assert_eq!(node.wait_for(&filled, Status::Filled).filled_shares, 10);
    assert!(node.wait_for(&cancelled, Status::Cancelled).reason.is_some(), "unasked");
    let cancelled = node.wait_for(&in_flight, Status::Cancelled);
    assert_eq!(cancelled.reason, None, "the recorded cancel was sent after the restart");
    assert_eq!(exchange.requests("/v1/orders"), 3, "nothing was submitted again");
    node.stop();
}

#[test]
fn orders_gather_while_a_request_is_in_flight() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let waiting: Vec<_> =
        (0..2_000).map(|n| node.send(request(&format!("user-{n}"), None, 1)).unwrap()).collect();
    for receiver in waiting {
        accepted(receiver.recv().unwrap());
    }
    assert!(exchange.requests("/v1/orders") < 1_000, "{}", exchange.requests("/v1/orders"));
    node.stop();
}

#[test]
fn orders_wait_for_an_unreachable_exchange_and_fail_after_their_deadline() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // A freed port, so that connections are refused.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = ExchangeAddress::from(free.local_addr().unwrap());
    options.session.dialer = address.into();
    options.reply_timeout = Duration::from_millis(5);
    options.engine.submit_window_micros = 50_000;
    drop(free);
    let node = Node::start(directory.path(), options);
    let order = match node.create(request("alice", None, 1)) {
        CreateReply::Pending(order) => order,
        other => panic!("not pending: {other:?}"),
    };
    let failed = node.wait_for(&order, Status::Failed);
    assert_eq!(failed.reason.as_deref(), Some("not accepted in time"));
    exchange.wait_until(|book| book.orders.is_empty());
    node.stop();
}

#[test]
fn nothing_is_published_sent_or_answered_before_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let patient = OmsOptions { commits_alone: false, ..options(&exchange) };
    let (mut node, writer) = Node::start_without_disk(directory.path(), patient);
    let waiting = node.send(request("alice", None, 10)).unwrap();
    wait_until(|| node.metrics.events.get() > 0);
    let alice = UserId::new("alice").unwrap();
    assert!(node.commands.views().user(&alice).is_none());
    assert_eq!(exchange.requests("/v1/orders"), 0);
    assert!(waiting.try_recv().is_err());
    node.write(writer);
    accepted(waiting.recv().unwrap());
    node.stop();
}

#[test]
fn a_failed_log_ends_the_thread_without_sending() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let patient = OmsOptions { commits_alone: false, ..options(&exchange) };
    let (node, writer) = Node::start_without_disk(directory.path(), patient);
    let waiting = node.send(request("alice", None, 10)).unwrap();
    drop(writer);
    assert!(waiting.recv().is_err(), "no answer is sent for an unknown outcome");
    assert!(node.orders.join().unwrap().is_err());
    assert_eq!(exchange.requests("/v1/orders"), 0);
    let after = node.commands.create(request("alice", None, 10), Lsn::default());
    assert!(after.is_err());
}
