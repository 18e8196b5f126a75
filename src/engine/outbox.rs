//! Outputs of the engine: events for the log, and effects that wait for them.

use std::sync::Arc;

use super::repair_cause::RepairCause;
use crate::money::{Account, Refusal};
use crate::order::{Anomaly, Event, Order};
use crate::types::{ExternalOrderId, OrderId, UserId};

/// Identifies a waiting client. Opaque to the engine: the driver makes and resolves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ReplyTo(pub u64);

#[derive(Debug, Clone, PartialEq)]
pub enum CreateReply {
    /// The exchange accepted it.
    Accepted(Arc<Order>),
    /// The exchange did not accept it and never will.
    Rejected(Arc<Order>),
    /// No answer from the exchange in time; the order stays pending.
    Pending(Arc<Order>),
    /// A repeated key with the same terms: the first order in its current version.
    Duplicate(Arc<Order>),
    /// A repeated key with other terms: the order that the key names.
    Conflict(Arc<Order>),
    /// Nothing was recorded: an operator halted new orders.
    Halted(HaltScope),
    /// Nothing was recorded: the exchange does not respond.
    ExchangeAway,
    /// Nothing was recorded: the exchange accepts no more orders for now.
    ExchangeBusy,
    /// Nothing was recorded: the account does not have what the order needs.
    Unfunded(Refusal),
    /// Nothing was recorded: without a fresh price nothing says what a market buy needs.
    PriceUnavailable,
    /// Nothing was recorded: whether the key names an order already is to be checked again. Never
    /// returned by the engine.
    KeyUnsure,
    /// Nothing was recorded: the disk is full. Never returned by the engine.
    NoRoom,
    /// Whether anything was recorded is unknown: the engine ended meanwhile, or Postgres was
    /// awaited and did not have it in time. Never returned by the engine.
    OutcomeUnknown,
    /// Nothing was recorded.
    Unavailable,
}

/// Scope of an operator's halt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HaltScope {
    /// All new orders.
    All,
    /// New orders of the user.
    User,
    /// New orders in the symbol.
    Symbol,
}

#[derive(Debug, Clone, PartialEq)]
pub enum CancelReply {
    /// Cancelled on request.
    Cancelled(Arc<Order>),
    /// No outcome in time; the cancel stays pending.
    Pending(Arc<Order>),
    /// The order ended otherwise, or the exchange declined.
    Conflict(Arc<Order>),
    /// The user has no such order.
    NotFound,
    /// Nothing was recorded: the disk is full and the reserve used up. Never returned by the
    /// engine.
    NoRoom,
    /// Whether anything was recorded is unknown: the engine ended meanwhile, or Postgres was
    /// awaited and did not have it in time. Never returned by the engine.
    OutcomeUnknown,
    /// Nothing was recorded.
    Unavailable,
}

/// Something for operators. Always counted and logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alert {
    /// An anomaly of an order.
    Order { order_id: OrderId, anomaly: Anomaly },
    /// Reports about unknown orders expired.
    ReportsExpired { count: usize },
    /// Too many reports about unknown orders: the oldest were discarded. An order of that time that
    /// turns out to be ours is queried.
    ReportsOverflowed { count: usize },
    /// A line about an unknown order cannot be parsed.
    UnreadableOfUnknown,
    /// The exchange gave one id to two orders.
    ExternalIdReused {
        /// The second order.
        order_id: OrderId,
    },
}

/// An action for the driver. Effects run in order, each once everything appended before it is
/// durable. When Postgres is awaited, effects that readers and clients see wait for it too and run
/// later, in the same order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Make this version visible to readers.
    Publish {
        /// The version. Every version is published exactly once.
        order: Arc<Order>,
        /// Index of the outbox's event that made the version; `None` for an order loaded unchanged
        /// from the store.
        event: Option<usize>,
        /// The account of its user, if that event moved money.
        account: Option<Arc<Account>>,
    },
    /// Make an account visible to readers that no order has moved.
    PublishAccount {
        user: UserId,
        account: Arc<Account>,
        /// Index of the outbox's event that moved it.
        event: usize,
    },
    /// Submit the order to the exchange, once.
    Submit(Arc<Order>),
    /// Cancel the order at the exchange.
    Cancel {
        order_id: OrderId,
        external_order_id: ExternalOrderId,
        /// Whether a client waits for the outcome; such a cancel has priority.
        is_awaited: bool,
    },
    /// Query the exchange's record of the order.
    Query(OrderId),
    /// Look up in the store, by the exchange's id, an order that is not in memory.
    LookUpExternalId(ExternalOrderId),
    /// Look up in the store, by our id, an order to query.
    LookUpOrder(OrderId),
    /// Answer a create.
    ReplyCreate { to: ReplyTo, reply: CreateReply },
    /// Answer a cancel.
    ReplyCancel { to: ReplyTo, reply: CancelReply },
    /// Count and log a repair made by the exchange's record.
    Repaired { order_id: OrderId, cause: RepairCause },
    /// Alert operators.
    Alert(Alert),
}

/// Decisions of the engine: events for the log and effects that wait for them. Reused between
/// inputs.
#[derive(Debug, Default)]
pub struct Outbox {
    /// Events to append, in order.
    pub events: Vec<Event>,
    /// Effects to run, in order, once all events so far are durable.
    pub effects: Vec<Effect>,
}

impl CreateReply {
    /// The order that it contains.
    pub fn order(&self) -> Option<&Arc<Order>> {
        match self {
            Self::Accepted(order)
            | Self::Rejected(order)
            | Self::Pending(order)
            | Self::Duplicate(order)
            | Self::Conflict(order) => Some(order),
            Self::Halted(_)
            | Self::Unfunded(_)
            | Self::PriceUnavailable
            | Self::KeyUnsure
            | Self::ExchangeAway
            | Self::ExchangeBusy
            | Self::NoRoom
            | Self::OutcomeUnknown
            | Self::Unavailable => None,
        }
    }
}

impl Outbox {
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds an event, and publishes the version of the order that it made, and the account if it
    /// moved money.
    pub(super) fn record(
        &mut self,
        event: Event,
        order: &Arc<Order>,
        account: Option<Arc<Account>>,
    ) {
        assert_eq!(
            event.order_id(),
            Some(order.order_id),
            "an event is published with a version of its own order"
        );
        assert!(
            !matches!(event, Event::Created(_)) || order.version == 1,
            "an order is created in its first version"
        );
        let place = self.events.len();
        self.events.push(event);
        let (order, event) = (Arc::clone(order), Some(place));
        self.effects.push(Effect::Publish { order, event, account });
    }

    /// Whether it has neither events nor effects.
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.effects.is_empty()
    }
}
