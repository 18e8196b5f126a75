//! `longbow verify` beside a running server compares a consistent snapshot, even under load.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;

use crate::offline::{assert_agree, command, id};
use crate::support::load::Load;
use crate::support::postgres::{Postgres, await_caught_up};
use crate::support::small_disk::{fill_up_to, free_bytes, with_small_disk};
use crate::support::{Server, api, run};

#[test]
fn records_are_compared_while_they_are_written() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = ["--postgres", url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let reconciled = server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    let load = Load::start(&server, data.path(), 2);
    for _ in 0..3 {
        load.await_more(30);
        let said = command("verify", data.path(), Some(url));
        assert_eq!((said.code, said.lines.len()), (0, 0), "{said:?}");
    }
    // It finds a difference, and only that.
    database
        .sql(&format!("UPDATE orders SET reason = 'mine' WHERE order_id = '{}'", id(&reconciled)));
    load.await_more(20);
    let said = command("verify", data.path(), Some(url));
    assert_eq!((said.code, said.lines.len()), (1, 1), "{said:?}");
    assert!(
        said.lines[0].contains(id(&reconciled)) && said.lines[0].contains("reason"),
        "{said:?}"
    );
    load.end();
    database
        .sql(&format!("UPDATE orders SET reason = NULL WHERE order_id = '{}'", id(&reconciled)));
    await_caught_up(&server, data.path(), url);
    assert!(!data.path().join("verifying").exists(), "nothing is left of a look");
    assert!(server.program.stop().success());
    assert_agree(data.path(), url);
}

#[test]
fn a_postgres_that_does_not_follow_is_behind_also_beside_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let settings = ["--postgres", url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let order = server.user(data.path(), "alice").place_resting("IBM");
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());

    let server = Server::start(data.path(), &[]);
    server.user(data.path(), "alice").place_resting("SPY");
    let said = command("verify", data.path(), Some(url));
    assert_eq!((said.code, said.lines.len()), (1, 1), "{said:?}");
    assert!(said.lines[0].contains("is behind for user partition"), "{said:?}");
    assert!(server.program.stop().success());

    // A partition on hold.
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), url);
    assert!(server.program.stop().success());
    database.sql(&format!("DELETE FROM orders WHERE order_id = '{}'", id(&order)));
    let server = Server::start(data.path(), &settings);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    assert_eq!(alice.delete(&format!("/order/{}", id(&order))).status, 200);
    server.program.await_error("the users of one partition");
    bob.place_resting("SPY");
    database.await_number("SELECT count(*) FROM orders WHERE user_id = 'bob'", 1);
    api::until("the lag of the partition on hold", || {
        (server.metric("projection_lag_records") > 0).then_some(())
    });
    let said = command("verify", data.path(), Some(url));
    let is_behind = |line: &String| line.contains("is behind for user partition ");
    assert_eq!(said.lines.iter().filter(|line| is_behind(line)).count(), 1, "{said:?}");
    assert_eq!(said.code, 1, "{said:?}");
    assert!(server.program.stop().success());
}

#[test]
fn nothing_is_repaired_beside_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let url = database.url.as_str();
    let server = Server::start(data.path(), &["--postgres", url, "--migrate"]);
    await_caught_up(&server, data.path(), url);
    let folder = data.path().to_str().unwrap();
    let output = run(&["verify", "--data-dir", folder, "--postgres", url, "--repair"]);
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    assert!(errors.contains("stop the server first"), "{errors}");
    drop(server);
}

#[test]
fn two_looks_at_once_and_a_killed_server_are_no_obstacle() {
    let deep = tempfile::tempdir().unwrap();
    // Longer than the limit for socket paths.
    let data = deep.path().join("long-".repeat(30));
    let server = Server::start(&data, &[]);
    server.user(&data, "alice").place_resting("IBM");
    let looks: Vec<_> = (0..2)
        .map(|_| {
            let data = data.clone();
            std::thread::spawn(move || command("verify", &data, None))
        })
        .collect();
    for look in looks {
        let said = look.join().expect("it does not panic");
        assert!(said.code == 0 || said.errors.contains("another comparison"), "{said:?}");
    }
    server.program.kill();
    assert_eq!(command("verify", &data, None).code, 0);
    let server = Server::start(&data, &[]);
    assert_eq!(command("verify", &data, None).code, 0, "the old socket is in nobody's way");
    drop(server);
}

/// The server's reserve, and slightly more than that.
const RESERVE_MIB: u64 = 16;
const LITTLE_BYTES: u64 = 40 * 1024;

#[test]
fn a_look_takes_no_room_that_the_server_needs() {
    let name = "a_look_takes_no_room_that_the_server_needs";
    with_small_disk(name, "size=160m,mode=0755", look_on_a_small_disk);
}

fn look_on_a_small_disk(disk: &Path) {
    let (data, ballast) = (disk.join("data"), disk.join("ballast"));
    let reserve = RESERVE_MIB.to_string();
    let settings = ["--wal-segment-mib", "1", "--wal-keep-mib", "0", "--disk-reserve-mib"];
    let server = Server::start(&data, &[&settings[..], &[&reserve]].concat());
    api::until("the reserve", || {
        (server.metric("log_reserve_bytes") == RESERVE_MIB << 20).then_some(())
    });
    server.user(&data, "alice").place_resting("IBM");
    let said = command("verify", &data, None);
    assert_eq!((said.code, said.lines.len()), (0, 0), "{said:?}");

    fill_up_to(&ballast, (RESERVE_MIB << 20) + LITTLE_BYTES);
    let said = command("verify", &data, None);
    assert_eq!((said.code, said.lines.len()), (1, 0), "{said:?}");
    assert!(said.errors.contains("make room, or stop the server first"), "{said:?}");
    assert!(!data.join("verifying").exists() && free_bytes(disk) >= RESERVE_MIB << 20);
    std::fs::remove_file(&ballast).unwrap();
    assert_eq!(command("verify", &data, None).code, 0);
}
