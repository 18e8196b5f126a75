//! Parses the exchange's lists element by element, so that an unreadable element loses none of the
//! others. A valid list takes the fast path.

use std::fmt;

use compact_str::CompactString;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;

use super::unreadable::{
    NamedOrder, UnreadableElement, UnreadableSource, cause_of, external_id, order_id,
};
use super::wire::{
    CancelResult, FeedLine, QueryExecution, QueryResult, SubmitResult, WebhookBatch,
};

/// A parsed list, and the elements that cannot be used.
#[derive(Debug, Clone, PartialEq)]
pub struct Results<T> {
    /// In the order in which they came.
    pub results: Vec<T>,
    /// The elements left out of `results`.
    pub unreadable: Vec<UnreadableElement>,
}

impl<T> From<Vec<T>> for Results<T> {
    fn from(results: Vec<T>) -> Self {
        Self { results, unreadable: Vec::new() }
    }
}

impl<T> Results<T> {
    /// Splits this, in order, into parts of at most `most` results and `most` unreadable elements.
    pub fn into_parts(self, most: usize) -> impl Iterator<Item = Self> {
        let mut rest = Some(self);
        std::iter::from_fn(move || {
            let mut part = rest.take()?;
            if part.results.len().max(part.unreadable.len()) > most {
                let results = part.results.split_off(most.min(part.results.len()));
                let unreadable = part.unreadable.split_off(most.min(part.unreadable.len()));
                rest = Some(Self { results, unreadable });
            }
            Some(part)
        })
    }
}

/// One element of the results in an answer.
pub trait ResultElement: DeserializeOwned {
    /// The kind of answer that it belongs to.
    const SOURCE: UnreadableSource;

    /// The order that an unreadable element names, if it can be found.
    fn names(json: &str) -> Option<NamedOrder> {
        order_id(json.as_bytes(), b"clientOrderId").map(NamedOrder::Ours)
    }

    /// Recovers part of an element that cannot be read as a whole.
    fn in_part(_json: &str, _unreadable: &mut Vec<UnreadableElement>) -> Option<Self> {
        None
    }
}

impl ResultElement for SubmitResult {
    const SOURCE: UnreadableSource = UnreadableSource::Submit;
}

impl ResultElement for CancelResult {
    const SOURCE: UnreadableSource = UnreadableSource::Cancel;

    fn names(json: &str) -> Option<NamedOrder> {
        external_id(json.as_bytes(), b"externalOrderId").map(NamedOrder::Theirs)
    }
}

impl ResultElement for QueryResult {
    const SOURCE: UnreadableSource = UnreadableSource::Query;

    fn in_part(json: &str, unreadable: &mut Vec<UnreadableElement>) -> Option<Self> {
        record_in_part(json, unreadable)
    }
}

/// Parses the body of an answer: `{"results": [...]}`.
///
/// # Errors
/// The body is not JSON, or has no list of results.
pub fn read_results<T: ResultElement>(body: &[u8]) -> Result<Results<T>, serde_json::Error> {
    #[derive(Deserialize)]
    struct Whole<T> {
        results: Vec<T>,
    }
    #[derive(Deserialize)]
    struct Loose<'a> {
        #[serde(borrow)]
        results: Vec<&'a RawValue>,
    }
    if let Ok(Whole { results }) = serde_json::from_slice(body) {
        return Ok(Results { results, unreadable: Vec::new() });
    }
    let Loose { results } = serde_json::from_slice(body)?;
    let mut unreadable = Vec::new();
    let results = results.into_iter().filter_map(|json| read_result(json.get(), &mut unreadable));
    Ok(Results { results: results.collect(), unreadable })
}

fn read_result<T: ResultElement>(json: &str, unreadable: &mut Vec<UnreadableElement>) -> Option<T> {
    let error = match serde_json::from_str(json) {
        Ok(result) => return Some(result),
        Err(error) => error,
    };
    let before = unreadable.len();
    let part = T::in_part(json, unreadable);
    if unreadable.len() == before {
        unreadable.push(element::<T>(json, &error));
    }
    part
}

fn element<T: ResultElement>(json: &str, error: &serde_json::Error) -> UnreadableElement {
    let order = T::names(json);
    let cause = cause_of(error);
    UnreadableElement {
        order,
        ..UnreadableElement::new(T::SOURCE, cause, &error.to_string(), json.as_bytes())
    }
}

