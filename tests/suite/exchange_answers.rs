//! Every answer of POST and DELETE /order, caused by a misbehaving exchange.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api::{Client, until};
use crate::support::{Exchange, Server, api};
use serde_json::{Value, json};
use tempfile::TempDir;
use ureq::http::Request;

/// A reply timeout so long that answers come from the exchange even on a busy machine.
const PATIENT: [&str; 2] = ["--order-reply-timeout-ms", "30000"];
/// A reply timeout that passes before the exchange answers.
const HASTY: [&str; 2] = ["--order-reply-timeout-ms", "150"];

/// A server, its exchange, and where both keep their data.
struct World {
    exchange: Exchange,
    server: Server,
    alice: Client,
    _data: [TempDir; 2],
}

impl World {
    fn start(more: &[&str]) -> Self {
        let (data, exchange_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let exchange = Exchange::start(exchange_data.path(), &["--speed", "20"]);
        let mut settings = vec!["--exchange", &exchange.address];
        settings.extend(more);
        let server = Server::start(data.path(), &settings);
        let alice = server.user(data.path(), "alice");
        Self { exchange, server, alice, _data: [data, exchange_data] }
    }

    /// Replaces the exchange's faults.
    fn faults(&self, faults: &Value) {
        let request = Request::put(format!("{}/admin/faults", self.exchange.address));
        let request = request.body(faults.to_string().into_bytes()).unwrap();
        let answer = api::send(request).unwrap();
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    fn orders_at_exchange(&self) -> usize {
        let url = format!("{}/admin/orders", self.exchange.address);
        api::get_anonymously(&url).unwrap().body["orders"].as_array().unwrap().len()
    }
}

fn limit() -> Value {
    json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1})
}

