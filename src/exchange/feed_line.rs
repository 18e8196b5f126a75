//! Parses one line of the feed. For a line that breaks the contract, it finds the cause and
//! recovers what can still be read.

use serde_json::Value;

use super::wire::{FeedLine, FeedLineType, FeedSession};
use crate::market::MAX_SEQUENCE;
use crate::types::{ExecutionId, ExternalOrderId, PriceCents, Symbol};

/// Longest feed line that is parsed.
pub(super) const MAX_LINE_BYTES: usize = 4 * 1024;
/// A sequence found in a line that is not JSON may be part of some text; it is believed only this
/// far ahead.
const MAX_GUESSED_AHEAD: u64 = 1_024;

/// A valid line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FeedMessage {
    /// A line of the feed.
    Line(FeedLine),
    /// A session line: another numbering begins.
    Session(FeedSession),
}

/// Why a line is skipped.
#[derive(
    Debug,
    Clone,
    Copy,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    strum::Display,
    strum::IntoStaticStr,
    strum::VariantArray,
)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum SkipCause {
    /// Over [`MAX_LINE_BYTES`].
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Not a JSON object.
    NotJson,
    /// Unknown type.
    UnknownType,
    /// The sequence is missing or invalid.
    Sequence,
    /// The timestamp is missing or invalid.
    Timestamp,
    /// The execution id is missing or invalid.
    ExecutionId,
    /// The symbol is missing or invalid.
    Symbol,
    /// The price is missing, or not a positive whole number of cents.
    Price,
    /// The shares are missing, or not a positive whole number.
    Shares,
    /// The order id is missing where the type needs it, or invalid.
    OrderId,
    /// A field has the wrong type, or occurs twice.
    Field,
    /// The line came before the session line.
    BeforeSession,
}

/// An unreadable line, and what can be recovered from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedLine {
    /// What is wrong with the line.
    pub cause: SkipCause,
    /// Its position in the session.
    pub sequence: Option<u64>,
    /// The line is not JSON as a whole, so `sequence` may be part of some text.
    pub is_sequence_guessed: bool,
    /// Its sequence is a whole number from [`MAX_SEQUENCE`] on.
    pub is_sequence_beyond: bool,
    /// The line is a heartbeat, so `sequence` repeats the last line's.
    pub is_heartbeat: bool,
    /// The order that the line names.
    pub order_id: Option<ExternalOrderId>,
    /// The line may belong to an order, but its id cannot be read.
    pub may_name_order: bool,
}

/// Parses a line without its line end.
///
/// # Errors
/// The line breaks the contract; the error says why, and what can be recovered.
pub fn read_line(line: &[u8]) -> Result<FeedMessage, SkippedLine> {
    if line.len() > MAX_LINE_BYTES {
        return Err(SkippedLine { cause: SkipCause::TooLong, ..diagnose(line) });
    }
    match serde_json::from_slice::<FeedLine>(line) {
        Ok(read) => match missing(&read) {
            None => Ok(FeedMessage::Line(read)),
            Some(cause) => Err(SkippedLine { cause, ..diagnose(line) }),
        },
        Err(_) => match session_of(line) {
            Some(session) => Ok(FeedMessage::Session(session)),
            None => Err(diagnose(line)),
        },
    }
}

/// A field that the line's type requires and the line lacks.
fn missing(line: &FeedLine) -> Option<SkipCause> {
    if line.sequence >= MAX_SEQUENCE {
        return Some(SkipCause::Sequence);
    }
    match line.line_type {
        FeedLineType::Heartbeat => None,
        FeedLineType::Trade if line.execution_id.is_none() => Some(SkipCause::ExecutionId),
        FeedLineType::Trade if line.symbol.is_none() => Some(SkipCause::Symbol),
        FeedLineType::Trade if line.price_in_cents.is_none() => Some(SkipCause::Price),
        FeedLineType::Trade => {
            line.num_shares.is_none_or(|shares| shares == 0).then_some(SkipCause::Shares)
        }
        FeedLineType::Bust => line.execution_id.is_none().then_some(SkipCause::ExecutionId),
        FeedLineType::Cancelled | FeedLineType::Expired => {
            line.order_id.is_none().then_some(SkipCause::OrderId)
        }
    }
}

