//! The orders thread with `--commit postgres`; the tests decide how far Postgres has come.

use std::sync::Arc;
use std::time::Duration;

use futures_lite::future::block_on;
use serde_json::{Value, from_value};

use super::fake_exchange::FakeExchange;
use super::test_node::{Node, options, request, trade};
use super::*;
use crate::order::{Order, PageRequest, Status};
use crate::projection::Progress;
use crate::testing::wait_until;
use crate::types::{OrderId, UserId};
use crate::wal::Lsn;

/// Timeouts that no test reaches.
fn patient(exchange: &FakeExchange) -> OmsOptions {
    let long = Duration::from_secs(60);
    OmsOptions { postgres_stall: long, postgres_patience: long, ..options(exchange) }
}

/// Timeouts that make nobody wait long for Postgres.
fn hasty(exchange: &FakeExchange) -> OmsOptions {
    let options = options(exchange);
    OmsOptions {
        reply_timeout: Duration::from_millis(20),
        postgres_stall: Duration::ZERO,
        postgres_patience: Duration::from_millis(20),
        ..options
    }
}

/// The record of this number after the first one, with which accounts begin.
fn record(number: u64) -> Lsn {
    Lsn(1 + number)
}

impl Node {
    /// An order as readers see it, if they do.
    fn shown(&self, user: &UserId, order_id: OrderId) -> Option<Arc<Order>> {
        block_on(self.service.order(user, order_id)).unwrap()
    }

    fn wait_for_log(&self, last: u64) {
        while self.log.committed() < record(last) {
            self.log.wait(record(last - 1), Duration::from_secs(1));
        }
    }

    fn wait_until(&self, is_so: impl Fn(&Self) -> bool) {
        wait_until(|| is_so(self));
    }
}

#[test]
fn the_exchange_gets_an_order_before_postgres_and_everyone_else_after_it() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let postgres = Progress::new(1);
    let node = Node::start_with_postgres(directory.path(), patient(&exchange), &postgres);
    let request = request("alice", None, 10);
    let (user, order_id) = (request.user.clone(), request.order_id);
    let waiting = node.send(request).unwrap();
    exchange.wait_until(|book| book.orders.len() == 1);
    // Created and accepted.
    node.wait_for_log(2);
    assert_eq!(node.shown(&user, order_id), None);
    postgres.reach(0, record(1));
    node.wait_until(|node| node.shown(&user, order_id).is_some());
    assert_eq!(node.shown(&user, order_id).unwrap().status, Status::Pending);
    assert!(waiting.try_recv().is_err(), "Postgres does not have the outcome");
    postgres.reach(0, record(2));
    let CreateReply::Accepted(order) = waiting.recv().unwrap() else { panic!("not accepted") };
    assert_eq!(node.shown(&user, order_id), Some(order));
    node.stop();
}

#[test]
fn after_the_reply_timeout_a_client_gets_the_order_as_shown() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let postgres = Progress::new(1);
    let mut options = patient(&exchange);
    options.reply_timeout = Duration::from_millis(20);
    let node = Node::start_with_postgres(directory.path(), options, &postgres);
    let waiting = node.send(request("alice", None, 10)).unwrap();
    node.wait_for_log(2);
    postgres.reach(0, record(1));
    let CreateReply::Pending(order) = waiting.recv().unwrap() else { panic!("not pending") };
    assert_eq!((order.status, order.version), (Status::Pending, 1));
    assert_eq!(node.shown(&order.user, order.order_id), Some(Arc::clone(&order)));
    postgres.reach(0, record(2));
    let order = node.wait_for(&order, Status::Submitted);

    let waiting = node.commands.cancel(order.user.clone(), order.order_id).unwrap();
    exchange.wait_until(|book| book.cancel_batches.len() == 1);
    node.wait_for_log(4);
    postgres.reach(0, record(3));
    let CancelReply::Pending(pending) = waiting.recv().unwrap() else { panic!("not pending") };
    assert_eq!(pending.status, Status::PendingCancel);
    let stranger = UserId::new("mallory").unwrap();
    let nothing = node.commands.cancel(stranger, order.order_id).unwrap();
    assert_eq!(
        nothing.recv(),
        Ok(CancelReply::NotFound),
        "a stranger gets the same answer before and after the timeout"
    );
    postgres.reach(0, record(4));
    node.wait_for(&order, Status::Cancelled);
    node.stop();
}

