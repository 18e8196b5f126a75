//! The sessions with the exchange: real batches over the simulated network.

use std::rc::Rc;
use std::time::Duration;

use super::invariant::Checked;
use super::network::{FlightId, Network, Request, Response};
use crate::exchange::wire::{CancelResult, QueryResult, SubmitResult};
use crate::exchange::{ResultElement, Results, SessionError, read_results};
use crate::oms::OmsMetrics;
use crate::oms::answers::SessionQueues;
use crate::oms::batches::{CancelBatch, QueryBatch, SubmitBatch};
use crate::oms::submit_queue::Decision;
use crate::types::Moment;

/// Order sessions. There is one more for cancels, and one for queries.
pub(super) const SUBMIT_SESSIONS: usize = 2;
const CANCEL_SESSION: usize = SUBMIT_SESSIONS;
pub(super) const SESSIONS: usize = SUBMIT_SESSIONS + 2;

/// A batch that was sent and is not answered.
enum Sent {
    Submit(SubmitBatch),
    Cancel(CancelBatch),
    Query(QueryBatch),
}

/// The pending request of a session.
struct Flight {
    id: FlightId,
    sent_at_micros: u64,
    sent: Sent,
}

/// A request that a session is about to send.
pub(super) struct Outgoing {
    session: usize,
    sent: Sent,
}

impl Outgoing {
    /// The request on the wire.
    pub(super) fn request(&self) -> Request {
        match &self.sent {
            Sent::Submit(batch) => Request::Submit(batch.request().clone()),
            Sent::Cancel(batch) => Request::Cancel(batch.request().clone()),
            Sent::Query(batch) => Request::Query(batch.request().clone()),
        }
    }
}

/// All sessions of a process.
pub(super) struct Sessions {
    queues: Rc<SessionQueues>,
    metrics: OmsMetrics,
    flights: [Option<Flight>; SESSIONS],
}

impl Sessions {
    pub(super) fn new(queues: Rc<SessionQueues>, metrics: OmsMetrics) -> Self {
        let flights = [const { None }; SESSIONS];
        Self { queues, metrics, flights }
    }

    pub(super) fn are_idle(&self) -> bool {
        self.flights.iter().all(Option::is_none)
    }

    /// Takes what a session would send next. `None` if it waits for an answer or for work.
    pub(super) fn take_request(&mut self, session: usize, now: Moment) -> Option<Outgoing> {
        if self.flights.get(session).is_none_or(Option::is_some) {
            return None;
        }
        let (queues, metrics) = (&*self.queues, &self.metrics);
        let sent = if session < SUBMIT_SESSIONS {
            if queues.submits.decide(now.monotonic) != Decision::Send {
                return None;
            }
            SubmitBatch::take(queues, metrics, now).map(Sent::Submit)
        } else if session == CANCEL_SESSION {
            CancelBatch::take(queues, metrics, now).map(Sent::Cancel)
        } else {
            QueryBatch::take(queues, metrics, now).map(Sent::Query)
        };
        sent.map(|sent| Outgoing { session, sent })
    }

    /// Sends a request.
    pub(super) fn send(
        &mut self,
        outgoing: Outgoing,
        network: &mut Network,
        now_micros: u64,
    ) -> Checked {
        let id = network.send(&outgoing.request())?;
        let flight = Flight { id, sent_at_micros: now_micros, sent: outgoing.sent };
        if let Some(place) = self.flights.get_mut(outgoing.session) {
            *place = Some(flight);
        }
        Ok(())
    }

    /// Completes a request that could not be sent.
    pub(super) fn fail_to_send(&mut self, outgoing: Outgoing, now: Moment) {
        let outcome = SessionError::NotSent("refused".to_owned());
        self.complete(outgoing.sent, Err(outcome), now);
    }

    /// Whether a session waits for the answer to a request.
    pub(super) fn waits_for(&self, id: FlightId) -> bool {
        self.flights.iter().flatten().any(|flight| flight.id == id)
    }

