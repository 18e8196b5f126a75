//! What is on its way between us and the exchange. A request goes on travelling when its sender has
//! given up, and when its sender's process has ended.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dice::Dice;
use super::invariant::{Checked, Invariant, broken};
use crate::exchange::wire::{
    CancelRequest, CancelResponse, QueryRequest, QueryResponse, Refusal, SubmitRequest,
    SubmitResponse,
};

/// Names a request and its answer, over all starts of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlightId(pub(super) u64);

/// A request on its way to the exchange.
pub(super) enum Request {
    Submit(SubmitRequest),
    Cancel(CancelRequest),
    Query(QueryRequest),
}

/// An answer on its way back.
pub(super) enum Response {
    Submit(SubmitResponse),
    Cancel(CancelResponse),
    Query(QueryResponse),
    /// The body of any of them, with an element that nobody can read.
    Body(Vec<u8>),
    /// Another status than 200, or a body that nobody can read.
    Unreadable,
    /// Nothing was done: `429`.
    TooMany {
        /// When it may be sent again, if that was said.
        retry_after: Option<Duration>,
    },
}

/// Everything on its way, in no order: whoever takes from it chooses.
#[derive(Default)]
pub(super) struct Network {
    pub(super) requests: Vec<(FlightId, Request)>,
    pub(super) responses: Vec<(FlightId, Response)>,
    last_flight: u64,
}

impl Network {
    /// Puts a request on its way, through the bytes that really travel.
    pub(super) fn send(&mut self, request: &Request) -> Checked<FlightId> {
        self.last_flight += 1;
        let flight = FlightId(self.last_flight);
        let request = match request {
            Request::Submit(request) => Request::Submit(through_json(request)?),
            Request::Cancel(request) => Request::Cancel(through_json(request)?),
            Request::Query(request) => Request::Query(through_json(request)?),
        };
        self.requests.push((flight, request));
        Ok(flight)
    }

    /// Puts an answer on its way.
    pub(super) fn respond(&mut self, flight: FlightId, response: Response) -> Checked {
        let response = match response {
            Response::Submit(response) => Response::Submit(through_json(&response)?),
            Response::Cancel(response) => Response::Cancel(through_json(&response)?),
            Response::Query(response) => Response::Query(through_json(&response)?),
            other @ (Response::Body(_) | Response::Unreadable | Response::TooMany { .. }) => other,
        };
        self.responses.push((flight, response));
        Ok(())
    }
}

impl Response {
    /// Loses a part of the answer, or turns the order of its parts around: what is said of an
    /// order has to be found by its id, and silence about it is no answer.
    pub(super) fn mangle(&mut self, dice: &mut Dice) {
        match self {
            Self::Submit(response) => {
                if let Some(result) = mangle(&mut response.results, dice) {
                    let honest = result.clone();
                    // Neither accepted nor refused.
                    (result.external_order_id, result.error) = (None, None);
                    if dice.percent(50) {
                        // And in a second place the opposite.
                        let error = Refusal { code: "halted".into(), message: "no".to_owned() };
                        result.error = Some(error);
                        response.results.push(honest);
                    }
                }
            }
            Self::Cancel(response) => {
                if let Some(result) = mangle(&mut response.results, dice) {
                    (result.status, result.error) = (None, None);
                }
            }
            Self::Query(response) => {
                let _only_lost_or_turned = mangle(&mut response.results, dice);
            }
            Self::Body(_) | Self::Unreadable | Self::TooMany { .. } => {}
        }
    }
}

/// Reverses results and loses one of them, or gives one to spoil.
fn mangle<'a, T>(results: &'a mut Vec<T>, dice: &mut Dice) -> Option<&'a mut T> {
    let place = dice.place(results.len())?;
    match dice.below(3) {
        0 => {
            results.reverse();
            None
        }
        1 => {
            results.swap_remove(place);
            None
        }
        _ => results.get_mut(place),
    }
}

fn through_json<T: Serialize + DeserializeOwned>(message: &T) -> Checked<T> {
    let failed = |error| broken(Invariant::AnswerIsTrue, format!("unreadable JSON: {error}"));
    serde_json::to_vec(message).and_then(|json| serde_json::from_slice(&json)).map_err(failed)
}
