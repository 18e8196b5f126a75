//! Checks that Postgres equals the server's answers and the log.

use std::path::Path;
use std::time::Instant;

use serde_json::Value;

use super::Database;
use crate::support::{PATIENCE, Server, api, run};

/// Columns of `orders` as `GET /orders` names them, in microseconds.
const ORDER_AS_ANSWERED: &str = "\
    SELECT order_id AS \"orderId\", client_order_id AS \"clientOrderId\", \
        external_order_id AS \"externalOrderId\", symbol, position, \
        CASE WHEN limit_price_cents IS NULL THEN 'market' ELSE 'limit' END AS type, \
        time_in_force AS \"timeInForce\", limit_price_cents AS \"priceInCents\", \
        num_shares AS \"numShares\", filled_shares AS \"filledShares\", \
        filled_value_cents AS \"filledValueInCents\", status, reason, \
        (extract(epoch FROM created_at) * 1000000)::bigint AS \"createdAt\", \
        (extract(epoch FROM updated_at) * 1000000)::bigint AS \"updatedAt\", version \
    FROM orders";

/// Waits until Postgres has caught up, compares each user's orders with the server's answers, stops the
/// server, and lets `longbow verify` compare log, index and Postgres.
pub(crate) fn assert_records_agree(server: Server, data: &Path, postgres: &str) {
    await_caught_up(&server, data, postgres);
    let databases = databases_of(postgres);
    let mut users: Vec<String> = Vec::new();
    for database in &databases {
        let found = database.sql("SELECT DISTINCT user_id FROM orders");
        users.extend(found.into_iter().filter_map(|row| row.into_iter().next().flatten()));
    }
    for user in &users {
        let client = server.user(data, user);
        let deadline = Instant::now() + PATIENCE;
        // Open orders may fill between the two reads.
        while let Err(difference) = compare(&client, user, &databases) {
            assert!(Instant::now() < deadline, "{difference}");
        }
    }
    for database in &databases {
        assert_events_tell_of_orders(database);
    }
    assert!(server.program.stop().success(), "a stop is no failure");
    verify(data, postgres);
}

/// Compares the server's answers to a user with Postgres.
fn compare(client: &api::Client, user: &str, databases: &[Database]) -> Result<(), String> {
    let query = format!("{ORDER_AS_ANSWERED} WHERE user_id = '{user}' ORDER BY order_id DESC");
    let mut expected = client.all_orders();
    for order in &mut expected {
        // Computed from two columns; Postgres does not store it.
        order.as_object_mut().expect("an order").remove("averagePriceInCents");
    }
    let found: Vec<Value> = databases.iter().flat_map(|one| one.rows(&query)).collect();
    if found.len() != expected.len() {
        return Err(format!("{user} has {} orders, and {} here", found.len(), expected.len()));
    }
    match found.iter().zip(&expected).find(|(found, expected)| found != expected) {
        Some((found, expected)) => Err(format!("{user}: {found} should be {expected}")),
        None => Ok(()),
    }
}

/// Waits until Postgres has everything committed so far: an order placed now, and each server's
/// position.
pub(crate) fn await_caught_up(server: &Server, data: &Path, postgres: &str) {
    let order = server.user(data, "barrier").place_resting("IBM");
    let id = order["orderId"].as_str().expect("an id");
    let databases = databases_of(postgres);
    let created = format!("SELECT lsn FROM order_events WHERE order_id = '{id}' AND version = 1");
    let lsn = api::until("the newest order to be there", || {
        let rows = databases.iter().flat_map(|one| one.try_sql(&created).unwrap_or_default());
        rows.flatten().flatten().next()
    });
    let behind = format!("SELECT count(*) FROM projection WHERE is_current AND lsn < {lsn}");
    for database in &databases {
        database.await_number(&behind, 0);
    }
}

/// The databases of one address, or of ranges with an address each.
fn databases_of(postgres: &str) -> Vec<Database> {
    let address = |part: &str| {
        let url = part
            .split_once("=postgres")
            .map_or(part.to_owned(), |(_, rest)| format!("postgres{rest}"));
        Database { url }
    };
    postgres.split(',').map(address).collect()
}

/// Asserts that `order_events` has each version of each order once, that the last one equals `orders`,
/// and that its fills equal the executions.
fn assert_events_tell_of_orders(database: &Database) {
    for (what, query) in [
        (
            "orders whose events are not their versions, each once",
            "SELECT o.order_id FROM orders o LEFT JOIN order_events e USING (order_id) \
             GROUP BY o.user_id, o.order_id, o.version \
             HAVING count(e.version) <> o.version OR max(e.version) <> o.version \
                OR count(DISTINCT e.version) <> o.version",
        ),
        (
            "orders that are not as their last event has left them",
            "SELECT o.order_id FROM orders o JOIN order_events e USING (order_id, version) \
             WHERE (o.status, o.filled_shares, o.user_id, o.updated_at) \
                IS DISTINCT FROM (e.status, e.filled_shares, e.user_id, e.at)",
        ),
        (
            "events without an order",
            "SELECT e.order_id FROM order_events e LEFT JOIN orders o USING (order_id) \
             WHERE o.order_id IS NULL",
        ),
        (
            "fills that are no executions",
            "SELECT e.order_id FROM order_events e \
             LEFT JOIN executions x USING (user_id, order_id, execution_id) \
             WHERE e.event = 'filled' AND (x.num_shares, x.price_cents, x.executed_at) \
                IS DISTINCT FROM (e.execution_shares, e.execution_price_cents, e.executed_at)",
        ),
        (
            "orders whose executions are not what was filled",
            "SELECT o.order_id FROM orders o LEFT JOIN executions x \
                ON (x.user_id, x.order_id) = (o.user_id, o.order_id) AND x.busted_at IS NULL \
             GROUP BY o.user_id, o.order_id, o.filled_shares, o.filled_value_cents \
             HAVING coalesce(sum(x.num_shares), 0) <> o.filled_shares \
                OR coalesce(sum(x.num_shares * x.price_cents), 0) <> o.filled_value_cents",
        ),
        (
            "ids of the exchange that mean other orders",
            "SELECT o.order_id FROM orders o LEFT JOIN external_orders x USING (external_order_id) \
             WHERE o.external_order_id IS NOT NULL \
                AND (x.user_id, x.order_id) IS DISTINCT FROM (o.user_id, o.order_id)",
        ),
    ] {
        let found = database.sql(query);
        assert!(found.is_empty(), "{} {what}, the first: {:?}", found.len(), found.first());
    }
}

/// `longbow verify` finds no difference. The server must be stopped.
pub(crate) fn verify(data: &Path, postgres: &str) {
    let data = data.to_str().expect("a printable path");
    let output = run(&["verify", "--data-dir", data, "--postgres", postgres]);
    let found = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && found.is_empty(), "{found}{errors}");
}
