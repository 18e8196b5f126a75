//! The orders thread with lines that the exchange posts.

use serde_json::{from_value, json};

use super::fake_exchange::FakeExchange;
use super::test_node::{Node, accepted, options, request, trade};
use super::*;
use crate::exchange::OrderFeedMessage;
use crate::exchange::wire::{FeedLine, WebhookRequest};
use crate::order::Status;
use crate::testing::wait_until;

fn lines(lines: &[serde_json::Value]) -> Vec<FeedLine> {
    lines.iter().map(|line| from_value(line.clone()).unwrap()).collect()
}

fn post(node: &Node, batch: &[serde_json::Value]) -> LinesDurable {
    node.commands.webhook(&"1".into(), lines(batch).into()).unwrap().recv().unwrap()
}

#[test]
fn an_execution_counts_once_by_feed_and_webhook_however_often() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    node.feed.try_send(OrderFeedMessage::Session { session: "s".into(), sequence: 0 }).unwrap();
    node.line(trade(&exchange, 1, &order, 4));
    let batch = [trade(&exchange, 1, &order, 4), trade(&exchange, 2, &order, 3)];
    assert_eq!(post(&node, &batch), LinesDurable);
    assert_eq!(node.read(&order).filled_shares, 7, "confirmed lines are visible to readers");
    assert_eq!(post(&node, &batch), LinesDurable, "again");
    node.line(trade(&exchange, 2, &order, 3));
    node.line(trade(&exchange, 3, &order, 3));
    let filled = node.wait_for(&order, Status::Filled);
    assert_eq!(filled.filled_shares, 10);
    node.stop();

    let node = Node::start(directory.path(), options(&exchange));
    assert_eq!(node.read(&order), filled);
    node.stop();
}

#[test]
fn a_batch_is_confirmed_once_it_is_durable() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    node.stop();

    let (mut node, writer) = Node::start_without_disk(directory.path(), options(&exchange));
    let known = node
        .commands
        .webhook(&"1".into(), lines(&[trade(&exchange, 1, &order, 10)]).into())
        .unwrap();
    let mut early = trade(&exchange, 9, &order, 1);
    early["orderId"] = json!("nobody-knows");
    let unknown = node.commands.webhook(&"1".into(), lines(&[early]).into()).unwrap();
    wait_until(|| node.metrics.webhook_lines.get() >= 2);
    assert!(known.try_recv().is_err() && unknown.try_recv().is_err());
    node.write(writer);
    assert_eq!(known.recv(), Ok(LinesDurable));
    assert_eq!(unknown.recv(), Ok(LinesDurable), "a line about an unknown order is durable too");
    node.stop();
}

#[test]
fn a_confirmed_line_about_an_unknown_order_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let early = json!({"sequence": 7, "type": "trade", "executionId": "early", "symbol": "IBM",
        "priceInCents": 17_950, "numShares": 10, "orderId": "X-0", "timestamp": 1});
    assert_eq!(post(&node, &[early]), LinesDurable);
    // No feed position is logged here, so the restart can find only the line itself.
    node.stop();

    let node = Node::start(directory.path(), options(&exchange));
    let order = accepted(node.create(request("alice", None, 10)));
    node.wait_for(&order, Status::Filled);
    node.stop();
}

#[test]
fn lines_of_foreign_orders_take_no_room_from_ours() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // However slow the machine is, nothing waits long enough to be queried.
    options.engine.grace_micros = 60_000_000;
    let node = Node::start(directory.path(), options);
    let line = |number: usize| {
        json!({"sequence": number, "type": "cancelled", "orderId": format!("y{number}"),
            "timestamp": 1})
    };
    let numbers: Vec<usize> = (0..crate::engine::MAX_UNMATCHED_REPORTS + 2_048).collect();
    for batch in numbers.chunks(1_024) {
        let batch: Vec<_> = batch.iter().map(|&number| line(number)).collect();
        assert_eq!(post(&node, &batch), LinesDurable);
    }
    let order = accepted(node.create(request("alice", None, 10)));
    let batch = [line(usize::MAX >> 1), trade(&exchange, 1, &order, 10)];
    assert_eq!(post(&node, &batch), LinesDurable);
    assert_eq!(node.read(&order).status, Status::Filled);
    let asked = node.metrics.queried_orders.get();
    assert_eq!(asked, 0, "foreign lines cause no queries");
    node.stop();
}

#[test]
fn the_webhook_is_registered_again_for_every_feed_session() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    let url = "http://here/exchange/trades".to_owned();
    options.webhook = Some(WebhookRequest { url: url.clone(), secret: "s".to_owned() });
    let node = Node::start(directory.path(), options);
    exchange.wait_until(|book| book.webhooks == [url.clone()]);
    node.feed.try_send(OrderFeedMessage::Session { session: "s".into(), sequence: 0 }).unwrap();
    exchange.wait_until(|book| book.webhooks == [url.clone(), url.clone()]);
    node.stop();
}
