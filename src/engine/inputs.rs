use std::sync::Arc;

use compact_str::CompactString;

use super::outbox::CreateReply;
use crate::order::{Fill, Order, ReportKind};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol, TimeInForce,
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
    pub side: Side,
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
    /// The answer where the client's key names an order already: a duplicate if that order is what
    /// this request asks for, else a conflict. Nothing is recorded.
    pub fn repeat_of(&self, first: Arc<Order>) -> CreateReply {
        let is_same = first.symbol == self.symbol
            && first.side == self.side
            && first.limit_price == self.limit_price
            && first.time_in_force == self.time_in_force
            && first.num_shares == self.num_shares;
        if is_same { CreateReply::Duplicate(first) } else { CreateReply::Conflict(first) }
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
    pub unmatched_report_age_micros: u64,
    /// How long a report about an unknown order waits for an accept before the store is asked
    /// whether it is about an order that ended long ago.
    pub lookup_age_micros: u64,
    /// How long the exchange has to say that it does not know an order before that is believed.
    pub unknown_span_micros: u64,
    /// How long the exchange's record has to lack an execution that counts here before that is told
    /// to operators. A record lags more often than it is right.
    pub doubt_age_micros: u64,
    /// The longest pause between two questions about an execution in doubt.
    pub max_doubt_pause_micros: u64,
    /// How long before a gap in the feed an order may have ended and is asked about all the same:
    /// late fills and busts may be among what the feed has lost.
    pub ended_window_micros: u64,
    /// How long after an order was called failed, because the exchange did not know it, the exchange
    /// is asked about it again.
    pub relook_pauses_micros: [u64; RELOOKS],
}

/// How often an order is looked at again that the exchange did not know.
pub const RELOOKS: usize = 5;

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            submit_window_micros: 5_000_000,
            clock_tolerance_micros: 1_000_000,
            grace_micros: 2_000_000,
            unmatched_report_age_micros: 60_000_000,
            lookup_age_micros: 1_000_000,
            unknown_span_micros: 2_000_000,
            doubt_age_micros: 5_000_000,
            max_doubt_pause_micros: 600_000_000,
            ended_window_micros: 900_000_000,
            // 10 s, 1 min, 10 min, 1 h, and 16 h, when the session it was made in has closed.
            relook_pauses_micros: [
                10_000_000,
                60_000_000,
                600_000_000,
                3_600_000_000,
                57_600_000_000,
            ],
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

/// A line of the exchange's feed: the session that numbers it, and its number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPlace {
    /// Which numbering.
    pub session: CompactString,
    /// The line's number.
    pub sequence: u64,
}

/// What the exchange says of an order when it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryAnswer {
    /// It has never accepted such an order, as far as the record goes.
    Unknown {
        /// Up to which line of the feed the record is complete; without it, it may lag.
        as_of: Option<FeedPlace>,
    },
    /// It refused the order when it was submitted.
    Rejected {
        /// Its words, bounded.
        reason: CompactString,
    },
    /// It accepted the order.
    Known(ExchangeRecord),
    /// Something that cannot be read as a record of the order.
    Unreadable {
        /// What is wrong with it, in words.
        text: CompactString,
    },
}

/// The exchange's record of an order that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    /// Its id of the order.
    pub external_order_id: ExternalOrderId,
    /// Where the order stands there.
    pub state: ExchangeOrderState,
    /// Shares filled so far, as the record says.
    pub filled_shares: Shares,
    /// The executions that it lists: all that count, where it is right.
    pub executions: Vec<Fill>,
    /// What of the record cannot be read, each bounded.
    pub unreadable: Vec<CompactString>,
    /// Up to which line of the feed it is complete; without it, it may lag.
    pub as_of: Option<FeedPlace>,
}

/// Where an accepted order stands at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeOrderState {
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
    /// The symbol that it names.
    pub symbol: Option<Symbol>,
    /// Its number in the feed session that is being read, if that has numbered it.
    pub sequence: Option<u64>,
}

impl Report {
    /// A report of which no more is known.
    pub const fn new(external_order_id: ExternalOrderId, kind: ReportKind) -> Self {
        Self { external_order_id, kind, symbol: None, sequence: None }
    }
}
