use std::collections::BTreeSet;
use std::path::Path;

use super::super::halts::{LastChange, LastChanges, MAX_HALTED_SYMBOLS, MAX_HALTED_USERS};
use super::*;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn symbol(name: &str) -> Symbol {
    Symbol::new(name).unwrap()
}

const NOW: TimestampMicros = TimestampMicros::new(7);

#[test]
fn halts_are_persisted_and_only_the_given_parts_change() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill-switch.json");
    let switch = KillSwitch::open(path.clone()).unwrap();
    assert_eq!(switch.halted(&user("bob"), symbol("IBM")), None);
    let users = Some([user("bob")].into());
    switch.change(HaltChange { users, ..HaltChange::default() }, NOW).unwrap();
    let symbols = Some([symbol("SPY")].into());
    let by = Some("carol".to_owned());
    let halts = switch.change(HaltChange { symbols, by, ..HaltChange::default() }, NOW).unwrap();
    assert_eq!(halts.users, [user("bob")].into(), "a part that is not given is not lifted");

    let switch = KillSwitch::open(path.clone()).unwrap();
    assert_eq!(switch.halts(), halts, "over a restart");
    assert_eq!(switch.halted(&user("bob"), symbol("IBM")), Some(HaltScope::User));
    assert_eq!(switch.halted(&user("alice"), symbol("SPY")), Some(HaltScope::Symbol));
    assert_eq!(switch.halted(&user("alice"), symbol("IBM")), None);
    switch.change(HaltChange { all: Some(true), ..HaltChange::default() }, NOW).unwrap();
    assert_eq!(switch.halted(&user("alice"), symbol("IBM")), Some(HaltScope::All));
    let lifted = HaltChange {
        all: Some(false),
        users: Some(BTreeSet::new()),
        symbols: Some(BTreeSet::new()),
        ..HaltChange::default()
    };
    assert!(!switch.change(lifted, NOW).unwrap().any());
    assert!(!KillSwitch::open(path).unwrap().halts().any());
}

#[test]
fn operator_and_reason_of_unchanged_parts_stay() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill-switch.json");
    let switch = KillSwitch::open(path.clone()).unwrap();
    let said = |by: &str, reason: &str| HaltChange {
        by: Some(by.to_owned()),
        reason: Some(reason.to_owned()),
        ..HaltChange::default()
    };
    let users = Some([user("bob")].into());
    let runaway = HaltChange { users, ..said("carol", "a runaway program") };
    let carols = switch.change(runaway, NOW).unwrap().last_changes.users.clone();
    let symbols = Some([symbol("SPY")].into());
    let unsaid = HaltChange { symbols: symbols.clone(), ..HaltChange::default() };
    let halts = switch.change(unsaid, NOW).unwrap();
    assert_eq!((&halts.by, &halts.reason), (&None, &None), "no operator was given");
    assert_eq!((&halts.last_changes.symbols.by, &halts.last_changes.users), (&None, &carols));
    let later = TimestampMicros::new(8);
    let news = HaltChange { symbols, ..said("dave", "news are to come") };
    let halts = switch.change(news, later).unwrap();
    assert_eq!(halts.by.as_deref(), Some("dave"));
    assert_eq!(halts.last_changes.users, carols);
    assert_eq!(halts.last_changes.symbols.reason.as_deref(), Some("news are to come"));
    assert_eq!(halts.last_changes.symbols.changed_at, Some(later));
    assert_eq!(KillSwitch::open(path).unwrap().halts(), halts, "over a restart");
    let lifted = HaltChange { users: Some(BTreeSet::new()), ..HaltChange::default() };
    let lifted = switch.change(lifted, later).unwrap();
    let unnamed = LastChange { by: None, reason: None, changed_at: Some(later) };
    assert_eq!(lifted.last_changes.users, unnamed, "carol did not lift it");
}

#[test]
fn a_file_of_an_older_version_is_read() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill-switch.json");
    let text =
        r#"{"all":true,"users":[],"symbols":["SPY"],"by":"carol","reason":null,"changedAt":7}"#;
    fs::write(&path, text).unwrap();
    let halts = KillSwitch::open(path).unwrap().halts();
    assert!(halts.all && halts.last_changes == LastChanges::default());
}

#[test]
fn a_halt_that_cannot_be_written_is_in_force_and_reported() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing");
    let path = missing.join("kill-switch.json");
    let switch = KillSwitch::open(path.clone()).unwrap();
    let all = |all| HaltChange { all: Some(all), ..HaltChange::default() };
    switch.change(all(true), NOW).unwrap();
    assert_eq!(switch.halted(&user("bob"), symbol("IBM")), Some(HaltScope::All));
    let told = switch.unwritten().unwrap();
    assert!(told.contains("kill-switch.json") && told.contains("restart"), "{told}");
    fs::create_dir(missing).unwrap();
    switch.change(all(true), NOW).unwrap();
    assert_eq!(switch.unwritten(), None);
    assert!(KillSwitch::open(path).unwrap().halts().all);
    let full = io::Error::from(io::ErrorKind::StorageFull);
    assert!(not_durable(Path::new("x"), &full).contains("free space on the disk"));
}

#[test]
fn an_invalid_file_is_an_error_with_its_problem() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill-switch.json");
    for (broken, said) in [
        ("", "empty"),
        ("{", "ends early, in line 1"),
        (r#"{"all":"yes"}"#, "has the wrong type in line 1"),
        (r#"{"all":true}x"#, "in line 1"),
        ("{]", "not valid JSON in line 1, column 2"),
    ] {
        fs::write(&path, broken).unwrap();
        let error = KillSwitch::open(path.clone()).unwrap_err().to_string();
        assert!(error.contains("kill-switch.json") && error.contains(said), "{error}");
    }
}

#[test]
fn lists_are_limited_and_the_file_has_room_for_full_ones() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kill-switch.json");
    let switch = KillSwitch::open(path.clone()).unwrap();
    let users = |count: usize| {
        let name = |number: usize| user(&format!("{number:064}"));
        Some((0..count).map(name).collect())
    };
    let symbols = Some((0..MAX_HALTED_SYMBOLS).map(|n| symbol(&format!("S{n}"))).collect());
    let full = HaltChange { users: users(MAX_HALTED_USERS), symbols, ..HaltChange::default() };
    switch.change(full, NOW).unwrap();
    assert_eq!(KillSwitch::open(path).unwrap().halts(), switch.halts());
    let more = HaltChange { users: users(MAX_HALTED_USERS + 1), ..HaltChange::default() };
    let error = switch.change(more, NOW).unwrap_err().to_string();
    assert!(error.contains("1001 users") && error.contains("1000"), "{error}");
}
