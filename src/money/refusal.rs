//! Why requests are refused.

use super::cents::Overflow;
use crate::types::Shares;

/// Maximum of one deposit or withdrawal, in cents: a limit against typing errors.
pub const MAX_CASH_MOVEMENT_CENTS: i64 = 1_000_000_000_000_000;

/// Why a request is refused. Nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A buy needs more cash than is available.
    #[error("the order needs {needed_cents} cents; {available_cents} are available")]
    InsufficientBuyingPower {
        /// Negative after late truths.
        available_cents: i64,
        /// What it would reserve; `i64::MAX` if that is beyond it.
        needed_cents: i64,
    },
    /// A sell needs more shares than are available.
    #[error("the order needs {needed_shares} shares; {available_shares} are available")]
    InsufficientShares {
        /// Negative after late truths.
        available_shares: i64,
        /// What it would reserve.
        needed_shares: Shares,
    },
    /// A withdrawal needs more cash than is available.
    #[error("{needed_cents} cents were to be withdrawn; {available_cents} are available")]
    InsufficientCash {
        /// Negative after late truths.
        available_cents: i64,
        /// What was to be withdrawn.
        needed_cents: i64,
    },
    /// A deposit or withdrawal is not between 1 and [`MAX_CASH_MOVEMENT_CENTS`].
    #[error("{cents} cents are not allowed: expected 1 to {MAX_CASH_MOVEMENT_CENTS}")]
    OutOfRange {
        /// What was to be moved.
        cents: i64,
    },
    /// The account would have amounts beyond `i64`.
    #[error(transparent)]
    Overflow(#[from] Overflow),
}
