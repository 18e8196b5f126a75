//! Batches for the exchange: which orders go into a request, and what its answer, or the lack of one,
//! means for them. Sends nothing and reads no clock.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use compact_str::CompactString;

use super::answers::{Answer, SessionQueues};
use super::metrics::OmsMetrics;
use super::query_planner::NextQuery;
use super::stages::Stage;
use super::throttle::Pause;
use super::translate;
use crate::engine::{CancelOutcome, SubmitOutcome};
use crate::exchange::wire::{
    CancelRequest, CancelResult, MAX_BATCH, QueryRequest, QueryResult, SubmitOrder, SubmitRequest,
    SubmitResult,
};
use crate::exchange::{Results, SessionError, UnreadableElement};
use crate::order::Order;
use crate::types::{ExternalOrderId, Moment, OrderId, TimestampMicros};

/// An id that no order has: it says 1970.
pub(super) const NO_ORDER: OrderId = OrderId::from_u128(0);

/// What a client is told whose order the exchange did not take in time.
const TOO_BUSY: CompactString = CompactString::const_new(
    "the exchange is too busy: it took no orders (429) while this one could wait",
);

/// Orders on their way to the exchange.
pub(crate) struct SubmitBatch {
    orders: Vec<Arc<Order>>,
    request: SubmitRequest,
}

