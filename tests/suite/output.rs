//! Output of subcommands to a reader that stops reading, and to a full disk.

#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::fs::OpenOptions;
use std::process::{Output, Stdio};

use crate::support::longbow;

/// Runs the program with this output.
fn run_into(out: Stdio, arguments: &[&str]) -> Output {
    let child = longbow().args(arguments).stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    child.wait_with_output().unwrap()
}

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_reader_that_stops_reading_is_no_reason_to_complain() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("secret");
    std::fs::write(&secret, "a secret of more than thirty-two bytes in all").unwrap();
    let arguments = ["token", "--user", "alice", "--jwt-secret-file", secret.to_str().unwrap()];
    for arguments in [&arguments[..], &["wal", "verify", "--data-dir", "/nonexistent"]] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let output = run_into(writer.into(), arguments);
        if output.status.code() == Some(1) {
            // It had nothing to print.
            assert!(errors(&output).starts_with("error: "), "{}", errors(&output));
            continue;
        }
        assert_eq!((output.status.code(), errors(&output).as_str()), (Some(141), ""));
    }
}

#[test]
fn a_full_disk_is_told_in_a_sentence() {
    let data = tempfile::tempdir().unwrap();
    let secret = data.path().join("secret");
    std::fs::write(&secret, "a secret of more than thirty-two bytes in all").unwrap();
    let full = OpenOptions::new().write(true).open("/dev/full").unwrap();
    let arguments = ["token", "--user", "alice", "--jwt-secret-file", secret.to_str().unwrap()];
    let output = run_into(full.into(), &arguments);
    assert_eq!(output.status.code(), Some(1));
    let said = errors(&output);
    assert!(said.starts_with("error: cannot write to standard output: No space"), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
}
