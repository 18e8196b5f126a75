//! A transaction reaches Postgres after its connection was abandoned and replaced: nothing is written
//! twice, whichever of the two comes first.

use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::postgres_relay::{Cut, PostgresRelay};

#[test]
fn behind_its_successor_it_changes_nothing() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let (relay, server) = PostgresRelay::serve(&postgres, data.path());
    let load = Load::start(&server, data.path(), 3);
    for _ in 0..3 {
        load.await_more(20);
        relay.cut_next(Cut::Late);
        let before = server.metric("projection_transactions_total");
        until("the next connection to have written", || {
            (server.metric("projection_transactions_total") > before).then_some(())
        });
        relay.deliver();
    }
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    // The metric may not include the last answer yet.
    until("nothing to be there but what was answered", || {
        let events = database.number("SELECT count(*) FROM order_events");
        let answered = i64::try_from(server.metric("projection_events_total")).unwrap();
        (answered == events).then_some(())
    });
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}

#[test]
fn before_its_successor_writes_it_counts_and_is_not_written_again() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let (relay, server) = PostgresRelay::serve(&postgres, data.path());
    let load = Load::start(&server, data.path(), 3);
    for _ in 0..3 {
        load.await_more(20);
        relay.cut_next(Cut::Late);
        // As soon as the next connection knows where to resume, usually before its first batch.
        server.program.await_error("Postgres follows the log");
        relay.deliver();
    }
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}
