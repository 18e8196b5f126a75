//! Privileges in Postgres: the audit log is append-only, and analysts can read only their views. A server
//! that Postgres does not let in any more goes on without it, and starts.

#![expect(clippy::panic, reason = "a test stops at the first surprise")]

use crate::support::api::{Client, until};
use crate::support::postgres::{Database, Postgres, assert_records_agree, await_caught_up};
use crate::support::venue::{CANCEL, Venue};
use crate::support::{Server, run};
use serde_json::{Value, json};

fn refusal(database: &Database, sql: &str) -> String {
    let Err(error) = database.try_sql(sql) else { panic!("{sql} is allowed") };
    error.as_db_error().map(ToString::to_string).unwrap_or_default()
}

#[test]
fn the_audit_log_only_grows_and_has_room_for_tomorrow() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
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
    let postgres = Postgres::start_bare();
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

/// What an operator does to a database and its roles, and how it is undone.
const REFUSALS: [(&str, &str); 4] = [
    ("ALTER ROLE writer NOLOGIN", "ALTER ROLE writer LOGIN"),
    ("ALTER ROLE writer RENAME TO former", "ALTER ROLE former RENAME TO writer"),
    ("REVOKE longbow_writer FROM writer", "GRANT longbow_writer TO writer"),
    ("ALTER DATABASE records RENAME TO former", "ALTER DATABASE former RENAME TO records"),
];
const ON_HOLD: &str = "Postgres is on hold until an operator fixes this; orders continue";

#[test]
fn a_server_that_is_no_longer_let_in_starts_and_goes_on_once_it_is() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let admin = postgres.database();
    let owner = postgres.create("records");
    assert!(run(&["migrate", "--postgres", &owner.url]).status.success());
    admin.sql("CREATE ROLE writer LOGIN IN ROLE longbow_writer");
    let url = owner.url.replace("longbow@", "writer@");
    let settings = ["--postgres", &url];
    let server = Server::start(data.path(), &settings);
    server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), &owner.url);
    server.program.kill();
    for (refuse, let_in) in REFUSALS {
        admin.sql(refuse);
        let server = Server::start(data.path(), &settings);
        server.program.await_error(ON_HOLD);
        server.user(data.path(), "alice").place_resting("IBM");
        admin.sql(let_in);
        server.program.await_error("Postgres follows the log");
        await_caught_up(&server, data.path(), &owner.url);
        server.program.kill();
    }
    let server = Server::start(data.path(), &settings);
    assert_records_agree(server, data.path(), &owner.url);
}

/// An order that the exchange has accepted, placed again for as long as Postgres is too late for that.
fn taken(client: &Client) -> Value {
    let terms = json!({"position": "buy", "symbol": "IBM", "numShares": 10, "priceInCents": 1});
    until("Postgres to be in time for an order", || {
        let answer = client.post("/order", &terms);
        (answer.status == 201).then_some(answer.body)
    })
}

#[test]
fn a_server_whose_answers_wait_for_postgres_starts_as_well_and_cancels() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_bare();
    let database = postgres.database();
    assert!(run(&["migrate", "--postgres", &database.url]).status.success());
    database.sql("CREATE ROLE writer LOGIN IN ROLE longbow_writer");
    let url = database.url.replace("longbow@", "writer@");
    let venue = Venue::start();
    let settings = ["--exchange", &venue.address(), "--postgres", &url, "--commit", "postgres"];
    let server = Server::start(data.path(), &settings);
    let order = taken(&server.user(data.path(), "alice"));
    server.program.kill();
    database.sql("ALTER ROLE writer NOLOGIN");
    let server = Server::start_unready(data.path(), &settings);
    let on_hold = ON_HOLD.replace("orders continue", "new orders are refused until then");
    server.program.await_error(&on_hold);
    let path = format!("/order/{}", order["orderId"].as_str().unwrap());
    // Not answered with an outcome, which Postgres does not have, but sent.
    let alice = server.user(data.path(), "alice");
    let _unknown = alice.delete(&path);
    venue.await_requests(CANCEL, 1);
    database.sql("ALTER ROLE writer LOGIN");
    taken(&alice);
    await_caught_up(&server, data.path(), &database.url);
    assert_records_agree(server, data.path(), &database.url);
}
