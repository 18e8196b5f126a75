//! Accounts in the store: written in the batch of the orders that moved them, so that account, order
//! and position cannot differ.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::recent::Recent;
use super::store::{ScanOrder, Space, View, Write};
use super::{Index, IndexError, cash, keys, node};
use crate::money::{Account, TrialBalance};
use crate::order::booking::MoneyEffect;
use crate::order::{AccountAdopted, CashMoved, CashMovementKind, TrackedOrder};
use crate::types::{UserId, UserPartition};
use crate::wal::Lsn;

impl Index {
    /// Whether accounts follow the orders.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn keeps_accounts(&self) -> Result<bool, IndexError> {
        are_kept(&*self.view()?)
    }

    /// The account of a user; `None` if they have never had money.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn account(&self, user: &UserId) -> Result<Option<Account>, IndexError> {
        stored(&*self.view()?, user)
    }

    /// The sums of all accounts, and the last record that they include. Reads all of them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn trial_balance(&self) -> Result<(Lsn, TrialBalance), IndexError> {
        let view = self.view()?;
        let position = node::meta(&*view)?.map_or(Lsn(0), |meta| meta.position);
        let mut all = TrialBalance::default();
        let range = (&[][..], &[u8::MAX][..]);
        view.scan(Space::Accounts, range, ScanOrder::Ascending, &mut |key, value| {
            all.add(&decode(&keys::user_of_account(key)?, value)?);
            Ok(true)
        })?;
        Ok((position, all))
    }

    /// Visits the accounts of a partition, by user.
    ///
    /// # Errors
    /// What cannot be read. Discard the accounts visited before the error.
    pub fn load_accounts(
        &self,
        partition: UserPartition,
        visit: &mut dyn FnMut(UserId, Account),
    ) -> Result<(), IndexError> {
        load(&*self.view()?, partition, visit)
    }
}

/// Visits the accounts of a partition, by user.
pub(super) fn load(
    view: &dyn View,
    partition: UserPartition,
    visit: &mut dyn FnMut(UserId, Account),
) -> Result<(), IndexError> {
    let (from, to) = keys::partition_range(partition);
    view.scan(Space::Accounts, (&from, &to), ScanOrder::Ascending, &mut |key, value| {
        let user = keys::user_of_account(key)?;
        let account = decode(&user, value)?;
        visit(user, account);
        Ok(true)
    })
}

pub(super) fn are_kept(view: &dyn View) -> Result<bool, IndexError> {
    Ok(view.get(Space::Node, &node::ACCOUNTS_KEY)?.is_some())
}

fn stored(view: &dyn View, user: &UserId) -> Result<Option<Account>, IndexError> {
    let found = view.get(Space::Accounts, &keys::account(user))?;
    found.map(|bytes| decode(user, &bytes)).transpose()
}

fn decode(user: &UserId, bytes: &[u8]) -> Result<Account, IndexError> {
    let damaged = |source| IndexError::Account { user: user.clone(), source };
    Account::from_bytes(bytes).map_err(damaged)
}

/// What a batch does to accounts.
pub(super) struct AccountWriter {
    /// Whether they follow the orders: not before the log says so.
    are_kept: bool,
    /// Whether this batch is the first in which they do.
    has_begun: bool,
    changed: HashMap<UserId, Account>,
    recent: Recent<UserId, Account>,
    /// What this batch adds to the cash movements.
    cash: Vec<Write>,
}

impl AccountWriter {
    pub(super) fn load(index: &Index) -> Result<Self, IndexError> {
        let are_kept = index.keeps_accounts()?;
        let (changed, recent, cash) = (HashMap::new(), Recent::default(), Vec::new());
        Ok(Self { are_kept, has_begun: false, changed, recent, cash })
    }

    /// From here on they follow the orders.
    pub(super) fn begin(&mut self) {
        (self.are_kept, self.has_begun) = (true, true);
    }

    /// Takes an account as it was recorded, whatever the store has.
    pub(super) fn adopt(&mut self, adopted: AccountAdopted) {
        self.recent.take(&adopted.user);
        self.changed.insert(adopted.user, adopted.account);
    }

    /// Books what a change of an order did to the account of its user.
    pub(super) fn book(
        &mut self,
        index: &Index,
        order: &mut TrackedOrder,
        effect: MoneyEffect,
    ) -> Result<(), IndexError> {
        if self.are_kept && !effect.is_nothing() {
            let user = order.order().user.clone();
            effect.book(order, self.account(index, user)?);
        }
        Ok(())
    }

    /// Moves cash as recorded.
    pub(super) fn move_cash(
        &mut self,
        index: &Index,
        lsn: Lsn,
        moved: CashMoved,
    ) -> Result<(), IndexError> {
        if !self.are_kept {
            return Ok(());
        }
        self.cash.push(cash::write(&moved, lsn));
        let (user, cents) = (moved.user, moved.cents);
        let account = self.account(index, user.clone())?;
        let outcome = match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => account.deposit(cents),
            CashMovementKind::Withdrawal => account.withdraw(cents),
        };
        outcome.map(drop).map_err(|source| IndexError::CashMovement { user, source })
    }

    fn account(&mut self, index: &Index, user: UserId) -> Result<&mut Account, IndexError> {
        match self.changed.entry(user) {
            Entry::Occupied(entry) => Ok(entry.into_mut()),
            Entry::Vacant(entry) => {
                let account = match self.recent.take(entry.key()) {
                    Some(account) => account,
                    None => stored(&*index.view()?, entry.key())?.unwrap_or_default(),
                };
                Ok(entry.insert(account))
            }
        }
    }

    /// Number of writes, at most.
    pub(super) fn len(&self) -> usize {
        self.changed.len() + self.cash.len() + 1
    }

    pub(super) fn write(&mut self, batch: &mut Vec<Write>) {
        if std::mem::take(&mut self.has_begun) {
            let (space, key) = (Space::Node, node::ACCOUNTS_KEY.into());
            batch.push(Write { space, key, value: Some((&[][..]).into()) });
        }
        batch.append(&mut self.cash);
        for (user, account) in self.changed.drain() {
            let (space, key) = (Space::Accounts, keys::account(&user));
            batch.push(Write { space, key, value: Some(account.to_bytes().into()) });
            self.recent.keep(user, account);
        }
    }
}
