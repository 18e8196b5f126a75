//! A restore detects rows missing from Postgres, and is refused with a list of them.

use crate::offline::{Traffic, command, id};
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{Exchange, Server, run};

#[test]
fn what_other_tables_speak_of_is_missed() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", url, "--migrate", "--exchange", &exchange.address];
    let server = Server::start(data.path(), &settings);
    let traffic = Traffic::of(&server, data.path(), (&exchange, "alice"));
    Traffic::of(&server, data.path(), (&exchange, "bob"));
    await_caught_up(&server, data.path(), url);
    server.program.kill();
    let orders = database.number("SELECT count(*) FROM orders");
    let tables = ["orders", "executions", "external_orders", "order_events", "projection"];
    database.sql("ALTER TABLE order_events DISABLE TRIGGER ALL; CREATE SCHEMA aside");
    for table in tables {
        database.sql(&format!("CREATE TABLE aside.{table} AS SELECT * FROM {table}"));
    }

    let (filled, rejected) = (id(&traffic.filled), id(&traffic.rejected));
    let of_alice = "SELECT tableoid::regclass FROM orders WHERE user_id = 'alice' LIMIT 1";
    let partition = database.sql(of_alice)[0][0].clone().unwrap_or_default();
    let folder = tempfile::tempdir().unwrap();
    let fresh = folder.path().join("fresh");
    for (tamper, expected) in [
        (
            format!("TRUNCATE {partition}"),
            vec![
                "orders in external_orders that are missing from orders: 3",
                "orders in executions that are missing from orders: 1",
                "orders in order_events that are missing from orders: 4",
                filled,
            ],
        ),
        (
            // It never had an id of the exchange, nor executions.
            format!("DELETE FROM orders WHERE order_id = '{rejected}'"),
            vec!["orders in order_events that are missing from orders: 1", rejected],
        ),
        (
            format!(
                "DELETE FROM orders WHERE order_id = '{filled}'; \
                 DELETE FROM order_events WHERE order_id = '{filled}'"
            ),
            vec!["orders in executions that are missing from orders: 1", filled],
        ),
        (
            format!("UPDATE orders SET version = version - 1 WHERE order_id = '{filled}'"),
            vec!["a lower version", filled],
        ),
        (
            format!("DELETE FROM executions WHERE order_id = '{filled}'"),
            vec!["filled shares", filled],
        ),
        (
            format!("DELETE FROM external_orders WHERE order_id = '{filled}'"),
            vec!["external id is missing from external_orders: 1", filled],
        ),
        (
            format!("DELETE FROM order_events WHERE order_id = '{filled}' AND version = 2"),
            vec!["versions missing from order_events: 1", filled],
        ),
        (
            "UPDATE projection SET lsn = 1 WHERE is_current".to_owned(),
            vec!["past their user partition's position", "projection"],
        ),
    ] {
        database.sql(&tamper);
        let said = command("restore", &fresh, Some(url));
        assert_eq!((said.code, said.lines.len()), (1, 0), "{tamper}: {said:?}");
        for part in expected.iter().chain(&["lacks rows", "--force"]) {
            assert!(said.errors.contains(part), "{tamper}: {part}: {}", said.errors);
        }
        assert_eq!(database.number("SELECT max(epoch) FROM projection"), 1, "nothing taken over");
        for table in tables {
            let columns = database.columns(table);
            database.sql(&format!(
                "DELETE FROM {table}; \
                 INSERT INTO {table} ({columns}) SELECT {columns} FROM aside.{table}"
            ));
        }
    }

    // With --force the remaining rows are restored, and the missing ones reported.
    database.sql(&format!("TRUNCATE {partition}; DELETE FROM executions WHERE user_id = 'bob'"));
    let fresh_path = fresh.to_str().unwrap_or_default();
    let forced = run(&["restore", "--force", "--data-dir", fresh_path, "--postgres", url]);
    let said = String::from_utf8_lossy(&forced.stdout).into_owned();
    assert!(forced.status.success(), "{said}{}", String::from_utf8_lossy(&forced.stderr));
    assert!(said.starts_with(&format!("restored {} orders", orders - 4)), "{said}");
    assert!(said.contains("orders in order_events that are missing from orders: 4"), "{said}");
    // The exchange supplies the executions missing from bob's order: each counts once.
    let server = Server::start(&fresh, &settings);
    let bob = server.user(&fresh, "bob");
    let filled = bob.all_orders().into_iter().find(|order| order["numShares"] == 300);
    let filled = filled.map(|order| id(&order).to_owned()).unwrap_or_default();
    let order = bob.await_status(&filled, "filled");
    assert_eq!(order["filledShares"], 300, "{order}");
}
