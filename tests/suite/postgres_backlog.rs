//! Postgres comes back after a long absence with many batches of changes to catch up: it gets all of them,
//! in order, while orders continue.

use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::{Exchange, Server};

/// Five times as many as the largest batch has.
const EVENTS: u64 = 20_000;
/// Steps in which they are awaited.
const STEPS: u64 = 10;

#[test]
fn many_changes_arrive_after_an_absence() {
    let (data, venue) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let mut postgres = Postgres::start();
    let database = postgres.database();
    // An extremely busy market makes many changes in a short time.
    let busy = Exchange::start(venue.path(), &["--speed", "150"]);
    let settings = [
        "--postgres",
        &database.url,
        "--migrate",
        "--postgres-share-percent",
        "100",
        "--exchange",
        &busy.address,
    ];
    let server = Server::start(data.path(), &settings);
    server.program.await_error("Postgres follows the log");
    postgres.kill();

    // Orders that many prints fill partially.
    let load = Load::start_with(&server, data.path(), (3, 20_000));
    for step in 1..=STEPS {
        until("more changes", || {
            let events = server.metric("orders_events_total");
            (events >= EVENTS / STEPS * step).then_some(())
        });
    }
    // The exchange comes back with a quiet market.
    let listen = busy.address.replace("http://", "");
    busy.program.kill();
    let _quiet = Exchange::start_at(&listen, venue.path(), &[]);
    postgres.start_again();
    load.await_more(30);
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    let events = database.number("SELECT count(*) FROM order_events");
    assert!(u64::try_from(events).unwrap() >= EVENTS, "{events} changes");
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}
