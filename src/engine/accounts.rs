//! The accounts of one partition. An order in memory has its account in memory: all accounts of a
//! partition are.

use std::collections::BTreeMap;
use std::hash::RandomState;
use std::sync::Arc;

use super::spread_map::SpreadMap;
use crate::money::Account;
use crate::order::booking::{Entry, MoneyEffect};
use crate::order::{CashMoved, CashMovementKind, CashTerms, TrackedOrder};
use crate::types::UserId;
use compact_str::CompactString;

/// Hash tables for the accounts of one partition.
const TABLES: usize = 16;

/// The accounts of the users of one partition. A user without an entry has never had money.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Whether they follow the orders: not before the log says so.
    is_kept: bool,
    by_user: SpreadMap<UserId, Account, RandomState>,
    /// How many of them have available cash or shares below zero.
    overdrawn: usize,
    /// Deposits and withdrawals that the store may lack, by user and id.
    cash_ids: BTreeMap<(UserId, CompactString), CashTerms>,
}

impl Default for Accounts {
    fn default() -> Self {
        let (by_user, cash_ids) = (SpreadMap::new(TABLES), BTreeMap::new());
        Self { is_kept: false, by_user, overdrawn: 0, cash_ids }
    }
}

impl Accounts {
    /// From here on they follow the orders.
    pub(super) fn begin(&mut self) {
        self.is_kept = true;
    }

    /// Whether they follow the orders.
    pub(super) fn are_kept(&self) -> bool {
        self.is_kept
    }

    pub(super) fn get(&self, user: &UserId) -> Option<&Account> {
        self.by_user.get(user)
    }

    /// An account for readers.
    pub(super) fn snapshot(&self, user: &UserId) -> Option<Arc<Account>> {
        self.get(user).cloned().map(Arc::new)
    }

    /// The name of a user as their account has it.
    pub(super) fn name_of(&self, user: &UserId) -> Option<&UserId> {
        self.by_user.get_key_value(user).map(|(known, _)| known)
    }

    /// All accounts, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&UserId, &Account)> {
        self.by_user.iter()
    }

    /// Replaces an account by one that was recorded or stored.
    pub(super) fn put(&mut self, user: UserId, account: Account) {
        self.change(user, |kept| *kept = account);
    }

    /// Number of accounts whose available cash or shares are negative.
    pub(super) fn overdrawn(&self) -> usize {
        self.overdrawn
    }

    /// Changes the account of a user, who gets one.
    fn change<R>(&mut self, user: UserId, work: impl FnOnce(&mut Account) -> R) -> R {
        let account = self.by_user.get_or_insert(user, Account::default());
        let was_overdrawn = account.is_overdrawn();
        let result = work(account);
        self.overdrawn += usize::from(account.is_overdrawn());
        assert!(self.overdrawn >= usize::from(was_overdrawn), "an overdrawn account is counted");
        self.overdrawn -= usize::from(was_overdrawn);
        result
    }

    /// Books what a change of an order did to the account of its user.
    pub(super) fn book(&mut self, order: &mut TrackedOrder, effect: MoneyEffect) -> Option<Entry> {
        if !self.is_kept || effect.is_nothing() {
            return None;
        }
        let user = order.order().user.clone();
        Some(self.change(user, |account| effect.book(order, account)))
    }

    /// Moves cash as recorded.
    pub(super) fn move_cash(&mut self, moved: &CashMoved) {
        if !self.is_kept {
            return;
        }
        let outcome = self.change(moved.user.clone(), |account| match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => account.deposit(moved.cents),
            CashMovementKind::Withdrawal => account.withdraw(moved.cents),
        });
        assert!(outcome.is_ok(), "only cash that may move is recorded: {moved:?}: {outcome:?}");
        if moved.kind != CashMovementKind::Opening {
            self.cash_ids.insert((moved.user.clone(), moved.id.clone()), moved.terms());
        }
    }

    /// What an id stands for, unless the store has it.
    pub(super) fn cash_terms(&self, user: &UserId, id: &str) -> Option<CashTerms> {
        self.cash_ids.get(&(user.clone(), id.into())).copied()
    }

    /// The ids of cash movements that are kept.
    pub(super) fn cash_ids(&self) -> impl Iterator<Item = (&UserId, &str)> {
        self.cash_ids.keys().map(|(user, id)| (user, id.as_str()))
    }

    /// Drops the id of a cash movement.
    pub(super) fn forget_cash_id(&mut self, user: &UserId, id: &str) {
        self.cash_ids.remove(&(user.clone(), id.into()));
    }
}
