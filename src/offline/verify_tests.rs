//! Compares log and index. Postgres is compared in the tests of the whole program.

use std::fs;
use std::path::Path;

use super::test_node::{accepted, append, created, filled, follow, life_cycles, options, order};
use super::*;
use crate::index::IndexFiller;
use crate::order::Event;
use crate::wal::{self, Lsn, WalOptions};

fn differences(data_dir: &Path, max_orders_in_memory: u64) -> Vec<String> {
    let mut out = Vec::new();
    let count = verify(&options(data_dir, max_orders_in_memory), None, &mut out).unwrap();
    let lines: Vec<String> = String::from_utf8(out).unwrap().lines().map(Into::into).collect();
    assert_eq!(count, lines.len() as u64);
    lines
}

#[test]
fn equal_records_have_no_differences_wherever_the_index_is() {
    let data = tempfile::tempdir().unwrap();
    let events = life_cycles(30);
    append(data.path(), &events);
    for position in [1, 40, events.len() as u64] {
        follow(data.path(), Lsn(position));
        for max_orders in [0, 10, 1_000] {
            assert_eq!(differences(data.path(), max_orders), [""; 0], "{position} {max_orders}");
        }
    }
}

#[test]
fn each_difference_is_a_line_with_both_values() {
    let data = tempfile::tempdir().unwrap();
    let first = [Event::Created(created(1)), accepted(1), filled(1, "e1", 4)];
    append(data.path(), &[&first[..], &[Event::Created(created(2)), accepted(2)]].concat());
    follow(data.path(), Lsn(5));
    // An index of the same log that lacks a fill and an order.
    let index = DataDir::from(data.path()).index();
    fs::remove_dir_all(&index).unwrap();
    let log_start = wal::log_start(&WalOptions::new(DataDir::from(data.path()).wal())).unwrap();
    let mut filler = IndexFiller::create(&index, 1 << 20).unwrap();
    let other = order(1, &[accepted(1), filled(1, "e1", 3)]);
    filler.order(&other).unwrap();
    filler
        .external(other.order().external_order_id.as_ref().unwrap(), created(9).order_id)
        .unwrap();
    filler.finish_at(log_start.log_id.unwrap(), Lsn(5)).unwrap();

    let found = differences(data.path(), 1_000);
    let (one, two) = (created(1).order_id, created(2).order_id);
    let expected = [
        format!("order {one} of user user-1: filled_shares: the log has 4, the index has 3"),
        format!(
            "order {one} of user user-1: filled_value_cents: the log has 47960, the index has 35970"
        ),
        format!(
            "order {one} of user user-1: execution e1: the log has 4 shares at 11990 cents, the \
             index has 3 shares at 11990 cents"
        ),
        format!(
            "order {one} of user user-1: external_order_id X-1: the log has this order, the index \
             has no order"
        ),
        format!("order {two} of user user-2: order: the log has it, the index has none"),
    ];
    assert_eq!(found, expected);
}

#[test]
fn records_in_use_or_missing_are_left_alone() {
    let data = tempfile::tempdir().unwrap();
    let refused = |data_dir: &Path| {
        verify(&options(data_dir, 9), None, &mut Vec::new()).unwrap_err().to_string()
    };
    let nothing = refused(&data.path().join("nowhere"));
    assert!(nothing.contains("--data-dir"), "{nothing}");
    assert!(!data.path().join("nowhere").exists(), "nothing is created");

    append(data.path(), &life_cycles(3));
    let error = verify(&options(data.path(), 9), None, &mut Vec::new()).unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("there is no index"), "{cause}");
    follow(data.path(), Lsn(3));
    let log = WalOptions::new(DataDir::from(data.path()).wal());
    let held = wal::recover(&log, Lsn(3), &mut |_| Ok(())).unwrap();
    let in_use = refused(data.path());
    assert!(in_use.contains("stop the server first"), "{in_use}");
    drop(held);
    assert_eq!(differences(data.path(), 9), [""; 0]);
}

#[test]
fn what_a_member_of_a_cluster_has_is_not_held_against_postgres() {
    let data = tempfile::tempdir().unwrap();
    append(data.path(), &life_cycles(3));
    follow(data.path(), Lsn(3));
    fs::write(DataDir::from(data.path()).member(), "").unwrap();
    let servers = "postgres://x@127.0.0.1:1/x".parse().unwrap();
    let options = options(data.path(), 9);
    let refused = verify(&options, Some(&servers), &mut Vec::new()).unwrap_err();
    assert!(matches!(refused, OfflineError::OfMember { .. }), "{refused}");
    let refused = backfill(&options, &servers).unwrap_err();
    assert!(matches!(refused, OfflineError::OfMember { .. }), "{refused}");
    assert_eq!(differences(data.path(), 9), [""; 0], "log and index are compared");
}
