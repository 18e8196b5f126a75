//! A transaction comes to Postgres when the connection that sent it is given up and another one has
//! taken over: it changes nothing any more.

mod support;

use support::Server;
use support::load::{Load, assert_kept};
use support::postgres::{Postgres, assert_books_agree, await_caught_up};
use support::postgres_relay::{Cut, PostgresRelay};

#[test]
fn a_transaction_that_was_given_up_and_comes_late_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let relay = PostgresRelay::start(&postgres.address());
    let relayed = database.url.replace(&postgres.address(), &relay.address);
    let server = Server::start(data.path(), &["--postgres", &relayed, "--migrate"]);
    server.program.await_error("Postgres follows the log");
    let load = Load::start(&server, data.path(), 3);
    for _ in 0..3 {
        load.await_more(20);
        relay.cut_next(Cut::Late);
        server.program.await_error("Postgres follows the log");
        load.await_more(10);
        relay.deliver();
    }
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    let events = database.number("SELECT count(*) FROM order_events");
    let answered = i64::try_from(server.metric("projection_events_total")).unwrap();
    assert_eq!(answered, events, "nothing but what was answered");
    assert_kept(&[&database], &ids);
    assert_books_agree(server, data.path(), &database.url);
}
