use compact_str::CompactString;

use crate::order::{Fill, Order, ReportKind};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, Position, PriceCents, Shares, Symbol, TimeInForce,
    TimestampMicros, UserId,
};

/// A checked request for an order. The id is made outside, so that the engine draws nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOrder {
    /// Our id; carries the user's partition.
    pub order_id: OrderId,
    /// Whose order.
    pub user: UserId,
    /// The user's own key: the same one names the same order for good.
    pub client_order_id: Option<ClientOrderId>,
    /// What to trade.
    pub symbol: Symbol,
    /// Buy or sell.
    pub position: Position,
    /// The limit; none for a market order.
    pub limit_price: Option<PriceCents>,
    /// How long it stays.
    pub time_in_force: TimeInForce,
    /// Shares to trade.
    pub num_shares: Shares,
    /// When the request came in.
    pub created_at: TimestampMicros,
}

impl CreateOrder {
    /// Whether an order is what this asks for.
    pub fn asks_for(&self, order: &Order) -> bool {
        order.symbol == self.symbol
            && order.position == self.position
            && order.limit_price == self.limit_price
            && order.time_in_force == self.time_in_force
            && order.num_shares == self.num_shares
    }
}

/// Times that the engine decides by, in microseconds.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// How long after it was recorded an order may still be accepted by the exchange.
    pub submit_window_micros: u64,
    /// How far the exchange's clock may be behind ours. Only what the exchange does not know that
    /// long after an order's deadline it will never accept.
    pub clock_tolerance_micros: u64,
    /// How long an order may wait for the exchange's word before it is asked.
    pub grace_micros: u64,
    /// How long a report about an unknown order is kept. An accept that comes later than that
    /// comes as the answer to a query, which brings the executions with it.
    pub held_report_age_micros: u64,
    /// How long a report about an unknown order waits for an accept before the store is asked
    /// whether it is about an order that ended long ago.
    pub lookup_age_micros: u64,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            submit_window_micros: 5_000_000,
            clock_tolerance_micros: 1_000_000,
            grace_micros: 2_000_000,
            held_report_age_micros: 60_000_000,
            lookup_age_micros: 1_000_000,
        }
    }
}

/// What became of one submitted order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The exchange took it under this id.
    Accepted(ExternalOrderId),
    /// The exchange refused it.
    Refused {
        /// Its words, bounded.
        reason: CompactString,
    },
    /// It was never sent, and its deadline has passed.
    NeverSent,
    /// It may or may not be at the exchange: cut connection, unreadable answer.
    Unknown,
    /// The same, because no answer came in time.
    TimedOut,
}

/// What became of one cancel at the exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It took effect.
    Cancelled,
    /// It did not.
    Refused {
        /// Why, as far as it matters here.
        why: CancelRefusal,
        /// The exchange's words, bounded.
        reason: CompactString,
    },
    /// It may or may not have taken effect.
    Unknown,
}

/// Why the exchange did not cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRefusal {
    /// The order has ended there: filled, cancelled or expired. Its record there says how.
    AlreadyEnded,
    /// It knows no such order.
    UnknownOrder,
    /// It will not, and the order goes on.
    Declined,
}

/// The exchange's record of an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryAnswer {
    /// It has never accepted such an order.
    Unknown,
    /// It refused the order when it was submitted.
    Rejected {
        /// Its words, bounded.
        reason: CompactString,
    },
    /// It accepted the order.
    Known {
        /// Its id of the order.
        external_order_id: ExternalOrderId,
        /// Where the order stands there.
        state: ExchangeState,
        /// Every execution that counts.
        executions: Vec<Fill>,
    },
}

/// Where an accepted order stands at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeState {
    /// Shares left.
    Open,
    /// No shares left.
    Filled,
    /// Cancelled with shares left.
    Cancelled,
    /// Expired with shares left.
    Expired,
}

/// What the exchange reports of an order, unasked.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// The exchange's id of the order.
    pub external_order_id: ExternalOrderId,
    /// What it says.
    pub kind: ReportKind,
}
