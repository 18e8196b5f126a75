//! A row that Postgres refuses: the projection stops there and reports it, orders continue, and it
//! resumes by itself once the row is accepted.

use crate::support::Server;
use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree};

#[test]
fn a_refused_row_is_named_and_stops_only_the_projection() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.program.await_error("Postgres follows the log");
    database.sql("ALTER TABLE orders ADD CONSTRAINT no_bac CHECK (symbol <> 'BAC') NOT VALID");
    let alice = server.user(data.path(), "alice");
    let refused = alice.place_resting("BAC")["orderId"].as_str().unwrap().to_owned();

    let line = server.program.await_error("until an operator fixes this");
    for expected in ["no_bac", "Failing row contains", &refused, "alice", "orders continue"] {
        assert!(line.contains(expected), "{expected} is missing: {line}");
    }
    // Also during retries, every few seconds.
    let failures = server.metric("projection_failures_total");
    until("another attempt", || {
        assert_eq!(server.metric("projection_stopped"), 1);
        (server.metric("projection_failures_total") > failures).then_some(())
    });
    let load = Load::start(&server, data.path(), 2);
    load.await_more(40);
    let ids = load.end();
    assert_eq!(database.number("SELECT count(*) FROM orders WHERE symbol = 'BAC'"), 0);
    assert_eq!(server.metric("projection_stopped"), 1);

    database.sql("ALTER TABLE orders DROP CONSTRAINT no_bac");
    server.program.await_error("Postgres follows the log");
    assert_eq!(server.metric("projection_stopped"), 0);
    assert_records_agree(server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_kept(&[&database], &[refused]);
}
