//! Values of the exchange within the bounds of what is stored.

use compact_str::{CompactString, format_compact};

use crate::exchange::UnreadableElement;
use crate::exchange::wire::Refusal;
use crate::order::case_text;
pub(super) use crate::types::MAX_EXECUTION_SHARES;
use crate::types::Shares;

/// Longest reason that is stored, in bytes: records are small, and an exchange may be verbose.
pub(super) const MAX_REASON_BYTES: usize = 200;

/// The shares of an execution, if it has any and not too many to add up. Whether they fit the order
/// is the engine's decision.
pub(super) fn executed_shares(num_shares: Shares) -> Option<Shares> {
    (1..=MAX_EXECUTION_SHARES).contains(&num_shares).then_some(num_shares)
}

pub(super) fn reason(refusal: &Refusal) -> CompactString {
    let mut reason = format_compact!("{}: {}", refusal.code, refusal.message);
    let mut end = reason.len().min(MAX_REASON_BYTES);
    while !reason.is_char_boundary(end) {
        end -= 1;
    }
    reason.truncate(end);
    assert!(reason.len() <= MAX_REASON_BYTES, "a stored reason is bounded");
    reason
}

/// The text of an unreadable element that is stored with its order.
pub(in crate::oms) fn case_text_of(found: &UnreadableElement) -> CompactString {
    case_text(&format!("{}: {}", found.problem, found.text))
}
