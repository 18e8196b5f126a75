//! Bit rot in the log stops the start with the name of a command, which then locates the damage.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::support::small_disk::with_small_disk;
use crate::support::{Server, api, run};

#[test]
fn rot_is_refused_at_the_start_and_shown_by_the_command_that_the_error_names() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let server = Server::start(data.path(), &[]);
    let alice = server.user(data.path(), "alice");
    for _ in 0..5 {
        alice.place_resting("IBM");
    }
    server.program.kill();

    let sound = run(&["wal", "verify", "--data-dir", dir]);
    assert!(sound.status.success(), "{}", String::from_utf8_lossy(&sound.stdout));

    let first_segment = rot_in_first_segment(data.path());

    let listen = "127.0.0.1:0";
    let refused = run(&["serve", "--listen", listen, "--admin-listen", listen, "--data-dir", dir]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(!refused.status.success());
    assert!(error.contains("damaged") && error.contains("longbow wal verify"), "{error}");

    let rotten = run(&["wal", "verify", "--data-dir", dir]);
    assert_eq!(rotten.status.code(), Some(1));
    let report = String::from_utf8(rotten.stdout).unwrap();
    let name = first_segment.file_name().unwrap().to_str().unwrap();
    assert!(report.contains(name) && report.contains("4096"), "{report}");

    let nothing = run(&["wal", "verify", "--data-dir", "/does/not/exist"]);
    let error = String::from_utf8(nothing.stderr).unwrap();
    assert!(!nothing.status.success() && error.contains("/does/not/exist"), "{error}");
}

#[test]
fn a_log_that_ends_before_what_the_store_has_is_refused_in_the_same_words_by_both() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let server = Server::start(data.path(), &[]);
    server.user(data.path(), "alice").place_resting("IBM");
    // The store has all of it then.
    assert!(server.program.stop().success());
    let segment = first_segment(data.path());
    let mut bytes = fs::read(&segment).unwrap();
    let last = bytes.iter().rposition(|byte| *byte != 0).unwrap();
    bytes[last / 4_096 * 4_096..].fill(0);
    fs::write(&segment, bytes).unwrap();

    let listen = "127.0.0.1:0";
    let refused = run(&["serve", "--listen", listen, "--admin-listen", listen, "--data-dir", dir]);
    let error = String::from_utf8(refused.stderr).unwrap();
    let words = &error.trim()[error.rfind("the log in ").unwrap()..];
    assert!(!refused.status.success() && words.contains("was once durable in it"), "{error}");
    let verified = run(&["wal", "verify", "--data-dir", dir]);
    let report = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(1), "{report}");
    assert!(report.contains(words), "{report} does not say {words}");
}

#[test]
fn segments_with_records_that_are_missing_are_called_so() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    server.user(data.path(), "alice").place_resting("IBM");
    assert!(server.program.stop().success());
    fs::remove_file(first_segment(data.path())).unwrap();
    let (dir, listen) = (data.path().to_str().unwrap(), "127.0.0.1:0");
    let refused = run(&["serve", "--listen", listen, "--admin-listen", listen, "--data-dir", dir]);
    let error = String::from_utf8(refused.stderr).unwrap();
    assert!(error.contains("the segments with records are missing"), "{error}");
}

