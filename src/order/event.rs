use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::case::{Case, CaseDecision, OperatorAct};
use super::user_field::AsText;
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, OrderType, PriceCents, Shares, Side,
    Symbol, TimeInForce, TimestampMicros, UserId,
};

/// A fact that the log keeps. Replaying all of them, in order, gives the state again.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// An order came into being.
    Created(Created),
    /// Something happened to an order.
    Changed(Changed),
    /// The exchange reported something about an order that nobody here knows (yet).
    UnmatchedReport(UnmatchedReport),
    /// Everything of the feed up to here is in the log.
    FeedPosition(FeedPosition),
}

impl Event {
    /// When we took note of it.
    pub const fn at(&self) -> TimestampMicros {
        match self {
            Self::Created(created) => created.created_at,
            Self::Changed(changed) => changed.at,
            Self::UnmatchedReport(report) => report.received_at,
            Self::FeedPosition(position) => position.at,
        }
    }
}

/// A user's order, recorded before the exchange hears of it.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Created {
    /// Our id; towards the exchange the client order id.
    pub order_id: OrderId,
    /// Whose order.
    #[rkyv(with = AsText)]
    pub user: UserId,
    /// The user's own key, which names one order for good.
    pub client_order_id: Option<ClientOrderId>,
    /// What to trade.
    pub symbol: Symbol,
    /// Buy or sell.
    pub side: Side,
    /// The limit; a market order has none.
    pub limit_price: Option<PriceCents>,
    /// How long it stays.
    pub time_in_force: TimeInForce,
    /// Shares to trade.
    pub num_shares: Shares,
    /// When it was recorded.
    pub created_at: TimestampMicros,
    /// What the exchange has not accepted by then it never will.
    pub submit_before: TimestampMicros,
}

impl Created {
    /// Market or limit, by whether there is a limit price.
    pub const fn order_type(&self) -> OrderType {
        if self.limit_price.is_some() { OrderType::Limit } else { OrderType::Market }
    }
}

/// One change of one order.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct Changed {
    /// Which order.
    pub order_id: OrderId,
    /// When we took note of it.
    pub at: TimestampMicros,
    /// What happened.
    pub change: Change,
}

/// What can happen to an order. New kinds go to the end: the position is part of the format.
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
    /// The exchange took it.
    Accepted {
        /// The exchange's id.
        external_order_id: ExternalOrderId,
    },
    /// The exchange refused it.
    Rejected {
        /// Its words, bounded.
        reason: CompactString,
    },
    /// The exchange did not know it after `submit_before`.
    NotAccepted,
    /// Its user asked to cancel it.
    CancelRequested,
    /// It ended at the exchange with shares left.
    Cancelled {
        /// How that came.
        cause: CancelCause,
    },
    /// The exchange refused the cancel.
    CancelRejected {
        /// Its words, bounded.
        reason: CompactString,
    },
    /// Shares were traded for it.
    Filled(Fill),
    /// An execution is void, by the word of the feed or of an operator: it never counts again.
    Busted {
        /// Which one.
        execution_id: ExecutionId,
    },
    /// The exchange's record proves that an execution does not count. It counts again when it is
    /// shown again.
    TakenBack {
        /// Which one.
        execution_id: ExecutionId,
    },
    /// Something that was heard of the order is in doubt or does not fit it, and is kept for a
    /// decision. Behind a pointer: it is rare, and no change may be larger than a fill.
    CaseOpened(Box<Case>),
    /// That has been decided.
    CaseClosed(Box<CaseDecision>),
    /// An operator ended the order by hand.
    #[strum(serialize = "closed")]
    ClosedByOperator(Box<OperatorAct>),
}

impl Change {
    /// Whether it can end an order that was at the exchange, or may be there after all.
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

/// How an order came to be cancelled.
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
    /// The exchange says that it is cancelled; whether its user had asked, the order knows.
    Cancelled,
    /// Its time in force ended.
    Expired,
    /// Its user asked to cancel it, and the exchange said twice that it does not know it.
    #[strum(serialize = "unknown_at_exchange")]
    Unknown,
}

/// One execution.
#[derive(
    Debug,
    Clone,
    PartialEq,
    Eq,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
)]
#[serde(rename_all = "camelCase")]
pub struct Fill {
    /// Counts once per order.
    pub execution_id: ExecutionId,
    /// Price of each share.
    pub price: PriceCents,
    /// Shares.
    pub num_shares: Shares,
    /// When the exchange made it.
    pub executed_at: TimestampMicros,
}

impl Fill {
    /// Whether both tell of the same execution with the same numbers.
    pub fn is_same(&self, other: &Self) -> bool {
        (&self.execution_id, self.num_shares, self.price)
            == (&other.execution_id, other.num_shares, other.price)
    }
}

/// A report about an order id that is not known yet, kept because the feed position is about to
/// pass it.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct UnmatchedReport {
    /// The exchange's id of the order.
    pub external_order_id: ExternalOrderId,
    /// What it says.
    pub kind: ReportKind,
    /// When we took note of it.
    pub received_at: TimestampMicros,
}

/// What the exchange reports about an order, unasked.
#[derive(Debug, Clone, PartialEq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub enum ReportKind {
    /// Shares were traded for it.
    Filled(Fill),
    /// An execution is void.
    Busted {
        /// Which one.
        execution_id: ExecutionId,
    },
    /// It was cancelled.
    Cancelled,
    /// Its time in force ended.
    Expired,
}

impl ReportKind {
    /// The change that the report amounts to.
    pub fn into_change(self) -> Change {
        match self {
            Self::Filled(fill) => Change::Filled(fill),
            Self::Busted { execution_id } => Change::Busted { execution_id },
            Self::Cancelled => Change::Cancelled { cause: CancelCause::Cancelled },
            Self::Expired => Change::Cancelled { cause: CancelCause::Expired },
        }
    }
}

/// How far the feed has been taken.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct FeedPosition {
    /// Which numbering: the exchange's name of the session, and where that has numbered its lines
    /// again, a mark behind it that no name has.
    pub session: CompactString,
    /// The last sequence that has been taken.
    pub sequence: u64,
    /// When we took note of it.
    pub at: TimestampMicros,
}

/// Stands behind the name of a session whose numbering has begun again. Names have no space in them.
const AGAIN: &str = " again";

impl FeedPosition {
    /// The name of a numbering: that of its session, and whether it has begun again under that.
    pub fn numbering_name(session: &str, is_again: bool) -> CompactString {
        let mark = if is_again { AGAIN } else { "" };
        compact_str::format_compact!("{session}{mark}")
    }

    /// The exchange's name of the session.
    pub fn session_name(&self) -> &str {
        self.session.strip_suffix(AGAIN).unwrap_or(&self.session)
    }

    /// Whether the numbering has begun again under that name.
    pub fn is_again(&self) -> bool {
        self.session.ends_with(AGAIN)
    }
}
