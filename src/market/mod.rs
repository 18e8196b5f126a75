//! What is known of the market: which symbols there are, what each was last worth, and the ticks
//! that change it. Pure: no I/O, no clock. One [`MarketWriter`] (the feed thread) writes; any
//! number of [`MarketReader`]s (the shards) read without locks.

mod directory;
mod last_value;
mod status;
mod tick;
mod watch;
mod writer;

pub use directory::{Directory, DirectoryFull, Listing, SharedDirectory};
pub use last_value::{LastValue, LastValueTable, MAX_SEQUENCE};
pub use status::{FeedStatus, SessionOrdinal};
pub use tick::{TICK_WORDS, Tick};
pub use watch::{ShardWatch, Watchers};
pub use writer::{MarketReader, MarketWriter, Print, RING_SLOTS, open_market};