#[test]
fn a_log_that_no_index_reaches_is_refused_in_the_same_words_by_both() {
    let data = tempfile::tempdir().unwrap();
    let settings = ["--wal-segment-mib", "1"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    (0..SEGMENT_ORDERS).for_each(|_| drop(alice.place_resting("IBM")));
    assert!(server.program.stop().success());
    fs::remove_file(first_segment(data.path())).unwrap();
    fs::remove_dir_all(data.path().join("index")).unwrap();
    let (dir, listen) = (data.path().to_str().unwrap(), "127.0.0.1:0");
    let refused = run(&["serve", "--listen", listen, "--admin-listen", listen, "--data-dir", dir]);
    let error = String::from_utf8(refused.stderr).unwrap();
    let words = &error.trim()[error.find("there is no index in ").unwrap()..];
    let verified = run(&["wal", "verify", "--data-dir", dir]);
    let report = String::from_utf8(verified.stdout).unwrap();
    assert_eq!(verified.status.code(), Some(1), "{report}");
    assert!(report.contains(words), "{report} does not say {words}");
}

#[test]
fn a_read_only_disk_is_read_and_what_needs_to_write_says_so() {
    let name = "a_read_only_disk_is_read_and_what_needs_to_write_says_so";
    with_small_disk(name, "size=256m,mode=0755", read_only_disk);
}

fn read_only_disk(disk: &Path) {
    let data = disk.join("data");
    let server = Server::start(&data, &["--wal-segment-mib", "1", "--disk-reserve-mib", "1"]);
    server.user(&data, "alice").place_resting("IBM");
    assert!(server.program.stop().success());
    let mounted = Command::new("mount").args(["-o", "remount,ro"]).arg(disk).status().unwrap();
    assert!(mounted.success());
    let dir = data.to_str().unwrap();
    let verified = run(&["wal", "verify", "--data-dir", dir]);
    assert!(verified.status.success(), "{verified:?}");
    let inspected = run(&["wal", "inspect", "--data-dir", dir, "--count", "1"]);
    assert!(inspected.status.success() && !inspected.stdout.is_empty(), "{inspected:?}");
    let compared = run(&["verify", "--data-dir", dir]);
    let error = String::from_utf8(compared.stderr).unwrap();
    assert!(compared.status.code() == Some(1) && error.contains("copy wal/ and index/"), "{error}");
}

/// Flips a bit of the first batch, which is followed by later synced batches.
fn rot_in_first_segment(data: &Path) -> PathBuf {
    let first_segment = first_segment(data);
    let file = OpenOptions::new().read(true).write(true).open(&first_segment).unwrap();
    let (offset, mut byte) = (4096 + 60, [0]);
    file.read_exact_at(&mut byte, offset).unwrap();
    file.write_all_at(&[byte[0] ^ 1], offset).unwrap();
    first_segment
}

fn first_segment(data: &Path) -> PathBuf {
    let files = fs::read_dir(data.join("wal")).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).min().unwrap()
}

/// Orders that more than fill a segment of 1 MiB, with two records each in separate batches.
const SEGMENT_ORDERS: usize = 150;

#[test]
fn rot_in_what_the_store_has_keeps_nobody_from_starting_and_is_told_by_both() {
    let data = tempfile::tempdir().unwrap();
    let dir = data.path().to_str().unwrap();
    let settings = ["--wal-segment-mib", "1"];
    let server = Server::start(data.path(), &settings);
    let alice = server.user(data.path(), "alice");
    let mut orders: Vec<_> = (0..SEGMENT_ORDERS).map(|_| alice.place_resting("IBM")).collect();
    let recorded = server.metric("index_position") + server.metric("index_lag_records");
    api::until("the store to follow", || {
        (server.metric("index_position") >= recorded).then_some(())
    });
    // The store records its durable position in the second segment; more orders follow.
    api::until("a note of the second segment", || {
        orders.push(alice.place_resting("IBM"));
        let note = fs::read_to_string(data.path().join("wal/store-position")).ok()?;
        let record: u64 = note.lines().nth(1)?.strip_prefix("record ")?.parse().unwrap();
        (record >= recorded).then_some(())
    });
    server.program.kill();
    let first_segment = rot_in_first_segment(data.path());
    let name = first_segment.file_name().unwrap().to_str().unwrap();

    let verified = || {
        let output = run(&["wal", "verify", "--data-dir", dir]);
        let report = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{report}");
        assert!(report.contains(name) && report.contains("no start reads them"), "{report}");
        assert!(report.contains("the log will open"), "{report}");
    };
    verified();
    let server = Server::start(data.path(), &settings);
    let told = server
        .program
        .await_error("an old part of the log, which the store already has, is damaged");
    assert!(told.contains(name) && told.contains("longbow wal verify"), "{told}");
    assert_eq!(server.metric("log_old_damage"), 1);
    verified();
    let alice = server.user(data.path(), "alice");
    assert_eq!(alice.all_orders().len(), orders.len());
    alice.place_resting("IBM");
}
