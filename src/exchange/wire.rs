//! The exchange's JSON: requests, answers and feed lines. Shared by the client and the simulated
//! exchange, so that both sides agree.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

use crate::market::candles::{Candle, Minute};
use crate::types::{
    ExecutionId, ExternalOrderId, OrderType, PriceCents, Shares, Side, Symbol, TimeInForce,
    TimestampMicros,
};

/// Most orders, cancels or queries in one request.
pub const MAX_BATCH: usize = 256;

/// `POST /v1/orders`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitRequest {
    /// 1 to [`MAX_BATCH`] orders, each answered on its own.
    pub orders: Vec<SubmitOrder>,
}

/// One order as sent to the exchange.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitOrder {
    /// Longbow's order id, unique over all users. A known id gets its first answer again.
    pub client_order_id: CompactString,
    /// Buy or sell.
    pub side: Side,
    /// The symbol to trade.
    pub symbol: Symbol,
    /// Market or limit.
    #[serde(rename = "type")]
    pub order_type: OrderType,
    /// The limit; absent for market orders.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit_price_in_cents: Option<PriceCents>,
    /// Day or good till cancelled.
    pub time_in_force: TimeInForce,
    /// Shares to trade.
    pub num_shares: Shares,
    /// The exchange refuses (`too_late`) an order that it has not accepted by this time.
    pub submit_before: TimestampMicros,
}

/// Answer to [`SubmitRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubmitResponse {
    /// One result per order of the request.
    pub results: Vec<SubmitResult>,
}

/// The outcome of one submitted order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitResult {
    /// Our order id.
    pub client_order_id: CompactString,
    /// The exchange's id, if it accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_order_id: Option<ExternalOrderId>,
    /// The reason, if it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Why the exchange refused an order or a cancel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable code, such as `too_late`, `unknown_symbol`, `filled`.
    pub code: CompactString,
    /// Human-readable text.
    pub message: String,
}

/// `POST /v1/cancels`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CancelRequest {
    /// 1 to [`MAX_BATCH`] of the exchange's order ids.
    pub external_order_ids: Vec<ExternalOrderId>,
}

/// Answer to [`CancelRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CancelResponse {
    /// One result per id of the request.
    pub results: Vec<CancelResult>,
}

/// The outcome of one cancel: `status: "cancelled"`, or an error with the code `filled`,
/// `already_cancelled`, `expired`, `rejected` or `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelResult {
    /// The exchange's order id.
    pub external_order_id: ExternalOrderId,
    /// Present when the cancel took effect.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<ExchangeStatus>,
    /// Present when it did not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// `POST /v1/orders/query`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct QueryRequest {
    /// 1 to [`MAX_BATCH`] of our order ids.
    pub client_order_ids: Vec<CompactString>,
}

/// Answer to [`QueryRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct QueryResponse {
    /// One result per id of the request.
    pub results: Vec<QueryResult>,
}

/// The exchange's record of one order. For an order that it never accepted: only `clientOrderId`
/// and `status: "unknown"`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryResult {
    /// Our order id.
    pub client_order_id: CompactString,
    /// The exchange's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_order_id: Option<ExternalOrderId>,
    /// The order's status.
    pub status: ExchangeStatus,
    /// Shares filled so far.
    #[serde(default)]
    pub filled_shares: Shares,
    /// Every execution that was not busted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executions: Vec<QueryExecution>,
    /// The reason, for `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// The feed line up to which the record is complete; a record without it may lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
}

/// A position in the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The session that numbers the line.
    pub session: CompactString,
    /// The line's sequence.
    pub sequence: u64,
}

/// One execution of a queried order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryExecution {
    /// The execution's id; it counts once per order.
    pub execution_id: ExecutionId,
    /// Price per share.
    pub price_in_cents: PriceCents,
    /// Shares.
    pub num_shares: Shares,
    /// Time of the execution.
    pub timestamp: TimestampMicros,
}

/// Status of an order at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeStatus {
    /// Accepted, with shares left.
    Open,
    /// No shares left.
    Filled,
    /// Cancelled; its fills stand.
    Cancelled,
    /// Time in force ended; its fills stand.
    Expired,
    /// Refused on submit.
    Rejected,
    /// Never accepted.
    Unknown,
}

/// Answer to `GET /v1/executions`: a part of a day's executions, without those that were busted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExecutionsResponse {
    pub executions: Vec<DayExecution>,
    /// Names the next part; absent in the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_cursor: Option<CompactString>,
    /// `false`: some of the day's executions are no longer kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub complete: Option<bool>,
}

/// One execution of a day, with its order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DayExecution {
    pub execution_id: ExecutionId,
    /// The exchange's id of the order.
    pub order_id: ExternalOrderId,
    /// Our id of the order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_order_id: Option<CompactString>,
    pub symbol: Symbol,
    pub side: Side,
    /// Price per share.
    pub price_in_cents: PriceCents,
    pub num_shares: Shares,
    /// Time of the execution.
    pub timestamp: TimestampMicros,
}

/// Answer to `GET /v1/candles`: the candles of whole minutes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CandlesResponse {
    /// The exchange knows all candles from this time on; absent if it knows all that was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<TimestampMicros>,
    /// By time. A minute without a trade has none.
    pub candles: Vec<CandleBar>,
}

