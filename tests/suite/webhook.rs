//! The exchange posts signed fills: they count once beside the feed, and posts from anybody else are
//! refused.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::support::api::{Answer, until};
use crate::support::{Exchange, Server, api};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use ureq::http::Request;

const OLD_SECRET: &str = "an old secret that is being replaced";
const SECRET: &str = "a secret that both sides know of!";

fn signature(secret: &str, seconds: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{seconds}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

/// Posts a batch with these headers.
fn post(server: &Server, headers: &[String], body: &str) -> Answer {
    let mut request = Request::post(format!("{}/exchange/trades", server.address));
    for header in headers {
        request = request.header("X-Signature", header);
    }
    let request = request.body(body.as_bytes().to_vec()).unwrap();
    api::send(request).unwrap()
}

fn signed(server: &Server, secret: &str, body: &str) -> Answer {
    let header = format!("t={},v1={}", now(), signature(secret, now(), body));
    post(server, &[header], body)
}

#[test]
fn fills_that_come_by_webhook_and_by_feed_count_once() {
    let (data, exchange_data) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let secrets = data.path().join("secrets");
    fs::write(&secrets, format!("{SECRET}\n{OLD_SECRET}\n")).unwrap();
    let exchange = Exchange::start(exchange_data.path(), &["--speed", "20"]);
    let settings =
        ["--exchange", &exchange.address, "--webhook-secret-file", secrets.to_str().unwrap()];

    // The server's own address, which the next start registers as webhook.
    let server = Server::start(data.path(), &settings);
    let address = server.address.clone();
    server.program.stop();
    let url = format!("{address}/exchange/trades");
    let listen = address.strip_prefix("http://").unwrap();
    let mut again = settings.to_vec();
    again.extend(["--listen", listen, "--webhook-url", &url]);
    let server = Server::start(data.path(), &again);

    let alice = server.user(data.path(), "alice");
    let orders: Vec<Value> = (0..20)
        .map(|_| {
            let order = json!({"position": "buy", "symbol": "SPY", "numShares": 3});
            let placed = alice.post("/order", &order);
            assert!(matches!(placed.status, 201 | 202), "{}", placed.text);
            placed.body
        })
        .collect();
    for order in &orders {
        let filled = alice.await_status(order["orderId"].as_str().unwrap(), "filled");
        assert_eq!(filled["filledShares"], 3, "{filled}");
    }
    // By then both the webhook and the feed have delivered every line; double counts would show.
    until("the webhook and the feed to have brought the fills", || {
        let came = ["orders_webhook_lines", "feed_order_lines"]
            .map(|name| server.metric(&format!("{name}_total")));
        came.iter().all(|&lines| lines >= 20).then_some(())
    });
    for order in &orders {
        let order = alice.order(order["orderId"].as_str().unwrap());
        assert_eq!((&order["status"], &order["filledShares"]), (&json!("filled"), &json!(3)));
    }
    assert!(server.metric("orders_webhook_registrations_total") >= 1);
    assert_eq!(server.metric("orders_over_fills_total"), 0);
}

#[test]
fn only_what_the_exchange_signed_is_taken() {
    let data = tempfile::tempdir().unwrap();
    let secrets = data.path().join("secrets");
    fs::write(&secrets, format!("{SECRET}\n{OLD_SECRET}\n")).unwrap();
    let secrets = secrets.to_str().unwrap();
    let more = ["--webhook-secret-file", secrets, "--webhook-window-seconds", "60"];
    let server = Server::start(data.path(), &more);
    let alice = server.user(data.path(), "alice");
    let order = alice.place_resting("IBM");
    let id = order["orderId"].as_str().unwrap();
    let batch = |execution: &str, shares: u32| {
        let line = json!({"sequence": 1, "type": "trade", "executionId": execution,
            "symbol": "IBM", "priceInCents": 1, "numShares": shares,
            "orderId": order["externalOrderId"], "timestamp": 1});
        json!({"session": "s", "lines": [line]}).to_string()
    };
    let body = batch("by-webhook", 4);
    let right = signature(SECRET, now(), &body);

    let old = now() - 3_600;
    let refused: &[&[String]] = &[
        &[],
        &[format!("t={},v1={right}", now()), format!("t={},v1={right}", now())],
        &[format!("t={old},v1={}", signature(SECRET, old, &body))],
        &[format!("t={},v1={}", now(), signature("another secret", now(), &body))],
        &[format!("t={},v1={}", now(), signature(SECRET, now(), &batch("by-webhook", 5)))],
        &[format!("t={},v1=", now())],
    ];
    for headers in refused {
        let answer = post(&server, headers, &body);
        assert_eq!(answer.status, 401, "{headers:?}: {}", answer.text);
        assert_eq!(answer.body["code"], "invalid_signature");
    }
    assert_eq!(alice.order(id)["filledShares"], 0);

    for secret in [SECRET, OLD_SECRET] {
        let answer = signed(&server, secret, &body);
        assert_eq!(answer.status, 204, "{}", answer.text);
        assert_eq!(alice.order(id)["filledShares"], 4, "at once, and once");
    }
    let broken = signed(&server, SECRET, r#"{"session":"s","lines":{}}"#);
    assert_eq!((broken.status, &broken.body["field"]), (400, &json!("lines")));
    let large = " ".repeat(5 << 20);
    assert_eq!(signed(&server, SECRET, &large).body["code"], "body_too_large");
    assert_eq!(alice.get("/exchange/trades").status, 405);

    // What was confirmed survives.
    server.program.kill();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.order(id)["filledShares"], 4);
    assert_eq!(signed(&server, SECRET, &body).status, 404, "without secrets there is no route");
    assert_eq!(alice.get("/exchange/trades").status, 404);
}
