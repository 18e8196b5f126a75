use serde::{Deserialize, Serialize};

use crate::types::{InvalidValue, Shares};

/// Order status, as clients see it.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    Serialize,
    Deserialize,
    strum::Display,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
#[strum(parse_err_ty = InvalidValue, parse_err_fn = unknown_status)]
pub enum Status {
    /// Recorded here; no answer from the exchange yet.
    Pending,
    /// Accepted by the exchange, nothing filled.
    Submitted,
    /// Partly filled.
    PartiallyFilled,
    /// Fully filled.
    Filled,
    /// A cancel was requested; its outcome is not known yet.
    PendingCancel,
    /// Cancelled or expired. Its fills stand.
    Cancelled,
    /// The exchange did not accept it.
    Failed,
}

impl Status {
    /// Whether the order is in a terminal state: no further change is expected.
    pub const fn is_terminal(self) -> bool {
        match self {
            Self::Filled | Self::Cancelled | Self::Failed => true,
            Self::Pending | Self::Submitted | Self::PartiallyFilled | Self::PendingCancel => false,
        }
    }
}

fn unknown_status(word: &str) -> InvalidValue {
    const ALLOWED: &str = "pending, submitted, partially_filled, filled, pending_cancel, \
                           cancelled or failed";
    InvalidValue::new(word, ALLOWED)
}

/// Why an order ended with shares left. Append new kinds at the end: the position is part of the
/// format of stored orders.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::EnumString,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum Ending {
    /// The exchange rejected it.
    Rejected,
    /// The exchange did not accept it before its deadline.
    NotAccepted,
    /// Cancelled on request.
    CancelledByUser,
    /// Cancelled by the exchange, unsolicited.
    CancelledByExchange,
    /// Its time in force expired.
    Expired,
    /// Closed by an operator.
    ClosedByOperator,
    /// Closed by an operator before the exchange accepted it.
    FailedByOperator,
}

impl Ending {
    /// Whether, as far as is known, the exchange never accepted the order.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Rejected | Self::NotAccepted | Self::FailedByOperator => true,
            Self::CancelledByUser
            | Self::CancelledByExchange
            | Self::Expired
            | Self::ClosedByOperator => false,
        }
    }

    /// Whether the order is called failed without the exchange's word: it may have the order after
    /// all, and is asked again.
    pub const fn may_live_at_exchange(self) -> bool {
        let may_live = match self {
            Self::NotAccepted | Self::FailedByOperator => true,
            Self::Rejected
            | Self::CancelledByUser
            | Self::CancelledByExchange
            | Self::Expired
            | Self::ClosedByOperator => false,
        };
        assert!(!may_live || self.is_failure(), "only a failed order is called so in doubt");
        may_live
    }
}

/// Everything that determines the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    pub shares_left: Shares,
    /// At least one execution counts.
    pub any_filled: bool,
    /// A cancel was requested and has no outcome yet.
    pub cancel_requested: bool,
    /// `None` while the order is open or fully filled.
    pub ending: Option<Ending>,
    /// The exchange's id is known.
    pub has_external_id: bool,
}

/// Derives the status; the only place that does.
///
/// The order of the checks is the precedence. A failed order stays failed whatever fills arrive
/// (they are recorded and alerted). An order without shares left is `filled` whatever was
/// requested. A recorded cancel shows only while the order is known to be at the exchange and has
/// shares left.
pub const fn reported_status(facts: Facts) -> Status {
    match facts.ending {
        Some(ending) if ending.is_failure() => return Status::Failed,
        Some(_) | None => {}
    }
    if facts.shares_left == 0 {
        return Status::Filled;
    }
    if facts.ending.is_some() {
        return Status::Cancelled;
    }
    if !facts.has_external_id && !facts.any_filled {
        return Status::Pending;
    }
    if facts.cancel_requested {
        return Status::PendingCancel;
    }
    if facts.any_filled { Status::PartiallyFilled } else { Status::Submitted }
}

#[cfg(test)]
mod tests {
    use strum::VariantArray;

    use super::*;

    const OPEN: Facts = Facts {
        shares_left: 10,
        any_filled: false,
        cancel_requested: false,
        ending: None,
        has_external_id: true,
    };

    #[test]
    fn the_status_follows_from_the_facts() {
        let unacknowledged = Facts { has_external_id: false, ..OPEN };
        assert_eq!(reported_status(unacknowledged), Status::Pending);
        let early_cancel = Facts { cancel_requested: true, ..unacknowledged };
        assert_eq!(reported_status(early_cancel), Status::Pending, "sent after the accept");
        assert_eq!(reported_status(OPEN), Status::Submitted);
        let partly_filled = Facts { any_filled: true, shares_left: 4, ..OPEN };
        assert_eq!(reported_status(partly_filled), Status::PartiallyFilled);
        let cancelling = Facts { cancel_requested: true, ..partly_filled };
        assert_eq!(reported_status(cancelling), Status::PendingCancel);
        let filled = Facts { shares_left: 0, ..cancelling };
        assert_eq!(reported_status(filled), Status::Filled, "no shares left to cancel");
        let ended = Facts { ending: Some(Ending::Expired), ..partly_filled };
        assert_eq!(reported_status(ended), Status::Cancelled);
        let failed = Facts { ending: Some(Ending::NotAccepted), ..filled };
        assert_eq!(reported_status(failed), Status::Failed);
    }

    #[test]
    fn words_come_back() {
        for &status in Status::VARIANTS {
            assert_eq!(status.into_str().parse(), Ok(status));
            assert_eq!(serde_json::to_value(status).unwrap(), status.into_str());
        }
        for &ending in Ending::VARIANTS {
            assert_eq!(ending.into_str().parse(), Ok(ending));
        }
        let refused = "open".parse::<Status>().unwrap_err().to_string();
        assert!(refused.contains("open") && refused.contains("pending_cancel"), "{refused}");
    }
}
