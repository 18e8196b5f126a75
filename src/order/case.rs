//! Cases: reports about an order that cannot be applied as they are, quarantined until the
//! exchange's record or an operator decides.

use std::fmt;

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use super::fill::Fill;

/// Maximum open cases of one order. Further ones are counted and logged only: an exchange that
/// reports so much nonsense about one order deserves no more memory.
pub const MAX_OPEN_CASES: usize = 16;
/// Maximum length of the text of a case or of an operator's reason, in bytes.
pub const MAX_CASE_TEXT_BYTES: usize = 240;

/// A report about an order that is doubtful or does not fit it.
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
    pub cause: CaseCause,
    /// The execution in question, if known.
    pub execution: Option<Fill>,
    /// What was reported, bounded.
    pub text: CompactString,
}

/// Why a report is quarantined. Append new kinds at the end: the position is part of the format.
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
    /// The line names a symbol other than the order's.
    OtherSymbol,
    /// The price is worse than the order's limit.
    BeyondLimit,
    /// One execution is larger than the whole order.
    LargerThanOrder,
    /// The execution id belongs to an execution of this order with another price or size.
    IdUsedAgain,
    /// The exchange gave this order's id to another order as well.
    AmbiguousOrder,
    /// It cannot be parsed.
    Unreadable,
    /// The exchange's record names an id other than the one that it accepted the order under.
    OtherExternalId,
    /// The exchange repeatedly does not know an order that it accepted.
    UnknownAtExchange,
    /// The exchange's record counts more filled shares than it lists executions for, and more than
    /// are known here.
    ShortList,
}

/// A decision about a case.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct CaseDecision {
    /// Number of the case; see [`OpenCase::number`].
    pub number: u64,
    pub outcome: CaseOutcome,
    /// The operator who decided; `None` if the exchange's record or feed did.
    pub by: Option<CompactString>,
    /// Free text.
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

/// What becomes of the execution of a case. Append new kinds at the end.
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
    /// It counts.
    Booked,
    /// It does not count, and never will under its id.
    Discarded,
    /// The case is moot: its subject was reconciled otherwise.
    Superseded,
}

/// An operator's action and its reason.
#[derive(Debug, Clone, PartialEq, Eq, rkyv::Archive, rkyv::Serialize, rkyv::Deserialize)]
pub struct OperatorAct {
    /// Name of the operator, as given.
    pub by: CompactString,
    /// Free text.
    pub reason: CompactString,
}

/// A case awaiting a decision.
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
    /// The order version that opened it; identifies the case within its order.
    pub number: u64,
    /// When it was opened, in microseconds since the Unix epoch.
    pub opened_at_micros: u64,
    pub case: Case,
}

/// Truncates a text to [`MAX_CASE_TEXT_BYTES`], at a character boundary.
pub fn case_text(text: &str) -> CompactString {
    let end = text.floor_char_boundary(MAX_CASE_TEXT_BYTES);
    assert!(end <= MAX_CASE_TEXT_BYTES, "the text of a case is bounded");
    assert!(
        end == text.len() || end + char::MAX.len_utf8() > MAX_CASE_TEXT_BYTES,
        "only what exceeds the limit is cut off"
    );
    text[..end].into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_truncated_at_a_character_boundary() {
        assert_eq!(case_text("short"), "short");
        let long = case_text(&"\u{e4}".repeat(500));
        assert!(long.len() <= MAX_CASE_TEXT_BYTES && long.len() > MAX_CASE_TEXT_BYTES - 2);
    }
}
