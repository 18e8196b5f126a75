//! The price and order streams of one shard: raw sockets that have left the HTTP server, what each
//! of them watches, and one send for each that has news.
//!
//! Prices conflate: a stream holds the set of its symbols that have changed, never a queue of
//! prices. A stream with `mode=every` holds numbers of prints in a history that all streams of the
//! shard share; one with orders holds a cursor.
//!
//! [`Hub`] keeps the parts below and has them work together. Each part imports only parts above it:
//!
//! | part | keeps |
//! |---|---|
//! | `frame`, `limits` | the bytes of events; the limits of a shard |
//! | `deadlines` over `wheel` | the clock; when paces, heartbeats and stalls are due |
//! | `ready` | which streams are served next, and which wait |
//! | `feed` | the ring of ticks, and how far the shard has followed the feed |
//! | `prices` over `frame_cache`, `history` | encoded prices and prints, and which of them are news |
//! | `order_streams` over `order_events`, `order_source` | who wants whose orders; queries for the store |
//! | `connection` over `watchlist`, `every`, `slot_set` | one stream: what it watches, what it is owed |
//! | `connections` | all streams, and the poll set of their sockets |
//! | `subscriptions` over `subscribers` | who watches which symbol |
//! | `composer` over `segment` | one send, and what becomes of the part that was not taken |
//! | `hub` | all of these |
//! | `driver`, `router` | run the hub in slices; bring changes from other shards |

mod composer;
mod connection;
mod connection_id;
mod connections;
mod deadlines;
mod driver;
mod driver_waker;
mod every;
mod feed;
mod frame;
mod frame_cache;
mod goodbye;
mod history;
mod hub;
mod limits;
mod metrics;
mod order_events;
mod order_source;
mod order_streams;
mod prices;
mod quotas;
mod ready;
mod request;
mod router;
mod segment;
mod slot_set;
mod stream_id;
mod subscribers;
mod subscriptions;
mod symbol_set;
mod watchlist;
mod wheel;
mod window;

pub use driver::drive;
pub use frame::{
    Heartbeat, ID_SEPARATOR, ResumePoint, come_back_later, goodbye, stream_head, write_price,
};
pub use hub::{Hub, HubOptions, Next};
pub use limits::{DEFAULT_KEPT_PRINTS, MAX_SYMBOLS_PER_STREAM, RETRY_MS, StreamLimits};
pub use metrics::StreamMetrics;
pub use order_events::{OrdersFrom, StoreQuery, StoreReply, StoredEvents};
pub use order_source::{
    ChangedUsers, EventSink, LogMark, NoOrders, OpenOrders, OrderCursor, OrderListing, OrderSource,
    WrittenChanges,
};
pub use quotas::{NoRoom, StreamPermit, StreamQuotas};
pub use request::{Mode, NotAdopted, NotChanged, OrderWish, StreamRequest, SubscriptionChange};
pub use router::{ChangeInbox, ChangeRefused, StreamRouter, serve_changes, stream_router};
pub use stream_id::StreamId;
