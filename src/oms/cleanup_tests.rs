//! The orders thread reconciling: what was missed is found, and the number of requests stays small
//! however much was missed.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use super::fake_exchange::{FakeExchange, fill};
use super::test_node::{Node, accepted, execution, options, request};
use super::*;
use crate::engine::RepairCause;
use crate::exchange::wire::{ExchangeStatus, MAX_BATCH};
use crate::order::{Created, Event, EventEncoder, RECORD_FORMAT_VERSION, Status};
use crate::testing::wait_until;
use crate::types::*;
use crate::wal::{self, NewRecord, WalOptions};

#[test]
fn missed_fills_and_cancels_are_found_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.cleanup_interval = Duration::from_millis(10);
    let node = Node::start(directory.path(), options);
    let [filled, cancelled] = [(), ()].map(|()| accepted(node.create(request("alice", None, 10))));
    exchange.with(|book| {
        let record = book.orders.get_mut(&filled.order_id.to_string()).unwrap();
        fill(record, execution("missed", 10), true);
        let record = book.orders.get_mut(&cancelled.order_id.to_string()).unwrap();
        record.status = ExchangeStatus::Cancelled;
    });
    assert_eq!(node.wait_for(&filled, Status::Filled).filled_shares, 10);
    node.wait_for(&cancelled, Status::Cancelled);
    let count = |cause| node.metrics.repairs(cause);
    // The counts follow right after the views.
    wait_until(|| count(RepairCause::MissedFill) > 0 && count(RepairCause::MissedCancel) > 0);
    assert_eq!((count(RepairCause::MissedFill), count(RepairCause::MissedCancel)), (1, 1));
    assert_eq!(count(RepairCause::LostReply) + count(RepairCause::Timeout), 0);
    node.stop();
}

/// A log as a crash left it: `count` orders recorded, with unknown outcome.
fn log_with_stuck_orders(directory: &Path, count: usize) {
    let log = WalOptions::new(directory);
    let recovered = wal::recover(&log, wal::Lsn(0), &mut |_| Ok(())).unwrap();
    let (mut appender, writer) = wal::open(log, recovered).unwrap();
    let writing = std::thread::spawn(move || writer.run().unwrap());
    let (mut encoder, mut last) = (EventEncoder::new(), wal::Lsn(0));
    let now = Clock.now();
    for number in 0..count {
        let request = request(&format!("user-{}", number % 1_000), None, 10);
        let event = Event::Created(Created {
            order_id: request.order_id,
            user: request.user,
            client_order_id: None,
            symbol: request.symbol,
            side: request.side,
            limit_price: request.limit_price,
            time_in_force: request.time_in_force,
            num_shares: request.num_shares,
            created_at: now,
            submit_before: now,
            reservation: crate::money::Reservation::Nothing,
        });
        let payload = encoder.encode(&event).unwrap().to_vec();
        loop {
            let record = NewRecord {
                partition: event.partition_byte(),
                kind: event.kind(),
                format_version: RECORD_FORMAT_VERSION,
                payload: &payload,
            };
            match appender.append(record) {
                Ok(lsn) => {
                    last = lsn;
                    break;
                }
                Err(wal::WalError::Busy) => std::thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
            appender.flush();
        }
        appender.flush();
    }
    while appender.committed() < last {
        appender.flush();
        std::thread::yield_now();
    }
    drop(appender);
    writing.join().unwrap();
}

#[test]
fn many_stuck_orders_cost_few_requests() {
    const STUCK: usize = 20_000;
    let directory = tempfile::tempdir().unwrap();
    log_with_stuck_orders(directory.path(), STUCK);
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    // Each order is queried twice; nothing triggers further queries before it is answered.
    options.engine.grace_micros = 600_000_000;
    // Long enough that many second looks are due at once and share a request.
    options.engine.unknown_span_micros = 1_000_000;
    let node = Node::start(directory.path(), options);
    wait_until(|| node.metrics.repairs(RepairCause::NeverAccepted) >= STUCK as u64);
    let requests = exchange.requests("/v1/orders/query");
    assert!(requests <= 3 * STUCK.div_ceil(MAX_BATCH) + MAX_BATCH, "{requests} requests");
    assert_eq!(exchange.requests("/v1/orders"), 0, "nothing is submitted again");
    node.stop();
}

#[test]
fn reconciling_many_open_orders_costs_few_requests() {
    const OPEN: usize = 2_000;
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    options.engine.grace_micros = 1_000;
    options.cleanup_interval = Duration::from_secs(1);
    let node = Node::start(directory.path(), options);
    let waiting: Vec<_> =
        (0..OPEN).map(|_| node.send(request("alice", None, 1)).unwrap()).collect();
    for reply in waiting {
        accepted(reply.recv().unwrap());
    }
    let before = (node.metrics.query_requests.get(), node.metrics.queried_orders.get());
    wait_until(|| node.metrics.queried_orders.get() >= before.1 + 2 * OPEN as u64);
    let requests = node.metrics.query_requests.get() - before.0;
    let allowed = 3 * OPEN.div_ceil(MAX_BATCH) + 64;
    assert!(requests <= allowed as u64, "{requests} requests");
    node.stop();
}

#[test]
fn connections_use_the_source_addresses_in_turn() {
    let directory = tempfile::tempdir().unwrap();
    let exchange = FakeExchange::start();
    let mut options = options(&exchange);
    let sources = ["127.0.0.7", "127.0.0.8"].map(|ip| ip.parse::<IpAddr>().unwrap());
    options.sources = sources.to_vec();
    options.submit_connections = 1;
    let node = Node::start(directory.path(), options);
    let order = accepted(node.create(request("alice", None, 10)));
    assert!(matches!(node.cancel(&order), CancelReply::Cancelled(_)));
    let mut peers = exchange.with(|book| book.peers.clone());
    peers.sort_unstable();
    peers.dedup();
    assert_eq!(peers, sources, "the connections for orders, cancels, queries and probes alternate");
    node.stop();
}
