//! The embedded store: every order of the node on disk, moved forward from the log. Memory then
//! holds only what is open, a start replays only the end of the log, and the log can be cut.
//!
//! It is made from the log and can be made anew from it, as long as the log still has its beginning.
//! It never leads: a record is in the index only after it is durable in the log.
//!
//! # Spaces
//!
//! Names, keys and values are part of the format ([`apply`](IndexWriter) writes them). Numbers in
//! keys are big endian, so that keys sort as numbers do.
//!
//! | space | key | value |
//! |---|---|---|
//! | `open` | partition (1 byte), order id (16) | the order, while the exchange may still change it |
//! | `ended` | order id | the order, once it may not |
//! | `history` | user, 0, order id | nothing; of every order in `ended` |
//! | `keys` | user, 0, client order id | order id |
//! | `external` | the exchange's id | order id |
//! | `node` | `m` | format (4), id of the log (8), last record (8), little endian |
//! | `node` | `f` | the feed position: kind, format version, payload of its log record |
//! | `node` | `h`, record (8) | a report about an order that was not known, in the same form |
//! | `changes-F-T` | user, 0, record (8) | chunk (8), offset (4), length (4): where in `versions-F-T` the order is that this record of the log has changed; the highest bit of the length says that the chunk is compressed |
//! | `versions-F-T` | first record (8) | orders, one after the other, as records of the log have left them, without executions; their size (4, little endian) and an LZ4 block |
//! | `node` | `e`, last record of a batch (8) | ids of orders that ended in it, behind the feed position |
//!
//! An order is in `open` or in `ended`, never in both: the batch that puts it into the one removes it
//! from the other, also when a late fill or a bust opens it again. Order ids rise with time, so the
//! orders themselves are appended and seldom moved again by fjall; only what is small stands in the
//! order of users. Keys are never removed: a client may repeat one for
//! at least 400 days, and so far they are kept for good.
//!
//! The spaces of changes come in pairs, each for a period of the log that begins with record F, noted
//! at T (16 hex digits each); old pairs are dropped as a whole ([`StoredChanges`] come from them). Format 1
//! had none: who comes with the id of an older change is told to start again. Format 2 did not compress.
//!
//! Every batch writes the position as well, so after a crash the store is what the log had made of it
//! up to some record, and goes on from there. `keys` and `external` have filters on every level:
//! asking for what is not there, the common case, rarely touches the disk.
//!
//! # Threads
//!
//! [`IndexFollower::run`] is the thread `index`, the only one that writes. [`IndexReader::run`] are
//! the threads `index-read-N`, which read for those that must not wait for a disk. fjall has two
//! threads of its own.

mod apply;
mod changes;
mod error;
mod fill;
mod fjall_store;
mod follower;
mod index_handle;
mod keys;
#[cfg(any(test, feature = "simulation"))]
mod memory_store;
mod metrics;
mod node;
mod open;
mod readers;
mod recent;
mod scan;
mod store;
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

pub use apply::IndexWriter;
pub use changes::StoredChanges;
pub use error::IndexError;
pub use fill::IndexFiller;
pub use follower::IndexFollower;
#[cfg(any(test, feature = "simulation"))]
pub use index_handle::IndexAges;
pub use index_handle::{DEFAULT_CACHE_BYTES, DEFAULT_CHANGES_AGE, Index, IndexOptions};
#[cfg(any(test, feature = "simulation"))]
pub use memory_store::MemoryStore;
pub use metrics::IndexMetrics;
pub use node::NodeState;
pub use readers::{IndexReader, IndexReaders, READ_QUEUE_CAPACITY, READER_THREADS, ReadersBusy};
pub use scan::OrderScan;
