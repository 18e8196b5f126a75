//! Elements of the exchange's answers, feed lines and webhook batches that cannot be used, kept for
//! operators.

use std::fmt;

use crate::types::{ExternalOrderId, MAX_EXTERNAL_ID_BYTES, OrderId};

/// Most bytes kept of an unreadable element's text: twice the longest line that the contract
/// allows.
pub const MAX_UNREADABLE_TEXT_BYTES: usize = 1_024;
/// Longest description of a problem, in bytes.
const MAX_PROBLEM_BYTES: usize = 256;

/// Where the exchange sent an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum UnreadableSource {
    /// A feed line.
    Feed,
    /// A line posted to the webhook.
    Webhook,
    /// A result of a submit.
    Submit,
    /// A result of a cancel.
    Cancel,
    /// A record of an order, or an execution in it.
    Query,
}

/// Why an element cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum UnreadableCause {
    /// It is not JSON.
    NotJson,
    /// Its type is unknown.
    UnknownType,
    /// A field is missing or invalid.
    BadValue,
    /// Longer than any element of its kind.
    TooLong,
    /// Another element from the exchange says the opposite.
    Contradiction,
}

/// An order, by whichever id it was named.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedOrder {
    /// Our order id.
    Ours(OrderId),
    /// The exchange's order id.
    Theirs(ExternalOrderId),
}

impl fmt::Display for NamedOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ours(id) => fmt::Display::fmt(id, formatter),
            Self::Theirs(id) => fmt::Display::fmt(id, formatter),
        }
    }
}

/// Something the exchange sent that cannot be used: a line, a result or an execution. The elements
/// beside it are unaffected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableElement {
    /// Where it came from.
    pub source: UnreadableSource,
    /// Why it cannot be used.
    pub cause: UnreadableCause,
    /// The order it concerns, if that can be read.
    pub order: Option<NamedOrder>,
    /// The problem, in words.
    pub problem: String,
    /// The original text, at most [`MAX_UNREADABLE_TEXT_BYTES`] of it.
    pub text: String,
}

impl UnreadableElement {
    /// An unreadable line of the feed or of a webhook.
    pub fn line(source: UnreadableSource, line: &[u8], error: &serde_json::Error) -> Self {
        let mut unreadable = Self::new(source, cause_of(error), &error.to_string(), line);
        unreadable.order = external_id(line, b"orderId").map(NamedOrder::Theirs);
        unreadable
    }

    /// An unreadable element of any kind; it names no order yet.
    pub fn new(
        source: UnreadableSource,
        cause: UnreadableCause,
        problem: &str,
        text: &[u8],
    ) -> Self {
        let text = text.get(..MAX_UNREADABLE_TEXT_BYTES).unwrap_or(text);
        let (mut text, mut problem) =
            (String::from_utf8_lossy(text).into_owned(), problem.to_owned());
        truncate(&mut text, MAX_UNREADABLE_TEXT_BYTES);
        truncate(&mut problem, MAX_PROBLEM_BYTES);
        Self { source, cause, order: None, problem, text }
    }
}

/// Our order id in a piece of JSON, if it can be found.
pub(super) fn order_id(json: &[u8], name: &[u8]) -> Option<OrderId> {
    text_of(json, name)?.parse().ok()
}

/// The exchange's order id in a piece of JSON, if it can be found.
pub(super) fn external_id(json: &[u8], name: &[u8]) -> Option<ExternalOrderId> {
    ExternalOrderId::new(text_of(json, name)?).ok()
}

/// The string after a name, found without parsing the JSON, which may be invalid. Ids contain no
/// escapes.
fn text_of<'a>(json: &'a [u8], name: &[u8]) -> Option<&'a str> {
    let is_here = |&place: &usize| {
        let end = place + name.len();
        place > 0 && json.get(place - 1) == Some(&b'"') && json.get(end) == Some(&b'"')
    };
    let place = memchr::memmem::find_iter(json, name).find(is_here)?;
    let rest = json.get(place + name.len() + 1..)?.trim_ascii_start().strip_prefix(b":")?;
    let text = rest.trim_ascii_start().strip_prefix(b"\"")?;
    let end = memchr::memchr(b'"', text.get(..=MAX_EXTERNAL_ID_BYTES).unwrap_or(text))?;
    std::str::from_utf8(text.get(..end)?).ok()
}

/// Classifies a parse error.
pub(super) fn cause_of(error: &serde_json::Error) -> UnreadableCause {
    if !error.is_data() {
        UnreadableCause::NotJson
    } else if error.to_string().starts_with("unknown variant") {
        UnreadableCause::UnknownType
    } else {
        UnreadableCause::BadValue
    }
}

fn truncate(text: &mut String, most: usize) {
    let mut end = text.len().min(most);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::wire::FeedLine;

    fn line(text: &str) -> UnreadableElement {
        let error = serde_json::from_str::<FeedLine>(text).unwrap_err();
        UnreadableElement::line(UnreadableSource::Feed, text.as_bytes(), &error)
    }

    #[test]
    fn an_unreadable_line_has_its_cause_and_names_its_order() {
        let named = Some(NamedOrder::Theirs(ExternalOrderId::new("X-1").unwrap()));
        let other = r#"{"sequence":1,"type":"amended","orderId":"X-1","timestamp":1}"#;
        assert_eq!(
            (line(other).cause, line(other).order),
            (UnreadableCause::UnknownType, named.clone())
        );
        let half =
            r#"{"sequence":1,"type":"trade","numShares":0.5,"orderId" : "X-1","timestamp":1}"#;
        assert_eq!(
            (line(half).cause, line(half).order),
            (UnreadableCause::BadValue, named.clone())
        );
        let broken = r#"{"sequence":1,"orderId":"X-1","type":"#;
        assert_eq!((line(broken).cause, line(broken).order), (UnreadableCause::NotJson, named));
        assert_eq!(line(broken).text, broken);
    }

    #[test]
    fn invalid_text_names_no_order() {
        for text in [
            r#"{"orderId":7}"#,
            r#"{"clientOrderId":"X-1"}"#,
            r#"{"orderId":"with space"}"#,
            r#"{"orderId":"with \u0041"}"#,
            r#"{"orderId":""}"#,
            r#"{"orderId"#,
            r#"{"orderId":"open"#,
            "orderId",
            "",
        ] {
            assert_eq!(line(text).order, None, "{text}");
        }
        let long = format!(r#"{{"orderId":"{}"}}"#, "x".repeat(MAX_EXTERNAL_ID_BYTES + 1));
        assert_eq!(line(&long).order, None);
    }

    #[test]
    fn kept_text_is_cut_at_a_character() {
        let kept = line(&"ä".repeat(2_000));
        assert_eq!(
            (kept.text.len(), kept.cause),
            (MAX_UNREADABLE_TEXT_BYTES, UnreadableCause::NotJson)
        );
        let odd = UnreadableElement::new(
            UnreadableSource::Feed,
            UnreadableCause::TooLong,
            "",
            &[0xff; 5_000],
        );
        assert!(odd.text.len() <= MAX_UNREADABLE_TEXT_BYTES);
    }
}
