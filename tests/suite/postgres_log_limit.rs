//! Postgres is down for too long: new orders are refused before the log fills the disk, and accepted
//! again once it has caught up.

use crate::support::Server;
use crate::support::postgres::{Postgres, assert_records_agree};
use serde_json::json;

/// Their own records alone are larger than the log may be.
const MOST_ORDERS: usize = 10_000;

#[test]
fn new_orders_are_refused_while_the_log_is_too_large_and_cancels_go_on() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(
        data.path(),
        &[
            "--postgres",
            &database.url,
            "--migrate",
            "--postgres-backlog-mib",
            "1",
            "--wal-segment-mib",
            "1",
            "--wal-keep-mib",
            "0",
            "--speed",
            "20",
        ],
    );
    server.program.await_error("Postgres follows the log");
    let alice = server.user(data.path(), "alice");
    let resting = alice.place_resting("IBM");
    postgres.stop();

    // Each print fills a part of each of them, which fills the log.
    let large = json!({"position": "buy", "symbol": "SPY", "numShares": 20_000});
    let mut placed = 1;
    let refused = loop {
        let answer = alice.post("/order", &large);
        if answer.status == 503 {
            break answer;
        }
        // On a busy machine the exchange may answer late, or refuse because of the deadline.
        assert!(matches!(answer.status, 201 | 202 | 422), "{}", answer.text);
        assert!(placed < MOST_ORDERS, "the log is not too large after {placed} orders");
        placed += 1;
    };
    assert!(refused.headers.contains_key("retry-after"), "{}", refused.text);
    assert_eq!(server.metric("projection_backlogged"), 1);
    server.program.await_error("new orders are refused until it catches up");
    let orders = alice.all_orders();
    assert_eq!(orders.len(), placed, "nothing was recorded of the others");
    // Those that trade first: their fills keep a busy machine's exchange from anything else.
    let trading = orders.iter().filter(|order| order["symbol"] == "SPY");
    for order in trading.chain([&resting]) {
        let id = order["orderId"].as_str().unwrap();
        let answer = alice.delete(&format!("/order/{id}"));
        assert!(matches!(answer.status, 200 | 202 | 409), "cancels go on: {}", answer.text);
    }
    alice.await_status(resting["orderId"].as_str().unwrap(), "cancelled");

    postgres.start_again();
    server.program.await_error("new orders are accepted again");
    alice.place_resting("IBM");
    assert_eq!(server.metric("projection_backlogged"), 0);
    assert_records_agree(server, data.path(), &database.url);
}
