use std::sync::Arc;

use super::repair::RepairCause;
use crate::order::{Anomaly, Event, Order};
use crate::types::{ExternalOrderId, OrderId};

/// Names whoever waits for an answer; made and understood by the driver alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

/// Answer to a create.
#[derive(Debug, Clone, PartialEq)]
pub enum CreateReply {
    /// The exchange took it.
    Accepted(Arc<Order>),
    /// The exchange did not take it and never will.
    Rejected(Arc<Order>),
    /// The exchange's word did not come in time; the order goes on.
    Pending(Arc<Order>),
    /// The same key and the same body as before: the first order as it is now.
    Duplicate(Arc<Order>),
    /// The same key with another body: the order that the key names.
    Conflict(Arc<Order>),
    /// Nothing was recorded: an operator has stopped new orders.
    Halted(HaltScope),
    /// Nothing was recorded: the exchange does not answer.
    ExchangeAway,
    /// Nothing was recorded: the exchange takes no more orders for now.
    ExchangeBusy,
    /// Nothing was recorded: the disk has no room for it. Never said by the engine.
    NoRoom,
    /// Whether anything was recorded is not known: the engine ended meanwhile, or Postgres was awaited
    /// and did not have it in time. Never said by the engine.
    OutcomeUnknown,
    /// Nothing was recorded.
    Unavailable,
}

/// Whose new orders an operator has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltScope {
    /// Everybody's.
    All,
    /// This user's.
    User,
    /// Those in this symbol.
    Symbol,
}

/// Answer to a cancel.
#[derive(Debug, Clone, PartialEq)]
pub enum CancelReply {
    /// Cancelled because this user asked.
    Cancelled(Arc<Order>),
    /// The outcome is not known in time; the cancel goes on.
    Pending(Arc<Order>),
    /// It ended some other way, or the exchange declined.
    Conflict(Arc<Order>),
    /// This user has no such order.
    NotFound,
    /// Nothing was recorded: the disk has no room for it, not even what was reserved. Never said by
    /// the engine.
    NoRoom,
    /// Whether anything was recorded is not known: the engine ended meanwhile, or Postgres was awaited
    /// and did not have it in time. Never said by the engine.
    OutcomeUnknown,
    /// Nothing was recorded.
    Unavailable,
}

/// Something for an operator to look at. Counted and logged, never dropped in silence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// Something that should not happen to an order did.
    Order {
        /// Which order.
        order_id: OrderId,
        /// What happened to it.
        anomaly: Anomaly,
    },
    /// Reports about orders that nobody here knows were given up after their time.
    ReportsExpired {
        /// How many.
        count: usize,
    },
    /// There were more reports about unknown orders than are kept, and the oldest were given up. An
    /// order of that time that turns out to be ours is asked about.
    ReportsOverflowed {
        /// How many.
        count: usize,
    },
    /// A line names an order that nobody here knows, and cannot be read.
    UnreadableOfUnknown,
    /// The exchange gave one id to two orders.
    ExternalIdReused {
        /// The order that has it now as well.
        order_id: OrderId,
    },
}

/// What the driver does, in this order, once everything appended before it is durable. Where Postgres
/// is awaited, what readers and clients see waits for it as well and comes later, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Readers see this order from now on.
    Publish {
        /// The order in this version: every version is published, each once.
        order: Arc<Order>,
        /// Which of the outbox's events made the version; none for an order that comes back from the
        /// store as it was.
        event: Option<usize>,
    },
    /// Send it to the exchange, once.
    Submit(Arc<Order>),
    /// Cancel it at the exchange.
    Cancel {
        /// Ours.
        order_id: OrderId,
        /// The exchange's.
        external_order_id: ExternalOrderId,
        /// Whether somebody waits for the outcome: then it goes first.
        is_awaited: bool,
    },
    /// Ask the exchange for its record.
    Query(OrderId),
    /// Ask the store for an order that is not in memory, by the exchange's id.
    LookUpExternalId(ExternalOrderId),
    /// The same by ours: it is to be asked about.
    LookUpOrder(OrderId),
    /// Answer a create.
    ReplyCreate {
        /// The client that waits.
        to: ReplyTo,
        /// Its answer.
        reply: CreateReply,
    },
    /// Answer a cancel.
    ReplyCancel {
        /// The client that waits.
        to: ReplyTo,
        /// Its answer.
        reply: CancelReply,
    },
    /// Count and log what the exchange's record put right.
    Repaired {
        /// Which order.
        order_id: OrderId,
        /// How it had come to be wrong.
        cause: RepairCause,
    },
    /// Tell an operator.
    Alert(Alert),
}

/// What the engine decided: events for the log, and effects that wait for them. Reused.
#[derive(Debug, Default)]
pub struct Outbox {
    /// To be appended, in this order.
    pub events: Vec<Event>,
    /// To be done, in this order, when all events so far are durable.
    pub effects: Vec<Effect>,
}

impl CreateReply {
    /// The order that it tells of.
    pub fn order(&self) -> Option<&Arc<Order>> {
        match self {
            Self::Accepted(order)
            | Self::Rejected(order)
            | Self::Pending(order)
            | Self::Duplicate(order)
            | Self::Conflict(order) => Some(order),
            Self::Halted(_)
            | Self::ExchangeAway
            | Self::ExchangeBusy
            | Self::NoRoom
            | Self::OutcomeUnknown
            | Self::Unavailable => None,
        }
    }
}

impl Outbox {
    /// An empty one.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes an event, and shows readers the version of the order that it has made.
    pub(super) fn record(&mut self, event: Event, order: &Arc<Order>) {
        let place = self.events.len();
        self.events.push(event);
        self.effects.push(Effect::Publish { order: Arc::clone(order), event: Some(place) });
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty()
    }
}
