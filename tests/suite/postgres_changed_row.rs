//! Rows changed by hand: a write that Postgres ignored is counted and reported, and `longbow verify
//! --repair` restores the right values.

use crate::offline::{Traffic, assert_agree, command, id};
use crate::support::api::until;
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{Exchange, Server, run};

#[test]
fn a_row_that_does_not_follow_is_said_and_repaired() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", url, "--migrate", "--exchange", &exchange.address];
    let server = Server::start(data.path(), &settings);
    let traffic = Traffic::of(&server, data.path(), (&exchange, "alice"));
    let alice = server.user(data.path(), "alice");
    let raised = alice.place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    assert_eq!(server.metric("projection_unchanged_rows_total"), 0);

    let raise = format!("UPDATE orders SET version = 100 WHERE order_id = '{}'", id(&raised));
    database.sql(&raise);
    assert_eq!(alice.delete(&format!("/order/{}", id(&raised))).status, 200);
    let line = server.program.await_error("differs from the log");
    for part in [id(&raised), "alice", "100"] {
        assert!(line.contains(part), "{part} is missing: {line}");
    }
    until("it to be counted", || {
        (server.metric("projection_unchanged_rows_total") > 0).then_some(())
    });
    let status = |order: &str| {
        let question = format!("SELECT status FROM orders WHERE order_id = '{order}'");
        database.sql(&question)[0][0].clone().unwrap_or_default()
    };
    assert_eq!(status(id(&raised)), "submitted", "Postgres has kept it");
    await_caught_up(&server, data.path(), url);

    // More of the kind, in each table.
    let (filled, resting) = (id(&traffic.filled), id(&traffic.resting));
    let cancelled = id(&traffic.cancelled);
    database.sql(&format!(
        "UPDATE executions SET price_cents = 1, executed_at = now() WHERE order_id = '{filled}'; \
         DELETE FROM orders WHERE order_id = '{cancelled}'; \
         DELETE FROM external_orders WHERE order_id = '{resting}'; \
         UPDATE orders SET num_shares = 7, reason = 'mine' WHERE order_id = '{resting}'"
    ));
    let repair = ["verify", "--repair", "--data-dir", data.path().to_str().unwrap_or_default()];
    let repair = || run(&[&repair[..], &["--postgres", url]].concat());
    let running = repair();
    assert!(!running.status.success(), "{running:?}");
    let error = String::from_utf8_lossy(&running.stderr).into_owned();
    assert!(error.contains("stop the server first"), "{error}");
    assert!(server.program.stop().success());
    let repaired = repair();
    let said = String::from_utf8_lossy(&repaired.stdout).into_owned();
    assert!(repaired.status.success(), "{said}{}", String::from_utf8_lossy(&repaired.stderr));
    assert!(said.ends_with("repaired 4 orders; remaining differences:\n"), "{said}");
    assert_eq!(status(id(&raised)), "cancelled");
    assert_agree(data.path(), url);

    // Rows unknown to the records are not removed.
    let stranger = "01900000-0000-7000-8000-000000000001";
    let columns = database.columns("orders");
    database.sql(&format!(
        "INSERT INTO orders ({columns}) SELECT {columns} FROM (SELECT (jsonb_populate_record(o, \
         '{{\"order_id\": \"{stranger}\", \"external_order_id\": null, \"status\": \"pending\", \
         \"version\": 1}}')).* FROM orders o WHERE order_id = '{resting}') AS copy"
    ));
    let left = repair();
    let said = String::from_utf8_lossy(&left.stdout).into_owned();
    let (_, still) = said.split_once("remaining differences:\n").unwrap_or_default();
    assert!(!left.status.success() && still.contains(stranger), "{said}");
    database.sql(&format!("DELETE FROM orders WHERE order_id = '{stranger}'"));
    let server = Server::start(data.path(), &settings);
    server.user(data.path(), "alice").place_resting("SPY");
    await_caught_up(&server, data.path(), url);
    assert_eq!(command("verify", data.path(), Some(url)).lines, [""; 0]);
}
