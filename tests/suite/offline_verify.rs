//! `longbow verify` prints nothing if log, index and Postgres agree, and finds each kind of difference.

use crate::offline::{Traffic, assert_agree, assert_differ, command, id};
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{self, Exchange, Server};

#[test]
fn records_that_agree_say_nothing_and_each_difference_is_found() {
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

    assert_agree(data.path(), url);
    let in_use = command("backfill", data.path(), Some(url));
    assert!(in_use.code == 1 && in_use.lines.is_empty(), "{in_use:?}");
    assert!(in_use.errors.contains("stop the server first"), "{}", in_use.errors);
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);

    // Each change is made and undone, on tables without triggers.
    database.sql(
        "ALTER TABLE order_events DISABLE TRIGGER ALL; \
         ALTER TABLE orders DROP CONSTRAINT status_follows_from_facts; \
         ALTER TABLE orders ALTER COLUMN is_open DROP EXPRESSION; \
         CREATE SCHEMA aside; CREATE TABLE aside.orders AS SELECT * FROM orders; \
         CREATE TABLE aside.executions AS SELECT * FROM executions; \
         CREATE TABLE aside.external_orders AS SELECT * FROM external_orders; \
         CREATE TABLE aside.order_events AS SELECT * FROM order_events; \
         CREATE TABLE aside.projection AS SELECT * FROM projection; \
         CREATE TABLE aside.feed_position AS SELECT * FROM feed_position",
    );
    let (resting, filled) = (id(&traffic.resting), id(&traffic.filled));
    let (cancelled, rejected) = (id(&traffic.cancelled), id(&traffic.rejected));
    let stranger = "01900000-0000-7000-8000-000000000001";
    let copy = format!(
        "INSERT INTO orders SELECT (jsonb_populate_record(o, \
         '{{\"order_id\": \"{stranger}\", \"external_order_id\": null, \"status\": \"pending\"}}')).* \
         FROM orders o WHERE order_id = '{resting}'"
    );
    let in_orders =
        |set: &str, id: &str| format!("UPDATE orders SET {set} WHERE order_id = '{id}'");
    // However many fills it took.
    let first_execution = format!(
        "order_id = '{filled}' \
         AND execution_id = (SELECT min(execution_id) FROM executions WHERE order_id = '{filled}')"
    );
    let at = |table: &str, id: &str| format!("FROM {table} WHERE order_id = '{id}'");
    let cases: Vec<(String, Vec<Vec<&str>>)> = vec![
        (in_orders("symbol = 'SPY'", resting), vec![vec![resting, "symbol", "IBM", "SPY"]]),
        (
            in_orders("updated_at = updated_at + interval '1 microsecond'", cancelled),
            vec![vec![cancelled, "user alice", "updated_at"]],
        ),
        (
            in_orders("status = 'failed'", resting),
            vec![vec![resting, "status", "submitted", "failed"]],
        ),
        (in_orders("reason = 'other'", rejected), vec![vec![rejected, "reason", "other"]]),
        (
            in_orders("client_order_id = 'x'", resting),
            vec![vec![resting, "client_order_id", "resting"]],
        ),
        (
            in_orders("user_partition = 63 - user_partition", resting),
            vec![vec![resting, "user_partition"]],
        ),
        (
            in_orders("version = version + 1", resting),
            vec![vec![resting, ": version"], vec![resting, "order_events", "version 3"]],
        ),
        (format!("DELETE {}", at("orders", filled)), vec![vec![filled, "order: ", "none"]]),
        (copy, vec![vec![stranger, "order: the index with the log has none", "has it"]]),
        (
            format!("UPDATE executions SET price_cents = 1 WHERE {first_execution}"),
            vec![vec![filled, ": execution", "at 1 cents"]],
        ),
        (
            format!("UPDATE executions SET executed_at = now() WHERE {first_execution}"),
            vec![vec![filled, ": executed_at"]],
        ),
        (
            format!("DELETE FROM executions WHERE {first_execution}"),
            vec![vec![filled, ": execution", "none"]],
        ),
        (
            format!(
                "INSERT INTO executions SELECT user_id, '{stranger}', execution_id, \
                 user_partition, num_shares, price_cents, executed_at, recorded_at \
                 FROM executions WHERE {first_execution}"
            ),
            vec![vec![stranger, "execution", "no such order"]],
        ),
        (
            format!("DELETE {}", at("external_orders", filled)),
            vec![vec![filled, "external_orders", "has none"]],
        ),
        (
            format!(
                "UPDATE external_orders SET order_id = '{stranger}' WHERE order_id = '{filled}'"
            ),
            vec![vec![stranger, "external_orders"]],
        ),
        (
            "INSERT INTO external_orders VALUES ('other', 'alice', \
             '01900000-0000-7000-8000-000000000001')"
                .to_owned(),
            vec![vec![stranger, "external_orders", "none", "other"]],
        ),
        (
            format!("DELETE {} AND version = 2", at("order_events", filled)),
            vec![
                vec![filled, "order_events of version 2", "none"],
                vec![filled, "order_events: ", "versions 1 to"],
            ],
        ),
        (
            format!(
                "UPDATE order_events SET status = 'failed' WHERE order_id = '{filled}' AND version = 1"
            ),
            vec![vec![filled, "order_events of version 1: status", "pending", "failed"]],
        ),
        (
            format!(
                "INSERT INTO order_events SELECT at, '{stranger}', version, status, filled_shares, \
                 user_id, user_partition, event {} AND version = 1",
                at("order_events", resting)
            )
            .replace(
                "user_partition, event ",
                "user_partition, event, NULL, NULL, NULL, NULL, NULL, NULL, log_id, lsn ",
            ),
            vec![vec![stranger, "order_events", "no such order", "1 rows"]],
        ),
        (
            "UPDATE projection SET lsn = lsn - 1 WHERE is_current AND user_partition = 5"
                .to_owned(),
            vec![vec!["is behind", "1 records are missing"]],
        ),
        ("UPDATE projection SET lsn = lsn + 7 WHERE is_current".to_owned(), vec![vec!["is ahead"]]),
        (
            "UPDATE projection SET log_id = 7 WHERE is_current".to_owned(),
            vec![vec!["follows log 0000000000000007"]],
        ),
        (
            "UPDATE feed_position SET sequence = 3".to_owned(),
            vec![vec!["feed_position", "3 of session"]],
        ),
        // Values that Longbow never writes.
        (
            "UPDATE feed_position SET sequence = -1".to_owned(),
            vec![vec!["feed_position", "in column sequence: \"-1\"", "correct that row"]],
        ),
        (
            "UPDATE feed_position SET at = '-infinity'".to_owned(),
            vec![vec!["feed_position", "in column at: -infinity is no time"]],
        ),
        (
            "UPDATE feed_position SET lsn = -7".to_owned(),
            vec![vec!["feed_position", "in column lsn: -7 is below zero"]],
        ),
        (
            in_orders("created_at = '-infinity'", resting),
            vec![vec![resting, "is invalid", "created_at: -infinity is no time"]],
        ),
        (
            in_orders("updated_at = '1969-12-31 23:59:59+00', version = version + 1", resting),
            vec![
                vec![resting, "is invalid", "updated_at: a time 1 s before 1970"],
                vec![resting, "order_events", "version 3"],
            ],
        ),
    ];
    for (tamper, expected) in &cases {
        database.sql(tamper);
        println!("{tamper}");
        let expected: Vec<&[&str]> = expected.iter().map(Vec::as_slice).collect();
        assert_differ(data.path(), url, &expected);
        let tables = [
            "orders",
            "executions",
            "external_orders",
            "order_events",
            "projection",
            "feed_position",
        ];
        for table in tables {
            let undo =
                format!("DELETE FROM {table}; INSERT INTO {table} SELECT * FROM aside.{table}");
            database.sql(&undo);
        }
    }
    assert_agree(data.path(), url);
}

