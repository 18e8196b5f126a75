//! Postgres is restored from an older backup: the log supplies what it lacks.

use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up, verify};
use crate::support::{Server, run};

#[test]
fn what_a_backup_lacks_comes_from_the_log_again() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);
    let mut load = Load::start(&server, data.path(), 2);
    load.await_more(30);
    postgres.stop();
    let backup = postgres.back_up();
    postgres.start_again();
    load.await_more(30);
    let mut ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);

    // Once while the server runs, with the same epoch.
    postgres.stop();
    postgres.set_back(&backup);
    postgres.start_again();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);

    // And once across a restart, so that the backup also has an older epoch.
    assert!(server.program.stop().success());
    let server = Server::start(data.path(), &settings);
    load = Load::start(&server, data.path(), 2);
    load.await_more(30);
    ids.extend(load.end());
    await_caught_up(&server, data.path(), &database.url);
    postgres.stop();
    postgres.set_back(&backup);
    postgres.start_again();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn a_backup_that_is_too_old_for_the_log_is_said_and_filled_from_the_index() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings =
        ["--postgres", &database.url, "--migrate", "--wal-keep-mib", "0", "--wal-segment-mib", "1"];
    let server = Server::start(data.path(), &[&settings[..], &["--speed", "20"]].concat());
    await_caught_up(&server, data.path(), &database.url);
    postgres.stop();
    let backup = postgres.back_up();
    postgres.start_again();
    let load = Load::start_with(&server, data.path(), (2, 10_000));
    until("the log to be cut", || (server.metric("log_cut_segments_total") > 1).then_some(()));
    let ids = load.end();

    postgres.stop();
    postgres.set_back(&backup);
    postgres.start_again();
    let line = server.program.await_error("until an operator fixes this");
    assert!(line.contains("the log begins at") && line.contains("longbow backfill"), "{line}");
    let alice = server.user(data.path(), "alice");
    alice.place_resting("IBM");
    assert!(server.program.stop().success(), "orders went on");

    let dir = data.path().to_str().unwrap();
    let filled = run(&["backfill", "--data-dir", dir, "--postgres", &database.url]);
    assert!(filled.status.success(), "{}", String::from_utf8_lossy(&filled.stderr));
    let server = Server::start(data.path(), &settings);
    server.user(data.path(), "alice").place_resting("IBM");
    server.program.await_error("Postgres follows the log");
    assert!(server.program.stop().success());
    assert_kept(&[&database], &ids);
    verify(data.path(), &database.url);
}
