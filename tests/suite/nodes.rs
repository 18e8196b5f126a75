//! Nodes: one process at a time is a node, and a copy of a data directory does not run beside its
//! original.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Command;

use crate::support::postgres::{Database, Postgres, await_caught_up};
use crate::support::{self, Program, Server};

/// Copies the data of a server that is held meanwhile, as a snapshot of its disk would be.
fn copy_of(server: &Server, data: &Path, copy: &Path) {
    server.program.freeze();
    let copied = Command::new("cp").arg("-a").arg(data).arg(copy).status().unwrap();
    server.program.thaw();
    assert!(copied.success());
}

/// A server that is to be refused: what it says.
fn refusal(data: &Path, more: &[&str]) -> String {
    let data = data.to_str().unwrap();
    let settings =
        ["serve", "--listen=127.0.0.1:0", "--admin-listen=127.0.0.1:0", "--data-dir", data];
    let mut program = Program::start(&[&settings, more].concat());
    let line = program.await_error("error: ");
    assert_eq!(program.wait().code(), Some(1));
    line
}

fn listed(database: &Database) -> Vec<Vec<String>> {
    let output = support::run(&["nodes", "--postgres", &database.url]);
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect();
    text.lines().skip(1).map(words).collect()
}

#[test]
fn a_copy_is_refused_beside_its_original_and_takes_over_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(&data, &settings);
    server.user(&data, "alice").place_resting("IBM");
    await_caught_up(&server, &data, &database.url);
    copy_of(&server, &data, &copy);

    let line = refusal(&copy, &settings);
    assert!(line.contains("is a copy of the one that node 0 runs with"), "{line}");
    let other_number = [&settings[..], &["--node-id=1"]].concat();
    let line = refusal(&copy, &other_number);
    assert!(line.contains("is a copy of the one that node 0 runs with"), "{line}");
    server.user(&data, "alice").place_resting("IBM");
    assert_eq!(listed(&database)[0][..3], ["0", "running", "1"]);

    // Once the original is dead and its lease is over, the copy is the node.
    server.program.kill();
    let server = Server::start(&copy, &settings);
    assert_eq!(listed(&database)[0][..3], ["0", "running", "2"]);
    assert!(server.program.stop().success());
    assert_eq!(listed(&database)[0][..3], ["0", "stopped", "2"]);
}

#[test]
fn another_log_under_the_same_number_is_refused() {
    let (data, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    let line = refusal(other.path(), &settings);
    for expected in ["node 0 runs on", "with another data directory", "--node-id"] {
        assert!(line.contains(expected), "{expected} is missing: {line}");
    }
    drop(server);
}

#[test]
fn a_process_that_was_frozen_ends_when_another_has_become_its_node() {
    let data = tempfile::tempdir().unwrap();
    let postgres = Postgres::start();
    let database = postgres.database();
    let server = Server::start(data.path(), &["--postgres", &database.url, "--migrate"]);
    await_caught_up(&server, data.path(), &database.url);
    server.program.freeze();
    database.sql("UPDATE nodes SET epoch = epoch + 1, home = 'm 1 elsewhere'");
    server.program.thaw();
    let Server { mut program, .. } = server;
    let line = program.await_error("error: ");
    assert!(line.contains("another process has become node 0 since (epoch 2;"), "{line}");
    assert_eq!(program.wait().code(), Some(1));
}

#[test]
fn a_node_joins_later_when_postgres_was_away() {
    let data = tempfile::tempdir().unwrap();
    let mut postgres = Postgres::start();
    let database = postgres.database();
    let settings = ["--postgres", &database.url, "--migrate"];
    let server = Server::start(data.path(), &settings);
    await_caught_up(&server, data.path(), &database.url);
    assert!(server.program.stop().success());
    postgres.stop();
    let server = Server::start(data.path(), &settings);
    assert_eq!(server.metric("node_epoch"), 0);
    postgres.start_again();
    let joined = || Some(server.metric("node_epoch")).filter(|epoch| *epoch > 1);
    let epoch = support::api::until("the node to join", joined).to_string();
    assert_eq!(listed(&database)[0][..3], ["0", "running", &epoch]);
}

#[test]
fn a_copy_without_postgres_is_warned_about() {
    let folder = tempfile::tempdir().unwrap();
    let (data, copy) = (folder.path().join("data"), folder.path().join("copy"));
    let server = Server::start(&data, &[]);
    copy_of(&server, &data, &copy);
    let second = Server::start(&copy, &[]);
    let line = second.program.await_error("was copied or moved");
    assert!(line.contains("orders are placed twice"), "{line}");
    assert!(second.program.stop().success());
    // It is at home there from now on.
    let second = Server::start(&copy, &[]);
    second.user(&copy, "alice").place_resting("IBM");
    assert!(second.program.stop().success());
}
