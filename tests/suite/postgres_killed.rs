//! Postgres is killed under load: afterwards nothing is missing or duplicated.

use crate::support::Server;
use crate::support::api::until;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};

const KILLS: usize = 4;

#[test]
fn a_kill_in_the_middle_of_batches_loses_nothing_and_repeats_nothing() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate", "--postgres-share-percent", "100"];
    let server = Server::start(data.path(), &settings);
    server.program.await_error("Postgres follows the log");
    let load = Load::start(&server, data.path(), 4);
    for _ in 0..KILLS {
        let before = server.metric("projection_transactions_total");
        until("two more transactions", || {
            (server.metric("projection_transactions_total") > before + 1).then_some(())
        });
        // In the middle of a transaction, as seen from its backend.
        until("a transaction under way", || {
            let open = database.number(
                "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'longbow' \
                 AND xact_start IS NOT NULL",
            );
            (open > 0).then_some(())
        });
        postgres.kill();
        load.await_more(20);
        postgres.start_again();
        server.program.await_error("Postgres follows the log");
    }
    let ids = load.end();
    assert!(server.metric("projection_connects_total") > KILLS as u64);
    assert_records_agree(server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
}

#[test]
fn a_kill_of_the_server_in_the_middle_of_batches_is_as_harmless() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let mut ids = Vec::new();
    for _ in 0..KILLS {
        let server = Server::start(data.path(), &settings);
        server.program.await_error("Postgres follows the log");
        let load = Load::start(&server, data.path(), 3);
        load.await_more(60);
        ids.extend(load.end());
        server.program.kill();
    }
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);
    let epochs = database.number("SELECT max(epoch) FROM projection");
    assert_eq!(usize::try_from(epochs).unwrap(), KILLS + 1, "each start is one");
    assert_records_agree(server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
}
