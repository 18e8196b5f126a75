//! The sessions with the exchange: what is due gathers while a request is in flight and goes as
//! one batch with the next; an idle session sends at once.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use glommio::timer::sleep;

use super::answers::{Answer, SessionQueues};
use super::circuit::{ExchangeState, PROBE_INTERVAL};
use super::metrics::ExecutionMetrics;
use super::translate;
use crate::engine::{CancelOutcome, SubmitOutcome};
use crate::exchange::wire::{CancelRequest, MAX_BATCH, QueryRequest, SubmitOrder, SubmitRequest};
use crate::exchange::{ExchangeSession, SessionError};
use crate::order::Order;
use crate::types::{Clock, ExternalOrderId, OrderId};

/// First wait after a connection that could not be made; doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);

/// Stands for no order: its time is 1970.
const NO_ORDER: OrderId = OrderId::from_u128(0);

/// How long to wait before connecting again.
pub(super) struct Backoff(Duration);

impl Backoff {
    pub(super) const fn new() -> Self {
        Self(FIRST_BACKOFF)
    }

    pub(super) async fn wait(&mut self) {
        sleep(self.0).await;
        self.0 = (self.0 * 2).min(LAST_BACKOFF);
    }
}

/// Sends orders over one connection for as long as the task lives.
pub(super) async fn run_submits(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    metrics: ExecutionMetrics,
) {
    let mut backoff = Backoff::new();
    loop {
        poll_fn(|context| queues.submits.poll_some(context)).await;
        let batch = queues.submits.take(MAX_BATCH);
        let Some(batch) = drop_late(batch, &queues) else { continue };
        let orders: Vec<SubmitOrder> =
            batch.iter().map(|order| translate::submit_order(order)).collect();
        metrics.submit_requests.inc();
        metrics.submitted_orders.inc_by(orders.len() as u64);
        let mut request = SubmitRequest { orders };
        let outcomes = match session.submit(&request).await {
            Ok(response) => {
                backoff = Backoff::new();
                note_success(&queues, &metrics);
                translate::submit_outcomes(&request.orders, response.results)
            }
            Err(SessionError::NotSent(error)) => {
                note_failure(&queues, &metrics);
                // Nothing left this process, so the same orders may wait for the next connection.
                tracing::warn!(error, orders = batch.len(), "the exchange cannot be reached");
                queues.submits.put_back(batch);
                backoff.wait().await;
                continue;
            }
            Err(SessionError::OutcomeUnknown(error)) => {
                tracing::warn!(error, orders = batch.len(), "the outcome of a submit is unknown");
                metrics.unknown_outcomes.inc();
                note_failure(&queues, &metrics);
                request.orders.drain(..).map(|_| SubmitOutcome::Unknown).collect()
            }
        };
        let answers = batch.iter().zip(outcomes);
        let answers = answers.map(|(order, outcome)| Answer::Submit(order.order_id, outcome));
        queues.answers.extend(answers);
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

/// While the exchange is away, asks it once a second about an order that there is not. Its answer,
/// whatever it says, lets single orders through again.
pub(super) async fn run_probes(mut session: ExchangeSession, queues: Rc<SessionQueues>) {
    let request = QueryRequest { client_order_ids: vec![translate::client_order_id(NO_ORDER)] };
    loop {
        poll_fn(|context| queues.probes.poll_some(context)).await;
        queues.probes.take(usize::MAX);
        while queues.circuit.borrow().state() == ExchangeState::Away {
            sleep(PROBE_INTERVAL).await;
            if session.query(&request).await.is_ok() {
                queues.circuit.borrow_mut().probe_answered();
            }
        }
    }
}

/// Sorts out orders whose deadline has passed unsent: the exchange would refuse them.
fn drop_late(mut batch: Vec<Arc<Order>>, queues: &SessionQueues) -> Option<Vec<Arc<Order>>> {
    let now = Clock.now();
    batch.retain(|order| {
        let is_late = order.submit_before < now;
        if is_late {
            queues.answers.push(Answer::Submit(order.order_id, SubmitOutcome::NeverSent));
        }
        !is_late
    });
    (!batch.is_empty()).then_some(batch)
}

/// Sends cancels and queries over a connection that creates cannot fill. Cancels go first.
pub(super) async fn run_control(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    metrics: ExecutionMetrics,
) {
    let mut backoff = Backoff::new();
    loop {
        poll_fn(|context| {
            let mut ready = queues.cancels.poll_some(context).is_ready();
            ready |= queues.unawaited_cancels.poll_some(context).is_ready();
            ready |= queues.queries.poll_some(context).is_ready();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut cancels = queues.cancels.take(MAX_BATCH);
        cancels.extend(queues.unawaited_cancels.take(MAX_BATCH - cancels.len()));
        let mut reached = true;
        if !cancels.is_empty() {
            reached &= send_cancels(&mut session, cancels, &queues, &metrics).await;
        }
        let queries = queues.queries.take(MAX_BATCH);
        if !queries.is_empty() {
            reached &= send_queries(&mut session, queries, &queues, &metrics).await;
        }
        if reached {
            backoff = Backoff::new();
        } else {
            backoff.wait().await;
        }
    }
}

/// False when the exchange could not be reached.
async fn send_cancels(
    session: &mut ExchangeSession,
    batch: Vec<(OrderId, ExternalOrderId)>,
    queues: &SessionQueues,
    metrics: &ExecutionMetrics,
) -> bool {
    metrics.cancel_requests.inc();
    let external_order_ids = batch.iter().map(|(_, id)| id.clone()).collect();
    let request = CancelRequest { external_order_ids };
    let outcomes = match session.cancel(&request).await {
        Ok(response) => translate::cancel_outcomes(&request.external_order_ids, response.results),
        Err(SessionError::NotSent(error)) => {
            tracing::warn!(error, cancels = batch.len(), "the exchange cannot be reached");
            queues.cancels.put_back(batch);
            return false;
        }
        Err(SessionError::OutcomeUnknown(error)) => {
            tracing::warn!(error, cancels = batch.len(), "the outcome of a cancel is unknown");
            metrics.unknown_outcomes.inc();
            batch.iter().map(|_| CancelOutcome::Unknown).collect()
        }
    };
    let answers = batch.into_iter().zip(outcomes);
    queues
        .answers
        .extend(answers.map(|((order_id, _), outcome)| Answer::Cancel(order_id, outcome)));
    true
}

/// False when the exchange could not be reached.
async fn send_queries(
    session: &mut ExchangeSession,
    batch: Vec<OrderId>,
    queues: &SessionQueues,
    metrics: &ExecutionMetrics,
) -> bool {
    metrics.query_requests.inc();
    metrics.queried_orders.inc_by(batch.len() as u64);
    let client_order_ids = batch.iter().map(|id| translate::client_order_id(*id)).collect();
    let request = QueryRequest { client_order_ids };
    let asked_at = Clock.now();
    match session.query(&request).await {
        Ok(response) => {
            let records = translate::query_answers(&request.client_order_ids, response.results);
            let answers = batch.into_iter().zip(records).map(|(order_id, record)| {
                Answer::Query(order_id, record.map(|record| (asked_at, record)))
            });
            queues.answers.extend(answers);
            true
        }
        Err(error) => {
            tracing::warn!(%error, orders = batch.len(), "a query has no answer");
            let lost = batch.into_iter().map(|order_id| Answer::Query(order_id, None));
            queues.answers.extend(lost);
            !matches!(error, SessionError::NotSent(_))
        }
    }
}
