//! The three records of a server - the log, the index, Postgres - kept comparable: `verify` says where
//! they differ, `restore` makes log and index from Postgres, `backfill` brings Postgres to where the
//! index is, and `repair` does that for some orders. `inspect` shows the records of the log.
//!
//! They work while the server is stopped, and take its locks: nothing moves meanwhile. Only `verify` and
//! `inspect` also work beside a running server, which shows its orders to the former (`show`). None of them holds more in
//! memory than a bounded number of orders, however many there are. What needs the history of many orders
//! at once is done in passes over the log, each for some of the user partitions (`passes`).

mod against_index;
mod against_postgres;
mod backfill;
mod error;
mod fields;
mod inspect;
mod look;
mod open;
mod passes;
mod replay;
mod report;
mod restore;
mod show;
mod verify;

#[cfg(test)]
mod test_node;
#[cfg(test)]
mod verify_tests;

use crate::data_dir::DataDir;

pub use backfill::{Backfilled, backfill, repair};
pub use error::OfflineError;
pub use inspect::{InspectError, InspectOptions, LineFormat, inspect_log};
pub use open::stored_position;
pub use report::Differences;
pub use restore::{Restored, check_restored, restore};
pub use show::VerifySocket;
pub use verify::{differences, verify};

/// Most orders whose history is in memory at once: some 500 bytes each.
pub const MAX_ORDERS_IN_MEMORY: u64 = 500_000;

/// Where the records of a server are.
#[derive(Debug, Clone)]
pub struct OfflineOptions {
    /// Its data directory.
    pub data_dir: DataDir,
    /// Most orders whose history is in memory at once.
    pub max_orders_in_memory: u64,
}

impl OfflineOptions {
    /// The records in a data directory.
    pub fn new(data_dir: impl Into<DataDir>) -> Self {
        Self { data_dir: data_dir.into(), max_orders_in_memory: MAX_ORDERS_IN_MEMORY }
    }
}