/// One candle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CandleBar {
    /// Its begin.
    pub start: TimestampMicros,
    pub open_in_cents: i64,
    pub high_in_cents: i64,
    pub low_in_cents: i64,
    pub close_in_cents: i64,
    pub volume: u64,
    pub trades: u64,
}

impl CandleBar {
    pub fn of(start: TimestampMicros, candle: &Candle) -> Self {
        Self {
            start,
            open_in_cents: candle.open,
            high_in_cents: candle.high,
            low_in_cents: candle.low,
            close_in_cents: candle.close,
            volume: candle.volume,
            trades: candle.trades,
        }
    }

    /// Its minute and candle; `None` if it contradicts itself.
    pub fn candle(&self) -> Option<(Minute, Candle)> {
        let Self { start, open_in_cents, high_in_cents, low_in_cents, close_in_cents, .. } = *self;
        let [open, high, low, close] = [open_in_cents, high_in_cents, low_in_cents, close_in_cents];
        let (volume, trades) = (self.volume, self.trades);
        let minute = Minute::of(start);
        let is_possible = minute.start() == start
            && trades > 0
            && PriceCents::new(low).is_ok()
            && PriceCents::new(high).is_ok()
            && [open, close].iter().all(|cents| (low..=high).contains(cents));
        let candle = Candle { open, high, low, close, volume, trades, is_partial: false };
        is_possible.then_some((minute, candle))
    }
}

/// Answer to `GET /v1/symbols`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SymbolsResponse {
    /// Every symbol that trades.
    pub symbols: Vec<SymbolInfo>,
}

/// One traded symbol.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SymbolInfo {
    /// The name.
    pub symbol: Symbol,
    /// Last price of the previous session; absent for a new symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_close_in_cents: Option<PriceCents>,
    /// First price of the session being replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_in_cents: Option<PriceCents>,
    /// Where the prints come from, in words: a recorded tape, or a synthetic walk.
    pub source: String,
    /// Whether the prices are synthetic.
    #[serde(default)]
    pub synthetic: bool,
    /// When the replayed session began, or would have begun if replayed from its open.
    pub session_open: TimestampMicros,
    /// When the session ends.
    pub session_close: TimestampMicros,
}

/// `POST /v1/webhooks`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to post lines that carry an order id.
    pub url: String,
    /// Key of the signatures.
    pub secret: String,
}

/// A batch that the exchange posts to the webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookBatch {
    /// The feed session that numbers the lines.
    pub session: CompactString,
    /// Lines with an order id, oldest first.
    pub lines: Vec<FeedLine>,
}

/// The first line of a feed connection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "session")]
pub struct FeedSession {
    /// Names the numbering: sequences of different sessions are unrelated.
    pub session: CompactString,
    /// The last sequence before the lines that follow.
    pub sequence: u64,
}

/// The type of a feed line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedLineType {
    /// Shares changed hands.
    Trade,
    /// Voids an earlier execution, whose id it repeats.
    Bust,
    /// The exchange cancelled the order.
    Cancelled,
    /// The order's time in force ended.
    Expired,
    /// Sent once a second; carries the last sequence.
    Heartbeat,
}

/// One line of the feed. Trades and busts carry `executionId`, `symbol`, `priceInCents` and
/// `numShares`; `cancelled` and `expired` carry the symbol and the order; a heartbeat carries
/// neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedLine {
    /// Position in the session; a heartbeat repeats the last one.
    pub sequence: u64,
    /// The event.
    #[serde(rename = "type")]
    pub line_type: FeedLineType,
    /// The execution's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// The symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Price per share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_in_cents: Option<PriceCents>,
    /// Shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_shares: Option<Shares>,
    /// The exchange's id of the order that the line belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<ExternalOrderId>,
    /// `false` if another line already counts these shares.
    #[serde(default = "counts_volume", skip_serializing_if = "is_true")]
    pub volume: bool,
    /// Time of the event.
    pub timestamp: TimestampMicros,
}

const fn counts_volume() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
const fn is_true(value: &bool) -> bool {
    *value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absent_fields_of_a_print_are_left_out() {
        let line = r#"{"sequence":7,"type":"trade","executionId":"e7","symbol":"SPY","priceInCents":16740,"numShares":100,"timestamp":1732400000123456}"#;
        let parsed: FeedLine = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}"));
        assert!(parsed.volume, "a line counts by default");
        assert_eq!(serde_json::to_string(&parsed).ok().as_deref(), Some(line));
    }

    #[test]
    fn the_first_line_names_the_session() {
        let session = FeedSession { session: "7".into(), sequence: 12 };
        let json = serde_json::to_string(&session).unwrap_or_default();
        assert_eq!(json, r#"{"type":"session","session":"7","sequence":12}"#);
    }

    #[test]
    fn a_heartbeat_needs_only_its_sequence_and_time() {
        let line = r#"{"sequence":9,"type":"heartbeat","timestamp":1}"#;
        assert!(serde_json::from_str::<FeedLine>(line).is_ok());
    }
}
