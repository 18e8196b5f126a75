//! Faults of requests: before the work, instead of the answer, and in the answer.

use std::time::Duration;

use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::{Value, json};

use super::{Faults, Kind};
use crate::sim_exchange::listener::Connection;
use crate::sim_exchange::problem::{self, Problem, Reply};

/// The head of an answer by axum and hyper takes about 110 bytes. An answer cut after this many
/// bytes plus half of its body is cut within the body, for every body of more than 20 bytes.
const HEAD_BYTES: usize = 120;

/// More than Longbow reads of one answer.
const HUGE_BYTES: usize = 17 << 20;

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::sim_exchange) enum RequestKind {
    Submit,
    Cancel,
    Query,
}

/// The faults drawn for one request.
#[derive(Debug)]
pub(in crate::sim_exchange) struct Fate<'a> {
    faults: &'a Faults,
    delay: Option<Duration>,
    fault: Option<AnswerFault>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum AnswerFault {
    CutBefore,
    ErrorBefore,
    Throttle,
    ThrottleNamed,
    DropReply,
    CutInAnswer,
    ErrorAfter,
    Garbage,
    WrongShape,
    LeaveOut,
    Shuffle,
    Spoil,
    Contradict,
    CutList,
    Huge,
}

macro_rules! dice_of {
    ($group:ident) => {
        Dice {
            delay: |dice| &mut dice.$group.delay,
            in_order: [
                (AnswerFault::CutBefore, |dice| &mut dice.$group.cut_before),
                (AnswerFault::ErrorBefore, |dice| &mut dice.$group.error_before),
                (AnswerFault::Throttle, |dice| &mut dice.$group.throttle),
                (AnswerFault::ThrottleNamed, |dice| &mut dice.$group.throttle_named),
                (AnswerFault::DropReply, |dice| &mut dice.$group.drop_reply),
                (AnswerFault::CutInAnswer, |dice| &mut dice.$group.cut_in_answer),
                (AnswerFault::ErrorAfter, |dice| &mut dice.$group.error_after),
                (AnswerFault::Garbage, |dice| &mut dice.$group.garbage),
                (AnswerFault::WrongShape, |dice| &mut dice.$group.wrong_shape),
                (AnswerFault::LeaveOut, |dice| &mut dice.$group.leave_out),
                (AnswerFault::Shuffle, |dice| &mut dice.$group.shuffle),
                (AnswerFault::Spoil, |dice| &mut dice.$group.spoil),
                (AnswerFault::Contradict, |dice| &mut dice.$group.contradict),
                (AnswerFault::CutList, |dice| &mut dice.$group.cut_list),
                (AnswerFault::Huge, |dice| &mut dice.$group.huge),
            ],
        }
    };
}

/// The dice of one kind of request, in the order in which they are rolled.
struct Dice {
    delay: Kind,
    in_order: [(AnswerFault, Kind); 15],
}

static SUBMITS: Dice = dice_of!(submits);
static CANCELS: Dice = dice_of!(cancels);
static QUERIES: Dice = dice_of!(queries);

impl Faults {
    /// Draws the faults of a request with this many results.
    pub(in crate::sim_exchange) fn fate(&self, kind: RequestKind, results: usize) -> Fate<'_> {
        let mut fate = Fate { faults: self, delay: None, fault: None };
        if !self.is_active() {
            return fate;
        }
        let manner = self.manner();
        let (dice, delays) = match kind {
            RequestKind::Submit => (&SUBMITS, manner.submit_delay_ms),
            RequestKind::Cancel => (&CANCELS, manner.cancel_delay_ms),
            RequestKind::Query => (&QUERIES, manner.query_delay_ms),
        };
        fate.delay = self.hits(dice.delay).then(|| self.draw_time(delays));
        // A single result cannot be shuffled.
        let can_happen = |fault| fault != AnswerFault::Shuffle || results > 1;
        let mut possible = dice.in_order.iter().filter(|(fault, _)| can_happen(*fault));
        fate.fault = possible.find(|(_, die)| self.hits(*die)).map(|(fault, _)| *fault);
        fate
    }
}

