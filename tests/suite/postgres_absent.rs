//! Postgres is down: orders continue, and it gets everything once it is back.

use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::{Server, run};

#[test]
fn orders_go_on_without_it_and_it_gets_all_of_them_when_it_comes() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::absent();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    server.program.await_error("orders continue without it");
    let load = Load::start(&server, data.path(), 3);
    load.await_more(60);
    assert_eq!(server.metric("projection_connected"), 0);

    // It comes back without tables; once an operator creates them, everything arrives.
    postgres.start_again();
    server.program.await_error("longbow migrate");
    let migrated = run(&["migrate", "--postgres", &database.url]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    server.program.await_error("Postgres follows the log");
    load.await_more(30);
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);

    // It is down again when the server stops: it catches up after the next start.
    postgres.stop();
    let alice = server.user(data.path(), "alice");
    let placed = alice.place_resting("IBM");
    assert!(server.program.stop().success(), "nobody waits for it at the stop");
    let server = Server::start(data.path(), &["--postgres", &database.url]);
    postgres.start_again();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &[placed["orderId"].as_str().unwrap().to_owned()]);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn with_migrate_it_gets_its_tables_when_it_comes() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::absent();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.program.await_error("orders continue without it");
    server.user(data.path(), "alice").place_resting("IBM");
    postgres.start_again();
    server.program.await_error("the tables are up to date");
    assert_records_agree(server, data.path(), &database.url);
}
