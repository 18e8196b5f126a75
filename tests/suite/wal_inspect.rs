//! `wal inspect` prints the log, beside a running server and afterwards.

use std::path::Path;

use crate::support::{Server, run};
use serde_json::{Value, json};

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn inspect(data: &Path, more: &[&str]) -> (bool, String, String) {
    let mut arguments = vec!["wal", "inspect", "--data-dir", data.to_str().unwrap()];
    arguments.extend(more);
    let output = run(&arguments);
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

#[expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]
fn records(data: &Path, more: &[&str]) -> Vec<Value> {
    let (success, lines, error) = inspect(data, more);
    assert!(success, "{error}");
    lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn kinds(records: &[Value]) -> Vec<&Value> {
    records.iter().map(|record| &record["kind"]).collect()
}

#[test]
fn records_are_shown_decoded_and_chosen_from_beside_a_running_server() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    let (alice, bob) = (server.user(data.path(), "alice"), server.user(data.path(), "bob"));
    let order = alice.place_resting("IBM");
    bob.place_resting("SPY");
    let id = order["orderId"].as_str().unwrap();
    alice.delete(&format!("/order/{id}"));
    alice.await_status(id, "cancelled");

    let of_order = records(data.path(), &["--order", id]);
    assert_eq!(kinds(&of_order), ["created", "accepted", "cancel_requested", "cancelled"]);
    assert_eq!(of_order[0]["user"], "alice");
    assert_eq!(
        (&of_order[0]["symbol"], &of_order[0]["priceInCents"], &of_order[0]["numShares"]),
        (&json!("IBM"), &json!(1), &json!(10))
    );
    assert_eq!(of_order[1]["externalOrderId"], order["externalOrderId"]);
    assert_eq!(records(data.path(), &["--user", "alice"]), of_order);
    let theirs = records(data.path(), &["--user", "bob", "--kind", "accepted,filled"]);
    assert_eq!(kinds(&theirs), ["accepted"]);

    let all = records(data.path(), &[]);
    for (place, record) in all.iter().enumerate() {
        assert_eq!(record["lsn"], place + 1, "every record, in order");
    }
    let some = records(data.path(), &["--from", "2", "--count", "3"]);
    assert_eq!(some, all[1..4]);
    let cancelled = of_order[3]["lsn"].to_string();
    let late = records(data.path(), &["--user", "alice", "--from", &cancelled]);
    assert_eq!(late, of_order[3..], "its creation came before");

    let (success, lines, _) = inspect(data.path(), &["--order", id, "--format", "text"]);
    assert!(success);
    let first = lines.lines().next().unwrap();
    assert!(first.contains("kind=created") && first.contains("user=alice"), "{first}");
    server.program.kill();
    assert_eq!(records(data.path(), &["--order", id]), of_order, "and after the server");
}

#[test]
fn errors_name_what_was_asked_for_and_what_there_is() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), &[]);
    server.user(data.path(), "alice").place_resting("IBM");
    server.program.kill();
    let cases: &[(&[&str], &[&str])] = &[
        (&["--from", "1000000"], &["--from 1000000", "end of the log"]),
        (&["--from", "0"], &["--from", "0"]),
        (&["--kind", "fill"], &["--kind", "fill", "filled"]),
        (&["--order", "seven"], &["--order", "seven"]),
        (&["--user", "two words"], &["--user", "white space"]),
        (&["--format", "xml"], &["--format", "json", "text"]),
    ];
    for (more, expected) in cases {
        let (success, _, error) = inspect(data.path(), more);
        assert!(!success, "{more:?}");
        for expected in *expected {
            assert!(error.contains(expected), "{more:?} does not say {expected:?}: {error}");
        }
    }
    let (success, _, error) = inspect(Path::new("/does/not/exist"), &[]);
    assert!(!success && error.contains("/does/not/exist"), "{error}");
}
