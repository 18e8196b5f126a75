//! Postgres is up but does not answer: orders continue, and a stop does not wait for it.

use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::{Server, api};

#[test]
fn a_silent_server_holds_up_neither_orders_nor_a_stop() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);
    let load = Load::start(&server, data.path(), 3);
    load.await_more(30);
    postgres.pause();
    load.await_more(60);
    let ids = load.end();
    assert!(server.program.stop().success(), "in time");

    // The old session's unfinished transaction does no harm.
    postgres.resume();
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn a_node_that_joins_while_commits_hang_is_still_that_node_when_they_go_on() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    // Commits wait for a replica that there is none of; so does the renewal of the lease.
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    database.sql("SELECT pg_reload_conf()");
    database.await_number(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE wait_event = 'SyncRep' AND query LIKE 'UPDATE nodes%'",
        1,
    );
    server.program.kill();
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    let alice = server.user(data.path(), "alice");
    alice.place_resting("IBM");
    server.program.await_error("this node joins the others once Postgres lets it");
    database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    database.sql("SELECT pg_reload_conf()");
    // It renews the lease of the epoch that it has.
    let renewed = "SELECT (lease_until > now() + interval '3 seconds')::int::bigint FROM nodes";
    for _ in 0..3 {
        database.await_number(renewed, 1);
        database.sql("SELECT pg_sleep(1)");
    }
    api::until("the node's epoch to be known", || {
        let epoch = i64::try_from(server.metric("node_epoch")).unwrap();
        (database.number("SELECT epoch FROM nodes") == epoch).then_some(())
    });
    alice.place_resting("IBM");
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn a_server_that_freezes_during_a_batch_counts_as_lost_until_it_answers() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    let await_connected = |count: u64| {
        api::until("the number of connected servers", || {
            (server.metric("projection_connected") == count).then_some(())
        });
    };
    // Commits wait for a replica that there is none of.
    database.sql("ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    database.sql("SELECT pg_reload_conf()");
    server.user(data.path(), "alice").place_resting("IBM");
    database.await_number(
        "SELECT count(*) FROM pg_stat_activity \
         WHERE wait_event = 'SyncRep' AND query NOT LIKE 'UPDATE nodes%'",
        1,
    );
    let connects = server.metric("projection_connects_total");
    await_connected(1);
    postgres.pause();
    await_connected(0);
    postgres.resume();
    await_connected(1);
    assert_eq!(server.metric("projection_connects_total"), connects, "within the same batch");
    database.sql("ALTER SYSTEM RESET synchronous_standby_names");
    database.sql("SELECT pg_reload_conf()");
    assert_records_agree(server, data.path(), &database.url);
}
