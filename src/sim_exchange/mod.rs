//! The simulated exchange: a real server on a thread of its own that replays recorded trades, takes
//! orders and fills them against those trades.
//!
//! From pure to real: [`tape`] and [`universe`] are its data; `walk` makes synthetic prints and
//! `replay` merges all prints by time. `book`, `orders` and `venue` are the rules of the exchange,
//! which turn orders, cancels and prints into answers, `line`s of the feed and `entry`s of the
//! journal. `feed_ring` keeps lines for readers that resume. Only `journal`, `state`, `driver`,
//! `feed`, `webhook`, `routes`, `listener` and `handle` touch files, sockets and clocks. [`faults`]
//! makes it misbehave on request.
//!
//! Guarantees: whatever it answered or put on the feed survives `kill -9`, because the journal is
//! written first. An order fills at most its size, and all orders together fill at most the print's
//! size. Every replay of a session is the same. Feed sessions are numbered from 1 at each start, or
//! by the clock in seconds without a data directory.

mod book;
mod candles;
mod container;
mod driver;
mod entry;
mod error;
mod fault_routes;
pub mod faults;
mod feed;
mod feed_positions;
mod feed_ring;
mod handle;
mod journal;
mod line;
mod listener;
mod manual;
mod options;
mod orders;
mod pending_actions;
mod problem;
mod records;
mod replay;
mod routes;
mod state;
pub mod tape;
pub mod universe;
mod venue;
mod walk;
mod webhook;
mod webhook_delivery;

#[cfg(test)]
mod fault_tests;
#[cfg(test)]
mod record_tests;
#[cfg(test)]
mod server_tests;
#[cfg(test)]
mod test_server;
#[cfg(test)]
mod venue_tests;
#[cfg(test)]
mod webhook_tests;

pub use error::SimError;
pub use handle::{SimHandle, THREAD_NAME, start, start_with};
pub use manual::ManualExchange;
pub use options::{DEFAULT_FEED_RETAINED_BYTES, DEFAULT_UNIVERSE, SessionTime, SimOptions, Speed};