impl SubmitBatch {
    /// Takes what has gathered, without orders whose deadline has passed: the exchange would refuse
    /// them. `None` when nothing is left to send.
    pub(crate) fn take(queues: &SessionQueues, metrics: &OmsMetrics, now: Moment) -> Option<Self> {
        let batch = queues.submits.take_batch(now, |order| {
            queues.answers.push(Answer::Submit(order.order_id, SubmitOutcome::NeverSent));
        });
        if batch.is_empty() {
            return None;
        }
        assert!(
            batch.iter().all(|order| order.submit_before >= now.wall),
            "no order is sent after its deadline"
        );
        batch.iter().for_each(|order| queues.clock.end(order.order_id, Stage::Gather));
        let told = |order: &Order| queues.exchange_clock.deadline(order.submit_before, now);
        let orders: Vec<SubmitOrder> =
            batch.iter().map(|order| translate::submit_order(order, told(order))).collect();
        assert!(orders.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        debug_assert!(
            batch.iter().map(|order| order.order_id).collect::<BTreeSet<_>>().len() == batch.len(),
            "an order is sent once"
        );
        metrics.submit_requests.inc();
        metrics.submitted_orders.inc_by(orders.len() as u64);
        Some(Self { orders: batch, request: SubmitRequest { orders } })
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &SubmitRequest {
        &self.request
    }

    /// Takes the outcome. False when the exchange could not be reached: nothing has left this process,
    /// so the same orders wait for the next connection.
    pub(crate) fn complete(
        self,
        outcome: Result<Results<SubmitResult>, SessionError>,
        queues: &SessionQueues,
        metrics: &OmsMetrics,
        now: Moment,
    ) -> bool {
        let Self { orders, request } = self;
        assert_eq!(orders.len(), request.orders.len(), "a request has the orders of its batch");
        queues.submits.answered();
        let outcomes = match outcome {
            Ok(answer) => {
                note_success(queues, metrics, now);
                let mut unreadable = Vec::new();
                let outcomes = translate::submit_outcomes(&request.orders, answer, &mut unreadable);
                hand_on(unreadable, queues);
                outcomes
            }
            Err(SessionError::Throttled { retry_after }) => {
                hold_back(orders, retry_after, queues, metrics, now);
                return true;
            }
            Err(SessionError::NotSent(error)) => {
                note_failure(queues, metrics);
                tracing::warn!(error, orders = orders.len(), "the exchange cannot be reached");
                queues.submits.put_back(orders);
                return false;
            }
            Err(error @ (SessionError::OutcomeUnknown(_) | SessionError::TimedOut(_))) => {
                let count = orders.len();
                tracing::warn!(%error, orders = count, "the outcome of a submit is unknown");
                metrics.unknown_outcomes.inc();
                note_failure(queues, metrics);
                let timed_out = matches!(error, SessionError::TimedOut(_));
                let outcome =
                    if timed_out { SubmitOutcome::TimedOut } else { SubmitOutcome::Unknown };
                vec![outcome; count]
            }
        };
        assert_eq!(outcomes.len(), orders.len(), "every order that was sent has an outcome");
        let answers = orders.iter().zip(outcomes);
        let answers = answers.map(|(order, outcome)| Answer::Submit(order.order_id, outcome));
        queues.answers.extend(answers);
        true
    }
}

/// The exchange has taken none of these orders and takes none for a while. Orders that can wait that
/// long go first after the pause; the others, in the batch or after it, have failed.
fn hold_back(
    orders: Vec<Arc<Order>>,
    retry_after: Option<Duration>,
    queues: &SessionQueues,
    metrics: &OmsMetrics,
    now: Moment,
) {
    queues.circuit.borrow_mut().throttled();
    let count = orders.len();
    let (pause, refused) = queues.submits.hold_back(orders, retry_after, now);
    note_pause(pause, "orders", count, metrics, now);
    metrics.throttled_orders.inc_by(refused.len() as u64);
    let outcome = || SubmitOutcome::Refused { reason: TOO_BUSY };
    queues.answers.extend(refused.iter().map(|order| Answer::Submit(order.order_id, outcome())));
}

fn note_pause(pause: Pause, what: &str, count: usize, metrics: &OmsMetrics, now: Moment) {
    metrics.throttled_requests.inc();
    if pause.is_first {
        let pause = pause.until.saturating_since(now.monotonic);
        let pause_ms = pause.as_millis();
        tracing::warn!(count, pause_ms, "the exchange is throttling {what} (429)");
    }
}

/// Hands elements that cannot be used to the driver, among the answers.
fn hand_on(unreadable: Vec<UnreadableElement>, queues: &SessionQueues) {
    if !unreadable.is_empty() {
        let unreadable = unreadable.into_iter().map(Box::new);
        queues.answers.extend(unreadable.map(Answer::Unreadable));
    }
}

fn note_success(queues: &SessionQueues, metrics: &OmsMetrics, now: Moment) {
    queues.submits.taken(now.monotonic);
    if queues.circuit.borrow_mut().succeeded() {
        tracing::warn!("the exchange accepts orders again");
        metrics.exchange_away.set(0);
    }
}

fn note_failure(queues: &SessionQueues, metrics: &OmsMetrics) {
    if queues.circuit.borrow_mut().failed() {
        tracing::error!("the exchange is not answering: new orders are refused until it does");
        metrics.exchange_away.set(1);
        metrics.circuit_openings.inc();
        queues.probes.push(());
    }
}

/// Cancels on their way to the exchange.
pub(crate) struct CancelBatch {
    cancels: Vec<(OrderId, ExternalOrderId)>,
    request: CancelRequest,
}

impl CancelBatch {
    /// Takes what has gathered and may be sent at `now`; `None` when nothing may.
    pub(crate) fn take(queues: &SessionQueues, metrics: &OmsMetrics, now: Moment) -> Option<Self> {
        if queues.cancel_throttle.borrow().is_closed(now.monotonic) {
            return None;
        }
        let mut cancels = queues.cancels.take(MAX_BATCH);
        cancels.extend(queues.unawaited_cancels.take(MAX_BATCH - cancels.len()));
        assert!(cancels.len() <= MAX_BATCH, "a request has at most what the exchange takes");
        if cancels.is_empty() {
            return None;
        }
        metrics.cancel_requests.inc();
        let external_order_ids = cancels.iter().map(|(_, id)| id.clone()).collect();
        Some(Self { cancels, request: CancelRequest { external_order_ids } })
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &CancelRequest {
        &self.request
    }

    /// Takes the outcome. False when the exchange could not be reached: the same cancels wait for the
    /// next connection. They also wait while the exchange takes none.
    pub(crate) fn complete(
        self,
        outcome: Result<Results<CancelResult>, SessionError>,
        queues: &SessionQueues,
        metrics: &OmsMetrics,
        now: Moment,
    ) -> bool {
        let Self { cancels, request } = self;
        let requested = request.external_order_ids.len();
        assert_eq!(cancels.len(), requested, "a request has the cancels of its batch");
        let outcomes = match outcome {
            Ok(answer) => {
                queues.cancel_throttle.borrow_mut().taken(now.monotonic);
                let (ids, mut unreadable) = (&request.external_order_ids, Vec::new());
                let outcomes = translate::cancel_outcomes(ids, answer, &mut unreadable);
                hand_on(unreadable, queues);
                outcomes
            }
            Err(SessionError::Throttled { retry_after }) => {
                let mut throttle = queues.cancel_throttle.borrow_mut();
                let pause = throttle.refused(now.monotonic, retry_after);
                note_pause(pause, "cancels", cancels.len(), metrics, now);
                queues.cancels.put_back(cancels);
                return true;
            }
            Err(SessionError::NotSent(error)) => {
                tracing::warn!(error, cancels = cancels.len(), "the exchange cannot be reached");
                queues.cancels.put_back(cancels);
                return false;
            }
            Err(error @ (SessionError::OutcomeUnknown(_) | SessionError::TimedOut(_))) => {
                let count = cancels.len();
                tracing::warn!(%error, cancels = count, "the outcome of a cancel is unknown");
                metrics.unknown_outcomes.inc();
                cancels.iter().map(|_| CancelOutcome::Unknown).collect()
            }
        };
        assert_eq!(outcomes.len(), cancels.len(), "every cancel that was sent has an outcome");
        let answers = cancels.into_iter().zip(outcomes);
        queues
            .answers
            .extend(answers.map(|((order_id, _), outcome)| Answer::Cancel(order_id, outcome)));
        true
    }
}

/// Queries on their way to the exchange.
pub(crate) struct QueryBatch {
    order_ids: Vec<OrderId>,
    request: QueryRequest,
    /// Deadlines before this had passed at the exchange when it was asked.
    passed: TimestampMicros,
}

impl QueryBatch {
    /// Takes what has gathered; `None` when nothing has, or the exchange answers no queries for now.
    pub(crate) fn take(queues: &SessionQueues, metrics: &OmsMetrics, now: Moment) -> Option<Self> {
        if queues.query_throttle.borrow().is_closed(now.monotonic) {
            return None;
        }
        let (fresh, mut lost) = (|| queues.queries.take(MAX_BATCH), Vec::new());
        let next = queues.query_planner.borrow_mut().next(now.monotonic, fresh, &mut lost);
        lose(lost, queues);
        let (order_ids, client_order_ids) = match next? {
            NextQuery::Orders(order_ids) => {
                let ids = order_ids.iter().map(|id| translate::client_order_id(*id)).collect();
                (order_ids, ids)
            }
            NextQuery::Probe => (Vec::new(), vec![translate::client_order_id(NO_ORDER)]),
        };
        assert!(
            client_order_ids.len() <= MAX_BATCH,
            "a request has at most what the exchange takes"
        );
        assert!(!client_order_ids.is_empty(), "a request asks for something");
        metrics.query_requests.inc();
        metrics.queried_orders.inc_by(order_ids.len() as u64);
        let passed = queues.exchange_clock.deadlines_passed(now);
        Some(Self { order_ids, request: QueryRequest { client_order_ids }, passed })
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &QueryRequest {
        &self.request
    }

    /// Takes the outcome. False when the exchange could not be reached. After a failure the orders are
    /// asked about again: several in parts, a single one when its engine asks again.
    pub(crate) fn complete(
        self,
        outcome: Result<Results<QueryResult>, SessionError>,
        queues: &SessionQueues,
        metrics: &OmsMetrics,
        now: Moment,
    ) -> bool {
        let Self { order_ids, request, passed } = self;
        let mut planner = queues.query_planner.borrow_mut();
        match outcome {
            Ok(answer) => {
                queues.query_throttle.borrow_mut().taken(now.monotonic);
                planner.answered(&order_ids);
                let (ids, mut unreadable) = (&request.client_order_ids, Vec::new());
                let records = translate::query_answers(ids, answer, &mut unreadable);
                assert_eq!(records.len(), ids.len(), "every id that was asked about has an answer");
                let is_probe = order_ids.is_empty();
                assert!(is_probe || records.len() == order_ids.len(), "so has every order");
                let answers = order_ids.into_iter().zip(records).map(|(order_id, record)| {
                    Answer::Query(order_id, record.map(|record| (passed, record)))
                });
                queues.answers.extend(answers);
                hand_on(unreadable, queues);
                true
            }
            Err(SessionError::Throttled { retry_after }) => {
                let mut throttle = queues.query_throttle.borrow_mut();
                let pause = throttle.refused(now.monotonic, retry_after);
                note_pause(pause, "queries", order_ids.len(), metrics, now);
                planner.put_back(order_ids);
                true
            }
            Err(error @ SessionError::NotSent(_)) => {
                tracing::warn!(%error, orders = order_ids.len(), "a query has no answer");
                lose(order_ids, queues);
                false
            }
            Err(error @ (SessionError::OutcomeUnknown(_) | SessionError::TimedOut(_))) => {
                let (orders, first) = (order_ids.len(), order_ids.first().copied());
                let first = first.map(tracing::field::display);
                tracing::warn!(%error, orders, first, "a query has no answer");
                metrics.failed_queries.inc();
                lose(planner.failed(now.monotonic, order_ids), queues);
                true
            }
        }
    }
}

/// Tells the engines that there is no answer about these orders.
fn lose(order_ids: Vec<OrderId>, queues: &SessionQueues) {
    if !order_ids.is_empty() {
        queues.answers.extend(order_ids.into_iter().map(|id| Answer::Query(id, None)));
    }
}
