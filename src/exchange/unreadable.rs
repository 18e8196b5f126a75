use std::fmt;

use crate::types::{ExternalOrderId, MAX_EXTERNAL_ID_BYTES, OrderId};

/// Most of a text that is kept of something unreadable, in bytes: twice the longest line that the
/// contract allows for.
pub const MAX_UNREADABLE_TEXT_BYTES: usize = 1_024;
/// Longest description of what is wrong with it, in bytes.
const MAX_PROBLEM_BYTES: usize = 256;

/// Where the exchange said something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum UnreadableSource {
    /// A line of its feed.
    Feed,
    /// A line that it posted to us.
    Webhook,
    /// A result of a submit.
    Submit,
    /// A result of a cancel.
    Cancel,
    /// A record of an order, or an execution in one.
    Query,
}

/// Why it cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, strum::IntoStaticStr, strum::VariantArray)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum UnreadableCause {
    /// It is not JSON.
    NotJson,
    /// It is of a type that is not known.
    UnknownType,
    /// Something is missing, or is not what it has to be.
    BadValue,
    /// It is longer than anything of its kind.
    TooLong,
    /// Something else that the exchange says beside it says the opposite.
    Contradiction,
}

/// An order as somebody names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamedOrder {
    /// By our id.
    Ours(OrderId),
    /// By the exchange's.
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

/// Something that the exchange said and that cannot be used as it stands: a line, a result, an
/// execution. It takes nothing beside it with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableElement {
    /// Where it was said.
    pub source: UnreadableSource,
    /// Why it cannot be used.
    pub cause: UnreadableCause,
    /// Which order it is about, where that can be read.
    pub order: Option<NamedOrder>,
    /// What is wrong with it, in words.
    pub problem: String,
    /// As it came, at most [`MAX_UNREADABLE_TEXT_BYTES`] of it.
    pub text: String,
}

impl UnreadableElement {
    /// A line of the feed or of a webhook, as it came, and why it could not be read.
    pub fn line(source: UnreadableSource, line: &[u8], error: &serde_json::Error) -> Self {
        let mut unreadable = Self::new(source, cause_of(error), &error.to_string(), line);
        unreadable.order = external_id(line, b"orderId").map(NamedOrder::Theirs);
        unreadable
    }

    /// Anything else; it names no order yet.
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

/// Our id of the order that some JSON is about, as far as it can be found there.
pub(super) fn order_id(json: &[u8], name: &[u8]) -> Option<OrderId> {
    text_of(json, name)?.parse().ok()
}

/// The exchange's.
pub(super) fn external_id(json: &[u8], name: &[u8]) -> Option<ExternalOrderId> {
    ExternalOrderId::new(text_of(json, name)?).ok()
}

/// The text that stands after a name, found without reading the JSON, which may be none. An id has
/// no escapes.
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

/// What kind of an error it is.
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
    fn a_line_is_told_by_its_cause_and_names_its_order() {
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
    fn nothing_is_taken_for_an_order_that_is_none() {
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
    fn what_is_kept_is_bounded_at_a_character() {
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
