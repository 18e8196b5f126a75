//! A webhook batch with unreadable lines: the rest is recorded and the batch is confirmed, so that the
//! exchange does not repeat it forever.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs;

use crate::support::api::{Answer, send};
use crate::support::venue::{QUERY, Venue, signature};
use crate::support::{self, Server};
use serde_json::{Value, json};
use ureq::http::Request;

const SECRET: &str = "a secret that both sides know, long enough";

fn post(server: &Server, body: &str) -> Answer {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let seconds = i64::try_from(now.as_secs()).unwrap();
    let header = format!("t={seconds},v1={}", signature(SECRET, seconds, body));
    let request = Request::post(format!("{}/exchange/trades", server.address));
    let request = request.header("X-Signature", header).body(body.as_bytes().to_vec()).unwrap();
    send(request).unwrap()
}

#[test]
fn a_line_that_cannot_be_read_takes_no_other_with_it() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let secrets = data.path().join("secrets");
    fs::write(&secrets, SECRET).unwrap();
    let settings =
        ["--exchange", &venue.address(), "--webhook-secret-file", secrets.to_str().unwrap()];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let line = |order: &Value, execution: &str| {
        json!({"sequence": 1, "type": "trade", "executionId": execution, "symbol": "IBM",
            "priceInCents": 1, "numShares": 1, "orderId": order["externalOrderId"],
            "timestamp": 1})
    };
    let members = [
        ("type", json!("amended")),
        ("priceInCents", json!(0)),
        ("numShares", json!(0.5)),
        ("numShares", json!(0)),
        ("symbol", json!("not a symbol at all, is it")),
        ("sequence", json!(-1)),
        ("timestamp", Value::Null),
        ("executionId", json!("")),
    ];
    let no_lines = [json!(7), Value::Null];
    let with_member = |order: &Value, (member, value): (&str, Value)| {
        let mut odd = line(order, "odd");
        odd[member] = value;
        odd
    };
    let odd_lines = members.into_iter().map(Ok).chain(no_lines.into_iter().map(Err));
    for odd in odd_lines {
        let order = alice.place_resting("IBM");
        let odd = odd.map_or_else(|no_line| no_line, |member| with_member(&order, member));
        let batch =
            json!({"session": "s", "lines": [line(&order, "before"), odd, line(&order, "behind")]});
        let answer = post(&server, &batch.to_string());
        assert_eq!(answer.status, 204, "{odd}: {}", answer.text);
        let id = order["orderId"].as_str().unwrap();
        assert_eq!(alice.order(id)["filledShares"], 2, "{odd}");
    }
    for no_batch in ["", "{", "[]", "{}", r#"{"session":"s","lines":7}"#, "null"] {
        assert_eq!(post(&server, no_batch).status, 400, "{no_batch}");
    }
    assert!(server.metric("orders_unreadable_total") >= 1);
    // The order named by such a line is queried.
    venue.await_requests(QUERY, 1);
}

#[test]
fn lines_of_orders_that_are_not_ours_cost_no_comparison_and_no_refusal() {
    let (venue, data) = (Venue::start(), tempfile::tempdir().unwrap());
    let secrets = data.path().join("secrets");
    fs::write(&secrets, SECRET).unwrap();
    let settings = [
        "--exchange",
        &venue.address(),
        "--webhook-secret-file",
        secrets.to_str().unwrap(),
        "--cleanup-interval-seconds",
        "3600",
    ];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let order = alice.place_resting("IBM");
    let id = order["orderId"].as_str().unwrap();
    let theirs = |number: usize| {
        json!({"sequence": 1, "type": "trade", "executionId": format!("t{number}"),
            "symbol": "IBM", "priceInCents": 1, "numShares": 1,
            "orderId": format!("theirs-{number}"), "timestamp": 1})
    };
    let asked_before = venue.requests(QUERY).len();
    // More than are kept, by webhook and feed.
    for batch in 0..7 {
        let lines: Vec<Value> = (0..5_000).map(|n| theirs(batch * 5_000 + n)).collect();
        let answer = post(&server, &json!({"session": "s", "lines": lines}).to_string());
        assert_eq!(answer.status, 204, "{}", answer.text);
    }
    for number in 0..2_000 {
        let mut line = theirs(100_000 + number);
        // The venue numbers it.
        line["sequence"] = Value::Null;
        venue.feed_line(line);
    }
    venue.fill(id, 1, 10);
    alice.await_status(id, "filled");
    support::api::until("what is not kept to be told of", || {
        (server.metric("orders_report_overflows_total") > 0).then_some(())
    });
    // Only the ended order was queried.
    let asked = venue.requests(QUERY).split_off(asked_before);
    let about_others = asked.iter().flat_map(|query| query.client_ids()).any(|asked| asked != id);
    assert!(!about_others);
    assert!(asked.len() <= 3, "{} queries", asked.len());
}
