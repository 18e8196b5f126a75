//! Accounts in a comparison: those of the index, moved forward by the log after its position.

use std::collections::{HashMap, HashSet};

use super::OfflineError;
use crate::index::{Index, IndexError};
use crate::money::Account;
use crate::order::booking::MoneyEffect;
use crate::order::{AccountAdopted, CashMoved, CashMovementKind, TrackedOrder};
use crate::types::{UserId, UserPartition};
use crate::wal::Lsn;

/// The accounts that the log moves after the position of the index.
pub(super) struct ReplayedAccounts {
    index: Index,
    position: Lsn,
    reached: Lsn,
    /// Whether the index keeps accounts; without them there is nothing to compare.
    pub(super) are_kept: bool,
    moved: HashMap<UserId, Account>,
    /// Users whose account may have moved after `reached`.
    ahead: HashSet<UserId>,
}

impl ReplayedAccounts {
    pub(super) fn new(index: &Index, position: Lsn, reached: Lsn) -> Result<Self, OfflineError> {
        let are_kept = index.keeps_accounts()?;
        let (moved, ahead) = (HashMap::new(), HashSet::new());
        Ok(Self { index: index.clone(), position, reached, are_kept, moved, ahead })
    }

    /// Books what a record did to an order and its account, unless the index has that.
    pub(super) fn book(
        &mut self,
        lsn: Lsn,
        order: &mut TrackedOrder,
        effect: MoneyEffect,
    ) -> Result<(), OfflineError> {
        if !self.are_kept || effect.is_nothing() {
            return Ok(());
        }
        let user = order.order().user.clone();
        self.note_ahead(lsn, &user);
        if lsn > self.position {
            effect.book(order, self.account(&user)?);
        }
        Ok(())
    }

    pub(super) fn move_cash(&mut self, lsn: Lsn, moved: &CashMoved) -> Result<(), OfflineError> {
        self.note_ahead(lsn, &moved.user);
        if !self.are_kept || lsn <= self.position {
            return Ok(());
        }
        let account = self.account(&moved.user)?;
        let outcome = match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => account.deposit(moved.cents),
            CashMovementKind::Withdrawal => account.withdraw(moved.cents),
        };
        let user = moved.user.clone();
        outcome.map(drop).map_err(|source| IndexError::CashMovement { user, source }.into())
    }

    pub(super) fn adopt(&mut self, lsn: Lsn, adopted: &AccountAdopted) {
        self.note_ahead(lsn, &adopted.user);
        if lsn > self.position {
            self.moved.insert(adopted.user.clone(), adopted.account.clone());
        }
    }

    /// A record may have moved the account of this user.
    pub(super) fn note_ahead(&mut self, lsn: Lsn, user: &UserId) {
        if lsn > self.reached {
            self.ahead.insert(user.clone());
        }
    }

    /// Whether the account may have moved after the record that is compared.
    pub(super) fn is_ahead(&self, user: &UserId) -> bool {
        self.ahead.contains(user)
    }

    /// The accounts of a partition, as the log leaves them.
    pub(super) fn of_partition(
        &self,
        partition: UserPartition,
    ) -> Result<HashMap<UserId, Account>, OfflineError> {
        let mut accounts = HashMap::new();
        self.index.load_accounts(partition, &mut |user, account| {
            accounts.insert(user, account);
        })?;
        let own = self.moved.iter().filter(|(user, _)| user.partition() == partition);
        accounts.extend(own.map(|(user, account)| (user.clone(), account.clone())));
        Ok(accounts)
    }

    fn account(&mut self, user: &UserId) -> Result<&mut Account, OfflineError> {
        if !self.moved.contains_key(user) {
            let stored = self.index.account(user)?.unwrap_or_default();
            self.moved.insert(user.clone(), stored);
        }
        let Some(account) = self.moved.get_mut(user) else {
            unreachable!("the account was put there just now: {user}")
        };
        Ok(account)
    }
}