/// A session line in the middle of a connection.
fn session_of(line: &[u8]) -> Option<FeedSession> {
    let value: Value = serde_json::from_slice(line).ok()?;
    let is_session = value.get("type").and_then(Value::as_str) == Some("session");
    is_session.then(|| serde_json::from_value(value).ok()).flatten()
}

/// Recovers what can be read of an invalid line.
fn diagnose(line: &[u8]) -> SkippedLine {
    match serde_json::from_slice::<Value>(line) {
        Ok(value @ Value::Object(_)) => diagnose_object(&value),
        Ok(_) | Err(_) => diagnose_bytes(line),
    }
}

fn diagnose_object(value: &Value) -> SkippedLine {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let given = value.get("orderId").filter(|given| !given.is_null());
    let order_id = text("orderId").and_then(|id| ExternalOrderId::new(id).ok());
    let given_sequence = value.get("sequence").and_then(Value::as_u64);
    let sequence = given_sequence.filter(|sequence| *sequence < MAX_SEQUENCE);
    let line_type = text("type");
    SkippedLine {
        cause: cause_of(value, line_type, sequence, given.is_some() && order_id.is_none()),
        sequence,
        is_sequence_guessed: false,
        is_sequence_beyond: given_sequence.is_some() && sequence.is_none(),
        is_heartbeat: line_type == Some("heartbeat"),
        may_name_order: given.is_some() && order_id.is_none(),
        order_id,
    }
}

fn cause_of(
    value: &Value,
    line_type: Option<&str>,
    sequence: Option<u64>,
    has_invalid_order: bool,
) -> SkipCause {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    let number = |name: &str| value.get(name).and_then(Value::as_u64);
    let has_id = || text("executionId").is_some_and(|id| ExecutionId::new(id).is_ok());
    let has_symbol = || text("symbol").is_some_and(|name| Symbol::new(name).is_ok());
    let has_price = || {
        let cents = value.get("priceInCents").and_then(Value::as_i64);
        cents.is_some_and(|cents| PriceCents::new(cents).is_ok())
    };
    let Some(line_type @ ("trade" | "bust" | "cancelled" | "expired" | "heartbeat")) = line_type
    else {
        return SkipCause::UnknownType;
    };
    let is_trade = line_type == "trade";
    let is_absent = |name: &str| value.get(name).is_none_or(Value::is_null);
    let may_lack = |name: &str| !is_trade && is_absent(name);
    if sequence.is_none() {
        SkipCause::Sequence
    } else if number("timestamp").is_none() {
        SkipCause::Timestamp
    } else if matches!(line_type, "trade" | "bust") && !has_id() {
        SkipCause::ExecutionId
    } else if !may_lack("symbol") && !has_symbol() {
        SkipCause::Symbol
    } else if !may_lack("priceInCents") && !has_price() {
        SkipCause::Price
    } else if !may_lack("numShares") && number("numShares").is_none_or(|shares| shares == 0) {
        SkipCause::Shares
    } else if has_invalid_order
        || (matches!(line_type, "cancelled" | "expired") && is_absent("orderId"))
    {
        SkipCause::OrderId
    } else {
        SkipCause::Field
    }
}

