//! What a new user does: watch prices with curl, place a market order and see it fill, place a far
//! limit order and cancel it, kill everything, restart, find the same orders.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use crate::support::Server;
use serde_json::{Value, json};

/// Watches symbols with `curl -N` until each has had a number of prices.
#[expect(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]
fn watch_with_curl(server: &Server, token: &str, symbols: [&str; 2], wanted: usize) {
    let body = json!({ "symbols": symbols }).to_string();
    let mut curl = Command::new("curl")
        .args(["-sS", "-N", "--max-time", "60", "-H", &format!("Authorization: Bearer {token}")])
        .args(["-d", &body, &format!("{}/subscribe", server.address)])
        .stdout(Stdio::piped())
        .spawn()
        .expect("curl is installed");
    let mut seen = [0; 2];
    for line in BufReader::new(curl.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        let Some(data) = line.strip_prefix("data: {\"symbol\"") else { continue };
        let data: Value = serde_json::from_str(&format!("{{\"symbol\"{data}")).unwrap();
        for (seen, symbol) in seen.iter_mut().zip(symbols) {
            *seen += usize::from(data["symbol"] == symbol);
        }
        assert!(data["priceInCents"].as_i64().unwrap() > 0);
        if seen.iter().all(|&seen| seen >= wanted) {
            break;
        }
    }
    curl.kill().unwrap();
    curl.wait().unwrap();
    assert!(seen.iter().all(|&seen| seen >= wanted), "curl saw {seen:?} of {symbols:?}");
}

#[test]
fn a_new_users_first_day_survives_a_kill() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &["--speed", "20", "--account-mode", "cash"]);
    let alice = server.user(data.path(), "alice");

    watch_with_curl(&server, &alice.token, ["SPY", "BAC"], 2);

    let market = json!({"position": "buy", "symbol": "SPY", "numShares": 3});
    let placed = alice.post("/order", &market);
    assert_eq!(placed.status, 201, "{}", placed.text);
    let market_id = placed.body["orderId"].as_str().unwrap().to_owned();
    let filled = alice.await_status(&market_id, "filled");
    assert_eq!(filled["filledShares"], 3);
    let average = filled["averagePriceInCents"].as_i64().unwrap();
    assert!((10_000..30_000).contains(&average), "SPY traded near 165 dollars: {average}");

    let resting = alice.place_resting("IBM");
    let resting_id = resting["orderId"].as_str().unwrap();
    assert_eq!(resting["status"], "submitted");
    assert!(resting["externalOrderId"].is_string());

    let cancelled = alice.place_resting("AIG");
    let cancelled_id = cancelled["orderId"].as_str().unwrap();
    let answer = alice.delete(&format!("/order/{cancelled_id}"));
    assert_eq!((answer.status, &answer.body), (200, &json!({"ok": true})));
    assert_eq!(alice.order(cancelled_id)["status"], "cancelled");
    let again = alice.delete(&format!("/order/{cancelled_id}"));
    assert_eq!((again.status, &again.body), (200, &json!({"ok": true})), "repeating is fine");

    let before = alice.all_orders();
    let ids: Vec<&str> = before.iter().map(|order| order["orderId"].as_str().unwrap()).collect();
    assert_eq!(ids, [cancelled_id, resting_id, &market_id], "newest first");

    server.program.kill();
    let server = Server::start(data.path(), &["--speed", "20"]);
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.all_orders(), before, "the same orders, to the last field");

    // Both sides still know the resting order: it can be cancelled.
    let answer = alice.delete(&format!("/order/{resting_id}"));
    assert_eq!(answer.status, 200, "{}", answer.text);
    assert_eq!(alice.order(resting_id)["status"], "cancelled");
}
