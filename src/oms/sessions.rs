//! The sessions with the exchange. What is due gathers while a request is in flight and goes as one
//! batch with the next; `submit_queue.rs` says when. An idle session sends at once.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use futures_lite::future::or;

use super::answers::SessionQueues;
use super::batches::{CancelBatch, NO_ORDER, QueryBatch, SubmitBatch};
use super::circuit::{ExchangeReachability, PROBE_INTERVAL, UNCLEAR_PROBES};
use super::metrics::OmsMetrics;
use super::submit_queue::Decision;
use super::throttle::Throttle;
use super::translate;
use crate::exchange::wire::QueryRequest;
use crate::exchange::{Dialer, ExchangeSession, SessionError};
use crate::runtime::sleep;
use crate::types::{Backoff, MonotonicMicros, SteadyClock};

/// First wait after a connection that could not be made; doubles up to the last.
const FIRST_BACKOFF: Duration = Duration::from_millis(20);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// How often the exchange's name is resolved although nothing has failed.
const LOOKUP_INTERVAL: Duration = Duration::from_secs(5);

/// How long to wait before connecting again.
pub(super) const BACKOFF: Backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);

/// Waits after an exchange that was not reached, longer each time.
pub(super) async fn back_off(backoff: &mut Backoff, reached: bool) {
    if reached {
        backoff.reset();
    } else {
        sleep(backoff.advance()).await;
    }
}

/// Sends orders over one connection for as long as the task lives.
pub(super) async fn run_submits(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    metrics: OmsMetrics,
    clock: SteadyClock,
) {
    let mut backoff = BACKOFF;
    loop {
        wait_for_batch(&queues).await;
        let now = clock.moment();
        // Another connection was faster, or every deadline has passed.
        let Some(batch) = SubmitBatch::take(&queues, &metrics, now) else { continue };
        let outcome = session.submit(batch.request()).await;
        let reached = batch.complete(outcome, &queues, &metrics, clock.moment());
        // What has gathered may go now, over whichever connection.
        queues.submits.wake();
        back_off(&mut backoff, reached).await;
    }
}

/// Waits until gathered orders are to be sent.
async fn wait_for_batch(queues: &SessionQueues) {
    loop {
        let (now, seen) = (MonotonicMicros::now(), queues.submits.generation());
        let decision = queues.submits.decide(now);
        let changed = queues.submits.changed_since(seen);
        match decision {
            Decision::Send => return,
            Decision::Wait => changed.await,
            Decision::WaitUntil(at) => or(changed, sleep(at.saturating_since(now))).await,
        }
    }
}

/// Probes an exchange that is away once a second, the first time at once, with a query about an order
/// that does not exist. An answer lets orders through again. A probe that reaches the exchange and
/// has no usable answer (an error status, an unreadable body, silence) lets a single order through
/// now and then, which finds out.
pub(super) async fn run_probes(mut session: ExchangeSession, queues: Rc<SessionQueues>) {
    let request = QueryRequest { client_order_ids: vec![translate::client_order_id(NO_ORDER)] };
    let mut has_asked = false;
    loop {
        poll_fn(|context| queues.probes.poll_some(context)).await;
        queues.probes.take(usize::MAX);
        let mut unclear = 0;
        while queues.circuit.borrow().state() == ExchangeReachability::Away {
            if has_asked {
                sleep(PROBE_INTERVAL).await;
            }
            has_asked = true;
            match session.query(&request).await {
                Ok(_) | Err(SessionError::Throttled { .. }) => {
                    queues.circuit.borrow_mut().probe_answered();
                }
                Err(SessionError::NotSent(_)) => {}
                Err(error @ (SessionError::OutcomeUnknown(_) | SessionError::TimedOut(_))) => {
                    unclear += 1;
                    assert!(unclear <= UNCLEAR_PROBES, "unclear probes are counted to their limit");
                    if unclear == UNCLEAR_PROBES {
                        unclear = 0;
                        tracing::warn!(%error, "probes of the exchange have no usable answer");
                        queues.circuit.borrow_mut().probes_unclear();
                    }
                }
            }
        }
    }
}

/// Sends cancels over a connection that nothing else can fill.
pub(super) async fn run_cancels(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    metrics: OmsMetrics,
    clock: SteadyClock,
) {
    let mut backoff = BACKOFF;
    loop {
        poll_fn(|context| {
            let mut ready = queues.cancels.poll_some(context).is_ready();
            ready |= queues.unawaited_cancels.poll_some(context).is_ready();
            if ready { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        wait_out(&queues.cancel_throttle).await;
        // A pause has begun meanwhile.
        let Some(batch) = CancelBatch::take(&queues, &metrics, clock.moment()) else { continue };
        let outcome = session.cancel(batch.request()).await;
        let reached = batch.complete(outcome, &queues, &metrics, clock.moment());
        back_off(&mut backoff, reached).await;
    }
}

/// Sends queries over a connection of their own: a cancel never waits for them.
pub(super) async fn run_queries(
    mut session: ExchangeSession,
    queues: Rc<SessionQueues>,
    metrics: OmsMetrics,
    clock: SteadyClock,
) {
    let mut backoff = BACKOFF;
    loop {
        poll_fn(|context| {
            let ready = queues.query_planner.borrow().has_parts();
            if ready { Poll::Ready(()) } else { queues.queries.poll_some(context) }
        })
        .await;
        wait_out(&queues.query_throttle).await;
        // All of them must pause.
        let Some(batch) = QueryBatch::take(&queues, &metrics, clock.moment()) else { continue };
        let outcome = session.query(batch.request()).await;
        let reached = batch.complete(outcome, &queues, &metrics, clock.moment());
        back_off(&mut backoff, reached).await;
    }
}

/// Waits until the exchange may be asked again.
async fn wait_out(throttle: &RefCell<Throttle>) {
    loop {
        let now = MonotonicMicros::now();
        let until = throttle.borrow().closed_until(now);
        // No pause is in progress.
        let Some(until) = until else { return };
        sleep(until.saturating_since(now)).await;
    }
}

/// Resolves the exchange's name once in a while, so that idle connections to a former address do not
/// stay.
pub(super) async fn run_lookups(dialer: Dialer) {
    loop {
        sleep(LOOKUP_INTERVAL).await;
        dialer.refresh();
    }
}
