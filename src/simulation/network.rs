//! The messages in flight between us and the exchange. A request stays in flight after its sender
//! timed out, and after its process ended.

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::dice::Dice;
use super::invariant::{Checked, Invariant, broken};
use crate::exchange::wire::{
    CancelRequest, CancelResponse, QueryRequest, QueryResponse, Refusal, SubmitRequest,
    SubmitResponse,
};

/// Identifies a request and its answer, across restarts of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlightId(pub(super) u64);

/// A request to the exchange.
pub(super) enum Request {
    Submit(SubmitRequest),
    Cancel(CancelRequest),
    Query(QueryRequest),
}

/// An answer of the exchange.
pub(super) enum Response {
    Submit(SubmitResponse),
    Cancel(CancelResponse),
    Query(QueryResponse),
    /// The body of any of the above, with an unreadable element.
    Body(Vec<u8>),
    /// A status other than 200, or an unreadable body.
    Unreadable,
    /// `429`: nothing was done.
    TooMany {
        /// When it may be sent again, if the answer says so.
        retry_after: Option<Duration>,
    },
}

/// All messages in flight, in no order.
#[derive(Default)]
pub(super) struct Network {
    pub(super) requests: Vec<(FlightId, Request)>,
    pub(super) responses: Vec<(FlightId, Response)>,
    last_flight: u64,
}

impl Network {
    /// Sends a request, encoded and decoded as on the wire.
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

    /// Takes any request that arrives now; `held` percent of the submits come later instead.
    pub(super) fn take_request(
        &mut self,
        held: u64,
        dice: &mut Dice,
    ) -> Option<(FlightId, Request)> {
        let place = dice.place(self.requests.len())?;
        let is_submit = matches!(self.requests[place].1, Request::Submit(_));
        let is_held = is_submit && dice.percent(held);
        (!is_held).then(|| self.requests.swap_remove(place))
    }

    /// Sends an answer.
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
    /// Loses a part of the answer, or reorders its parts: results must be found by their ids, and a
    /// missing one is no answer.
    pub(super) fn mangle(&mut self, dice: &mut Dice) {
        match self {
            Self::Submit(response) => {
                if let Some(result) = mangle(&mut response.results, dice) {
                    let honest = result.clone();
                    // Neither accepted nor refused.
                    (result.external_order_id, result.error) = (None, None);
                    if dice.percent(50) {
                        // And the opposite in a second result.
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

/// Reverses the results or loses one of them, or returns one to spoil.
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
