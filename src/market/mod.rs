//! The market: its symbols, the last value of each, and the ticks that change it. Pure: no I/O, no
//! clock. One [`MarketWriter`] (the feed thread) writes; any number of [`MarketReader`]s (the shards)
//! read without locks.

pub mod candles;
mod checkpoint;
mod day;
mod days;
mod directory;
mod executions;
mod followed;
mod hours;
mod interest;
mod last_value;
mod status;
mod symbol_map;
mod tick;
mod watch;
mod writer;

pub use checkpoint::Checkpoint;
pub use directory::{Directory, DirectoryFull, Listing, SharedDirectory, TradingSession};
pub use followed::{FollowedPrice, HandedSymbol};
pub use hours::Hours;
pub use interest::PriceInterest;
pub use last_value::{LastValue, LastValueTable, MAX_SEQUENCE};
pub use status::{FeedStatus, SessionOrdinal};
pub use symbol_map::SymbolMap;
pub use tick::{TICK_WORDS, Tick};
pub use watch::{ShardWatch, Watchers};
pub use writer::{
    Bust, MarketLimits, MarketReader, MarketWriter, Print, RING_SLOTS, execution_number,
    open_market,
};
