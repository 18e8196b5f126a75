//! Prices for other programs, by way of Redis: whatever reads Redis reads prices.
//!
//! | name | kind | content |
//! |---|---|---|
//! | `stock:price:{symbol}` | channel | each change of the price: [`PriceMessage`] |
//! | `stock:last:{symbol}` | key | the last price and the figures of the day: [`LastMessage`] |
//! | `stock:feed` | channel and key | the state of the feed: [`FeedMessage`]; each second, and at each change |
//!
//! A key is set before its change is published, so whoever subscribes first and reads the key then
//! has no hole. Publishing never holds up a price: the thread `bridge` reads the ring as a shard does.
//! While Redis is away prices conflate; once it is back every key is set again, and the channels get
//! the prices that have changed.

mod address;
mod error;
mod message;
mod metrics;
mod publisher;

pub use address::RedisAddress;
pub use error::BridgeError;
pub use message::{FeedMessage, LastMessage, PriceMessage};
pub use metrics::BridgeMetrics;
pub use publisher::Publisher;
