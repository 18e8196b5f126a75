//! What a batch does to accounts: applies money to the working set, and makes the rows of what has changed.

use std::collections::{BTreeMap, BTreeSet};

use super::rows::{AccountRows, CashMovementRows, Entry, LedgerRows, PositionRows};
use super::working_set::WorkingAccounts;
use crate::money::Account;
use crate::order::booking::MoneyEffect;
use crate::order::{AccountAdopted, AccountSource, CashMoved, CashMovementKind, TrackedOrder};
use crate::types::{ExecutionId, Symbol, UserId, UserPartition};
use crate::wal::{LogId, Lsn};

/// The partitions whose accounts follow the orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct KeptAccounts(u64);

impl KeptAccounts {
    /// All partitions.
    pub(crate) const ALL: Self = Self(u64::MAX);

    pub(super) fn add(&mut self, partition: UserPartition) {
        self.0 |= 1 << partition.get();
    }

    pub(super) fn has(self, partition: UserPartition) -> bool {
        self.0 >> partition.get() & 1 == 1
    }
}

/// The accounts of a connection.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    pub(super) working: WorkingAccounts,
    pub(super) kept: KeptAccounts,
}

/// The rows of one transaction.
#[derive(Debug, Default)]
pub(super) struct MoneyRows {
    pub(super) accounts: AccountRows,
    pub(super) positions: PositionRows,
    pub(super) entries: LedgerRows,
    pub(super) cash_movements: CashMovementRows,
    /// Whether the rows replace others whatever these hold: some came whole.
    pub(super) are_whole: bool,
    /// Whether accounts follow the orders from this transaction on.
    pub(super) begins: bool,
}

/// Why money moves, for the ledger.
pub(super) struct Cause<'a> {
    pub(super) execution_id: Option<&'a ExecutionId>,
    /// Whether that execution counted before, and counts from now on.
    pub(super) counted: (bool, bool),
}

impl MoneyRows {
    /// Number of rows.
    pub(super) fn len(&self) -> usize {
        self.accounts.len() + self.positions.len() + self.entries.len() + self.cash_movements.len()
    }

    /// Adds an account as it is, with these of its symbols, and the version of each.
    pub(super) fn push(
        &mut self,
        (user, account): (&UserId, &Account),
        symbols: impl IntoIterator<Item = (Symbol, u64)>,
    ) {
        self.accounts.push(user, account);
        for (symbol, version) in symbols {
            self.positions.push(user, (symbol, account.holding(symbol)), version);
        }
    }
}

/// What the records of a batch do to accounts.
pub(super) struct AccountWriter<'a> {
    accounts: &'a mut Accounts,
    log_id: LogId,
    /// The changed symbols of each changed account, with its version at the last change of each.
    changed: BTreeMap<UserId, BTreeMap<Symbol, u64>>,
    rows: MoneyRows,
}

impl<'a> AccountWriter<'a> {
    pub(super) fn new(accounts: &'a mut Accounts, log_id: LogId) -> Self {
        Self { accounts, log_id, changed: BTreeMap::new(), rows: MoneyRows::default() }
    }

    /// Books what a record did to an order and the account of its user.
    pub(super) fn book(
        &mut self,
        (lsn, at): (Lsn, crate::types::TimestampMicros),
        order: &mut TrackedOrder,
        (effect, cause): (MoneyEffect, &Cause<'_>),
    ) {
        let user = order.order().user.clone();
        if effect.is_nothing() || !self.accounts.kept.has(user.partition()) {
            return;
        }
        let account = account_of(&mut self.accounts.working, &user, lsn);
        let movement = effect.book(order, account).movement;
        if movement.is_nothing() {
            return;
        }
        let version = account.version();
        let symbols = self.changed.entry(user.clone()).or_default();
        symbols.extend(movement.symbol().map(|symbol| (symbol, version)));
        if !movement.is_reservation() {
            let kind = match cause.counted {
                (false, _) => "execution",
                (true, false) => "bust",
                (true, true) => "correction",
            };
            let order_id = Some(order.order().order_id);
            let log = (self.log_id, lsn);
            let entry =
                Entry { at, kind, order_id, execution_id: cause.execution_id, id: None, log };
            self.rows.entries.push((&user, version), &movement, &entry);
        }
    }

    /// Moves cash as recorded. Whether that is for us.
    pub(super) fn move_cash(&mut self, lsn: Lsn, moved: &CashMoved) -> bool {
        if !self.accounts.kept.has(moved.user.partition()) {
            return false;
        }
        let account = account_of(&mut self.accounts.working, &moved.user, lsn);
        let movement = match moved.kind {
            CashMovementKind::Opening | CashMovementKind::Deposit => account.deposit(moved.cents),
            CashMovementKind::Withdrawal => account.withdraw(moved.cents),
        };
        let Ok(movement) = movement else {
            unreachable!("only cash that may move is recorded: {moved:?}: {movement:?}")
        };
        self.changed.entry(moved.user.clone()).or_default();
        let (at, kind) = (moved.at, moved.kind.into_str());
        let (id, log) = (Some(moved.id.as_str()), (self.log_id, lsn));
        let entry = Entry { at, kind, order_id: None, execution_id: None, id, log };
        self.rows.entries.push((&moved.user, account.version()), &movement, &entry);
        self.rows.cash_movements.push(moved);
        true
    }

    /// Takes an account as it was recorded. Whether Postgres lacks it.
    pub(super) fn adopt(&mut self, lsn: Lsn, adopted: &AccountAdopted) -> bool {
        let AccountAdopted { user, account, source, .. } = adopted;
        let working = &mut self.accounts.working;
        let is_new = *source != AccountSource::Postgres;
        if is_new {
            let before = working.get(user).into_iter().flat_map(Account::holdings);
            let symbols: BTreeSet<Symbol> =
                before.chain(account.holdings()).map(|(symbol, _)| symbol).collect();
            let symbols = symbols.into_iter().map(|symbol| (symbol, account.version()));
            self.changed.entry(user.clone()).or_default().extend(symbols);
            self.rows.are_whole = true;
        }
        working.insert(user.clone(), account.clone(), lsn);
        is_new
    }

    /// From here on accounts follow the orders.
    pub(super) fn begin(&mut self) {
        self.accounts.kept = KeptAccounts::ALL;
        self.rows.begins = true;
    }

    /// The rows.
    pub(super) fn finish(self) -> MoneyRows {
        let Self { accounts, changed, mut rows, .. } = self;
        for (user, symbols) in changed {
            let Some(account) = accounts.working.get(&user) else {
                unreachable!("what a batch has changed is in memory: {user}")
            };
            rows.push((&user, account), symbols);
        }
        rows
    }
}

fn account_of<'a>(working: &'a mut WorkingAccounts, user: &UserId, lsn: Lsn) -> &'a mut Account {
    let Some(account) = working.change(user, lsn) else {
        unreachable!("accounts are read before a batch moves their money: {user}")
    };
    account
}
