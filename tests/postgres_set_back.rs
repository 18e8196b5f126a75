//! Postgres is set back to an older backup: what it lacks then it gets from the log once more.

mod support;

use support::Server;
use support::load::{Load, assert_kept};
use support::postgres::{Postgres, assert_books_agree, await_caught_up};

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

    // Once while the server runs, which has begun no epoch since.
    postgres.stop();
    postgres.set_back(&backup);
    postgres.start_again();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);

    // And once after a start, when the backup has an older epoch too.
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
    assert_books_agree(server, data.path(), &database.url);
}
