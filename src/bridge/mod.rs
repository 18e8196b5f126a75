//! Prices and order lines between processes, by way of Redis.
//!
//! | name | kind | content |
//! |---|---|---|
//! | `stock:price:{symbol}` | channel | each change of the price: [`PriceMessage`] |
//! | `stock:last:{symbol}` | key | the last price and the figures of the day: [`LastMessage`] |
//! | `stock:feed` | channel and key | the state of the feed: [`FeedMessage`]; each second, and at each change |
//! | `stock:deployment` | key | with several nodes: whose Redis this is, for a minute |
//! | `orders:lines` | stream | the feed's lines about orders, with several nodes |
//!
//! # The process that reads the exchange's feed
//!
//! A key is set before its change is published, so whoever subscribes first and reads the key then
//! has no hole. Publishing never holds up a price: the thread `bridge` reads the ring as a shard does.
//! While Redis is away prices conflate; once it is back every key is set again, and the channels get
//! the prices that have changed. A session is told on `stock:feed` before its first price, so sequences
//! need no session beside them. Prints at an unchanged price reach a key before `stock:feed` tells their
//! sequence: whoever goes on from there counts each share once.
//!
//! # Its followers
//!
//! Any other program may read the channels and keys. Other nodes do on their feed thread
//! ([`FeedThread`]): they subscribe to the symbols that their streams watch or a request asks for, read
//! the key after the subscription is confirmed, and end the subscription some seconds after the last
//! stream has left. Of a change and a key the newer wins. The table of such a node has no price of
//! other symbols, rather than an old one; their keys are read too, one after the other, so that a node
//! that loses Redis can tell the last prices. Prints between two changes do not come this way: a stream
//! that wants every print is told of a gap.
//!
//! The ids of the entries of `orders:lines` are the epoch of the feed's lease and a number that counts.
//! A process that has lost the lease cannot write behind its successor, and a reader that finds a number
//! missing has all orders reconciled.
//!
//! | file | what |
//! |---|---|
//! | `publisher.rs`, `batch.rs`, `line_queue.rs`, `fence.rs` | the thread `bridge` |
//! | `deployment.rs` | whose Redis it is |
//! | `follower.rs` with its folder, `subscriptions.rs`, `line_reader.rs`, `links.rs` | a node that follows |
//! | `feed_thread.rs` | changes between the two, and what one takes over from another |
//! | `redis_health.rs` | what both know of Redis, for `/readyz` |
//! | `message.rs`, `line_message.rs`, `names.rs`, `stream_id.rs` | what stands in Redis |

mod address;
mod batch;
mod deployment;
mod error;
mod feed_thread;
mod fence;
pub(crate) mod follower;
mod line_message;
pub(crate) mod line_queue;
pub(crate) mod line_reader;
mod links;
mod message;
mod metrics;
mod names;
pub(crate) mod publisher;
mod redis_health;
pub(crate) mod stream_id;
mod subscriptions;

pub use address::RedisAddress;
pub use error::BridgeError;
pub use feed_thread::FeedThread;
pub use follower::{Follower, FollowerOptions};
pub use message::{FeedMessage, LastMessage, PriceMessage};
pub use metrics::{BridgeMetrics, FollowerMetrics};
pub use publisher::{Publisher, PublisherOptions};
pub use redis_health::{FEED_IS_DOWN, RedisHealth, RedisReport};
