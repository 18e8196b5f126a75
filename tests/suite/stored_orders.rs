//! Ended orders leave memory and are read from disk, which clients cannot tell.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api::until;
use crate::support::{self, Server};
use serde_json::{Value, json};

/// Orders that end immediately: cancelled as soon as they rest.
const ENDED: usize = 12;

fn keyed(key: &str) -> Value {
    json!({
        "position": "buy", "symbol": "IBM", "numShares": 5, "priceInCents": 1, "clientOrderId": key,
    })
}

/// Waits until no ended order is in memory.
fn await_forgotten(server: &Server) {
    until("ended orders to leave memory", || {
        (server.metric("orders_ended_in_memory") == 0).then_some(())
    });
}

#[test]
fn what_has_left_memory_answers_as_before_and_after_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let settings = ["--keep-ended-seconds", "0", "--wal-keep-mib", "0"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");

    // Open and ended orders in turn, so that every page has both.
    let mut orders = Vec::new();
    for number in 0..ENDED {
        let placed = alice.post("/order", &keyed(&format!("key-{number}")));
        assert_eq!(placed.status, 201, "{}", placed.text);
        let id = placed.body["orderId"].as_str().unwrap().to_owned();
        assert_eq!(alice.delete(&format!("/order/{id}")).status, 200);
        orders.push(alice.await_status(&id, "cancelled"));
        orders.push(alice.place_resting("IBM"));
    }
    orders.reverse();
    await_forgotten(&server);
    check(&alice, &orders);

    // Neither another user's orders nor unknown ones.
    let bob = server.user(data.path(), "bob");
    let ended = orders.iter().find(|order| order["status"] == "cancelled").unwrap();
    let path = format!("/order/{}", ended["orderId"].as_str().unwrap());
    assert_eq!((bob.get(&path).status, bob.delete(&path).status), (404, 404));
    assert!(bob.all_orders().is_empty());

    server.program.kill();
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    await_forgotten(&server);
    check(&alice, &orders);
}

/// Every way to read or repeat an order returns it unchanged.
fn check(alice: &support::api::Client, orders: &[Value]) {
    assert_eq!(alice.all_orders(), orders, "newest first, each once");
    let cancelled: Vec<&Value> =
        orders.iter().filter(|order| order["status"] == "cancelled").collect();
    assert_eq!(cancelled.len(), ENDED);
    let page = alice.get("/orders?status=cancelled&symbol=IBM&limit=500");
    assert_eq!(page.body["orders"], json!(cancelled));
    for limit in [1, 2, 5] {
        assert_eq!(paged(alice, limit), orders, "pages of {limit}");
    }
    for order in cancelled {
        let id = order["orderId"].as_str().unwrap();
        assert_eq!(&alice.order(id), order);
        // Its user cancelled it, so a repeated cancel is not a conflict.
        let again = alice.delete(&format!("/order/{id}"));
        assert_eq!((again.status, &again.body), (200, &json!({"ok": true})));
        let key = order["clientOrderId"].as_str().unwrap();
        let repeated = alice.post("/order", &keyed(key));
        assert_eq!((repeated.status, &repeated.body), (200, order));
        let mut other = keyed(key);
        other["numShares"] = json!(6);
        let conflict = alice.post("/order", &other);
        assert_eq!((conflict.status, conflict.order()), (409, order));
    }
}

fn paged(alice: &support::api::Client, limit: usize) -> Vec<Value> {
    let mut orders = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = alice.get(&format!("/orders?limit={limit}&cursor={cursor}"));
        orders.extend(page.body["orders"].as_array().unwrap().iter().cloned());
        match page.body["nextCursor"].as_str() {
            Some(next) => cursor = next.to_owned(),
            None => return orders,
        }
    }
}
