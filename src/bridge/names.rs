//! The names of channels, keys and streams.

use crate::types::Symbol;

/// The channel and key of the state of the feed.
pub(super) const FEED: &str = "stock:feed";
/// The stream of order lines.
pub(super) const LINES: &str = "orders:lines";
/// The field of its entries.
pub(super) const LINE: &str = "entry";
/// The key with the deployment that the Redis belongs to.
pub(super) const DEPLOYMENT: &str = "stock:deployment";
const PRICE: &str = "stock:price:";
const LAST: &str = "stock:last:";

/// The channel of the changes of a price.
pub(super) fn price_channel(symbol: &Symbol) -> String {
    format!("{PRICE}{symbol}")
}

/// The key of a symbol's last value.
pub(super) fn last_key(symbol: &Symbol) -> String {
    format!("{LAST}{symbol}")
}
