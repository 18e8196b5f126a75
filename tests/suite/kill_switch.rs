//! An operator halts trading: new orders are refused, open ones are cancelled, and the halt survives a
//! restart.

use crate::support::Server;
use crate::support::api::{self, Answer};
use serde_json::{Value, json};
use ureq::http::Request;

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn operate(server: &Server, method: &str, path: &str, body: &Value) -> Answer {
    let request = Request::builder().method(method).uri(format!("{}{path}", server.admin));
    api::send(request.body(body.to_string().into_bytes()).unwrap()).unwrap()
}

fn limit(symbol: &str) -> Value {
    json!({"position": "buy", "symbol": symbol, "numShares": 1, "priceInCents": 1})
}

#[test]
fn trading_is_stopped_for_all_a_user_or_a_symbol_until_it_is_lifted() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    let resting = alice.place_resting("IBM");

    let bob_only = json!({"users": ["bob"], "by": "carol", "reason": "a runaway program"});
    let set = operate(&server, "PUT", "/kill-switch", &bob_only);
    assert_eq!((set.status, &set.body["users"]), (200, &json!(["bob"])), "{}", set.text);
    let refused = bob.post("/order", &limit("IBM"));
    assert_eq!((refused.status, &refused.body["code"]), (403, &json!("trading_halted")));
    assert_eq!(refused.body["scope"], "user");
    assert!(refused.headers.get("retry-after").is_none(), "nobody shall try this by itself");
    alice.place_resting("SPY");

    operate(&server, "PUT", "/kill-switch", &json!({"symbols": ["SPY"]}));
    assert_eq!(alice.post("/order", &limit("SPY")).body["scope"], "symbol");
    alice.place_resting("IBM");
    operate(&server, "PUT", "/kill-switch", &json!({"all": true}));
    assert_eq!(alice.post("/order", &limit("IBM")).body["scope"], "all");
    assert_eq!(bob.all_orders().len(), 0, "nothing was recorded");
    server.program.kill();

    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    let shown = api::get_anonymously(&format!("{}/kill-switch", server.admin)).unwrap();
    assert_eq!(shown.body["all"], true, "{}", shown.text);
    assert_eq!(
        (&shown.body["users"], &shown.body["symbols"]),
        (&json!(["bob"]), &json!(["SPY"])),
        "what was not named stayed"
    );
    assert_eq!(alice.post("/order", &limit("IBM")).status, 403);
    assert_eq!(server.metric("orders_halted_creates_total"), 1);
    let id = resting["orderId"].as_str().unwrap();
    assert_eq!(alice.delete(&format!("/order/{id}")).status, 200, "cancels go on");
    let lifted = json!({"all": false, "users": [], "symbols": []});
    assert_eq!(operate(&server, "PUT", "/kill-switch", &lifted).status, 200);
    alice.place_resting("SPY");
}

#[test]
fn open_orders_are_cancelled_by_user_by_symbol_and_all() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    let [ibm, spy] = ["IBM", "SPY"].map(|symbol| alice.place_resting(symbol));
    let [bobs_ibm, bobs_spy] = ["IBM", "SPY"].map(|symbol| bob.place_resting(symbol));
    let id = |order: &Value| order["orderId"].as_str().unwrap().to_owned();

    let mass = |body: Value| operate(&server, "POST", "/mass-cancel", &body);
    let done = mass(json!({"user": "alice", "symbol": "IBM", "by": "carol"}));
    assert_eq!((done.status, &done.body), (202, &json!({"asked": 1})), "{}", done.text);
    alice.await_status(&id(&ibm), "cancelled");
    assert_eq!(mass(json!({"symbol": "IBM"})).body, json!({"asked": 1}));
    bob.await_status(&id(&bobs_ibm), "cancelled");
    assert_eq!(alice.order(&id(&spy))["status"], "submitted");
    assert_eq!(mass(json!({"all": true})).body, json!({"asked": 2}));
    alice.await_status(&id(&spy), "cancelled");
    bob.await_status(&id(&bobs_spy), "cancelled");
    assert_eq!(mass(json!({"user": "nobody"})).body, json!({"asked": 0}));
    assert_eq!(server.metric("orders_mass_cancelled_total"), 4);
}

#[test]
fn what_an_operator_mistypes_is_named_and_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let cases = [
        ("PUT", "/kill-switch", json!({}), "body"),
        ("PUT", "/kill-switch", json!({"al": true}), "al"),
        ("PUT", "/kill-switch", json!({"all": "yes"}), "all"),
        ("PUT", "/kill-switch", json!({"symbols": ["IBMM"]}), "symbols"),
        ("PUT", "/kill-switch", json!({"users": ["bob", "two words"]}), "users[1]"),
        ("PUT", "/kill-switch", json!({"all": true, "reason": "x".repeat(201)}), "reason"),
        ("POST", "/mass-cancel", json!({}), "body"),
        ("POST", "/mass-cancel", json!({"all": true, "user": "bob"}), "body"),
        ("POST", "/mass-cancel", json!({"symbol": "IBMM"}), "symbol"),
        ("POST", "/mass-cancel", json!({"user": ""}), "user"),
    ];
    for (method, path, body, field) in cases {
        let answer = operate(&server, method, path, &body);
        assert_eq!((answer.status, &answer.body["field"]), (400, &json!(field)), "{body}");
    }
    let page = Request::post(format!("{}/mass-cancel", server.admin))
        .header("Origin", "https://a.page")
        .body(br#"{"all":true}"#.to_vec());
    assert_eq!(api::send(page.unwrap()).unwrap().status, 403, "no page may");
    let shown = api::get_anonymously(&format!("{}/kill-switch", server.admin)).unwrap();
    assert_eq!(shown.body["all"], false, "{}", shown.text);
    assert_eq!(shown.body["changedAt"], Value::Null);
}
