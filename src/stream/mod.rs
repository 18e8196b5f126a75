//! One shard's world of price streams: raw sockets that left the HTTP server, who watches what,
//! and one send for each connection that has news. Prices conflate here: a connection holds a set
//! of symbols that changed, never a queue of prices.

mod connection;
mod deadlines;
mod driver;
mod frame;
mod frame_cache;
mod hub;
#[cfg(test)]
mod hub_tests;
mod limits;
mod metrics;
mod pass;
mod segment;
mod subscribers;

pub use driver::drive;
pub use frame::{ResumePoint, come_back_later, write_price};
pub use hub::{Hub, NotAdopted, StreamRequest};
pub use limits::{MAX_SYMBOLS_PER_STREAM, StreamLimits};
pub use metrics::StreamMetrics;
