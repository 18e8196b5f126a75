//! Inputs of the engine: requests, options, and the exchange's answers and reports.

use std::sync::Arc;

use compact_str::CompactString;

use super::outbox::CreateReply;
use crate::order::{Fill, Order, ReportKind};
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Shares, Side, Symbol,
    TimeInForce, TimestampMicros, TradeDate, UserId,
};

/// A validated order request. The caller draws the id, so that the engine draws nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreateOrder {
    /// Longbow's order id; carries the user's partition.
    pub order_id: OrderId,
    pub user: UserId,
    /// The client's idempotency key; names one order for good.
    pub client_order_id: Option<ClientOrderId>,
    pub symbol: Symbol,
    pub side: Side,
    /// `None` for a market order.
    pub limit_price: Option<PriceCents>,
    pub time_in_force: TimeInForce,
    pub num_shares: Shares,
    /// The last price of the symbol, where it is fresh: what the collar of a market buy is above.
    pub last_price: Option<PriceCents>,
    /// When the request arrived.
    pub created_at: TimestampMicros,
}

/// What accounts are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case", const_into_str)]
pub enum AccountMode {
    /// They are kept, and nothing is reserved or refused.
    #[default]
    Unchecked,
    /// A buy needs buying power, and a sell needs shares.
    Cash,
}

/// The rules of accounts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct AccountRules {
    pub mode: AccountMode,
    /// How far above the last price a market buy reserves, in percent.
    pub collar_percent: u16,
    /// What a new account begins with in cash mode, in cents.
    pub opening_cents: i64,
}

impl CreateOrder {
    /// The answer if the client's key already names an order: a duplicate if that order has the terms
    /// of this request, else a conflict. Nothing is recorded.
    pub fn repeat_of(&self, first: Arc<Order>) -> CreateReply {
        assert_eq!(first.user, self.user, "a client's key names an order of that client");
        let is_same = first.symbol == self.symbol
            && first.side == self.side
            && first.limit_price == self.limit_price
            && first.time_in_force == self.time_in_force
            && first.num_shares == self.num_shares;
        if is_same { CreateReply::Duplicate(first) } else { CreateReply::Conflict(first) }
    }
}

/// Time limits of the engine, in microseconds, and its rules.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// How long after it is recorded the exchange may accept an order: the distance of its
    /// deadline.
    pub submit_window_micros: u64,
    /// How far the exchange's clock may lag ours. Only this long after an order's deadline does
    /// "unknown order" mean that the exchange will never accept it.
    pub clock_tolerance_micros: u64,
    /// How long an order waits for the exchange before it is queried.
    pub grace_micros: u64,
    /// How long a report about an unknown order is kept. An accept after that time comes from a
    /// query, whose record includes the executions.
    pub unmatched_report_age_micros: u64,
    /// How long a report about an unknown order waits for an accept before it is looked up in the
    /// store, in case its order ended long ago.
    pub lookup_age_micros: u64,
    /// How long the exchange must keep answering "unknown order" before it is believed.
    pub unknown_span_micros: u64,
    /// How long the exchange's record must lack an execution that counts here before operators are
    /// alerted. A record that lags is more common than one that is right.
    pub doubt_age_micros: u64,
    /// Maximum pause between two queries about a doubtful execution.
    pub max_doubt_pause_micros: u64,
    /// Orders that ended within this time before a gap in the feed are queried too: the lost lines
    /// may hold late fills and busts.
    pub ended_window_micros: u64,
    /// When to query again an order that failed because the exchange did not know it, counted from
    /// the failure.
    pub relook_pauses_micros: [u64; RELOOKS],
    /// Whether other nodes have other users. Then the log has begun anew with this process and lacks
    /// orders that come from the store, so they are recorded as adopted; and lines about orders that
    /// are unknown here are about those of the other nodes, nearly all of them.
    pub shares_users: bool,
    pub accounts: AccountRules,
}

/// How an order differs from the exchange's list of a day's executions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DayFinding {
    pub trade_date: TradeDate,
    pub order_id: OrderId,
    /// Executions of the list that do not count here, or with other numbers.
    pub listed: Vec<Fill>,
    /// Executions that count here and are not on the list.
    pub unlisted: Vec<ExecutionId>,
}

/// Number of queries about an order that failed because the exchange did not know it.
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
            // 10 s, 1 min, 10 min, 1 h, and 16 h: by then the trading session has closed.
            relook_pauses_micros: [
                10_000_000,
                60_000_000,
                600_000_000,
                3_600_000_000,
                57_600_000_000,
            ],
            shares_users: false,
            accounts: AccountRules::default(),
        }
    }
}

/// Outcome of a submit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SubmitOutcome {
    /// The exchange accepted it under this id.
    Accepted(ExternalOrderId),
    /// The exchange rejected it.
    Refused {
        /// The exchange's text, bounded.
        reason: CompactString,
    },
    /// It was not sent before its deadline.
    NeverSent,
    /// Unknown: the connection broke, or the answer could not be parsed.
    Unknown,
    /// Unknown: no answer in time.
    TimedOut,
}

/// Outcome of a cancel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CancelOutcome {
    Cancelled,
    /// The exchange rejected it.
    Refused {
        why: CancelRefusal,
        /// The exchange's text, bounded.
        reason: CompactString,
    },
    /// Unknown: it may have taken effect.
    Unknown,
}

/// Why the exchange rejected a cancel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CancelRefusal {
    /// The order is in a terminal state there; the exchange's record says which.
    AlreadyEnded,
    /// The exchange knows no such order.
    UnknownOrder,
    /// The exchange declines; the order stays open.
    Declined,
}

/// A position in the exchange's feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FeedPlace {
    /// The session that numbers the line.
    pub session: CompactString,
    pub sequence: u64,
}

/// Answer to a query about an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryAnswer {
    /// The exchange has not accepted such an order, as far as its record goes.
    Unknown {
        /// The feed line up to which the record is complete. Without it, the record may lag.
        as_of: Option<FeedPlace>,
    },
    /// The exchange rejected the order on submit.
    Rejected {
        /// The exchange's text, bounded.
        reason: CompactString,
    },
    /// The exchange accepted the order.
    Known(ExchangeRecord),
    /// The answer cannot be parsed as a record.
    Unreadable {
        /// What is wrong with it.
        text: CompactString,
    },
}

/// The exchange's record of an order that it accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeRecord {
    pub external_order_id: ExternalOrderId,
    pub state: ExchangeOrderState,
    /// Total filled shares, according to the record.
    pub filled_shares: Shares,
    /// The listed executions: all that count, if the record is right.
    pub executions: Vec<Fill>,
    /// Parts that cannot be parsed, each bounded.
    pub unreadable: Vec<CompactString>,
    /// The feed line up to which the record is complete. Without it, the record may lag.
    pub as_of: Option<FeedPlace>,
}

/// State of an accepted order at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExchangeOrderState {
    Open,
    Filled,
    Cancelled,
    Expired,
}

/// An unsolicited report about an order, from the feed or the webhook.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    pub external_order_id: ExternalOrderId,
    pub kind: ReportKind,
    /// The symbol that it names, if any.
    pub symbol: Option<Symbol>,
    /// The sequence of its line, if known.
    pub sequence: Option<u64>,
    /// The feed session of that line if it was posted to us; `None` for a line of the current feed.
    pub posted_in: Option<CompactString>,
}

impl Report {
    /// A report without symbol and sequence.
    pub const fn new(external_order_id: ExternalOrderId, kind: ReportKind) -> Self {
        Self { external_order_id, kind, symbol: None, sequence: None, posted_in: None }
    }
}