impl Fate<'_> {
    /// Applies the faults that come before the work; on an error the work is not done.
    pub(in crate::sim_exchange) fn begin(&self, connection: &Connection) -> Result<(), Problem> {
        match self.fault {
            Some(AnswerFault::CutBefore) => {
                connection.cut_after(0);
                Err(told_to_fail())
            }
            Some(AnswerFault::ErrorBefore) => Err(told_to_fail()),
            Some(AnswerFault::Throttle) => Err(too_many()),
            Some(AnswerFault::ThrottleNamed) => Err(too_many().with_retry_after("1")),
            _ => Ok(()),
        }
    }

    /// Answers after the work, correctly or not.
    pub(in crate::sim_exchange) async fn finish<R, A: Serialize>(
        self,
        connection: &Connection,
        mut results: Vec<R>,
        answer: impl FnOnce(Vec<R>) -> A,
    ) -> Reply {
        if let Some(delay) = self.delay {
            tokio::time::sleep(delay).await;
        }
        match self.fault {
            // These answered before the work.
            Some(AnswerFault::CutBefore | AnswerFault::ErrorBefore) => {}
            Some(AnswerFault::Throttle | AnswerFault::ThrottleNamed) => {}
            None => {}
            Some(fault @ (AnswerFault::Spoil | AnswerFault::Contradict | AnswerFault::CutList)) => {
                let mut answer = serde_json::to_value(answer(results)).unwrap_or_default();
                self.twist(fault, &mut answer);
                return problem::json(&answer);
            }
            Some(AnswerFault::Huge) => {
                let mut answer = serde_json::to_value(answer(results)).unwrap_or_default();
                if let Some(members) = answer.as_object_mut() {
                    members.insert("padding".to_owned(), " ".repeat(HUGE_BYTES).into());
                }
                return problem::json(&answer);
            }
            Some(AnswerFault::DropReply) => connection.cut_after(0),
            Some(AnswerFault::CutInAnswer) => {
                let body = serde_json::to_vec(&answer(results)).unwrap_or_default();
                connection.cut_after(HEAD_BYTES + body.len() / 2);
                return Ok(ok(body));
            }
            Some(AnswerFault::ErrorAfter) => return Err(told_to_fail()),
            Some(AnswerFault::Garbage) => return Ok(ok(b"\x00\xff{\"results\": [oops".to_vec())),
            Some(AnswerFault::WrongShape) => return Ok(ok(br#"{"outcome":"fine"}"#.to_vec())),
            Some(AnswerFault::LeaveOut) => self.leave_out(&mut results),
            Some(AnswerFault::Shuffle) => {
                // There are at least two results: a shuffle is drawn only then.
                let last = results.len().saturating_sub(1);
                let by = usize::try_from(self.faults.draw(1, last as u64)).unwrap_or(0);
                results.rotate_left(by.min(last));
            }
        }
        problem::json(&answer(results))
    }

    /// Spoils, contradicts or cuts one of the results.
    fn twist(&self, fault: AnswerFault, answer: &mut Value) {
        let Some(results) = answer.get_mut("results").and_then(Value::as_array_mut) else { return };
        let Some(last) = results.len().checked_sub(1) else { return };
        let place = usize::try_from(self.faults.draw(0, last as u64)).unwrap_or(0);
        let Some(result) = results.get_mut(place) else { return };
        if fault == AnswerFault::Contradict {
            let opposite = opposite_of(result);
            results.push(opposite);
        } else if fault == AnswerFault::CutList {
            self.cut_list(result);
        } else if let Some(executions) = result.get_mut("executions").and_then(Value::as_array_mut)
        {
            executions.push(nothing_executed());
        } else if let Some(members) = result.as_object_mut() {
            // No kind of result allows a text here.
            members.insert("error".to_owned(), "of another type".into());
        }
    }

    /// Cuts the end off a record's executions.
    fn cut_list(&self, record: &mut Value) {
        let Some(members) = record.as_object_mut() else { return };
        let Some(executions) = members.get_mut("executions").and_then(Value::as_array_mut) else {
            return;
        };
        let left = self.faults.draw(0, executions.len() as u64);
        executions.truncate(usize::try_from(left).unwrap_or(0));
        let counted: u64 = executions.iter().filter_map(|known| known["numShares"].as_u64()).sum();
        members.remove("asOf");
        if self.faults.draw(0, 1) == 0 {
            members.insert("filledShares".to_owned(), counted.into());
        }
    }

    /// Removes at least one result, and each of the others with even chance.
    fn leave_out<R>(&self, results: &mut Vec<R>) {
        let Some(last) = results.len().checked_sub(1) else { return };
        let certain = self.faults.draw(0, last as u64);
        let mut place = 0;
        results.retain(|_| {
            let stays = place != certain && self.faults.draw(0, 1) == 1;
            place += 1;
            stays
        });
    }
}

fn told_to_fail() -> Problem {
    let detail = "the exchange was told to fail this request";
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "fault", detail)
}

fn too_many() -> Problem {
    let detail = "the exchange was told to take no more for now; nothing was done";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_requests", detail)
}

/// An impossible execution: of no shares.
fn nothing_executed() -> Value {
    json!({"executionId": "nothing", "priceInCents": 1, "numShares": 0, "timestamp": 1})
}

/// A result of the same order that says the opposite.
fn opposite_of(result: &Value) -> Value {
    let mut opposite = result.clone();
    let is_refusal = result.get("error").is_some_and(Value::is_object);
    let Some(members) = opposite.as_object_mut() else { return opposite };
    if members.contains_key("executions") || members.contains_key("filledShares") {
        let is_open = result.get("status").is_some_and(|status| status == "open");
        members.insert("status".to_owned(), if is_open { "cancelled" } else { "open" }.into());
    } else if is_refusal {
        members.remove("error");
        // This adds the id to the result of a submit; a cancel's result has it already.
        members.entry("externalOrderId").or_insert_with(|| "0-0".into());
    } else {
        let error = json!({"code": "halted", "message": "the exchange contradicts itself"});
        members.insert("error".to_owned(), error);
        members.remove("status");
        if members.contains_key("clientOrderId") {
            members.remove("externalOrderId");
        }
    }
    opposite
}

fn ok(body: Vec<u8>) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
