//! The queues between the driver and the order sessions, and the answers that come back.

use std::cell::RefCell;
use std::fmt;

use super::circuit::{Circuit, SharedState};
use super::local_queue::LocalQueue;
use super::query_planner::QueryPlanner;
use super::stages::{OrderStages, StageClock};
use super::submit_queue::SubmitQueue;
use super::throttle::Throttle;
use crate::engine::{CancelOutcome, QueryAnswer, SubmitOutcome};
use crate::exchange::{ExchangeClock, UnreadableElement};
use crate::order::TrackedOrder;
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// The queues between the driver and the sessions with the exchange, all on one thread.
#[derive(Debug)]
pub(crate) struct SessionQueues {
    /// Orders to submit.
    pub(crate) submits: SubmitQueue,
    /// Cancels that a client waits for.
    pub(crate) cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Cancels that nobody waits for: mass cancels and strays, at most one per open order. They
    /// fill the room that the others leave.
    pub(crate) unawaited_cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Orders to query.
    pub(crate) queries: LocalQueue<OrderId>,
    /// Which of them share a request.
    pub(crate) query_planner: RefCell<QueryPlanner>,
    /// Throttles of cancels and of queries, kept apart so that queries never hold up a cancel.
    pub(super) cancel_throttle: RefCell<Throttle>,
    pub(super) query_throttle: RefCell<Throttle>,
    /// Orders to look up in the store: at most one for each unmatched report, and as many as are
    /// queried at a time.
    pub(crate) lookups: LocalQueue<OrderLookup>,
    /// Reasons to register our webhook; one registration serves all of them.
    pub(crate) registrations: LocalQueue<()>,
    /// Triggers a probe of an unreachable exchange.
    pub(crate) probes: LocalQueue<()>,
    /// Refuses new orders while the exchange is unreachable.
    pub(crate) circuit: RefCell<Circuit>,
    /// Answers of the exchange and of the store.
    pub(crate) answers: LocalQueue<Answer>,
    /// Measures where the time of orders goes.
    pub(super) clock: StageClock,
    /// The clock in which deadlines are sent.
    pub(crate) exchange_clock: ExchangeClock,
}

impl SessionQueues {
    pub(crate) fn new(
        exchange_reachability: SharedState,
        stages: OrderStages,
        exchange_clock: ExchangeClock,
    ) -> Self {
        Self {
            submits: SubmitQueue::new(),
            cancels: LocalQueue::new(),
            unawaited_cancels: LocalQueue::new(),
            queries: LocalQueue::new(),
            query_planner: RefCell::default(),
            cancel_throttle: RefCell::default(),
            query_throttle: RefCell::default(),
            lookups: LocalQueue::new(),
            registrations: LocalQueue::new(),
            probes: LocalQueue::new(),
            circuit: RefCell::new(Circuit::new(exchange_reachability)),
            answers: LocalQueue::new(),
            clock: StageClock::new(stages),
            exchange_clock,
        }
    }
}

/// An answer of the exchange or of the store, or that none came.
#[derive(Debug)]
pub(crate) enum Answer {
    Submit(OrderId, SubmitOutcome),
    Cancel(OrderId, CancelOutcome),
    /// With the time of the query; `None` when no answer came.
    Query(OrderId, Option<(TimestampMicros, QueryAnswer)>),
    /// The order that the store has under this id, if any.
    LookedUp(OrderLookup, Option<TrackedOrder>),
    /// An element of an answer that cannot be used.
    Unreadable(Box<UnreadableElement>),
}

/// An order to look up in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OrderLookup {
    /// By the exchange's id.
    ByExternalId(ExternalOrderId),
    /// By our id, to query the exchange about it.
    ByOrderId(OrderId),
}

impl fmt::Display for OrderLookup {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ByExternalId(id) => id.fmt(formatter),
            Self::ByOrderId(id) => id.fmt(formatter),
        }
    }
}
