//! Bad input gets a problem that names the field, and changes nothing.

use crate::support::{self, Server};
use serde_json::json;
use ureq::http::Method;

#[test]
fn bad_orders_are_refused_by_the_name_of_the_field() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let cases: &[(&str, &str)] = &[
        ("symbol", r#"{"position":"buy","symbol":"NOSUCH","numShares":1}"#),
        ("symbol", r#"{"position":"buy","symbol":"S PY","numShares":1}"#),
        ("symbol", r#"{"position":"buy","symbol":"","numShares":1}"#),
        ("symbol", r#"{"position":"buy","symbol":7,"numShares":1}"#),
        ("symbol", r#"{"position":"buy","numShares":1}"#),
        ("position", r#"{"position":"hold","symbol":"SPY","numShares":1}"#),
        ("position", r#"{"symbol":"SPY","numShares":1}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY"}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":0}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":-1}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":1.5}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":10000001}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":99999999999999999999}"#),
        ("numShares", r#"{"position":"buy","symbol":"SPY","numShares":"1"}"#),
        ("priceInCents", r#"{"position":"buy","symbol":"SPY","numShares":1,"priceInCents":0}"#),
        ("priceInCents", r#"{"position":"buy","symbol":"SPY","numShares":1,"priceInCents":-5}"#),
        ("priceInCents", r#"{"position":"buy","symbol":"SPY","numShares":1,"priceInCents":10.5}"#),
        ("priceInCents", r#"{"position":"buy","symbol":"SPY","numShares":1,"priceInCents":1e300}"#),
        (
            "priceInCents",
            r#"{"position":"buy","symbol":"SPY","numShares":1,"priceInCents":1000000001}"#,
        ),
        ("timeInForce", r#"{"position":"buy","symbol":"SPY","numShares":1,"timeInForce":"ioc"}"#),
        ("clientOrderId", r#"{"position":"buy","symbol":"SPY","numShares":1,"clientOrderId":""}"#),
        ("prcieInCents", r#"{"position":"buy","symbol":"SPY","numShares":1,"prcieInCents":5}"#),
        ("user", r#"{"position":"buy","symbol":"SPY","numShares":1,"user":"bob"}"#),
        ("body", r#"{"position":"buy""#),
        ("body", ""),
        ("body", "null"),
    ];
    for (field, body) in cases {
        let answer = alice.send(Method::POST, "/order", body.as_bytes());
        let shown: String = body.chars().take(80).collect();
        assert_eq!(answer.status, 400, "{shown}: {}", answer.text);
        assert_eq!(answer.body["field"], **field, "{shown}: {}", answer.text);
        assert_eq!(answer.headers["content-type"], "application/problem+json");
        assert!(answer.body["code"].is_string() && answer.body["detail"].is_string());
    }
    assert!(alice.all_orders().is_empty(), "nothing was recorded");

    // A body far beyond the limit ends the connection, after an answer.
    let answer = alice.send(Method::POST, "/order", &vec![b'x'; 257 * 1024]);
    assert_eq!((answer.status, answer.body["field"].as_str()), (413, Some("body")));
    assert_eq!(answer.headers["connection"], "close");

    server.program.kill();
    let server = Server::start(data.path(), &[]);
    assert!(server.user(data.path(), "alice").all_orders().is_empty(), "nor found after a restart");
}

#[test]
fn bad_subscriptions_and_queries_name_what_is_wrong() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    for (field, body) in [
        ("symbols", json!({"symbols": []})),
        ("symbols", json!({"symbols": ["SPY", "NOSUCH"]})),
        ("symbols", json!({"symbols": "SPY"})),
        ("symbols[0]", json!({"symbols": [1]})),
        ("symbols", json!({"symbols": vec!["SPY"; 1_025]})),
        ("maxRate", json!({"symbols": ["SPY"], "maxRate": 0})),
        ("maxRate", json!({"symbols": ["SPY"], "maxRate": -1})),
        ("mode", json!({"symbols": ["SPY"], "mode": "sometimes"})),
        ("symbol", json!({"symbol": ["SPY"]})),
    ] {
        let answer = alice.post("/subscribe", &body);
        assert_eq!((answer.status, answer.body["field"].as_str()), (400, Some(field)), "{body}");
    }
    let answer = alice.post("/subscribe", &json!({"symbols": ["SPY", "NOSUCH", "nor this"]}));
    assert_eq!(answer.body["unknown"], json!(["NOSUCH", "nor this"]));
    for (field, path) in [
        ("limit", "/orders?limit=0"),
        ("limit", "/orders?limit=501"),
        ("limit", "/orders?limit=ten"),
        ("cursor", "/orders?cursor=1"),
        ("status", "/orders?status=done"),
        ("symbol", "/orders?symbol=s%20py"),
        ("user", "/orders?user=bob"),
        ("limit", "/symbols?limit=0"),
        ("symbols", "/subscribe?symbols=NOSUCH"),
        ("symbols", "/subscribe"),
    ] {
        let answer = alice.get(path);
        assert_eq!((answer.status, answer.body["field"].as_str()), (400, Some(field)), "{path}");
    }
}

#[test]
fn only_a_users_own_token_opens_anything() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let nobody = support::api::Client::new(&server.address, "not-a-token");
    for path in ["/orders", "/symbols", "/symbol/SPY", "/subscribe?symbols=SPY", "/order/x"] {
        assert_eq!(nobody.get(path).status, 401, "{path}");
    }
    assert_eq!(nobody.delete("/order/x").status, 401);
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 1});
    assert_eq!(nobody.post("/order", &order).status, 401);

    let alice = server.user(data.path(), "alice");
    let placed = alice.place_resting("SPY");
    let id = placed["orderId"].as_str().unwrap();
    let bob = server.user(data.path(), "bob");
    assert_eq!(bob.get(&format!("/order/{id}")).status, 404);
    assert_eq!(bob.delete(&format!("/order/{id}")).status, 404);
    assert!(bob.all_orders().is_empty());
    assert_eq!(alice.order(id)["status"], "submitted");
    assert_eq!(alice.get("/order/not-an-id").status, 404);
    assert_eq!(alice.get("/nothing/here").status, 404);
    assert_eq!(alice.delete("/symbols").status, 405);
}
