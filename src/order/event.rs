//! The events of the log.

use super::account_event::{AccountAdopted, AccountsBegun, CashMoved};
use super::change::{Changed, Created, FeedPosition, UnmatchedReport};
use super::parts::OrderParts;
use super::tracked::TrackedOrder;
use crate::types::TimestampMicros;

/// A recorded fact. Replaying all events in log order restores the state.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An order was created.
    Created(Created),
    /// An order changed.
    Changed(Changed),
    /// The exchange reported something about an id that no known order has (yet).
    UnmatchedReport(UnmatchedReport),
    /// Everything that the feed brought up to this position is in the log.
    FeedPosition(FeedPosition),
    /// An order came from another node's log. Boxed: it is rare, and larger than the others.
    Adopted(Box<Adopted>),
    /// Cash came from outside or went there. Boxed: it is rare.
    CashMoved(Box<CashMoved>),
    /// The account of a user is this one from here on. Boxed: it is rare.
    AccountAdopted(Box<AccountAdopted>),
    /// Accounts are kept from here on.
    AccountsBegun(AccountsBegun),
}

impl Event {
    /// When Longbow recorded it.
    pub const fn at(&self) -> TimestampMicros {
        match self {
            Self::Created(created) => created.created_at,
            Self::Changed(changed) => changed.at,
            Self::UnmatchedReport(report) => report.received_at,
            Self::FeedPosition(position) => position.at,
            Self::Adopted(adopted) => adopted.at,
            Self::CashMoved(moved) => moved.at,
            Self::AccountAdopted(adopted) => adopted.at,
            Self::AccountsBegun(begun) => begun.at,
        }
    }
}

/// An order of a user whom this node has taken over, as the log of the node before left it.
#[derive(Debug, Clone)]
pub struct Adopted {
    /// When this node took it over.
    pub at: TimestampMicros,
    pub order: TrackedOrder,
}

impl PartialEq for Adopted {
    fn eq(&self, other: &Self) -> bool {
        let parts = |adopted: &Self| OrderParts::of_tracked(&adopted.order);
        self.at == other.at && parts(self) == parts(other)
    }
}
