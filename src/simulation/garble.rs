//! Unreadable input from the exchange: feed lines, posted lines and elements of answers. What is
//! beside them is intact.

use serde_json::{Value, json};

use super::dice::Dice;
use super::network::Response;
use crate::exchange::wire::{FeedLine, WebhookBatch};
use crate::exchange::{PostedLines, read_webhook};

/// Longer than any line that is read.
const TOO_LONG: usize = 5_000;
/// Junk between lines that cannot be taken for a line.
const JUNK: [&str; 3] = ["", " \r", r#"{"type":"status","text":"all is well"}"#];
/// Junk that may be taken for a numbered line.
const NUMBERED_JUNK: [&str; 4] = ["oops", "[]", r#"{"sequence":"#, PRINT];
/// A trade without its sequence.
const PRINT: &str = r#"{"type":"trade","executionId":"x","symbol":"IBM","priceInCents":500,"numShares":1,"timestamp":1}"#;

/// A feed line, made unreadable.
pub(super) fn line(line: &FeedLine, dice: &mut Dice) -> Vec<u8> {
    let mut whole = serde_json::to_value(line).unwrap_or_default();
    match dice.below(7) {
        0 | 1 => {
            spoil(&mut whole, dice);
            bytes(&whole)
        }
        2 => {
            whole["note"] = Value::from("x".repeat(TOO_LONG));
            bytes(&whole)
        }
        3 => {
            whole["orderId"] = json!(7);
            bytes(&whole)
        }
        4 => {
            let mut cut = bytes(&whole);
            cut.truncate(dice.below(cut.len()));
            cut
        }
        5 => cut_order(line, dice),
        _ => {
            let mut odd = bytes(&whole);
            let place = dice.below(odd.len());
            odd[place] = 0xFF;
            odd
        }
    }
}

/// A line cut after its sequence, within the id of its order.
pub(super) fn cut_order(line: &FeedLine, dice: &mut Dice) -> Vec<u8> {
    let mut cut = serde_json::to_vec(line).unwrap_or_default();
    if let (Some(id), Some(start)) = (&line.order_id, place_of_order(&cut)) {
        cut.truncate(start + dice.below(id.as_str().len() + 1));
    } else {
        cut.pop();
    }
    cut
}

/// Where the order id begins in a line.
fn place_of_order(line: &[u8]) -> Option<usize> {
    let name = br#""orderId":""#;
    line.windows(name.len()).position(|bytes| bytes == name).map(|place| place + name.len())
}

/// Whether an unreadable line still names its order.
pub(super) fn names_order(bytes: &[u8], line: &FeedLine) -> bool {
    line.order_id.as_ref().is_some_and(|id| has(bytes, &format!(r#""orderId":"{id}""#)))
}

/// Whether it still shows its sequence.
pub(super) fn shows_sequence(bytes: &[u8], line: &FeedLine) -> bool {
    has(bytes, &format!(r#""sequence":{}"#, line.sequence))
}

fn has(bytes: &[u8], part: &str) -> bool {
    bytes.windows(part.len()).any(|bytes| bytes == part.as_bytes())
}

/// Junk between lines, and whether it may be taken for a numbered line.
pub(super) fn junk(dice: &mut Dice) -> (&'static str, bool) {
    let is_numbered = dice.percent(60);
    let junk: &[&str] = if is_numbered { &NUMBERED_JUNK } else { &JUNK };
    (junk[dice.below(junk.len())], is_numbered)
}

/// Junk that may be taken for a numbered line, and is certainly about no order of ours.
pub(super) const fn print_without_number() -> (&'static str, bool) {
    (PRINT, true)
}

/// Posted lines, `chance` percent of them unreadable, and the indexes of the others.
pub(super) fn posted(
    session: &str,
    lines: &[FeedLine],
    (chance, dice): (u64, &mut Dice),
) -> (PostedLines, Vec<usize>) {
    let batch = WebhookBatch { session: session.into(), lines: lines.to_vec() };
    let mut body = serde_json::to_value(&batch).unwrap_or_default();
    let mut honest = Vec::new();
    for (place, line) in body["lines"].as_array_mut().into_iter().flatten().enumerate() {
        if !dice.percent(chance) {
            honest.push(place);
            continue;
        }
        match dice.below(6) {
            0 => *line = Value::Null,
            1 => line["orderId"] = json!(7),
            _ => spoil(line, dice),
        }
    }
    let read = read_webhook(&bytes(&body)).expect("a list of lines is read whatever they are");
    (read, honest)
}

/// The body of an answer with one unreadable element. `None` if it has no elements.
pub(super) fn answer(response: &Response, dice: &mut Dice) -> Option<Vec<u8>> {
    let (mut body, spoil): (Value, fn(&mut Value, &mut Dice)) = match response {
        Response::Submit(response) => (serde_json::to_value(response).ok()?, spoil_submit),
        Response::Cancel(response) => (serde_json::to_value(response).ok()?, spoil_cancel),
        Response::Query(response) => (serde_json::to_value(response).ok()?, spoil_record),
        Response::Body(_) | Response::Unreadable | Response::TooMany { .. } => return None,
    };
    let results = body["results"].as_array_mut()?;
    let place = dice.place(results.len())?;
    if dice.percent(30) {
        // And its intact copy beside it.
        let honest = results[place].clone();
        results.push(honest);
    }
    spoil(&mut results[place], dice);
    Some(bytes(&body))
}

/// Replaces a member of a line by an invalid one.
fn spoil(line: &mut Value, dice: &mut Dice) {
    let (name, odd) = match dice.below(7) {
        0 => ("priceInCents", json!(0)),
        1 => ("numShares", json!(0.5)),
        2 => ("type", json!("amended")),
        3 => ("timestamp", Value::Null),
        4 => ("executionId", json!("")),
        5 => ("sequence", json!("7")),
        _ => ("symbol", json!("AJAX=")),
    };
    line[name] = odd;
}

fn spoil_submit(result: &mut Value, dice: &mut Dice) {
    match dice.below(3) {
        0 => *result = Value::Null,
        1 => result["externalOrderId"] = json!(7),
        _ => result["error"] = json!("no"),
    }
}

fn spoil_cancel(result: &mut Value, dice: &mut Dice) {
    match dice.below(3) {
        0 => *result = Value::Null,
        1 => result["status"] = json!("stopped"),
        _ => result["error"] = json!("no"),
    }
}

fn spoil_record(record: &mut Value, dice: &mut Dice) {
    let kind = dice.below(8);
    let executions = record.get_mut("executions").and_then(Value::as_array_mut);
    let real = executions.and_then(|executions| {
        let place = dice.place(executions.len())?;
        executions.get_mut(place)
    });
    match (kind, real) {
        (0, _) => *record = Value::Null,
        (1, _) => record["status"] = json!("suspended"),
        (2, _) => record["filledShares"] = json!(-1),
        (3, _) => record["asOf"] = json!({ "session": "s", "sequence": "x" }),
        (4, Some(real)) => real["numShares"] = json!(0),
        (5, Some(real)) => real["priceInCents"] = json!(0),
        (_, Some(real)) => {
            let mut empty = real.clone();
            empty["executionId"] = json!("empty");
            empty["numShares"] = json!(0);
            record["executions"]
                .as_array_mut()
                .into_iter()
                .for_each(|list| list.push(empty.clone()));
        }
        (_, None) => record["status"] = json!(7),
    }
}

fn bytes(json: &Value) -> Vec<u8> {
    json.to_string().into_bytes()
}
