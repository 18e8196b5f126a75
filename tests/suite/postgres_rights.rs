//! Privileges in Postgres: the audit log is append-only, and analysts can read only their views.

#![expect(clippy::panic, reason = "a test stops at the first surprise")]

use crate::support::Server;
use crate::support::postgres::{Database, Postgres, assert_records_agree, await_caught_up};

fn refusal(database: &Database, sql: &str) -> String {
    let Err(error) = database.try_sql(sql) else { panic!("{sql} is allowed") };
    error.as_db_error().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_audit_log_only_grows_and_has_room_for_tomorrow() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), &database.url);
    let before = database.number("SELECT count(*) FROM order_events");
    assert!(before >= 2);
    let today = "to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD')";
    let partition =
        database.sql(&format!("SELECT 'order_events_' || {today}"))[0][0].clone().unwrap();
    for table in ["order_events", &partition] {
        for sql in [format!("UPDATE {table} SET reason = 'none'"), format!("DELETE FROM {table}")] {
            assert!(refusal(&database, &sql).contains("append-only"), "{sql}");
        }
    }
    for table in ["order_events", &partition] {
        assert!(
            refusal(&database, &format!("TRUNCATE {table}")).contains("append-only"),
            "{table}"
        );
    }
    assert_eq!(database.number("SELECT count(*) FROM order_events"), before);

    let partitions = database.number(
        "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid \
         WHERE i.inhparent = 'order_events'::regclass AND c.relname IN ( \
            'order_events_' || to_char(now() AT TIME ZONE 'UTC', 'YYYYMMDD'), \
            'order_events_' || to_char((now() AT TIME ZONE 'UTC') + interval '1 day', 'YYYYMMDD'))",
    );
    assert_eq!(partitions, 2, "of today and of tomorrow");
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn analysts_read_their_views_and_nothing_else() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    let alice = server.user(data.path(), "alice");
    alice.place_resting("IBM");
    await_caught_up(&server, data.path(), &database.url);
    database.sql("CREATE ROLE ann LOGIN IN ROLE longbow_reader");
    let ann = Database { url: database.url.replace("longbow@", "ann@") };
    for view in ["orders", "executions", "positions", "order_events"] {
        let expected = database.number(&format!("SELECT count(*) FROM analysis.{view}"));
        assert_eq!(ann.number(&format!("SELECT count(*) FROM analysis.{view}")), expected);
        for sql in [
            format!("SELECT * FROM public.{view}"),
            format!("INSERT INTO analysis.{view} DEFAULT VALUES"),
            format!("DELETE FROM analysis.{view}"),
        ] {
            let words = refusal(&ann, &sql);
            let is_missing = view == "positions" && words.contains("does not exist");
            let is_no_table = words.contains("cannot ") && view != "orders";
            assert!(
                words.contains("permission denied") || is_missing || is_no_table,
                "{sql}: {words}"
            );
        }
    }
    for sql in [
        "SELECT * FROM projection",
        "UPDATE analysis.orders SET status = 'filled'",
        "TRUNCATE order_events",
        "SELECT make_order_events_partition(1)",
        "CREATE TABLE public.mine ()",
        "CREATE VIEW analysis.mine AS SELECT 1",
    ] {
        let words = refusal(&ann, sql);
        assert!(words.contains("permission denied"), "{sql}: {words}");
    }
    assert_records_agree(server, data.path(), &database.url);
}
