//! Requests to the exchange without the sending: which orders go into one, and what follows from
//! its answer or from there being none. Reads no clock.

use std::sync::Arc;

use super::answers::{Answer, SessionQueues};
use super::metrics::ExecutionMetrics;
use super::stages::Stage;
use super::translate;
use crate::engine::{CancelOutcome, SubmitOutcome};
use crate::exchange::SessionError;
use crate::exchange::wire::{
    CancelRequest, CancelResponse, MAX_BATCH, QueryRequest, QueryResponse, SubmitOrder,
    SubmitRequest, SubmitResponse,
};
use crate::order::Order;
use crate::types::{ExternalOrderId, Moment, OrderId, TimestampMicros};

/// Orders on their way to the exchange.
pub(crate) struct SubmitBatch {
    orders: Vec<Arc<Order>>,
    request: SubmitRequest,
}

impl SubmitBatch {
    /// What has gathered, without orders whose deadline has passed unsent: the exchange would
    /// refuse them. `None` when nothing is left to send.
    pub(crate) fn take(
        queues: &SessionQueues,
        metrics: &ExecutionMetrics,
        now: Moment,
    ) -> Option<Self> {
        let mut batch = queues.submits.take(MAX_BATCH);
        batch.retain(|order| {
            let is_late = order.submit_before < now.wall;
            if is_late {
                queues.answers.push(Answer::Submit(order.order_id, SubmitOutcome::NeverSent));
            }
            !is_late
        });
        if batch.is_empty() {
            return None;
        }
        batch.iter().for_each(|order| queues.clock.end(order.order_id, Stage::Gather));
        let told = |order: &Order| queues.exchange_clock.deadline(order.submit_before, now);
        let orders: Vec<SubmitOrder> =
            batch.iter().map(|order| translate::submit_order(order, told(order))).collect();
        metrics.submit_requests.inc();
        metrics.submitted_orders.inc_by(orders.len() as u64);
        Some(Self { orders: batch, request: SubmitRequest { orders } })
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &SubmitRequest {
        &self.request
    }

    /// Takes what became of it. False when the exchange could not be reached: then the same orders
    /// wait for the next connection, because nothing of them left this process.
    pub(crate) fn settle(
        self,
        outcome: Result<SubmitResponse, SessionError>,
        queues: &SessionQueues,
        metrics: &ExecutionMetrics,
    ) -> bool {
        let Self { orders, request } = self;
        let outcomes = match outcome {
            Ok(response) => {
                note_success(queues, metrics);
                translate::submit_outcomes(&request.orders, response.results)
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
        let answers = orders.iter().zip(outcomes);
        let answers = answers.map(|(order, outcome)| Answer::Submit(order.order_id, outcome));
        queues.answers.extend(answers);
        true
    }
}

fn note_success(queues: &SessionQueues, metrics: &ExecutionMetrics) {
    if queues.circuit.borrow_mut().succeeded() {
        tracing::warn!("the exchange takes orders again");
        metrics.exchange_away.set(0);
    }
}

fn note_failure(queues: &SessionQueues, metrics: &ExecutionMetrics) {
    if queues.circuit.borrow_mut().failed() {
        tracing::error!("the exchange does not answer: new orders are refused until it does");
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
    /// What has gathered; `None` when that is nothing.
    pub(crate) fn take(queues: &SessionQueues, metrics: &ExecutionMetrics) -> Option<Self> {
        let mut cancels = queues.cancels.take(MAX_BATCH);
        cancels.extend(queues.unawaited_cancels.take(MAX_BATCH - cancels.len()));
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

    /// Takes what became of it. False when the exchange could not be reached: then the same
    /// cancels wait for the next connection.
    pub(crate) fn settle(
        self,
        outcome: Result<CancelResponse, SessionError>,
        queues: &SessionQueues,
        metrics: &ExecutionMetrics,
    ) -> bool {
        let Self { cancels, request } = self;
        let outcomes = match outcome {
            Ok(response) => {
                translate::cancel_outcomes(&request.external_order_ids, response.results)
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
        let answers = cancels.into_iter().zip(outcomes);
        queues
            .answers
            .extend(answers.map(|((order_id, _), outcome)| Answer::Cancel(order_id, outcome)));
        true
    }
}

/// Questions on their way to the exchange.
pub(crate) struct QueryBatch {
    order_ids: Vec<OrderId>,
    request: QueryRequest,
    /// Deadlines before this were over at the exchange when it was asked.
    passed: TimestampMicros,
}

impl QueryBatch {
    /// What has gathered, asked at `now`; `None` when that is nothing.
    pub(crate) fn take(
        queues: &SessionQueues,
        metrics: &ExecutionMetrics,
        now: Moment,
    ) -> Option<Self> {
        let order_ids = queues.queries.take(MAX_BATCH);
        if order_ids.is_empty() {
            return None;
        }
        metrics.query_requests.inc();
        metrics.queried_orders.inc_by(order_ids.len() as u64);
        let client_order_ids = order_ids.iter().map(|id| translate::client_order_id(*id)).collect();
        let passed = queues.exchange_clock.deadlines_passed(now);
        Some(Self { order_ids, request: QueryRequest { client_order_ids }, passed })
    }

    /// What is sent.
    pub(crate) fn request(&self) -> &QueryRequest {
        &self.request
    }

    /// Takes what became of it. False when the exchange could not be reached. A question without
    /// an answer is asked again by whoever still wants to know.
    pub(crate) fn settle(
        self,
        outcome: Result<QueryResponse, SessionError>,
        queues: &SessionQueues,
    ) -> bool {
        let Self { order_ids, request, passed } = self;
        match outcome {
            Ok(response) => {
                let records = translate::query_answers(&request.client_order_ids, response.results);
                let answers = order_ids.into_iter().zip(records).map(|(order_id, record)| {
                    Answer::Query(order_id, record.map(|record| (passed, record)))
                });
                queues.answers.extend(answers);
                true
            }
            Err(error) => {
                tracing::warn!(%error, orders = order_ids.len(), "a query has no answer");
                let lost = order_ids.into_iter().map(|order_id| Answer::Query(order_id, None));
                queues.answers.extend(lost);
                !matches!(error, SessionError::NotSent(_))
            }
        }
    }
}
