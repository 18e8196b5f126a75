//! What can happen: created orders, changes, unmatched reports and feed positions.

use compact_str::CompactString;

use super::case::{Case, CaseDecision, OperatorAct};
use super::fill::Fill;
use super::user_field::AsText;
use crate::money::Reservation;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, OrderType, PriceCents, Shares, Side,
    Symbol, TimeInForce, TimestampMicros, UserId,
};

/// A new order, durable before it is submitted to the exchange.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Created {
    /// Our id; the exchange receives it as `clientOrderId`.
    pub order_id: OrderId,
    #[rkyv(with = AsText)]
    pub user: UserId,
    /// The client's idempotency key; names one order for good.
    pub client_order_id: Option<ClientOrderId>,
    pub symbol: Symbol,
    pub side: Side,
    /// `None` for a market order.
    pub limit_price: Option<PriceCents>,
    pub time_in_force: TimeInForce,
    pub num_shares: Shares,
    pub created_at: TimestampMicros,
    /// Deadline: the exchange refuses the order after it.
    pub submit_before: TimestampMicros,
    /// What each share left reserves while the order is open.
    pub reservation: Reservation,
}

impl Created {
    /// A limit order if there is a limit price, else a market order.
    pub const fn order_type(&self) -> OrderType {
        if self.limit_price.is_some() { OrderType::Limit } else { OrderType::Market }
    }
}

/// One change of one order.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Changed {
    pub order_id: OrderId,
    /// When Longbow recorded it.
    pub at: TimestampMicros,
    pub change: Change,
}

/// What can happen to an order. Append new kinds at the end: the position is part of the format.
#[derive(
    Debug,
    Clone,
    PartialEq,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::IntoStaticStr,
    strum::VariantNames,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Change {
    /// The exchange accepted it.
    Accepted {
        /// The exchange's id of the order.
        external_order_id: ExternalOrderId,
    },
    /// The exchange rejected it.
    Rejected {
        /// The exchange's text, bounded.
        reason: CompactString,
    },
    /// The exchange does not know it after `submit_before`.
    NotAccepted,
    /// A cancel was requested.
    CancelRequested,
    /// It ended at the exchange with shares left.
    Cancelled { cause: CancelCause },
    /// The exchange rejected the cancel.
    CancelRejected {
        /// The exchange's text, bounded.
        reason: CompactString,
    },
    /// An execution.
    Filled(Fill),
    /// The feed or an operator declared an execution void: it never counts again.
    Busted { execution_id: ExecutionId },
    /// The exchange's record proves an execution void. It counts again if a source shows it again.
    TakenBack { execution_id: ExecutionId },
    /// A report about the order is doubtful or does not fit it, and is quarantined until decided.
    /// Boxed: it is rare, and no change should be larger than a fill.
    CaseOpened(Box<Case>),
    /// A quarantined case was decided.
    CaseClosed(Box<CaseDecision>),
    /// An operator closed the order.
    #[strum(serialize = "closed")]
    ClosedByOperator(Box<OperatorAct>),
}

impl Change {
    /// Whether it can end an order that is, or may be, at the exchange.
    pub const fn may_end(&self) -> bool {
        match self {
            Self::Filled(_)
            | Self::Cancelled { .. }
            | Self::Rejected { .. }
            | Self::CaseClosed(_)
            | Self::ClosedByOperator(_) => true,
            Self::Accepted { .. }
            | Self::NotAccepted
            | Self::CancelRequested
            | Self::CancelRejected { .. }
            | Self::Busted { .. }
            | Self::TakenBack { .. }
            | Self::CaseOpened(_) => false,
        }
    }
}

/// Why an order was cancelled.
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
pub enum CancelCause {
    /// The exchange reports it cancelled. The order knows whether a cancel was requested.
    Cancelled,
    /// Its time in force expired.
    Expired,
    /// A cancel was requested, and two queries agreed that the exchange does not know the order.
    #[strum(serialize = "unknown_at_exchange")]
    Unknown,
}

/// A report about an id that no known order has yet, recorded because the feed position is about to
/// pass it.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UnmatchedReport {
    /// The exchange's id of the order.
    pub external_order_id: ExternalOrderId,
    pub kind: ReportKind,
    /// When Longbow recorded it.
    pub received_at: TimestampMicros,
}

/// What an unsolicited report says.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReportKind {
    /// An execution.
    Filled(Fill),
    /// An execution was declared void.
    Busted { execution_id: ExecutionId },
    /// It was cancelled.
    Cancelled,
    /// Its time in force expired.
    Expired,
}

impl ReportKind {
    /// The change that the report means for its order.
    pub fn into_change(self) -> Change {
        match self {
            Self::Filled(fill) => Change::Filled(fill),
            Self::Busted { execution_id } => Change::Busted { execution_id },
            Self::Cancelled => Change::Cancelled { cause: CancelCause::Cancelled },
            Self::Expired => Change::Cancelled { cause: CancelCause::Expired },
        }
    }
}

/// A position in the feed.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FeedPosition {
    /// The numbering: the exchange's session name, with a suffix that no name can have when the
    /// session has restarted its numbering.
    pub session: CompactString,
    /// The last sequence processed.
    pub sequence: u64,
    /// When Longbow recorded it.
    pub at: TimestampMicros,
    /// Names of the sessions before it that are remembered, oldest first: one that comes back may
    /// number its lines anew. Postgres does not keep them.
    pub past: Vec<CompactString>,
}

/// Suffix for a session that restarted its numbering. Session names contain no space.
const RESTARTED_SUFFIX: &str = " again";

impl FeedPosition {
    /// The name of a numbering: the session name, marked if the numbering restarted under it.
    pub fn numbering_name(session: &str, is_renumbered: bool) -> CompactString {
        let mark = if is_renumbered { RESTARTED_SUFFIX } else { "" };
        compact_str::format_compact!("{session}{mark}")
    }

    /// The exchange's session name.
    pub fn session_name(&self) -> &str {
        self.session.strip_suffix(RESTARTED_SUFFIX).unwrap_or(&self.session)
    }

    /// Whether the session restarted its numbering.
    pub fn is_renumbered(&self) -> bool {
        self.session.ends_with(RESTARTED_SUFFIX)
    }
}
