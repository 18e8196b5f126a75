//! One shard's world of price streams: raw sockets that left the HTTP server, who watches what,
//! and one send for each connection that has news.
//!
//! Prices conflate here: a connection holds a set of symbols that changed, never a queue of
//! prices. A stream that wants every print holds numbers into the shard's one history of them.

mod adopt;
mod connection;
mod deadlines;
mod dirty_set;
mod driver;
mod every;
#[cfg(test)]
mod every_tests;
mod frame;
mod frame_cache;
mod goodbye;
mod history;
mod hub;
#[cfg(test)]
mod hub_tests;
mod intake;
mod limits;
mod metrics;
mod order_events;
mod order_feed;
#[cfg(test)]
mod order_tests;
mod pass;
mod quotas;
mod router;
mod segment;
mod stream_id;
mod subscribers;
mod subscription_change;
mod timers;
mod window;

pub use adopt::{Mode, NotAdopted, OrderWish, StreamRequest};
pub use driver::drive;
pub use frame::{Heartbeat, ID_SEPARATOR, ResumePoint, come_back_later, stream_head, write_price};
pub use hub::{Hub, HubOptions, Next};
pub use limits::{DEFAULT_KEPT_PRINTS, MAX_SYMBOLS_PER_STREAM, RETRY_MS, StreamLimits};
pub use metrics::StreamMetrics;
pub use order_events::{OrderQuestion, OrdersFrom, StoreReply, StoredEvents};
pub use order_feed::{ChangedUsers, EventSink, NoOrders, OpenOrders, OrderSource, WrittenChanges};
pub use quotas::{NoRoom, StreamPermit, StreamQuotas};
pub use router::{ChangeInbox, ChangeRefused, StreamRouter, serve_changes, stream_router};
pub use stream_id::StreamId;
pub use subscription_change::{NotChanged, SubscriptionChange};
