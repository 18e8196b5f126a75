//! What the log says about accounts themselves. Everything else about them follows from the orders.

use compact_str::CompactString;

use super::user_field::AsText;
use crate::money::Account;
use crate::types::{TimestampMicros, UserId};

/// Cash of a user that came from outside or went there.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CashMoved {
    #[rkyv(with = AsText)]
    pub user: UserId,
    /// Names the movement among those of the user.
    pub id: CompactString,
    /// When Longbow recorded it.
    pub at: TimestampMicros,
    /// Positive, also for a withdrawal.
    pub cents: i64,
    pub kind: CashMovementKind,
    /// The operator who moved it; `None` for an opening balance.
    pub by: Option<CompactString>,
    /// Free text.
    pub reason: CompactString,
}

/// What a cash movement does. One id stands for one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CashTerms {
    pub kind: CashMovementKind,
    /// Positive, also for a withdrawal.
    pub cents: i64,
}

impl CashMoved {
    /// What it does.
    pub fn terms(&self) -> CashTerms {
        CashTerms { kind: self.kind, cents: self.cents }
    }
}

/// Why cash moves. Append new kinds at the end: the position is part of the format.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CashMovementKind {
    /// A new account begins with it.
    Opening,
    /// It came from outside.
    Deposit,
    /// It went outside.
    Withdrawal,
}

/// The account of a user as it is from here on, whatever a follower has of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccountAdopted {
    pub user: UserId,
    /// When Longbow recorded it.
    pub at: TimestampMicros,
    pub source: AccountSource,
    pub account: Account,
}

/// Where an account comes from. Append new kinds at the end: the position is part of the format.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AccountSource {
    /// The orders of before there were accounts.
    Orders,
    /// Postgres, where the node before left it.
    Postgres,
    /// The store.
    Store,
}

/// From here on the log moves the money of all users.
#[derive(Debug, Clone, Copy, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct AccountsBegun {
    /// When Longbow recorded it.
    pub at: TimestampMicros,
}