/// Parses an order record without its unreadable executions and without the fields that say how
/// complete it is. Such a record proves nothing by what it lacks.
fn record_in_part(json: &str, unreadable: &mut Vec<UnreadableElement>) -> Option<QueryResult> {
    let Members(members) = serde_json::from_str(json).ok()?;
    let mut lists = members.iter().filter(|(name, _)| name == "executions");
    let (list, None) = (lists.next(), lists.next()) else { return None };
    let executions: Vec<&RawValue> = match list {
        Some((_, list)) => serde_json::from_str(list.get()).ok()?,
        None => Vec::new(),
    };
    let without = |left_out: &[&str]| {
        let kept = members.iter().filter(|(name, _)| !left_out.contains(&name.as_str()));
        let kept: Vec<String> = kept
            .map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str())))
            .collect();
        serde_json::from_str::<QueryResult>(&format!("{{{}}}", kept.join(","))).ok()
    };
    let mut record = without(&["executions", "asOf"])
        .or_else(|| without(&["executions", "asOf", "filledShares"]))?;
    for execution in executions {
        match serde_json::from_str::<QueryExecution>(execution.get()) {
            Ok(execution) => record.executions.push(execution),
            Err(error) => {
                let order = QueryResult::names(json);
                let found = element::<QueryResult>(execution.get(), &error);
                unreadable.push(UnreadableElement { order, ..found });
            }
        }
    }
    Some(record)
}

/// The members of an object in order, duplicates included.
struct Members<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Members<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
                formatter.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// The lines of a webhook request.
#[derive(Debug)]
pub struct PostedLines {
    /// The feed session that numbers them; empty if the request names none.
    pub session: CompactString,
    pub lines: Results<FeedLine>,
}

/// Parses the body of a webhook request.
///
/// # Errors
/// The body is not JSON, or has no list of lines.
pub fn read_webhook(body: &[u8]) -> Result<PostedLines, serde_json::Error> {
    #[derive(Deserialize)]
    struct Loose<'a> {
        #[serde(default)]
        session: Value,
        #[serde(borrow)]
        lines: Vec<&'a RawValue>,
    }
    if let Ok(WebhookBatch { session, lines }) = serde_json::from_slice(body) {
        return Ok(PostedLines { session, lines: lines.into() });
    }
    let batch: Loose<'_> = serde_json::from_slice(body)?;
    let mut unreadable = Vec::new();
    let read = |line: &RawValue| match serde_json::from_str(line.get()) {
        Ok(line) => Some(line),
        Err(error) => {
            let line = line.get().as_bytes();
            unreadable.push(UnreadableElement::line(UnreadableSource::Webhook, line, &error));
            None
        }
    };
    let session = batch.session.as_str().unwrap_or_default().into();
    let results = batch.lines.into_iter().filter_map(read).collect();
    Ok(PostedLines { session, lines: Results { results, unreadable } })
}

/// What several results say about one thing.
#[derive(Debug, PartialEq)]
pub enum Said<T> {
    /// Nothing readable.
    Nothing,
    /// This value, once or several times.
    This(T),
    /// Different values.
    Contradiction,
}