#[test]
fn without_postgres_recorded_requests_have_no_outcome_and_new_orders_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let postgres = Progress::new(1);
    let node = Node::start_with_postgres(directory.path(), hasty(&exchange), &postgres);
    let first = request("alice", Some("key"), 10);
    let again = || CreateOrder { order_id: request("alice", None, 1).order_id, ..first.clone() };
    let (user, order_id) = (first.user.clone(), first.order_id);
    assert_eq!(node.create(first.clone()), CreateReply::OutcomeUnknown);
    assert_eq!(node.shown(&user, order_id), None);
    // The first order is recorded, so the answer must not say that nothing is.
    assert_eq!(node.create(again()), CreateReply::OutcomeUnknown);
    assert_eq!(node.metrics.postgres_unknown.get(), 2);
    assert_eq!(node.create(request("bob", None, 1)), CreateReply::Unavailable);
    assert_eq!(node.create(request("alice", Some("other"), 1)), CreateReply::Unavailable);
    assert_eq!(node.metrics.postgres_refused.get(), 2);
    // Cancels go on: the exchange gets them.
    let out = node.commands.cancel(user.clone(), order_id).unwrap();
    exchange.wait_until(|book| book.cancel_batches.len() == 1);
    assert_eq!(out.recv(), Ok(CancelReply::OutcomeUnknown));

    node.wait_for_log(4);
    postgres.reach(0, node.log.committed());
    node.wait_until(|node| node.shown(&user, order_id).is_some());
    let CreateReply::Duplicate(order) = node.create(again()) else { panic!("no duplicate") };
    assert_eq!((order.order_id, order.status), (order_id, Status::Cancelled));
    let waiting = node.send(request("bob", None, 1)).unwrap();
    node.wait_for_log(6);
    postgres.reach(0, node.log.committed());
    assert_ne!(waiting.recv(), Ok(CreateReply::Unavailable), "new orders are taken again");
    assert_eq!(exchange.with(|book| book.orders.len()), 2, "no other order was taken");
    node.stop();
}

#[test]
fn a_stop_does_not_wait_for_postgres_beyond_the_drain_time() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = patient(&exchange);
    options.sweep_interval = Duration::from_secs(600);
    options.cleanup_interval = Duration::from_secs(600);
    options.drain = Duration::from_millis(20);
    let node = Node::start_with_postgres(directory.path(), options, &Progress::new(1));
    let waiting = node.send(request("alice", None, 10)).unwrap();
    node.wait_for_log(2);
    node.stop();
    assert!(waiting.recv().is_err(), "the outcome is unknown");
}

#[test]
fn after_a_restart_nobody_reads_before_postgres_has_caught_up() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let node = Node::start(directory.path(), options(&exchange));
    let order = node.submitted(request("alice", None, 10));
    node.stop();

    let postgres = Progress::new(1);
    let node = Node::start_with_postgres(directory.path(), patient(&exchange), &postgres);
    node.wait_until(|node| !node.service.is_readable());
    let read = || block_on(node.service.order(&order.user, order.order_id));
    assert_eq!(read(), Err(StoreUnavailable));
    let page = PageRequest { limit: 1, ..PageRequest::default() };
    assert!(block_on(node.service.page(&order.user, &page)).is_err());
    assert_eq!(node.create(request("alice", None, 1)), CreateReply::Unavailable);
    assert_eq!(node.create(request("alice", Some("key"), 1)), CreateReply::Unavailable);
    // Cancels go on.
    let cancelled = node.commands.cancel(order.user.clone(), order.order_id).unwrap();
    exchange.wait_until(|book| book.cancel_batches.len() == 1);

    postgres.reach(0, record(1));
    assert!(!node.service.is_readable());
    node.wait_for_log(4);
    postgres.reach(0, node.log.committed());
    assert!(matches!(cancelled.recv(), Ok(CancelReply::Cancelled(_))));
    assert!(node.service.is_readable());
    assert_eq!(read().unwrap().unwrap().status, Status::Cancelled);
    node.stop();
}

#[test]
fn posted_lines_are_confirmed_without_postgres() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let postgres = Progress::new(1);
    let node = Node::start_with_postgres(directory.path(), patient(&exchange), &postgres);
    let waiting = node.send(request("alice", None, 10)).unwrap();
    node.wait_for_log(2);
    postgres.reach(0, record(2));
    let CreateReply::Accepted(order) = waiting.recv().unwrap() else { panic!("not accepted") };
    let line: Value = trade(&exchange, 1, &order, 10);
    let posted =
        node.commands.webhook(&"1".into(), vec![from_value(line).unwrap()].into()).unwrap();
    assert_eq!(posted.recv(), Ok(LinesDurable));
    assert_eq!(node.read(&order).status, Status::Submitted);
    postgres.reach(0, node.log.committed());
    node.wait_for(&order, Status::Filled);
    node.stop();
}

#[test]
fn a_mass_cancel_is_answered_when_shown_or_after_its_timeout() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let postgres = Progress::new(1);
    let node = Node::start_with_postgres(directory.path(), hasty(&exchange), &postgres);
    let waiting = node.send(request("alice", None, 10)).unwrap();
    node.wait_for_log(2);
    postgres.reach(0, record(2));
    assert!(waiting.recv().is_ok());
    let everything = CancelScope { user: None, symbol: None };
    let first = node.commands.mass_cancel(everything.clone()).unwrap();
    let second = node.commands.mass_cancel(everything.clone()).unwrap();
    assert_eq!(first.recv(), Ok(MassCancelled { asked: 1, is_shown: false }));
    assert_eq!(second.recv(), Ok(MassCancelled { asked: 0, is_shown: false }));
    exchange.wait_until(|book| book.cancel_batches.len() == 1);
    node.wait_for_log(4);
    postgres.reach(0, node.log.committed());
    let third = node.commands.mass_cancel(everything).unwrap();
    assert_eq!(third.recv(), Ok(MassCancelled { asked: 0, is_shown: true }));
    node.stop();
}
