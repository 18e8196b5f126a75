use std::cell::RefCell;
use std::fmt;

use super::circuit::{Circuit, SharedState};
use super::local_queue::LocalQueue;
use super::questions::Questions;
use super::stages::{OrderStages, StageClock};
use super::submit_queue::SubmitQueue;
use super::throttle::Throttle;
use crate::engine::{CancelOutcome, QueryAnswer, SubmitOutcome};
use crate::exchange::{ExchangeClock, UnreadableElement};
use crate::order::TrackedOrder;
use crate::types::{ExternalOrderId, OrderId, TimestampMicros};

/// What goes between the driver and the sessions with the exchange, all on one thread.
#[derive(Debug)]
pub(crate) struct SessionQueues {
    /// Orders to send.
    pub(crate) submits: SubmitQueue,
    /// Orders to cancel that somebody waits for.
    pub(crate) cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Orders to cancel that nobody waits for: mass cancels and strays, up to as many as there are open
    /// orders. They fill the room that the others leave.
    pub(crate) unawaited_cancels: LocalQueue<(OrderId, ExternalOrderId)>,
    /// Orders to ask about.
    pub(crate) queries: LocalQueue<OrderId>,
    /// Which of them go into one request.
    pub(crate) questions: RefCell<Questions>,
    /// Back-pressure of the exchange on cancels and on queries: apart, so that queries never hold up a
    /// cancel.
    pub(super) cancel_throttle: RefCell<Throttle>,
    pub(super) query_throttle: RefCell<Throttle>,
    /// Orders to look up in the store: at most one for each unmatched report, and as many as one
    /// reconciliation asks about.
    pub(crate) lookups: LocalQueue<Wanted>,
    /// Reasons to register our webhook, all answered by one registration.
    pub(crate) registrations: LocalQueue<()>,
    /// Asks whether an exchange that is away is back.
    pub(crate) probes: LocalQueue<()>,
    /// Whether the exchange is there to take new orders.
    pub(crate) circuit: RefCell<Circuit>,
    /// Answers of the exchange and of the store.
    pub(crate) answers: LocalQueue<Answer>,
    /// Measures the stages of an order.
    pub(super) clock: StageClock,
    /// The exchange's clock, which its deadlines are told in.
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
            questions: RefCell::default(),
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

    /// The exchange has answered a probe. False when it does not count as away.
    #[cfg(feature = "simulation")]
    pub(crate) fn answer_probe(&self) -> bool {
        self.probes.take(usize::MAX);
        let mut circuit = self.circuit.borrow_mut();
        let is_away = circuit.state() == super::circuit::ExchangeReachability::Away;
        circuit.probe_answered();
        is_away
    }

    /// Whether no question waits to be sent.
    #[cfg(feature = "simulation")]
    pub(crate) fn has_no_questions(&self) -> bool {
        self.queries.is_empty() && !self.questions.borrow().has_parts()
    }
}

/// One answer of the exchange or the store, or the lack of one.
#[derive(Debug)]
pub(crate) enum Answer {
    Submit(OrderId, SubmitOutcome),
    Cancel(OrderId, CancelOutcome),
    /// With the time of the query; `None` when no answer came.
    Query(OrderId, Option<(TimestampMicros, QueryAnswer)>),
    /// What the store has under an id.
    Found(Wanted, Option<TrackedOrder>),
    /// An element of an answer that cannot be used.
    Unreadable(Box<UnreadableElement>),
}

/// An order to look up in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// By the exchange's id.
    Theirs(ExternalOrderId),
    /// By our id, so that the exchange can be asked about it.
    Ours(OrderId),
}

impl fmt::Display for Wanted {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Theirs(id) => id.fmt(formatter),
            Self::Ours(id) => id.fmt(formatter),
        }
    }
}