fn diagnose_bytes(line: &[u8]) -> SkippedLine {
    let cause =
        if std::str::from_utf8(line).is_ok() { SkipCause::NotJson } else { SkipCause::NotUtf8 };
    let order_id = member(line, br#""orderId""#)
        .and_then(|value| value.strip_prefix(b"\""))
        // An id cut short may be the prefix of another.
        .and_then(|value| value.get(..memchr::memchr(b'"', value)?))
        .and_then(|id| std::str::from_utf8(id).ok())
        .and_then(|id| ExternalOrderId::new(id).ok());
    let sequence = member(line, br#""sequence""#).and_then(leading_number);
    SkippedLine {
        cause,
        sequence: sequence.filter(|sequence| *sequence < MAX_SEQUENCE),
        is_sequence_guessed: true,
        is_sequence_beyond: false,
        is_heartbeat: false,
        may_name_order: order_id.is_none(),
        order_id,
    }
}

/// The bytes after a name and its colon, in a line that is not JSON as a whole.
fn member<'a>(line: &'a [u8], quoted_name: &[u8]) -> Option<&'a [u8]> {
    let start = memchr::memmem::find(line, quoted_name)? + quoted_name.len();
    let value = line.get(start..)?.trim_ascii_start().strip_prefix(b":")?;
    Some(value.trim_ascii_start())
}

fn leading_number(value: &[u8]) -> Option<u64> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let text = std::str::from_utf8(value.get(..digits)?).ok()?;
    text.parse().ok()
}

impl SkippedLine {
    /// Whether the line may be one of the numbered ones when its number cannot be read. A line of
    /// an unknown type without a number is not.
    pub fn may_have_number(&self) -> bool {
        self.cause != SkipCause::UnknownType
    }

    /// The sequence, if it is credible after `last_read`: in a line that is not JSON, the number
    /// may be anything.
    pub fn credible_sequence(&self, last_read: u64) -> Option<u64> {
        let is_near = |sequence: u64| {
            sequence.checked_sub(last_read).is_some_and(|by| (1..=MAX_GUESSED_AHEAD).contains(&by))
        };
        self.sequence.filter(|sequence| !self.is_sequence_guessed || is_near(*sequence))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"sequence":7,"type":"trade","executionId":"e7","symbol":"SPY","priceInCents":16740,"numShares":100,"orderId":"o7","timestamp":1}"#;

    fn unreadable(line: &[u8]) -> SkippedLine {
        read_line(line).expect_err(&String::from_utf8_lossy(line))
    }

    #[test]
    fn invalid_lines_have_their_cause_and_still_name_sequence_and_order() {
        for (from, to, cause) in [
            ("\"trade\"", "\"quote\"", SkipCause::UnknownType),
            ("\"trade\"", "7", SkipCause::UnknownType),
            ("16740", "0", SkipCause::Price),
            ("16740", "-5", SkipCause::Price),
            ("16740", "16740.5", SkipCause::Price),
            ("16740", "null", SkipCause::Price),
            ("16740", "\"16740\"", SkipCause::Price),
            ("16740", "1e300", SkipCause::Price),
            ("100", "0.5", SkipCause::Shares),
            ("100", "0", SkipCause::Shares),
            ("\"SPY\"", "\"AJAX=\"", SkipCause::Symbol),
            ("\"SPY\"", "\"BACpL\"", SkipCause::Symbol),
            ("\"SPY\"", "\"BRK A\"", SkipCause::Symbol),
            (",\"symbol\":\"SPY\"", "", SkipCause::Symbol),
            (",\"timestamp\":1", "", SkipCause::Timestamp),
            ("\"timestamp\":1", "\"timestamp\":-1", SkipCause::Timestamp),
            (",\"executionId\":\"e7\"", "", SkipCause::ExecutionId),
            ("\"e7\"", "\"\"", SkipCause::ExecutionId),
            ("{\"sequence\":7", "{\"sequence\":7,\"sequence\":7", SkipCause::Field),
            ("{\"sequence\":7", "{\"sequence\":7,\"volume\":\"no\"", SkipCause::Field),
        ] {
            let line = GOOD.replace(from, to);
            let read = unreadable(line.as_bytes());
            assert_eq!((read.cause, read.sequence), (cause, Some(7)), "{line}");
            assert_eq!(read.order_id.as_ref().map(ExternalOrderId::as_str), Some("o7"), "{line}");
        }
    }

