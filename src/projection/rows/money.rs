//! Rows of the tables of money.

use uuid::Uuid;

use super::super::values::{Text, Timestamp, bigint, uuid};
use super::{Parameters, insert, user_text};
use crate::money::{Account, Holding, Movement};
use crate::order::CashMoved;
use crate::types::{ExecutionId, OrderId, Symbol, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

columns! {
    /// Rows of `accounts`.
    AccountRows of accounts {
        user_id: Text => text,
        user_partition: i16 => smallint,
        cash_cents: i64 => bigint,
        reserved_cents: i64 => bigint,
        deposited_cents: i64 => bigint,
        version: i64 => bigint,
    }
}

columns! {
    /// Rows of `positions`.
    PositionRows of positions {
        user_id: Text => text,
        symbol: Text => text,
        user_partition: i16 => smallint,
        shares: i64 => bigint,
        reserved_shares: i64 => bigint,
        cost_cents: i64 => bigint,
        profit_cents: i64 => bigint,
        version: i64 => bigint,
    }
}

columns! {
    /// Rows of `ledger_entries`.
    LedgerRows of ledger_entries {
        user_id: Text => text,
        version: i64 => bigint,
        line: i16 => smallint,
        at: Timestamp => timestamptz,
        user_partition: i16 => smallint,
        kind: &'static str => text,
        symbol: Option<Text> => text,
        cash_cents: i64 => bigint,
        cost_cents: i64 => bigint,
        profit_cents: i64 => bigint,
        clearing_cents: i64 => bigint,
        shares: i64 => bigint,
        order_id: Option<Uuid> => uuid,
        execution_id: Option<Text> => text,
        movement_id: Option<Text> => text,
        log_id: i64 => bigint,
        lsn: i64 => bigint,
    }
}

columns! {
    /// Rows of `cash_movements`.
    CashMovementRows of cash_movements {
        user_id: Text => text,
        movement_id: Text => text,
        user_partition: i16 => smallint,
        at: Timestamp => timestamptz,
        kind: &'static str => text,
        cents: i64 => bigint,
        moved_by: Option<Text> => text,
        reason: Text => text,
    }
}

const ON_ACCOUNT: &str = "\
    ON CONFLICT (user_id) DO UPDATE SET cash_cents = excluded.cash_cents, \
        reserved_cents = excluded.reserved_cents, deposited_cents = excluded.deposited_cents, \
        version = excluded.version";
const ON_POSITION: &str = "\
    ON CONFLICT (user_id, symbol) DO UPDATE SET shares = excluded.shares, \
        reserved_shares = excluded.reserved_shares, cost_cents = excluded.cost_cents, \
        profit_cents = excluded.profit_cents, version = excluded.version";

/// The statement that replaces older versions of accounts, or whatever is there.
pub(in crate::projection) fn write_accounts(replaces_any: bool) -> String {
    let older = if replaces_any { "" } else { " WHERE accounts.version < excluded.version" };
    format!("{} {ON_ACCOUNT}{older}", AccountRows::insert())
}

/// The same for positions.
pub(in crate::projection) fn write_positions(replaces_any: bool) -> String {
    let older = if replaces_any { "" } else { " WHERE positions.version < excluded.version" };
    format!("{} {ON_POSITION}{older}", PositionRows::insert())
}

/// What the ledger says of a movement besides its amounts.
pub(in crate::projection) struct Entry<'a> {
    pub(in crate::projection) at: TimestampMicros,
    pub(in crate::projection) kind: &'static str,
    pub(in crate::projection) order_id: Option<OrderId>,
    pub(in crate::projection) execution_id: Option<&'a ExecutionId>,
    /// The id of a cash movement.
    pub(in crate::projection) id: Option<&'a str>,
    pub(in crate::projection) log: (LogId, Lsn),
}

impl AccountRows {
    pub(in crate::projection) fn push(&mut self, user: &UserId, account: &Account) {
        self.user_id.push(user_text(user));
        self.user_partition.push(user.partition().get().into());
        self.cash_cents.push(account.cash_cents());
        self.reserved_cents.push(account.reserved_cents());
        self.deposited_cents.push(account.deposited_cents());
        self.version.push(bigint(account.version()));
    }
}

impl PositionRows {
    /// Adds a holding with the version of its account at its last movement.
    pub(in crate::projection) fn push(
        &mut self,
        user: &UserId,
        (symbol, holding): (Symbol, Holding),
        version: u64,
    ) {
        let [shares, reserved_shares, cost_cents, profit_cents] = holding.amounts();
        self.user_id.push(user_text(user));
        self.symbol.push(Text::new(symbol.as_str()));
        self.user_partition.push(user.partition().get().into());
        self.shares.push(shares);
        self.reserved_shares.push(reserved_shares);
        self.cost_cents.push(cost_cents);
        self.profit_cents.push(profit_cents);
        self.version.push(bigint(version));
    }
}

impl LedgerRows {
    /// Adds a movement with the version of the account after it.
    pub(in crate::projection) fn push(
        &mut self,
        (user, version): (&UserId, u64),
        movement: &Movement,
        entry: &Entry<'_>,
    ) {
        let [cash_cents, cost_cents, profit_cents, clearing_cents] = movement.cents();
        self.user_id.push(user_text(user));
        self.version.push(bigint(version));
        self.line.push(0);
        self.at.push(Timestamp(entry.at));
        self.user_partition.push(user.partition().get().into());
        self.kind.push(entry.kind);
        self.symbol.push(movement.symbol().map(|symbol| Text::new(symbol.as_str())));
        self.cash_cents.push(cash_cents);
        self.cost_cents.push(cost_cents);
        self.profit_cents.push(profit_cents);
        self.clearing_cents.push(clearing_cents);
        self.shares.push(movement.shares());
        self.order_id.push(entry.order_id.map(uuid));
        self.execution_id.push(entry.execution_id.map(|id| Text::new(id.as_str())));
        self.movement_id.push(entry.id.map(Text::new));
        let (log_id, lsn) = entry.log;
        self.log_id.push(log_id.0.cast_signed());
        self.lsn.push(bigint(lsn.0));
    }
}

impl CashMovementRows {
    pub(in crate::projection) fn push(&mut self, moved: &CashMoved) {
        self.user_id.push(user_text(&moved.user));
        self.movement_id.push(Text::new(&moved.id));
        self.user_partition.push(moved.user.partition().get().into());
        self.at.push(Timestamp(moved.at));
        self.kind.push(moved.kind.into_str());
        self.cents.push(moved.cents);
        self.moved_by.push(moved.by.as_deref().map(Text::new));
        self.reason.push(Text::new(&moved.reason));
    }
}
