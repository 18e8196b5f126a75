use std::cell::RefCell;
use std::sync::Arc;

use super::circuit::{Circuit, SharedState};
use super::limits::MAX_WAITING_SUBMITS;
use super::local_queue::LocalQueue;
use crate::engine::{CancelOutcome, QueryAnswer, SubmitOutcome};
use crate::order::Order;
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// What goes between the driver and the sessions with the exchange, all on one thread.
#[derive(Debug)]
pub(super) struct SessionQueues {
    /// Orders to send, once each.
    pub(super) submits: LocalQueue<Arc<Order>>,
    /// Orders to cancel that somebody waits for.
    pub(super) cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Orders to cancel that nobody waits for: mass cancels and strays, as many as there are open
    /// orders. They fill what room the others leave.
    pub(super) unawaited_cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Orders to ask about.
    pub(super) queries: LocalQueue<OrderId>,
    /// Reasons to register our webhook, all answered by one registration.
    pub(super) registrations: LocalQueue<()>,
    /// Asks whether an exchange that is away is back.
    pub(super) probes: LocalQueue<()>,
    /// Whether new orders are worth taking.
    pub(super) circuit: RefCell<Circuit>,
    /// What the exchange said.
    pub(super) answers: LocalQueue<Answer>,
}

impl SessionQueues {
    pub(super) fn new(exchange_state: SharedState) -> Self {
        Self {
            submits: LocalQueue::new(),
            cancels: LocalQueue::new(),
            unawaited_cancels: LocalQueue::new(),
            queries: LocalQueue::new(),
            registrations: LocalQueue::new(),
            probes: LocalQueue::new(),
            circuit: RefCell::new(Circuit::new(exchange_state)),
            answers: LocalQueue::new(),
        }
    }

    /// Whether more orders would only wait for their deadlines.
    pub(super) fn is_backed_up(&self) -> bool {
        self.submits.len() >= MAX_WAITING_SUBMITS
    }
}

/// One answer of the exchange, or that there was none.
#[derive(Debug)]
pub(super) enum Answer {
    Submit(OrderId, SubmitOutcome),
    Cancel(OrderId, CancelOutcome),
    /// With the time at which it was asked for; `None` when no answer came.
    Query(OrderId, Option<(TimestampMicros, QueryAnswer)>),
}
