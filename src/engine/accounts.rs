//! The accounts of one partition. An order in memory has its account in memory: all accounts of a
//! partition are.

use std::hash::RandomState;
use std::sync::Arc;

use super::spread_map::SpreadMap;
use crate::money::Account;
use crate::order::booking::{Entry, MoneyEffect};
use crate::order::{CashMoved, CashMovementKind, TrackedOrder};
use crate::types::UserId;

/// Hash tables for the accounts of one partition.
const TABLES: usize = 16;

/// The accounts of the users of one partition. A user without an entry has never had money.
#[derive(Debug)]
pub(super) struct Accounts {
    /// Whether they follow the orders: not before the log says so.
    is_kept: bool,
    by_user: SpreadMap<UserId, Account, RandomState>,
}

impl Default for Accounts {
    fn default() -> Self {
        Self { is_kept: false, by_user: SpreadMap::new(TABLES) }
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
        self.by_user.insert(user, account);
    }

    /// Books what a change of an order did to the account of its user.
    pub(super) fn book(&mut self, order: &mut TrackedOrder, effect: MoneyEffect) -> Option<Entry> {
        if !self.is_kept || effect.is_nothing() {
            return None;
        }
        let user = order.order().user.clone();
        let account = self.by_user.get_or_insert(user, Account::default());
        Some(effect.book(order, account))
    }

    /// Moves cash as recorded.
    pub(super) fn move_cash(&mut self, moved: &CashMoved) {
        if !self.is_kept {
            return;
        }
        let account = self.by_user.get_or_insert(moved.user.clone(), Account::default());
        let outcome = match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => account.deposit(moved.cents),
            CashMovementKind::Withdrawal => account.withdraw(moved.cents),
        };
        assert!(outcome.is_ok(), "only cash that may move is recorded: {moved:?}: {outcome:?}");
    }
}
