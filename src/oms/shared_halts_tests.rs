use std::collections::BTreeSet;

use super::*;
use crate::types::{Symbol, UserId};

fn at(micros: u64) -> TimestampMicros {
    TimestampMicros::new(micros)
}

fn users(names: &[&str]) -> Option<BTreeSet<UserId>> {
    Some(names.iter().map(|name| UserId::new(name).unwrap()).collect())
}

fn symbols(names: &[&str]) -> Option<BTreeSet<Symbol>> {
    Some(names.iter().map(|name| Symbol::new(name).unwrap()).collect())
}

fn all(all: bool) -> HaltChange {
    HaltChange { all: Some(all), ..HaltChange::default() }
}

/// What nodes share.
#[derive(Default)]
struct Postgres {
    version: i64,
    text: Option<String>,
}

impl Postgres {
    fn look(&self, node: &mut SharedHalts) -> bool {
        let look = node.begin_look();
        node.found(look, self.version, self.text.as_deref()).unwrap()
    }

    /// Writes a draft, unless another version is there by now.
    fn write(&mut self, node: &mut SharedHalts, draft: HaltsDraft) -> bool {
        if draft.version != self.version {
            return false;
        }
        self.version += 1;
        self.text = Some(draft.text.clone());
        node.written(draft, self.version);
        true
    }

    fn write_all(&mut self, node: &mut SharedHalts) {
        self.look(node);
        while let Some(draft) = node.draft() {
            assert!(self.write(node, draft), "nobody else writes");
        }
    }
}

#[test]
fn changes_of_two_nodes_at_once_both_hold() {
    let (mut postgres, mut first, mut second) =
        (Postgres::default(), SharedHalts::default(), SharedHalts::default());
    for node in [&mut first, &mut second] {
        assert!(!node.is_known() && node.warning().is_some());
        assert!(postgres.look(node) && node.is_known());
        assert_eq!(node.warning(), None);
    }
    let of_users = HaltChange { users: users(&["bob"]), ..HaltChange::default() };
    let of_symbols = HaltChange { symbols: symbols(&["SPY"]), ..HaltChange::default() };
    let (_, told) = first.begin(of_users, at(5)).unwrap();
    second.begin(of_symbols, at(3)).unwrap();
    assert!(first.in_force().users.len() == 1 && second.in_force().symbols.len() == 1, "at once");
    let (draft, late) = (first.draft().unwrap(), second.draft().unwrap());
    assert!(told.try_recv().is_err(), "not durable yet");
    assert!(postgres.write(&mut first, draft));
    assert!(told.try_recv().is_ok());
    assert!(!postgres.write(&mut second, late), "of a version that is gone");
    postgres.write_all(&mut second);
    assert!(postgres.look(&mut first));
    assert_eq!(first.in_force(), second.in_force());
    assert_eq!(first.in_force().count(), 2);
    assert!(!postgres.look(&mut first), "no news");
}

#[test]
fn a_look_that_began_before_a_change_was_written_takes_nothing_back() {
    let (mut postgres, mut node) = (Postgres::default(), SharedHalts::default());
    postgres.look(&mut node);
    let (look, version) = (node.begin_look(), postgres.version);
    node.begin(all(true), at(1)).unwrap();
    postgres.write_all(&mut node);
    assert!(!node.found(look, version, None).unwrap());
    assert!(node.in_force().all);
}

#[test]
fn a_change_that_is_late_stands_back_behind_later_ones_of_its_part() {
    let (mut postgres, mut node, mut other) =
        (Postgres::default(), SharedHalts::default(), SharedHalts::default());
    postgres.look(&mut node);
    let change = HaltChange { all: Some(true), users: users(&["bob"]), ..HaltChange::default() };
    let (number, _told) = node.begin(change, at(5)).unwrap();
    node.not_written("Postgres is away".to_owned());
    assert_eq!(node.warning(), None, "the operator waits");
    node.give_up(number);
    let warning = node.warning().unwrap();
    assert!(warning.contains("not durable") && warning.contains("is away"), "{warning}");
    postgres.look(&mut other);
    other.begin(all(false), at(6)).unwrap();
    postgres.write_all(&mut other);
    postgres.write_all(&mut node);
    assert_eq!(node.warning(), None);
    let halts = node.in_force();
    assert!(!halts.all, "it was lifted later");
    assert_eq!(Some(halts.users), users(&["bob"]), "nobody has said anything of users");
    let (number, _told) = node.begin(all(true), at(4)).unwrap();
    node.give_up(number);
    postgres.write_all(&mut node);
    assert!(!node.in_force().all && !node.has_unwritten(), "nothing is left of it");
    node.begin(all(true), at(4)).unwrap();
    postgres.write_all(&mut node);
    assert!(node.in_force().all, "whoever waits is obeyed, however late the clock of the node is");
}

#[test]
fn what_a_node_has_halted_alone_is_added_to_what_all_have_halted() {
    let (mut postgres, mut node, mut other) =
        (Postgres::default(), SharedHalts::default(), SharedHalts::default());
    postgres.look(&mut other);
    let change = HaltChange { users: users(&["bob"]), ..HaltChange::default() };
    other.begin(change, at(5)).unwrap();
    postgres.write_all(&mut other);
    let alone = HaltChange {
        users: users(&["carol"]),
        symbols: symbols(&["SPY"]),
        by: Some("dave".to_owned()),
        ..HaltChange::default()
    };
    node.keep(Halts::default().changed(alone, at(7)));
    assert_eq!(node.in_force().count(), 2, "before Postgres is read");
    assert!(node.draft().is_none(), "it changes what Postgres has");
    postgres.write_all(&mut node);
    let halts = node.in_force();
    assert_eq!(Some(&halts.users), users(&["bob", "carol"]).as_ref());
    assert_eq!((halts.symbols.len(), halts.by.as_deref()), (1, Some("dave")));
    assert!(postgres.look(&mut other) && other.in_force() == halts);
}

#[test]
fn a_text_that_cannot_be_read_changes_nothing() {
    let mut node = SharedHalts::default();
    let look = node.begin_look();
    assert!(node.found(look, 7, Some("{")).is_err());
    assert!(!node.is_known());
    node.begin(all(true), at(1)).unwrap();
    assert!(node.draft().is_none() && node.in_force().all && node.has_unwritten());
}