    /// Takes an answer. False if nobody waits for it any more.
    pub(super) fn receive(&mut self, id: FlightId, response: Response, now: Moment) -> bool {
        let waits = |flight: &&mut Option<Flight>| flight.as_ref().is_some_and(|f| f.id == id);
        let Some(flight) = self.flights.iter_mut().find(waits).and_then(Option::take) else {
            return false;
        };
        self.complete(flight.sent, Ok(response), now);
        true
    }

    /// Breaks a session's connection: its request gets no answer.
    pub(super) fn cut(&mut self, session: usize, now: Moment) -> bool {
        self.give_up(session, SessionError::OutcomeUnknown("cut".to_owned()), now)
    }

    /// False if the session waits for nothing.
    fn give_up(&mut self, session: usize, error: SessionError, now: Moment) -> bool {
        let Some(flight) = self.flights.get_mut(session).and_then(Option::take) else {
            return false;
        };
        self.complete(flight.sent, Err(error), now);
        true
    }

    /// Times out the requests sent before a time.
    pub(super) fn time_out(&mut self, sent_before_micros: u64, now: Moment) -> usize {
        let is_late = |flight: &Option<Flight>| {
            flight.as_ref().is_some_and(|flight| flight.sent_at_micros < sent_before_micros)
        };
        let late: Vec<usize> = (0..self.flights.len())
            .filter(|place| self.flights.get(*place).is_some_and(is_late))
            .collect();
        let timed_out = || SessionError::TimedOut(Duration::default());
        late.iter().filter(|session| self.give_up(**session, timed_out(), now)).count()
    }

    fn complete(&self, sent: Sent, outcome: Result<Response, SessionError>, now: Moment) {
        let (queues, metrics) = (&*self.queues, &self.metrics);
        match sent {
            Sent::Submit(batch) => {
                batch.complete(outcome.and_then(submitted), queues, metrics, now);
            }
            Sent::Cancel(batch) => {
                batch.complete(outcome.and_then(cancelled), queues, metrics, now);
            }
            Sent::Query(batch) => {
                batch.complete(outcome.and_then(queried), queues, metrics, now);
            }
        }
    }
}

fn submitted(response: Response) -> Result<Results<SubmitResult>, SessionError> {
    match response {
        Response::Submit(response) => Ok(response.results.into()),
        Response::Body(body) => read(&body),
        other => Err(no_answer(&other)),
    }
}

fn cancelled(response: Response) -> Result<Results<CancelResult>, SessionError> {
    match response {
        Response::Cancel(response) => Ok(response.results.into()),
        Response::Body(body) => read(&body),
        other => Err(no_answer(&other)),
    }
}

fn queried(response: Response) -> Result<Results<QueryResult>, SessionError> {
    match response {
        Response::Query(response) => Ok(response.results.into()),
        Response::Body(body) => read(&body),
        other => Err(no_answer(&other)),
    }
}

fn read<T: ResultElement>(body: &[u8]) -> Result<Results<T>, SessionError> {
    read_results(body).map_err(|error| SessionError::OutcomeUnknown(error.to_string()))
}

fn no_answer(response: &Response) -> SessionError {
    match response {
        Response::TooMany { retry_after } => SessionError::Throttled { retry_after: *retry_after },
        _ => SessionError::OutcomeUnknown("unreadable answer".to_owned()),
    }
}

/// Whether nothing waits for the exchange, for the store, or for the orders thread.
pub(super) fn are_empty(queues: &SessionQueues) -> bool {
    queues.submits.len() == 0
        && queues.cancels.is_empty()
        && queues.unawaited_cancels.is_empty()
        && queues.queries.is_empty()
        && !queues.query_planner.borrow().has_parts()
        && queues.lookups.is_empty()
        && queues.answers.is_empty()
}
