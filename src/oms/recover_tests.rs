//! A start with a log and a store of before there were accounts.

use std::collections::BTreeMap;

use super::*;
use crate::engine::Outbox;
use crate::index::{IndexAges, IndexWriter};
use crate::order::EventEncoder;
use crate::order::test_events::{accepted, busted, created, filled};
use crate::order::{AccountsBegun, RECORD_FORMAT_VERSION};
use crate::testing::MemoryStore;
use crate::wal::{LogId, Lsn};

const LOG: LogId = LogId(7);

/// A node as the test drives it: the log, and the store that follows it.
struct Node {
    log: Vec<Event>,
    store: MemoryStore,
}

impl Node {
    fn index(&self) -> Index {
        Index::in_memory(&self.store, IndexAges::default()).unwrap()
    }

    /// Lets the store follow the log up to a record.
    fn follow(&self, last: usize) {
        let mut writer = IndexWriter::new(self.index(), LOG).unwrap();
        for (at, event) in self.log.iter().enumerate().take(last) {
            let lsn = Lsn(at as u64 + 1);
            if lsn > writer.taken() {
                writer.take(lsn, event.clone()).unwrap();
            }
        }
        writer.commit().unwrap();
        writer.persist().unwrap();
    }

    fn recover(&self) -> Engines {
        let index = self.index();
        let engines = load(&index, EngineOptions::default(), 2).unwrap();
        let after = usize::try_from(index.position().0).unwrap();
        let mut encoder = EventEncoder::new();
        let recovered = replay(engines, 2, &index, |visit| {
            for (at, event) in self.log.iter().enumerate().skip(after) {
                let payload = encoder.encode(event).unwrap();
                visit(RecordView {
                    lsn: Lsn(at as u64 + 1),
                    epoch: 0,
                    partition: event.partition_byte(),
                    kind: event.kind(),
                    format_version: RECORD_FORMAT_VERSION,
                    payload,
                })
                .unwrap();
            }
            Ok(())
        });
        recovered.unwrap().engines
    }

    /// Starts, and records the first `recorded` of the events that the start decides.
    fn start(&mut self, recorded: usize) -> Engines {
        let (mut engines, mut out) = (self.recover(), Outbox::new());
        engines.start(TimestampMicros::new(9), &mut out);
        self.log.extend(out.events.into_iter().take(recorded));
        engines
    }
}

fn accounts(engines: &Engines) -> BTreeMap<UserId, Account> {
    engines.accounts().map(|(user, account)| (user.clone(), account.clone())).collect()
}

/// Ten users; the orders of each in turn. The first ones have ended and left memory.
fn log_of_before() -> Vec<Event> {
    let mut log = Vec::new();
    for number in 1..40 {
        log.push(Event::Created(created(number)));
        log.push(accepted(number));
        let shares = if number < 20 { 10 } else { 4 };
        log.push(filled(number, "e1", shares));
        if number % 7 == 0 {
            log.push(busted(number, "e1"));
        }
    }
    log
}

/// What the executions that count come to: shares and cost.
fn expected() -> BTreeMap<UserId, (i64, i64)> {
    let mut expected = BTreeMap::new();
    for number in (1..40).filter(|number| number % 7 != 0) {
        let shares = if number < 20 { 10 } else { 4 };
        let user = created(number).user;
        let (all, cost) = expected.entry(user).or_insert((0, 0));
        *all += shares;
        *cost += shares * 11_990;
    }
    expected
}

fn figures(engines: &Engines) -> BTreeMap<UserId, (i64, i64)> {
    let symbol = created(1).symbol;
    let figures = accounts(engines).into_iter().map(|(user, account)| {
        assert_eq!((account.cash_cents(), account.reserved_cents()), (0, 0));
        let holding = account.holding(symbol);
        assert_eq!(holding.cost_basis_cents(), account.deposited_cents());
        (user, (holding.shares(), holding.cost_basis_cents()))
    });
    figures.collect()
}

#[test]
fn accounts_begin_with_what_the_orders_come_to_and_stay() {
    let log = log_of_before();
    for followed in [0, 30, log.len()] {
        let mut node = Node { log: log.clone(), store: MemoryStore::new() };
        node.follow(followed);
        let begun = node.start(usize::MAX);
        assert!(begun.keeps_accounts());
        assert_eq!(figures(&begun), expected());
        let records = node.log.len();
        assert!(matches!(node.log.last(), Some(Event::AccountsBegun(_))));
        // Whatever of it the store has.
        for followed in [followed, records - 3, records] {
            node.follow(followed);
            let again = node.recover();
            assert!(again.keeps_accounts());
            assert_eq!(accounts(&again), accounts(&begun));
        }
        let index = node.index();
        for (user, account) in accounts(&begun) {
            assert_eq!(index.account(&user).unwrap(), Some(account));
        }
        // From here on they follow the orders.
        node.log.push(filled(30, "e2", 6));
        let before = node.recover();
        node.follow(records + 1);
        let after = node.recover();
        assert_eq!(accounts(&after), accounts(&before));
        let user = created(30).user;
        assert_eq!(after.account(&user).unwrap().cash_cents(), -6 * 11_990);
    }
}

#[test]
fn a_crash_while_accounts_begin_does_it_again() {
    let mut node = Node { log: log_of_before(), store: MemoryStore::new() };
    node.follow(50);
    let begun = node.start(5);
    assert!(begun.keeps_accounts(), "in memory");
    node.follow(node.log.len());
    assert!(!node.index().keeps_accounts().unwrap());
    let records = node.log.len();
    let again = node.start(usize::MAX);
    assert_eq!(accounts(&again), accounts(&begun));
    assert!(node.log.len() > records + 5, "all of it is recorded again");
    node.follow(node.log.len());
    assert_eq!(accounts(&node.recover()), accounts(&begun));
}

#[test]
fn a_new_log_has_accounts_from_its_first_record_on() {
    let mut node = Node { log: Vec::new(), store: MemoryStore::new() };
    let engines = node.start(usize::MAX);
    assert!(engines.keeps_accounts() && accounts(&engines).is_empty());
    let at = TimestampMicros::new(9);
    assert_eq!(node.log, [Event::AccountsBegun(AccountsBegun { at })]);
    node.start(usize::MAX);
    assert_eq!(node.log.len(), 1, "once");
}

#[test]
fn where_other_nodes_have_other_users_no_accounts_begin() {
    let options = EngineOptions { shares_users: true, ..EngineOptions::default() };
    let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
    let engines = load(&index, options, 1).unwrap();
    let mut engines = replay(engines, 1, &index, |_| Ok(())).unwrap().engines;
    let mut out = Outbox::new();
    engines.start(TimestampMicros::new(9), &mut out);
    assert!(out.events.is_empty() && !engines.keeps_accounts());
}
