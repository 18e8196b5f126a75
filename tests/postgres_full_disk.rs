//! The disk of Postgres is full: orders go on, and it gets everything once there is room. On a real
//! file system of its own, which is seen by this test alone.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test stops at the first surprise")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::Server;
use support::load::{Load, assert_kept};
use support::postgres::{Postgres, assert_books_agree, await_caught_up};

const NAME: &str = "orders_go_on_and_it_gets_all_of_them_once_there_is_room";
/// Set where the test runs for the second time, inside.
const INSIDE: &str = "TEST_IN_OWN_MOUNTS";
/// Of the file system. Its files lie in memory.
const SIZE: &str = "size=256m,mode=0755";
/// Little of its own log is kept, for the disk to be full of other things.
const SETTINGS: [&str; 2] = ["max_wal_size=48MB", "min_wal_size=32MB"];

#[test]
fn orders_go_on_and_it_gets_all_of_them_once_there_is_room() {
    match std::env::var_os(INSIDE) {
        Some(folder) => with_a_small_disk(&PathBuf::from(folder)),
        None => run_inside(),
    }
}

/// Runs this test again where it may mount.
fn run_inside() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        command.args(["--user", "--map-current-user", "--keep-caps"]);
    }
    command.arg("--mount").arg(std::env::current_exe().unwrap());
    command.args(["--exact", NAME, "--nocapture"]).env(INSIDE, folder.path());
    let status = command.status().unwrap();
    assert!(
        status.success(),
        "{status}. If it could not mount: run it as root, or allow user namespaces"
    );
}

fn with_a_small_disk(disk: &Path) {
    let mut mount = Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", SIZE, "tmpfs"]).arg(disk);
    assert!(mount.status().unwrap().success(), "{mount:?}");

    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start_in(disk, &SETTINGS);
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    let ballast = disk.join("ballast");
    fill(&ballast);

    let load = Load::start(&server, data.path(), 3);
    let line = server.program.await_error("Postgres does not follow the log");
    assert!(line.contains("No space left on device") && line.contains("orders go on"), "{line}");
    load.await_more(30);
    assert_eq!(server.metric("projection_stopped"), 0, "it passes by itself");

    std::fs::remove_file(&ballast).unwrap();
    server.program.await_error("Postgres follows the log");
    let ids = load.end();
    await_caught_up(&server, data.path(), &database.url);
    assert_kept(&[&database], &ids);
    assert_books_agree(server, data.path(), &database.url);
}

/// Writes until there is no room.
fn fill(path: &Path) {
    let mut file = std::fs::File::create(path).unwrap();
    let page = [1; 4096];
    loop {
        match file.write_all(&page) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return,
            Err(error) => panic!("{error}"),
        }
    }
}