#[test]
fn what_a_killed_server_has_not_written_is_said_once() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.clone();
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", &url, "--migrate", "--exchange", &exchange.address];
    let server = Server::start(data.path(), &settings);
    Traffic::of(&server, data.path(), (&exchange, "alice"));
    await_caught_up(&server, data.path(), &url);
    // From here on only the log and the index continue.
    postgres.kill();
    Traffic::of(&server, data.path(), (&exchange, "bob"));
    server.program.kill();
    postgres.start_again();

    assert_differ(data.path(), &url, &[&["is behind", "records are missing"]]);
    let alone = command("verify", data.path(), None);
    assert_eq!((alone.code, alone.lines.len()), (0, 0), "{alone:?}");
    // The next start brings everything.
    let server = Server::start(data.path(), &settings);
    support::postgres::assert_records_agree(server, data.path(), &url);
}

#[test]
fn an_order_on_a_server_that_does_not_keep_its_user_is_found() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let (low, high) = (postgres.database(), postgres.create("high"));
    let ranges = format!("0-31={},32-63={}", low.url, high.url);
    let exchange = Exchange::start(venue.path(), &["--speed", "5"]);
    let settings = ["--postgres", &ranges, "--migrate", "--exchange", &exchange.address];
    let server = Server::start(data.path(), &settings);
    // Partition 48, and some other ones.
    let alice = Traffic::of(&server, data.path(), (&exchange, "alice"));
    for user in ["bob", "carol", "dave"] {
        server.user(data.path(), user).place_resting("IBM");
    }
    await_caught_up(&server, data.path(), &ranges);
    assert!(server.program.stop().success());
    assert_agree(data.path(), &ranges);

    let order = id(&alice.resting);
    let columns = "user_id, order_id, user_partition, client_order_id, external_order_id, symbol, \
        position, time_in_force, limit_price_cents, num_shares, filled_shares, \
        filled_value_cents, over_filled, status, reason, created_at, updated_at, submit_before, \
        version, ending, cancel_requested, user_cancelled, taken_back";
    let row = high.sql(&format!("SELECT {columns} FROM orders WHERE order_id = '{order}'"));
    let values: Vec<String> = row
        .into_iter()
        .flatten()
        .map(|value| value.map_or("NULL".to_owned(), |value| format!("'{value}'")))
        .collect();
    low.sql(&format!("INSERT INTO orders ({columns}) VALUES ({})", values.join(", ")));
    assert_differ(data.path(), &ranges, &[&[order, "keeps user partitions 0 to 31", "is 48"]]);
}
