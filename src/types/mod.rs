//! Domain types: ids, money, shares, time. Newtypes over integers with checked arithmetic; no
//! floats. Everything else in the crate builds on these.

mod backoff;
mod ids;
mod log_throttle;
mod money;
mod order_terms;
mod steady_clock;
mod symbol;
mod time;
mod trade_date;
mod within_line;

pub use backoff::Backoff;
pub use ids::{
    CashMovementId, ClientOrderId, ExecutionId, ExternalOrderId, MAX_EXTERNAL_ID_BYTES,
    MAX_USER_ID_BYTES, OrderId, USER_PARTITIONS, UserId, UserPartition,
};
pub use log_throttle::LogThrottle;
pub use money::{
    MAX_EXECUTION_SHARES, MAX_ORDER_SHARES, MAX_PRICE_CENTS, PriceCents, Shares,
    average_price_cents, divide_half_even,
};
pub use order_terms::{OrderType, Side, TimeInForce};
pub use steady_clock::SteadyClock;
pub use symbol::{MAX_SYMBOL_BYTES, MAX_SYMBOLS, Symbol, SymbolIndex};
pub use time::{Clock, Moment, MonotonicMicros, TimestampMicros};
pub use trade_date::TradeDate;
pub use within_line::{WithinLine, steers, within_line};

/// A value outside its domain. The message names the value and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{value} is not allowed: expected {allowed}")]
pub struct InvalidValue {
    /// The rejected value as in [`quoted`].
    pub value: String,
    /// Description of the allowed values.
    pub allowed: &'static str,
}

/// Maximum length of a rejected value in an error, in characters.
const MAX_ECHOED_CHARS: usize = 64;

impl InvalidValue {
    /// Creates the error. A long value is truncated, so that errors and logs stay bounded.
    pub fn new(value: &str, allowed: &'static str) -> Self {
        Self { value: quoted(value), allowed }
    }
}

/// A value in quotation marks. Of a long one only the beginning, with its length, so that it cannot
/// be taken for a shorter one.
pub fn quoted(value: &str) -> String {
    match value.char_indices().nth(MAX_ECHOED_CHARS) {
        None => format!("{value:?}"),
        Some((end, _)) => {
            let beginning = format!("{}...", value.split_at(end).0);
            format!("{beginning:?} ({} bytes)", value.len())
        }
    }
}
