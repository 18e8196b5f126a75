//! The connection breaks between a commit and its answer: the batch takes effect once, whether or not
//! it was committed.

use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::postgres_relay::{Cut, PostgresRelay};

#[test]
fn a_batch_whose_answer_is_lost_takes_effect_once() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let (relay, server) = PostgresRelay::serve(&postgres, data.path());
    let load = Load::start(&server, data.path(), 3);
    load.await_more(30);

    // Committed without an answer: its events are not written a second time.
    let position = "SELECT max(lsn) FROM projection WHERE is_current";
    let before = database.number(position);
    relay.cut_next(Cut::BeforeAnswer);
    assert!(database.number(position) > before, "it was committed");
    server.program.await_error("Postgres follows the log");
    load.await_more(10);
    for cut in [Cut::BeforeCommit, Cut::BeforeAnswer, Cut::BeforeCommit, Cut::BeforeAnswer] {
        relay.cut_next(cut);
        server.program.await_error("Postgres follows the log");
        load.await_more(10);
    }
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    let events = database.number("SELECT count(*) FROM order_events");
    let answered = i64::try_from(server.metric("projection_events_total")).unwrap();
    assert!(answered < events, "{answered} events in answered batches, of {events}");
    assert_eq!(
        database.number("SELECT sum(version) - (SELECT count(*) FROM order_events) FROM orders"),
        0,
        "each version once"
    );
    assert_eq!(
        database.number("SELECT count(*) - count(DISTINCT lsn) FROM order_events"),
        0,
        "each record once"
    );
    assert_eq!(server.metric("projection_connects_total"), 6);
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}