    #[test]
    fn bytes_that_are_not_json_are_searched() {
        let cut = unreadable(&GOOD.as_bytes()[..GOOD.len() - 4]);
        assert_eq!((cut.cause, cut.sequence), (SkipCause::NotJson, Some(7)));
        assert_eq!(cut.order_id, ExternalOrderId::new("o7").ok());
        assert!(!cut.may_name_order);
        let mut bytes = GOOD.as_bytes().to_vec();
        bytes[60] = 0xFF;
        let broken = unreadable(&bytes);
        assert_eq!((broken.cause, broken.sequence), (SkipCause::NotUtf8, Some(7)));
        assert!(broken.order_id.is_some());
        let nothing = unreadable(b"oops");
        assert_eq!((nothing.sequence, nothing.order_id), (None, None));
        assert!(nothing.may_name_order, "it may name any order");
        let beginning = unreadable(br#"{"sequence":7,"type":"cancelled","orderId":"o1-1"#);
        assert!(beginning.order_id.is_none() && beginning.may_name_order, "it may be o1-12");
        let far = unreadable(br#"{"sequence":99999,"#);
        assert_eq!(far.credible_sequence(6), None);
        assert_eq!(cut.credible_sequence(6), Some(7));
        assert_eq!(cut.credible_sequence(7), None, "it was read already");
    }

    #[test]
    fn a_long_line_is_skipped_and_names_its_order() {
        let long = GOOD.replace("{", &format!("{{\"note\":\"{}\",", "x".repeat(MAX_LINE_BYTES)));
        let read = unreadable(long.as_bytes());
        assert_eq!((read.cause, read.sequence), (SkipCause::TooLong, Some(7)));
        assert!(read.order_id.is_some());
    }

    #[test]
    fn in_a_long_line_that_is_not_json_the_sequence_is_a_guess() {
        let line = |sequence: u64| {
            let note = "x".repeat(MAX_LINE_BYTES);
            unreadable(
                format!(r#"{{"orderId":"o7","sequence":{sequence},"note":"{note}"#).as_bytes(),
            )
        };
        let far = line(99_999);
        assert_eq!((far.cause, far.sequence), (SkipCause::TooLong, Some(99_999)));
        assert!(far.order_id.is_some());
        assert_eq!(far.credible_sequence(6), None);
        assert_eq!(line(7).credible_sequence(6), Some(7));
        for impossible in [MAX_SEQUENCE, u64::MAX] {
            assert_eq!(line(impossible).sequence, None, "{impossible}");
        }
        let highest = line(MAX_SEQUENCE - 1);
        assert_eq!(highest.credible_sequence(MAX_SEQUENCE - 2), highest.sequence);
    }

    #[test]
    fn a_sequence_without_a_successor_is_invalid() {
        let line = GOOD.replace(":7,", &format!(":{MAX_SEQUENCE},"));
        let read = unreadable(line.as_bytes());
        assert_eq!((read.cause, read.sequence), (SkipCause::Sequence, None));
    }

    #[test]
    fn an_invalid_order_id_may_name_any_order() {
        for id in ["\"with space\"", "17", "\"\""] {
            let read = unreadable(GOOD.replace("\"o7\"", id).as_bytes());
            assert_eq!(read.cause, SkipCause::OrderId);
            assert!(read.may_name_order && read.order_id.is_none(), "{id}");
        }
        let without = GOOD.replace("\"orderId\":\"o7\",", "").replace("16740", "0");
        assert!(!unreadable(without.as_bytes()).may_name_order, "it belongs to no order");
    }

    #[test]
    fn valid_lines_are_read() {
        for line in [
            GOOD,
            r#"{"sequence":9,"type":"heartbeat","timestamp":1,"more":[1]}"#,
            r#"{"sequence":9,"type":"cancelled","symbol":"SPY","orderId":"o","timestamp":1}"#,
            r#"{"sequence":9,"type":"bust","executionId":"e7","timestamp":1}"#,
        ] {
            assert!(matches!(read_line(line.as_bytes()), Ok(FeedMessage::Line(_))), "{line}");
        }
        let session = br#"{"type":"session","session":"8","sequence":3}"#;
        assert!(matches!(read_line(session), Ok(FeedMessage::Session(_))));
    }
}
