//! Postgres' disk is full: orders continue, and it gets everything once there is space. On a real file
//! system mounted for this test.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use crate::support::Server;
use crate::support::load::{Load, assert_kept};
use crate::support::postgres::{Postgres, assert_records_agree, await_caught_up};
use crate::support::small_disk::{fill, with_small_disk};

/// Options of the file system, a tmpfs.
const SIZE: &str = "size=256m,mode=0755";
/// Limits Postgres' own WAL, so that other files fill the disk.
const SETTINGS: [&str; 2] = ["max_wal_size=48MB", "min_wal_size=32MB"];

#[test]
fn orders_go_on_and_it_gets_all_of_them_once_there_is_room() {
    let name = "orders_go_on_and_it_gets_all_of_them_once_there_is_room";
    with_small_disk(name, SIZE, orders_go_on);
}

fn orders_go_on(disk: &Path) {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_in(disk, &SETTINGS);
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    let ballast = disk.join("ballast");
    fill(&ballast);

    let load = Load::start(&server, data.path(), 3);
    let line = server.program.await_error("Postgres is not following the log");
    assert!(line.contains("No space left on device") && line.contains("orders continue"), "{line}");
    load.await_more(30);
    assert_eq!(server.metric("projection_stopped"), 0, "it passes by itself");

    std::fs::remove_file(&ballast).unwrap();
    server.program.await_error("Postgres follows the log");
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_records_agree(server, data.path(), &database.url);
}
