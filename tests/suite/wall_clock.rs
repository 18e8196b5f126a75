//! The machine's wall clock is set by an hour in either direction: orders end in time, and neither ids
//! nor timestamps go back, even over a restart.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::time::{Duration, Instant};

use crate::support::api::Client;
use crate::support::venue::{Reply, Venue};
use crate::support::wall_clock::WallClock;
use crate::support::{self, Server, longbow};
use serde_json::{Value, json};

const HOUR_SECONDS: i64 = 3_600;
/// The time to fail for an order that never reached the exchange, with slack for a busy machine.
const UNREACHED: Duration = Duration::from_secs(20);

/// Places an order that does not reach the exchange. Returns its final state.
fn unreached(client: &Client, venue: &Venue) -> Value {
    venue.on_submit(|_| Reply::Cut);
    let began = Instant::now();
    let body = json!({"position": "buy", "symbol": "IBM", "numShares": 5, "priceInCents": 1});
    let answer = client.post("/order", &body);
    assert!(matches!(answer.status, 202 | 422), "{}", answer.text);
    let ended = client.await_status(answer.order()["orderId"].as_str().unwrap(), "failed");
    assert!(began.elapsed() < UNREACHED, "it took {:?}", began.elapsed());
    venue.off(support::venue::SUBMIT);
    ended
}

#[test]
fn times_and_ids_only_rise_and_orders_end_in_time() {
    let data = tempfile::tempdir().unwrap();
    let clock = WallClock::new(data.path());
    let venue = Venue::start();
    let settings = ["--exchange", &venue.address(), "--order-reply-timeout-ms", "150"];
    let start = || Server::start_by(clock.show(longbow()), data.path(), &settings);
    let mut orders = Vec::new();

    let server = start();
    let alice = server.user(data.path(), "alice");
    orders.push(alice.place_resting("IBM"));
    clock.set(-HOUR_SECONDS);
    server.program.await_error("the machine's clock was stepped");
    orders.push(unreached(&alice, &venue));
    orders.push(alice.place_resting("IBM"));
    let newest = &venue.await_order(orders[2]["orderId"].as_str().unwrap());
    let told = newest.terms["submitBefore"].as_i64().unwrap();
    let created = orders[2]["createdAt"].as_i64().unwrap();
    assert!((0..10_000_000).contains(&(told - created)), "{told} is the deadline of {created}");
    assert!(server.program.stop().success());

    // The wall clock is still earlier than every recorded time.
    let server = start();
    let alice = server.user(data.path(), "alice");
    orders.push(alice.place_resting("IBM"));
    clock.set(HOUR_SECONDS);
    server.program.await_error("the machine's clock was stepped");
    orders.push(unreached(&alice, &venue));
    clock.set(0);
    orders.push(alice.place_resting("IBM"));

    let ids = |orders: &[Value]| -> Vec<String> {
        orders.iter().map(|order| order["orderId"].as_str().unwrap().to_owned()).collect()
    };
    let mut listed = ids(&alice.all_orders());
    listed.reverse();
    assert_eq!(listed, ids(&orders), "newest first");
    assert!(ids(&orders).is_sorted());
    let mut last = 0;
    for order in &orders {
        let created = order["createdAt"].as_u64().unwrap();
        let updated = order["updatedAt"].as_u64().unwrap();
        assert!(last < created && created <= updated, "after {last}: {order}");
        last = updated;
    }
}
