//! Fencing: an old process cannot write once another has taken over.

use crate::support::api::until;
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::{self, PATIENCE, Server};

/// What another process does when it takes over.
const TAKE_OVER: &str = "BEGIN; \
    SELECT 1 FROM projection WHERE is_current FOR UPDATE; \
    CREATE TEMP TABLE old ON COMMIT DROP AS SELECT * FROM projection WHERE is_current; \
    UPDATE projection SET is_current = false WHERE is_current; \
    INSERT INTO projection (user_partition, epoch, log_id, lsn, is_current, updated_at, \
        keeps_accounts) \
        SELECT user_partition, epoch + 1, log_id, lsn, true, now(), keeps_accounts FROM old; \
    COMMIT";

#[test]
fn who_was_replaced_ends_and_says_why() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    assert_eq!(database.number("SELECT max(epoch) FROM projection"), 1);

    database.sql(TAKE_OVER);
    let Server { mut program, .. } = server;
    let line = program.await_error("error: ");
    for expected in ["written by another process since epoch 2", "began epoch 1"] {
        assert!(line.contains(expected), "{expected} is missing: {line}");
    }
    assert_eq!(program.wait().code(), Some(1), "{PATIENCE:?} are enough");
    let later = database.number("SELECT count(*) FROM projection WHERE is_current AND epoch = 2");
    assert_eq!(later, 64);

    // Restarted deliberately, it takes over in turn, and has everything.
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    until("an epoch of its own", || {
        (database.number("SELECT max(epoch) FROM projection") == 3).then_some(())
    });
    server.user(data.path(), "alice").place_resting("IBM");
    support::postgres::assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn another_log_is_refused_at_the_start_or_waited_for() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);

    let stranger = Server::start(other.path(), &[&settings[..], &["--node-id=1"]].concat());
    let line = stranger.program.await_error("until an operator fixes this");
    assert!(line.contains("follows log") && line.contains("longbow restore"), "{line}");
    stranger.user(other.path(), "bob").place_resting("IBM");
    assert!(stranger.program.stop().success());
    assert_eq!(database.number("SELECT count(*) FROM orders WHERE user_id = 'bob'"), 0);

    server.user(data.path(), "alice").place_resting("IBM");
    support::postgres::assert_records_agree(server, data.path(), &database.url);
}
