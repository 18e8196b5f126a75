//! The exchange posts its lines to any member: they reach the one that has the order, or are posted again.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::fs;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};
use ureq::http::Request;

use crate::support::Server;
use crate::support::api::{Answer, Client, send, until};
use crate::support::cluster::Cluster;
use crate::support::venue::signature;

const SECRET: &str = "a secret that both sides know, long enough";

fn post(server: &Server, lines: &[Value]) -> Answer {
    let body = json!({"session": "s", "lines": lines}).to_string();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(now.as_secs()).unwrap();
    let header = format!("t={seconds},v1={}", signature(SECRET, seconds, &body));
    let request = Request::post(format!("{}/exchange/trades", server.address));
    let request = request.header("X-Signature", header).body(body.into_bytes()).unwrap();
    send(request).unwrap()
}

/// A line about an order of the exchange's with this id.
fn line(order: &Value, execution: &str, shares: u64) -> Value {
    json!({"sequence": 1, "type": "trade", "executionId": execution, "symbol": "SPY",
        "priceInCents": 1, "numShares": shares, "orderId": order, "timestamp": 1})
}

/// The clients of a user whom this member has.
fn user_of(cluster: &Cluster, member: &str) -> Vec<Client> {
    let is_there =
        |clients: &Vec<Client>| clients[0].get("/orders").headers["x-longbow-node"] == member;
    (0..).map(|user| cluster.clients(&format!("user-{user}"))).find(is_there).unwrap()
}

#[test]
fn lines_that_are_posted_to_any_member_reach_the_one_that_has_the_order() {
    let folder = tempfile::tempdir().unwrap();
    let secrets = folder.path().join("secrets");
    fs::write(&secrets, SECRET).unwrap();
    let mut cluster = Cluster::start(&["--webhook-secret-file", secrets.to_str().unwrap()]);
    let clients = user_of(&cluster, "1");
    let order = json!({"position": "buy", "symbol": "SPY", "numShares": 10, "priceInCents": 1});
    let order = clients[0].post("/order", &order);
    assert_eq!(order.status, 201, "{}", order.text);
    let (id, external) = (order.body["orderId"].as_str().unwrap(), &order.body["externalOrderId"]);

    let answer = post(cluster.member(0), &[line(external, "e1", 3), line(&json!("x"), "e2", 1)]);
    assert_eq!(answer.status, 204, "{}", answer.text);
    assert_eq!(clients[0].order(id)["filledShares"], 3, "what is confirmed was recorded");
    let answer = post(cluster.member(2), &[line(external, "e1", 3)]);
    assert_eq!((answer.status, &clients[0].order(id)["filledShares"]), (204, &json!(3)));

    // Nobody has the order for a while: the exchange is to post again.
    cluster.kill(1);
    let lines = [line(external, "e3", 4)];
    let answer = post(cluster.member(0), &lines);
    assert_eq!((answer.status, &answer.body["code"]), (503, &json!("unavailable")));
    assert!(answer.headers.contains_key("retry-after"));
    until("the lines to be recorded", || {
        (post(cluster.member(2), &lines).status == 204).then_some(())
    });
    assert_eq!(clients[2].order(id)["filledShares"], 7);
}
