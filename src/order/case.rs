//! What was heard of an order and cannot be taken as it is: quarantined until the exchange's record
//! or an operator decides.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::event::Fill;

/// Open cases of one order, at most. What comes beyond is only counted and logged: an exchange that
/// says nothing right about an order is not worth more memory.
pub const MAX_OPEN_CASES: usize = 16;
/// Longest text of a case or of an operator's reason, in bytes.
pub const MAX_CASE_TEXT_BYTES: usize = 240;

/// Something that was heard of an order and is in doubt, or does not fit it.
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
pub struct Case {
    /// What is wrong with it.
    pub cause: CaseCause,
    /// The execution that it is about, where it can be told.
    pub execution: Option<Fill>,
    /// What was heard, bounded.
    pub text: CompactString,
}

/// Why something is not taken as it is. New kinds go to the end: the position is part of the format.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    Hash,
    Serialize,
    Deserialize,
    rkyv::Archive,
    rkyv::Serialize,
    rkyv::Deserialize,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[serde(rename_all = "snake_case")]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CaseCause {
    /// The execution counts, and the exchange's record of the order lacks it.
    Doubtful,
    /// The line names another symbol than the order's.
    OtherSymbol,
    /// The price is worse than the order's limit.
    BeyondLimit,
    /// One execution is larger than the whole order.
    LargerThanOrder,
    /// The execution id stands for an execution of this order with another price or size.
    IdUsedAgain,
    /// The exchange gave the id of this order to another one as well.
    AmbiguousOrder,
    /// It cannot be read.
    Unreadable,
    /// The exchange's record of the order names another of its ids than the one that it accepted the
    /// order under.
    OtherExternalId,
    /// The exchange says again and again that it does not know the order, which it had accepted.
    UnknownAtExchange,
}

/// How a case ends.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CaseDecision {
    /// Which case: the version of the order that it made.
    pub number: u64,
    /// What becomes of its execution.
    pub outcome: CaseOutcome,
    /// The operator who decided; none where the exchange's own word did.
    pub by: Option<CompactString>,
    /// Why, for people.
    pub reason: CompactString,
}

impl fmt::Display for CaseDecision {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let by = self.by.as_deref().unwrap_or("the exchange's record");
        write!(
            formatter,
            "case {} {} by {by}: {}",
            self.number,
            self.outcome.into_str(),
            self.reason
        )
    }
}

/// What becomes of the execution of a case. New kinds go to the end.
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
    strum::IntoStaticStr,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum CaseOutcome {
    /// It counts, or goes on counting.
    Booked,
    /// It does not count, and never will under this id.
    Discarded,
    /// The case is void: what it was about is reconciled otherwise.
    Superseded,
}

/// An operator's act, and why.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OperatorAct {
    /// The operator, by the name that was given.
    pub by: CompactString,
    /// Why, for people.
    pub reason: CompactString,
}

/// A case that waits for a decision.
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
pub struct OpenCase {
    /// The version of the order that it made: names it within the order.
    pub number: u64,
    /// When we took note of it, in microseconds since the Unix epoch.
    pub opened_at_micros: u64,
    /// What it is about.
    pub case: Case,
}

/// A text cut to what a case keeps, at a character.
pub fn case_text(text: &str) -> CompactString {
    let mut end = text.len().min(MAX_CASE_TEXT_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_cut_at_a_character() {
        assert_eq!(case_text("short"), "short");
        let long = case_text(&"\u{e4}".repeat(500));
        assert!(long.len() <= MAX_CASE_TEXT_BYTES && long.len() > MAX_CASE_TEXT_BYTES - 2);
    }
}