fn id_of(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

#[test]
fn a_create_is_accepted_or_refused() {
    let world = World::start(&PATIENT);
    let accepted = world.alice.post("/order", &limit());
    assert_eq!((accepted.status, &accepted.body["status"]), (201, &json!("submitted")));
    assert!(accepted.body["externalOrderId"].is_string());
    world.faults(&json!({"orders": {"reject": 1}}));
    let refused = world.alice.post("/order", &limit());
    assert_eq!((refused.status, &refused.body["code"]), (422, &json!("order_rejected")));
    assert_eq!(refused.order()["status"], "failed");
    assert_eq!(world.alice.order(id_of(refused.order()))["status"], "failed");
}

#[test]
fn an_answer_that_is_lost_or_garbled_is_found_out_about_and_nothing_is_sent_twice() {
    let world = World::start(&PATIENT);
    for kind in ["dropReply", "cutInAnswer", "errorAfter", "garbage", "wrongShape", "leaveOut"] {
        world.faults(&json!({"submits": {kind: "next:1"}}));
        let placed = world.alice.post("/order", &limit());
        assert_eq!(placed.status, 201, "{kind}: {}", placed.text);
        // Too many in a row would open the circuit breaker.
        assert_eq!(world.alice.post("/order", &limit()).status, 201);
    }
    assert_eq!(world.orders_at_exchange(), 12);
    let metrics = api::get_anonymously(&format!("{}/metrics", world.server.admin)).unwrap().text;
    let repairs = r#"longbow_orders_repairs_total{cause="lost_reply"} 6"#;
    assert!(metrics.contains(repairs), "{metrics}");
}

#[test]
fn a_create_whose_outcome_stays_unknown_is_pending_and_reconciled_later() {
    let world = World::start(&HASTY);
    world.faults(&json!({"submits": {"dropReply": "next:1"}, "queries": {"cutBefore": 1}}));
    let unsure = world.alice.post("/order", &limit());
    assert_eq!((unsure.status, &unsure.body["status"]), (202, &json!("pending")));
    world.faults(&json!({}));
    world.alice.await_status(id_of(&unsure.body), "submitted");

    world.faults(&json!({"submits": {"delay": 1}, "manner": {"submitDelayMs": 600}}));
    let unsure = world.alice.post("/order", &limit());
    assert_eq!((unsure.status, &unsure.body["status"]), (202, &json!("pending")));
    world.alice.await_status(id_of(&unsure.body), "submitted");
    assert_eq!(world.orders_at_exchange(), 2);
}

#[test]
fn a_cancel_is_confirmed_declined_or_too_late() {
    let world = World::start(&PATIENT);
    let order = world.alice.place_resting("IBM");
    let path = format!("/order/{}", id_of(&order));
    world.faults(&json!({"orders": {"refuseCancel": 1}}));
    let declined = world.alice.delete(&path);
    assert_eq!((declined.status, &declined.body["code"]), (409, &json!("cancel_rejected")));
    let detail = declined.body["detail"].as_str().unwrap();
    let beginning = "The exchange refused the cancel: ";
    assert!(
        detail.starts_with(beginning) && detail.ends_with("; the order is still open."),
        "{detail}"
    );
    assert_eq!(declined.order()["status"], "submitted");
    world.faults(&json!({"cancels": {"dropReply": "next:1"}}));
    for _ in 0..2 {
        let cancelled = world.alice.delete(&path);
        assert_eq!((cancelled.status, &cancelled.body), (200, &json!({"ok": true})));
    }

    world.faults(&json!({}));
    let market = json!({"position": "buy", "symbol": "SPY", "numShares": 3});
    let placed = world.alice.post("/order", &market);
    let id = id_of(placed.order());
    world.alice.await_status(id, "filled");
    let too_late = world.alice.delete(&format!("/order/{id}"));
    assert_eq!((too_late.status, &too_late.order()["status"]), (409, &json!("filled")));
}

#[test]
fn a_cancel_whose_outcome_stays_unknown_is_pending_and_reconciled_later() {
    let world = World::start(&HASTY);
    let order = world.alice.place_resting("IBM");
    let path = format!("/order/{}", id_of(&order));
    world.faults(&json!({"cancels": {"cutBefore": 1}, "queries": {"cutBefore": 1}}));
    let unsure = world.alice.delete(&path);
    assert_eq!((unsure.status, &unsure.body["status"]), (202, &json!("pending_cancel")));
    world.faults(&json!({}));
    world.alice.await_status(id_of(&order), "cancelled");
    assert_eq!(world.alice.delete(&path).status, 200);
}

#[test]
fn creates_are_refused_at_once_while_the_exchange_is_away_and_everything_else_goes_on() {
    let world = World::start(&HASTY);
    let order = world.alice.place_resting("IBM");
    world.faults(&json!({"submits": {"cutBefore": 1}}));
    let refused = until("a create to be refused", || {
        let answer = world.alice.post("/order", &limit());
        assert!(matches!(answer.status, 202 | 503), "{}", answer.text);
        (answer.status == 503).then_some(answer)
    });
    assert_eq!(refused.body["code"], "exchange_unavailable");
    assert_eq!(refused.headers["retry-after"], "1");
    let ready = api::get_anonymously(&format!("{}/readyz", world.server.admin)).unwrap();
    assert_eq!(ready.status, 200, "prices, reads and cancels go on: {}", ready.text);
    assert!(ready.body["exchange"].is_string(), "{}", ready.text);
    assert!(world.server.metric("orders_circuit_openings_total") >= 1);
    let path = format!("/order/{}", id_of(&order));
    assert!(matches!(world.alice.delete(&path).status, 200 | 202));
    world.alice.await_status(id_of(&order), "cancelled");

    world.faults(&json!({}));
    let back = until("a create to be accepted", || {
        let answer = world.alice.post("/order", &limit());
        (answer.status != 503).then_some(answer)
    });
    world.alice.await_status(id_of(&back.body), "submitted");
    assert_eq!(world.server.metric("orders_exchange_away"), 0);
}