impl<T: PartialEq> Said<T> {
    /// Adds one more result.
    pub fn and(self, result: T) -> Self {
        match self {
            Self::Nothing => Self::This(result),
            Self::This(before) if before == result => Self::This(before),
            Self::This(_) | Self::Contradiction => Self::Contradiction,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::unreadable::UnreadableCause;
    use crate::types::OrderId;

    const ID: &str = "01930000-0000-7000-8000-00000000002a";

    fn ours() -> Option<NamedOrder> {
        Some(NamedOrder::Ours(ID.parse::<OrderId>().unwrap()))
    }

    fn records(results: &str) -> Results<QueryResult> {
        read_results(format!(r#"{{"results":[{results}]}}"#).as_bytes()).unwrap()
    }

    #[test]
    fn an_unreadable_result_loses_no_other() {
        for odd in [
            format!(r#"{{"clientOrderId":"{ID}","externalOrderId":7}}"#),
            format!(r#"{{"clientOrderId":"{ID}","externalOrderId":"a b"}}"#),
            format!(r#"{{"clientOrderId":"{ID}","error":"no"}}"#),
            format!(r#"{{"clientOrderId":"{ID}","clientOrderId":"a","externalOrderId":"X"}}"#),
        ] {
            let body =
                format!(r#"{{"results":[{odd},{{"clientOrderId":"b","externalOrderId":"X"}}]}}"#);
            let read = read_results::<SubmitResult>(body.as_bytes()).unwrap();
            assert_eq!(read.results.len(), 1, "{odd}");
            assert_eq!((read.unreadable.len(), &read.unreadable[0].order), (1, &ours()), "{odd}");
            assert_eq!(read.unreadable[0].text, odd);
        }
        for odd in ["null", "7", "[]", "{}", r#""x""#] {
            let body =
                format!(r#"{{"results":[{odd},{{"externalOrderId":"X","status":"cancelled"}}]}}"#);
            let read = read_results::<CancelResult>(body.as_bytes()).unwrap();
            assert_eq!((read.results.len(), read.unreadable.len()), (1, 1), "{odd}");
        }
    }

    #[test]
    fn an_answer_without_results_is_an_error() {
        for body in
            ["", "{}", "[]", r#"{"results":null}"#, r#"{"results":{}}"#, r#"{"results":[{]}"#]
        {
            assert!(read_results::<SubmitResult>(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn an_unreadable_execution_loses_no_other() {
        let good = r#"{"executionId":"e","priceInCents":5,"numShares":2,"timestamp":1}"#;
        for odd in [
            good.replace(":5", ":0"),
            good.replace(":2", ":1.5"),
            good.replace(":2", ":-1"),
            good.replace("\"e\"", "\"\""),
            good.replace(",\"timestamp\":1", ""),
            "null".to_owned(),
        ] {
            let read = records(&format!(
                r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"open","filledShares":2,"executions":[{odd},{good}],"asOf":{{"session":"s","sequence":1}}}}"#
            ));
            assert_eq!(read.results.len(), 1, "{odd}");
            assert_eq!(read.results[0].executions.len(), 1, "{odd}");
            assert_eq!((read.unreadable.len(), &read.unreadable[0].order), (1, &ours()), "{odd}");
            assert_eq!(read.unreadable[0].text, odd);
        }
    }

    #[test]
    fn an_unusable_record_is_left_out() {
        let known = r#"{"clientOrderId":"b","status":"unknown"}"#;
        for odd in [
            format!(r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"suspended"}}"#),
            format!(
                r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"open","status":"filled"}}"#
            ),
            format!(
                r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"open","executions":7}}"#
            ),
            format!(
                r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"open","executions":[],"executions":[]}}"#
            ),
        ] {
            let read = records(&format!("{odd},{known}"));
            assert_eq!(read.results.len(), 1, "{odd}");
            assert_eq!((read.unreadable.len(), &read.unreadable[0].order), (1, &ours()), "{odd}");
        }
        let odd = format!(
            r#"{{"clientOrderId":"{ID}","externalOrderId":"X","status":"open","filledShares":-1}}"#
        );
        let read = records(&odd);
        assert_eq!(
            (read.results.len(), read.unreadable.len()),
            (1, 1),
            "the rest of the record is used"
        );
    }

    #[test]
    fn an_unreadable_line_loses_no_other() {
        let good = r#"{"sequence":1,"type":"cancelled","orderId":"X","timestamp":1}"#;
        let odd = r#"{"sequence":2,"type":"amended","orderId":"Y","timestamp":1}"#;
        let body = format!(r#"{{"session":"s","lines":[{odd},{good}]}}"#);
        let PostedLines { session, lines: read } = read_webhook(body.as_bytes()).unwrap();
        assert_eq!(session, "s");
        assert_eq!((read.results.len(), read.unreadable.len()), (1, 1));
        assert_eq!(read.unreadable[0].cause, UnreadableCause::UnknownType);
        let without_session = format!(r#"{{"lines":[{good}]}}"#);
        assert_eq!(read_webhook(without_session.as_bytes()).unwrap().lines.results.len(), 1);
        for body in
            ["", "{}", "[]", r#"{"session":"s","lines":7}"#, r#"{"session":"s","lines":[{]}"#]
        {
            assert!(read_webhook(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn parts_contain_every_element_once() {
        let bad =
            UnreadableElement::new(UnreadableSource::Feed, UnreadableCause::NotJson, "no", b"x");
        let whole = Results { results: vec![1, 2, 3, 4, 5], unreadable: vec![bad] };
        let parts: Vec<_> = whole.into_parts(2).collect();
        let sizes: Vec<_> = parts.iter().map(|part| part.unreadable.len()).collect();
        assert_eq!(sizes, [1, 0, 0]);
        let results: Vec<_> = parts.into_iter().map(|part| part.results).collect();
        assert_eq!(results, [vec![1, 2], vec![3, 4], vec![5]]);
        assert_eq!(
            Results::<u8>::from(Vec::new()).into_parts(2).count(),
            1,
            "an empty list is one part"
        );
    }

    #[test]
    fn equal_results_agree_and_different_ones_contradict() {
        assert_eq!(Said::Nothing.and(1).and(1), Said::This(1));
        assert_eq!(Said::Nothing.and(1).and(2).and(1), Said::Contradiction);
    }
}
