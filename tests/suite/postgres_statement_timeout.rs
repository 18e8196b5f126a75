//! A Postgres with a statement timeout, or short of resources, gets smaller batches until they succeed,
//! and larger ones again later.

use crate::support::Server;
use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree};

#[test]
fn a_batch_that_takes_too_long_is_halved_and_grows_again() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.program.await_error("Postgres follows the log");
    database.sql(
        "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS \
            $$ BEGIN PERFORM pg_sleep(0.005); RETURN new; END $$; \
         CREATE TRIGGER slow BEFORE INSERT ON orders FOR EACH ROW EXECUTE FUNCTION slow(); \
         ALTER DATABASE longbow SET statement_timeout = '1s'",
    );
    postgres.stop();
    let load = Load::start(&server, data.path(), 4);
    load.await_more(500);
    let mut ids = load.end();
    postgres.start_again();
    // 5 ms per order: a batch of everything always times out.
    let line = server.program.await_error("statement timeout");
    assert!(line.contains("orders continue"), "{line}");
    server.program.await_error("Postgres follows the log");
    until("everything to be there", || {
        (server.metric("projection_lag_records") == 0).then_some(())
    });
    assert!(server.metric("projection_halved_batches_total") >= 2);
    assert_eq!(server.metric("projection_stopped"), 0);
    let small = server.metric("projection_batch_events");
    assert!(small < 1_000, "{small}");

    database.sql("DROP TRIGGER slow ON orders");
    let load = Load::start(&server, data.path(), 2);
    until("larger batches", || (server.metric("projection_batch_events") > small).then_some(()));
    ids.extend(load.end());
    assert_records_agree(server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
}

#[test]
fn other_shortages_are_met_the_same_way() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    server.program.await_error("Postgres follows the log");
    // Each error rejects a statement with many orders: with fewer each time, as batches are smaller by then.
    for (state, words, most) in [
        ("55P03", "lock not available", 40),
        ("53200", "out of memory", 20),
        ("54000", "too much at once", 10),
    ] {
        let halved = server.metric("projection_halved_batches_total");
        database.sql(&format!(
            "CREATE OR REPLACE FUNCTION scarce() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
                IF (SELECT count(*) FROM written) > {most} THEN \
                    RAISE EXCEPTION '{words}' USING ERRCODE = '{state}'; \
                END IF; RETURN NULL; END $$; \
             CREATE TRIGGER scarce AFTER INSERT ON orders REFERENCING NEW TABLE AS written \
                FOR EACH STATEMENT EXECUTE FUNCTION scarce()"
        ));
        // A Postgres that is silent for a while finds many orders in one batch.
        postgres.pause();
        let load = Load::start(&server, data.path(), 8);
        load.await_more(60);
        postgres.resume();
        until(state, || (server.metric("projection_halved_batches_total") > halved).then_some(()));
        server.program.await_error(words);
        load.end();
        until("everything to be there", || {
            (server.metric("projection_lag_records") == 0).then_some(())
        });
        database.sql("DROP TRIGGER scarce ON orders");
    }
    assert_eq!(server.metric("projection_stopped"), 0);
    assert_records_agree(server, data.path(), &database.url);
}
