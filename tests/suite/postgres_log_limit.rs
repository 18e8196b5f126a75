//! Postgres is down for too long: new orders are refused before the log fills the disk, and accepted
//! again once it has caught up.

use crate::support::Server;
use crate::support::postgres::{Postgres, assert_records_agree};
use serde_json::json;

const LARGE_ORDERS: usize = 4;
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

    // Large orders, partially filled by each print, fill the log.
    let large = json!({"position": "buy", "symbol": "SPY", "numShares": 10_000_000});
    let small = json!({"position": "buy", "symbol": "IBM", "numShares": 1, "priceInCents": 1});
    let mut placed = 1;
    let refused = loop {
        let answer = alice.post("/order", if placed <= LARGE_ORDERS { &large } else { &small });
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
    let id = resting["orderId"].as_str().unwrap();
    assert_eq!(alice.delete(&format!("/order/{id}")).status, 200, "cancels go on");
    assert_eq!(alice.order(id)["status"], "cancelled", "and so do reads");
    let orders = alice.all_orders();
    assert_eq!(orders.len(), placed, "nothing was recorded of the others");
    // Or else their fills fill the log faster than a busy machine's Postgres follows.
    for order in orders.iter().filter(|order| order["symbol"] == "SPY") {
        let answer = alice.delete(&format!("/order/{}", order["orderId"].as_str().unwrap()));
        assert!(matches!(answer.status, 200 | 202 | 409), "{}", answer.text);
    }

    postgres.start_again();
    server.program.await_error("new orders are accepted again");
    alice.place_resting("IBM");
    assert_eq!(server.metric("projection_backlogged"), 0);
    assert_records_agree(server, data.path(), &database.url);
}
