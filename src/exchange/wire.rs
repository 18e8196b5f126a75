//! The exchange's own vocabulary: the JSON of its requests, answers and feed lines. Shared by the
//! connector and by the simulated exchange, so that both sides mean the same.

use compact_str::CompactString;
use serde::{Deserialize, Serialize};

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
    /// 1 to [`MAX_BATCH`] orders, each answered for itself.
    pub orders: Vec<SubmitOrder>,
}

/// One order as the exchange takes it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SubmitOrder {
    /// Longbow's order id: unique over all users. A known one gives its first answer again.
    pub client_order_id: CompactString,
    /// Buy or sell.
    pub side: Side,
    /// What to trade.
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
    /// What the exchange has not accepted by then it never will (`too_late`).
    pub submit_before: TimestampMicros,
}

/// Answer to [`SubmitRequest`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct SubmitResponse {
    /// One for each order of the request.
    pub results: Vec<SubmitResult>,
}

/// What became of one submitted order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SubmitResult {
    /// Which order.
    pub client_order_id: CompactString,
    /// The exchange's id when it accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_order_id: Option<ExternalOrderId>,
    /// Why it refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
}

/// Why the exchange refused something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// Stable word, such as `too_late`, `unknown_symbol`, `filled`.
    pub code: CompactString,
    /// For people.
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
    /// One for each id of the request.
    pub results: Vec<CancelResult>,
}

/// What became of one cancel: `status: "cancelled"`, or an error with the code `filled`,
/// `already_cancelled`, `expired`, `rejected` or `unknown`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CancelResult {
    /// Which order.
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
    /// One for each id of the request.
    pub results: Vec<QueryResult>,
}

/// The exchange's record of one order; only `clientOrderId` and `status: "unknown"` for an order
/// that it has never accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryResult {
    /// Which order.
    pub client_order_id: CompactString,
    /// The exchange's id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external_order_id: Option<ExternalOrderId>,
    /// Where the order stands.
    pub status: ExchangeStatus,
    /// Shares filled so far.
    #[serde(default)]
    pub filled_shares: Shares,
    /// Every execution that still counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub executions: Vec<QueryExecution>,
    /// Why it was rejected, for `rejected`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Refusal>,
    /// Up to which line of the feed the record is complete; without it, it may lag.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub as_of: Option<AsOf>,
}

/// A line of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AsOf {
    /// The session that numbers it.
    pub session: CompactString,
    /// Its number.
    pub sequence: u64,
}

/// One execution of a queried order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct QueryExecution {
    /// Counts once per order.
    pub execution_id: ExecutionId,
    /// Price of each share.
    pub price_in_cents: PriceCents,
    /// Shares.
    pub num_shares: Shares,
    /// When it happened.
    pub timestamp: TimestampMicros,
}

/// Where an order stands at the exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExchangeStatus {
    /// Accepted, shares left.
    Open,
    /// No shares left.
    Filled,
    /// Cancelled; fills kept.
    Cancelled,
    /// Its time in force ended; fills kept.
    Expired,
    /// Refused when it was submitted.
    Rejected,
    /// Never accepted.
    Unknown,
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
    /// Last price of the previous session; absent for a symbol that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_close_in_cents: Option<PriceCents>,
    /// First price of the session that is being replayed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub open_in_cents: Option<PriceCents>,
    /// Where this symbol's prints come from, in words: a recorded tape, or a synthetic walk.
    pub source: String,
    /// Whether the prices are made up.
    #[serde(default)]
    pub synthetic: bool,
    /// When the session that is being replayed began, or would have begun had it been replayed
    /// from its open.
    pub session_open: TimestampMicros,
    /// When it ends.
    pub session_close: TimestampMicros,
}

/// `POST /v1/webhooks`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookRequest {
    /// Where to post lines that carry an order id.
    pub url: String,
    /// Key of the signature.
    pub secret: String,
}

/// A batch that the exchange posts to a webhook.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WebhookBatch {
    /// The feed session that numbered the lines.
    pub session: CompactString,
    /// Lines with an order id, oldest first.
    pub lines: Vec<FeedLine>,
}

/// First line of the feed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "type", rename = "session")]
pub struct FeedSession {
    /// Names the numbering: sequences of different sessions have nothing to do with each other.
    pub session: CompactString,
    /// The last sequence before the lines that follow.
    pub sequence: u64,
}

/// Kind of a feed line that is not the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum FeedLineType {
    /// Shares changed hands.
    Trade,
    /// An earlier execution is void: the line repeats its execution id.
    Bust,
    /// The exchange cancelled the order.
    Cancelled,
    /// The order's time in force ended.
    Expired,
    /// Nothing happened; carries the last sequence, once a second.
    Heartbeat,
}

/// One line of the feed. `executionId`, `symbol`, `priceInCents` and `numShares` stand on trades
/// and busts; `cancelled` and `expired` have the symbol and the order; a heartbeat has neither.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FeedLine {
    /// Position in the session; a heartbeat repeats the last.
    pub sequence: u64,
    /// What happened.
    #[serde(rename = "type")]
    pub line_type: FeedLineType,
    /// Which execution.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_id: Option<ExecutionId>,
    /// Which symbol.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub symbol: Option<Symbol>,
    /// Price of each share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub price_in_cents: Option<PriceCents>,
    /// Shares.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub num_shares: Option<Shares>,
    /// The exchange's id of the order that this line belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order_id: Option<ExternalOrderId>,
    /// `false` on a line whose shares another line has already counted.
    #[serde(default = "counts_volume", skip_serializing_if = "is_true")]
    pub volume: bool,
    /// When it happened.
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
    fn a_print_without_an_order_is_as_small_as_the_contract_allows() {
        let line = r#"{"sequence":7,"type":"trade","executionId":"e7","symbol":"SPY","priceInCents":16740,"numShares":100,"timestamp":1732400000123456}"#;
        let parsed: FeedLine = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}"));
        assert!(parsed.volume, "a line counts unless it says otherwise");
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
