use serde::{Deserialize, Serialize};

use crate::types::{InvalidValue, Shares};

/// Where an order stands, as clients are told.
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
    /// Recorded here; the exchange has not been heard of yet.
    Pending,
    /// Accepted by the exchange, nothing filled.
    Submitted,
    /// Some shares filled, some left.
    PartiallyFilled,
    /// No shares left.
    Filled,
    /// Its user asked to cancel it and the outcome is not known yet.
    PendingCancel,
    /// Cancelled or expired; fills kept.
    Cancelled,
    /// Never accepted.
    Failed,
}

impl Status {
    /// Whether nothing more is expected to happen to the order.
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

/// Why an order ended before all its shares were filled. New kinds go to the end: the position is
/// part of the format of stored orders. Postgres has the words.
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
    /// The exchange refused it.
    Rejected,
    /// The exchange did not accept it before its deadline.
    NotAccepted,
    /// Cancelled because its user asked.
    CancelledByUser,
    /// Cancelled by the exchange, unasked.
    CancelledByExchange,
    /// Its time in force ended.
    Expired,
    /// An operator ended it by hand.
    ClosedByOperator,
    /// An operator ended it by hand before the exchange had accepted it.
    FailedByOperator,
}

impl Ending {
    /// Whether the order never came into being at the exchange, as far as we were told.
    pub const fn is_failure(self) -> bool {
        match self {
            Self::Rejected | Self::NotAccepted | Self::FailedByOperator => true,
            Self::CancelledByUser
            | Self::CancelledByExchange
            | Self::Expired
            | Self::ClosedByOperator => false,
        }
    }
}

/// All that the reported status depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts {
    /// Shares not filled yet.
    pub shares_left: Shares,
    /// Whether any execution counts.
    pub any_filled: bool,
    /// Whether its user asked to cancel it and has no outcome yet.
    pub cancel_requested: bool,
    /// Why it ended, if it did.
    pub ending: Option<Ending>,
    /// Whether the exchange's id is known.
    pub has_external_id: bool,
}

/// The one place where a status comes from.
///
/// The order of the questions is the precedence: a failure is reported whatever fills turn up
/// (they are recorded and alerted); no shares left is `filled` whatever was asked; a recorded
/// cancel shows only once the order is known to be at the exchange and has shares left.
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
        let unheard = Facts { has_external_id: false, ..OPEN };
        assert_eq!(reported_status(unheard), Status::Pending);
        let asked_early = Facts { cancel_requested: true, ..unheard };
        assert_eq!(reported_status(asked_early), Status::Pending, "recorded, sent at the accept");
        assert_eq!(reported_status(OPEN), Status::Submitted);
        let some = Facts { any_filled: true, shares_left: 4, ..OPEN };
        assert_eq!(reported_status(some), Status::PartiallyFilled);
        let asked = Facts { cancel_requested: true, ..some };
        assert_eq!(reported_status(asked), Status::PendingCancel);
        let all = Facts { shares_left: 0, ..asked };
        assert_eq!(reported_status(all), Status::Filled, "only while shares are left");
        let ended = Facts { ending: Some(Ending::Expired), ..some };
        assert_eq!(reported_status(ended), Status::Cancelled);
        let failed = Facts { ending: Some(Ending::NotAccepted), ..all };
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
