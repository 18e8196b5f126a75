//! Postgres is up but does not answer: orders continue, and a stop does not wait for it.

use crate::support::Server;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};

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
