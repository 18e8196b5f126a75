//! The embedded store: every order of the node on disk. It follows the log, so that memory holds
//! only open orders, a start replays only the end of the log, and the log can be cut.
//!
//! The index is derived from the log and can be rebuilt from it while the log still begins with
//! record 1. It never leads: a record is in the index only after it is durable in the log.
//!
//! # Spaces
//!
//! Names, keys and values are part of the format; [`IndexWriter`] writes them. Numbers in keys are
//! big endian, so keys sort as numbers do.
//!
//! | space | key | value |
//! |---|---|---|
//! | `open` | partition (1 byte), order id (16) | the order, while the exchange may still change it |
//! | `ended` | order id | the order, once it has ended |
//! | `history` | user, 0, order id | empty; one for each order in `ended`
//! | `keys` | user, 0, client order id | order id |
//! | `external` | the exchange's id | order id |
//! | `node` | `m` | format (4), id of the log (8), last record (8), little endian |
//! | `node` | `f` | the feed position: kind, format version, payload of its log record |
//! | `node` | `h`, LSN (8) | an unmatched report, in the same form |
//! | `node` | `e`, last LSN of a batch (8) | when the last order of the batch ended (8), and the ids of the orders that ended in it; kept until the feed position is past them by the reconciliation window |
//! | `node` | `b` | empty; once accounts follow the orders
//! | `node` | `a`, order id (16) | empty; an order to look at although it may have ended
//! | `executions` | order id, execution id | format (1), and what the execution was when it was noted |
//! | `node` | `g`, day since 1970 (4), order id (16) | empty; an order good till cancelled that was executed on that day (UTC) |
//! | `accounts` | partition (1 byte), user | the account of the user |
//! | `cash` | user, 0, id of the cash movement | format (1), kind (1), cents (8), time (8), LSN (8), little endian |
//! | `activities` | user, 0, LSN (8) | format (1), and what happened to the user's orders and cash, as JSON |
//! | `changes-F-T` | user, 0, LSN (8) | chunk (8), offset (4), length (4): where `versions-F-T` has the order as this record left it; the highest bit of the length says that the chunk is compressed
//! | `versions-F-T` | first LSN (8) | orders one after the other, as log records left them, without executions; their size (4, little endian) and an LZ4 block |
//!
//! An order is in `open` or in `ended`, never in both: the batch that adds it to one removes it
//! from the other, also when a late fill or a bust reopens it. Order ids rise with time, so orders
//! are appended and fjall seldom moves them again; only small values are sorted by user. Keys are
//! never removed: a client may repeat one for at least 400 days, and so far they are kept for good.
//!
//! The spaces of changes come in pairs. Each pair covers a period of the log that begins with
//! record F, recorded at T (16 hex digits each); old pairs are dropped as a whole.
//! [`StoredChanges`] are read from them. Format 1 had no changes: a client that resumes from an
//! older one is told to start again. Format 2 did not compress. Format 4 and before had no accounts: the
//! next start records those that the orders come to.
//!
//! Every batch writes the position as well, so after a crash the store is at some record of the log
//! and resumes from there. `keys` and `external` have filters on every level: a lookup that misses,
//! the common case, rarely touches the disk.
//!
//! # Threads
//!
//! [`IndexFollower::run`] is the thread `index`, the only writer. [`IndexReader::run`] are the
//! threads `index-read-N`, which read for threads that must not wait for a disk. fjall has two
//! threads of its own.

mod accounts;
mod activities;
mod apply;
mod candles;
mod cash;
mod changes;
mod day;
mod error;
mod executions;
mod feed_records;
mod fill;
mod fjall_store;
mod follower;
mod history;
mod index_handle;
mod keys;
mod lookups;
mod metrics;
pub(crate) mod node;
mod open;
mod readers;
mod recent;
mod scan;
pub(crate) mod store;
mod thread_priority;

#[cfg(test)]
mod apply_tests;
#[cfg(test)]
mod changes_tests;
#[cfg(test)]
mod follow_tests;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod test_log;

pub use activities::{Activities, Activity, ActivityRequest, ActivityType, OfOrder, What};
pub use apply::IndexWriter;
pub use candles::{
    AskExchange, CandleHistorian, CandleHistorySender, CandleMaker, CandleMetrics, CandleOptions,
    CandlePage, CandleQuery, CandleReader, CandleReads, CandleStore, HistoryAnswer,
};
pub use changes::StoredChanges;
pub use error::IndexError;
pub use fill::IndexFiller;
pub use fjall_store::MAX_STORE_FILES;
pub use follower::IndexFollower;
pub use history::EndedOrders;
pub use index_handle::{
    DEFAULT_CACHE_BYTES, DEFAULT_CHANGES_AGE, Index, IndexAges, IndexOptions, ReusedId,
};
pub use metrics::IndexMetrics;
pub use node::NodeState;
pub use readers::{IndexReader, IndexReaders, READ_QUEUE_CAPACITY, READER_THREADS, ReadersBusy};
pub use scan::OrderScan;
