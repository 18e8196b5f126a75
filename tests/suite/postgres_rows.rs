//! Postgres has everything the engine knows of orders: every field, every execution, and every version
//! in the audit log.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use crate::support::api::{Client, send};
use crate::support::postgres::{Database, Postgres, assert_records_agree, await_caught_up};
use crate::support::{Exchange, Server, run};
use serde_json::{Value, json};
use ureq::http::Request;

/// Sets the exchange's fault for the next order.
fn misbehave(exchange: &Exchange, orders: &Value) {
    let request = Request::put(format!("{}/admin/faults", exchange.address));
    let body = json!({ "orders": orders }).to_string().into_bytes();
    let request = request.header("content-type", "application/json").body(body).unwrap();
    let answer = send(request).unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
}

fn id(order: &Value) -> &str {
    order["orderId"].as_str().unwrap()
}

/// Events and statuses of an order, by version.
fn story(database: &Database, order: &Value) -> Vec<String> {
    let query = format!(
        "SELECT version || ' ' || event || ' ' || status FROM order_events \
         WHERE order_id = '{}' ORDER BY version",
        id(order)
    );
    database.sql(&query).into_iter().map(|row| row[0].clone().unwrap()).collect()
}

fn market(client: &Client, symbol: &str, key: &str) -> Value {
    let order = json!({
        "position": "buy", "symbol": symbol, "numShares": 300, "clientOrderId": key,
    });
    let answer = client.post("/order", &order);
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
    client.await_status(id(&answer.body), "filled")
}

#[test]
fn each_change_of_an_order_is_there_as_the_engine_knows_it() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", &database.url, "--migrate", "--exchange", &exchange.address];
    let server = Server::start(data.path(), &settings);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));

    let resting = alice.place_resting("IBM");
    let gtc = json!({
        "position": "sell", "symbol": "SPY", "numShares": 7, "priceInCents": 1_000_000,
        "timeInForce": "gtc", "clientOrderId": "it's,{\"mine\"}\\",
    });
    let kept = alice.post("/order", &gtc);
    assert_eq!(kept.status, 201, "{}", kept.text);
    let cancelled = bob.place_resting("IBM");
    assert_eq!(bob.delete(&format!("/order/{}", id(&cancelled))).status, 200);
    let filled = [market(&alice, "SPY", "one"), market(&bob, "IBM", "two")];

    misbehave(&exchange, &json!({"reject": "next:1"}));
    let rejected = alice.post("/order", &gtc_of("rejected"));
    assert_eq!(rejected.status, 422, "{}", rejected.text);
    let rejected = rejected.order().clone();
    misbehave(&exchange, &json!({"refuseCancel": "next:1"}));
    let refused = alice.place_resting("IBM");
    let answer = alice.delete(&format!("/order/{}", id(&refused)));
    assert_eq!(answer.status, 409, "{}", answer.text);
    misbehave(&exchange, &json!({"expireUnasked": "next:1"}));
    let expired = bob.place_resting_for("IBM", "cancelled");
    misbehave(&exchange, &json!({"bust": "next:1"}));
    let busted = market_that_is_busted(&database, &bob);
    misbehave(&exchange, &json!({}));

    await_caught_up(&server, data.path(), &database.url);
    let created = ["1 created pending", "2 accepted submitted"];
    assert_eq!(story(&database, &resting), created);
    assert_eq!(story(&database, &kept.body), created);
    assert_eq!(story(&database, &rejected), ["1 created pending", "2 rejected failed"]);
    let asked = "3 cancel_requested pending_cancel";
    let expected = [created[0], created[1], asked, "4 cancelled cancelled"];
    assert_eq!(story(&database, &cancelled), expected);
    let expected = [created[0], created[1], asked, "4 cancel_rejected submitted"];
    assert_eq!(story(&database, &refused), expected);
    assert_eq!(story(&database, &expired), [created[0], created[1], "3 cancelled cancelled"]);
    for order in &filled {
        let story = story(&database, order);
        assert!(story.last().unwrap().ends_with("filled filled"), "{story:?}");
    }
    let void = format!(
        "SELECT count(*) FROM executions WHERE order_id = '{}' AND busted_at IS NOT NULL \
         AND num_shares > 0",
        id(&busted)
    );
    assert_eq!(database.number(&void), 1);
    let log = database.sql("SELECT lsn, event, order_id, version FROM order_events ORDER BY lsn");
    assert_records_agree(server, data.path(), &database.url);
    assert_is_in_log(data.path().to_str().unwrap(), &log);
}

fn gtc_of(key: &str) -> Value {
    json!({
        "position": "buy", "symbol": "SPY", "numShares": 1, "priceInCents": 1,
        "timeInForce": "gtc", "clientOrderId": key,
    })
}

/// A market order with a busted execution.
fn market_that_is_busted(database: &Database, client: &Client) -> Value {
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 200});
    let answer = client.post("/order", &order);
    assert!(matches!(answer.status, 201 | 202), "{}", answer.text);
    database.await_number("SELECT count(*) FROM executions WHERE busted_at IS NOT NULL", 1);
    // The exchange fills the reopened order.
    client.await_status(id(&answer.body), "filled")
}

/// The audit log has the order records of the write-ahead log, in the same sequence.
fn assert_is_in_log(data: &str, rows: &[Vec<Option<String>>]) {
    let output = run(&["wal", "inspect", "--data-dir", data]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = String::from_utf8(output.stdout).unwrap();
    let records: Vec<Value> =
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let expected: Vec<[String; 3]> = records
        .iter()
        .filter(|record| record["orderId"].is_string() && record["kind"] != "held_report")
        .map(|record| {
            let text = |name: &str| record[name].as_str().unwrap().to_owned();
            [record["lsn"].to_string(), text("kind"), text("orderId")]
        })
        .take(rows.len())
        .collect();
    let found: Vec<[String; 3]> =
        rows.iter().map(|row| [0, 1, 2].map(|column| row[column].clone().unwrap())).collect();
    assert_eq!(found, expected);
}
