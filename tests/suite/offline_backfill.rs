//! `longbow backfill`: a Postgres added after the log was truncated gets all orders from the index, and
//! follows from there.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use crate::offline::{Traffic, assert_agree, assert_differ, command, id, market, succeed};
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{self, Exchange, Server};
use longbow::offline::OfflineOptions;
use longbow::wal::{self, Lsn, MIN_SEGMENT_BYTES, WalOptions};

/// Creates a log whose first segment is soon full.
fn make_small_log(data: &Path) {
    let directory = data.join("wal");
    let options = WalOptions { segment_bytes: MIN_SEGMENT_BYTES, ..WalOptions::new(directory) };
    let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
    drop(wal::open(options, recovery).unwrap());
}

/// Trades until the first segment of the log is gone.
fn cut_the_log(server: &Server, data: &Path) {
    let client = server.user(data, "carol");
    support::api::until("the log to be cut", || {
        client.place_resting("IBM");
        (server.metric("log_cut_segments_total") > 0).then_some(())
    });
}

#[test]
fn a_server_that_gets_postgres_later_brings_its_orders() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    make_small_log(data.path());
    let alone = ["--exchange", &exchange.address, "--wal-keep-mib", "0"];
    let server = Server::start(data.path(), &alone);
    let alice = Traffic::of(&server, data.path(), (&exchange, "alice"));
    cut_the_log(&server, data.path());
    let bob = Traffic::of(&server, data.path(), (&exchange, "bob"));
    assert!(server.program.stop().success());

    assert_eq!(support::run(&["migrate", "--postgres", url]).status.code(), Some(0));
    // A server says what to do, and orders continue meanwhile.
    let settings = ["--exchange", &exchange.address, "--wal-keep-mib", "0", "--postgres", url];
    let server = Server::start(data.path(), &settings);
    server.program.await_error("longbow backfill");
    let in_use = command("backfill", data.path(), Some(url));
    assert!(in_use.errors.contains("stop the server first"), "{in_use:?}");
    // Killed: the index then lags the log.
    market(&server.user(data.path(), "carol"), "SPY", 100);
    server.program.kill();

    // A few orders at a time.
    let few = OfflineOptions { max_orders_in_memory: 2, ..OfflineOptions::new(data.path()) };
    let copied = longbow::offline::backfill(&few, &url.parse().unwrap()).unwrap();
    let orders = database.number("SELECT count(*) FROM orders");
    assert_eq!(copied.orders, u64::try_from(orders).unwrap());
    assert_agree(data.path(), url);
    let events = |order: &serde_json::Value| {
        let id = id(order);
        database.number(&format!("SELECT count(*) FROM order_events WHERE order_id = '{id}'"))
    };
    assert_eq!(events(&alice.filled), 0, "its events are cut off");
    assert_eq!(events(&bob.resting), 2, "the log still tells of them");
    // Again: nothing changes, and nothing is lost.
    let rows = "SELECT count(*), sum(version), max(updated_at) FROM orders";
    let before = database.sql(rows);
    let said = succeed("backfill", data.path(), url);
    assert!(said.starts_with(&format!("copied {orders} orders; ")), "{said}");
    assert_eq!(database.sql(rows), before);
    assert_agree(data.path(), url);

    // After an interrupted copy, some orders are there, and Postgres keeps its position.
    database.sql(&format!(
        "UPDATE projection SET lsn = 0 WHERE is_current; \
         DELETE FROM orders WHERE order_id > '{resting}'; \
         DELETE FROM executions WHERE order_id > '{resting}'",
        resting = id(&bob.resting)
    ));
    let server = Server::start(data.path(), &settings);
    server.program.await_error("longbow backfill");
    assert!(server.program.stop().success());
    assert_eq!(command("verify", data.path(), Some(url)).code, 1);
    succeed("backfill", data.path(), url);
    assert_agree(data.path(), url);

    // From here on Postgres follows, also for copied orders.
    let server = Server::start(data.path(), &settings);
    let client = server.user(data.path(), "alice");
    assert_eq!(client.delete(&format!("/order/{}", id(&alice.resting))).status, 200);
    client.await_status(id(&alice.resting), "cancelled");
    market(&client, "IBM", 100);
    let newer = client.place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);

    // Edited rows are corrected; rows unknown to the records stay, and are reported.
    let stranger = "01900000-0000-7000-8000-000000000001";
    let (filled, resting) = (id(&alice.filled), id(&bob.resting));
    database.sql(&format!(
        "UPDATE orders SET version = 90, symbol = 'AIG' WHERE order_id = '{filled}'; \
         UPDATE orders SET updated_at = now(), num_shares = 9 WHERE order_id = '{resting}'; \
         DELETE FROM executions WHERE order_id = '{filled}'; \
         UPDATE external_orders SET order_id = '{stranger}' WHERE order_id = '{resting}'"
    ));
    assert_eq!(command("verify", data.path(), Some(url)).code, 1);
    succeed("backfill", data.path(), url);
    assert_agree(data.path(), url);
    database.sql(&format!("INSERT INTO external_orders VALUES ('other', 'alice', '{stranger}')"));
    let said = command("backfill", data.path(), Some(url));
    assert!(said.code == 1 && said.lines.len() == 2, "{said:?}");
    assert!(said.lines[0].starts_with("copied ") && said.lines[1].contains(stranger), "{said:?}");
    assert!(said.errors.contains("differ in one place"), "{said:?}");
    database.sql("DELETE FROM external_orders WHERE external_order_id = 'other'");
    assert_agree(data.path(), url);

    // After the copy, the audit log has no holes, not even for copied orders.
    database.sql("ALTER TABLE order_events DISABLE TRIGGER ALL");
    let hole = format!(
        "DELETE FROM order_events WHERE order_id = '{}' AND event = 'cancelled'",
        id(&alice.resting)
    );
    database.sql(&format!("CREATE TABLE aside AS SELECT * FROM order_events; {hole}"));
    assert_differ(data.path(), url, &[&[id(&alice.resting), "order_events: ", "version 4"]]);
    database.sql("DELETE FROM order_events; INSERT INTO order_events SELECT * FROM aside");
    database.sql(&format!("DELETE FROM order_events WHERE order_id = '{}'", id(&newer)));
    let line = [id(&newer), "order_events", "no row"];
    let (one, two) = ([id(&newer), "of version 1"], [id(&newer), "of version 2"]);
    assert_differ(data.path(), url, &[&line, &one, &two]);
}
