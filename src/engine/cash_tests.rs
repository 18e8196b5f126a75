//! Deposits and withdrawals: an id moves cash once, whatever happens in between.

use super::test_rig::{OPTIONS, Rig};
use super::*;
use crate::money::{Account, Refusal};
use crate::order::{CashMovementKind, CashTerms, Event, OperatorAct};
use crate::types::*;

const CASH: EngineOptions = EngineOptions {
    accounts: AccountRules { mode: AccountMode::Cash, collar_percent: 5, opening_cents: 1_000 },
    ..OPTIONS
};

fn terms(kind: CashMovementKind, cents: i64) -> CashTerms {
    CashTerms { kind, cents }
}

fn deposit(cents: i64) -> CashTerms {
    terms(CashMovementKind::Deposit, cents)
}

fn withdrawal(cents: i64) -> CashTerms {
    terms(CashMovementKind::Withdrawal, cents)
}

fn move_cash(rig: &mut Rig, id: &str, terms: CashTerms, stored: Option<CashTerms>) -> CashReply {
    let request = MoveCash {
        user: UserId::new("alice").unwrap(),
        id: CashMovementId::new(id).unwrap(),
        terms,
        act: OperatorAct { by: "carol".into(), reason: "by hand".into() },
        stored,
    };
    let mut reply = None;
    rig.act(|engines, now, out| reply = Some(engines.move_cash(now, request, out)));
    reply.unwrap()
}

fn account(rig: &Rig) -> Account {
    rig.engines.account(&UserId::new("alice").unwrap()).cloned().unwrap_or_default()
}

/// The cash after a reply that moved it, or repeats that it has moved.
fn cash(reply: &CashReply) -> Option<i64> {
    match reply {
        CashReply::Moved(account) | CashReply::Repeated(account) => Some(account.cash_cents()),
        _ => None,
    }
}

#[test]
fn an_id_moves_cash_once() {
    let mut rig = Rig::new();
    assert_eq!(cash(&move_cash(&mut rig, "d", deposit(500), None)), Some(500));
    let effects = rig.take();
    let [Effect::PublishAccount { account: shown, event: 0, .. }] = &effects[..] else {
        panic!("{effects:?}");
    };
    assert_eq!(shown.cash_cents(), 500);
    let repeated = move_cash(&mut rig, "d", deposit(500), None);
    assert!(matches!(&repeated, CashReply::Repeated(_)), "{repeated:?}");
    for other in [deposit(501), withdrawal(500)] {
        assert_eq!(move_cash(&mut rig, "d", other, None), CashReply::Conflict(deposit(500)));
    }
    assert_eq!(rig.log.len(), 1);
    rig.restart();
    let repeated = move_cash(&mut rig, "d", deposit(500), None);
    assert!(matches!(&repeated, CashReply::Repeated(_)), "a replay brings ids: {repeated:?}");
    assert_eq!(account(&rig).cash_cents(), 500);
}

#[test]
fn an_id_that_memory_has_forgotten_is_the_stores() {
    let mut rig = Rig::new();
    move_cash(&mut rig, "d", deposit(500), None);
    let alice = UserId::new("alice").unwrap();
    assert_eq!(rig.engines.kept_cash_ids().collect::<Vec<_>>(), [(&alice, "d")]);
    rig.engines.forget_cash_id(&alice, "d");
    let repeated = move_cash(&mut rig, "d", deposit(500), Some(deposit(500)));
    assert_eq!(cash(&repeated), Some(500));
    let other = move_cash(&mut rig, "d", deposit(5), Some(deposit(500)));
    assert_eq!(other, CashReply::Conflict(deposit(500)));
    assert_eq!(rig.log.len(), 1);
}

#[test]
fn only_what_is_available_is_withdrawn() {
    let mut rig = Rig::new();
    move_cash(&mut rig, "d", deposit(500), None);
    let refused = move_cash(&mut rig, "w", withdrawal(501), None);
    let refusal = Refusal::InsufficientCash { available_cents: 500, needed_cents: 501 };
    assert_eq!(refused, CashReply::Refused(refusal));
    assert_eq!(rig.log.len(), 1, "a refusal records nothing");
    let done = move_cash(&mut rig, "w", withdrawal(500), None);
    assert_eq!(cash(&done), Some(0), "a refusal is not remembered");
    assert_eq!(account(&rig).deposited_cents(), 0);
}

#[test]
fn a_new_account_begins_with_its_opening_balance_and_then_cash_moves() {
    let mut rig = Rig::with(CASH);
    let refused = move_cash(&mut rig, "w", withdrawal(1_001), None);
    assert!(matches!(refused, CashReply::Refused(_)), "{refused:?}");
    assert_eq!(rig.engines.account(&UserId::new("alice").unwrap()), None);
    assert_eq!(cash(&move_cash(&mut rig, "d", deposit(5), None)), Some(1_005));
    let [Event::CashMoved(opening), Event::CashMoved(moved)] = &rig.log[..] else {
        panic!("{:?}", rig.log);
    };
    assert_eq!((opening.kind, opening.cents), (CashMovementKind::Opening, 1_000));
    assert_eq!((moved.terms(), moved.by.as_deref()), (deposit(5), Some("carol")));
    assert_eq!(cash(&move_cash(&mut rig, "w", withdrawal(1_005), None)), Some(0));
    assert_eq!(cash(&move_cash(&mut rig, "e", deposit(1), None)), Some(1), "it has begun");
}

#[test]
fn a_node_without_accounts_moves_no_cash() {
    let mut engines = Engines::new(OPTIONS);
    let request = MoveCash {
        user: UserId::new("alice").unwrap(),
        id: CashMovementId::new("d").unwrap(),
        terms: deposit(5),
        act: OperatorAct { by: "carol".into(), reason: "by hand".into() },
        stored: None,
    };
    let mut out = Outbox::new();
    let reply = engines.move_cash(TimestampMicros::new(1), request, &mut out);
    assert_eq!(reply, CashReply::NoAccounts);
    assert!(out.is_empty());
}
