//! Keeps the three records of a server consistent: the log, the index and Postgres. `verify`
//! reports differences, `restore` rebuilds log and index from Postgres, `backfill` brings Postgres
//! to the state of the index, and `repair` does that for some orders. `inspect` prints log records.
//!
//! All need a stopped server and take its locks, so that nothing changes meanwhile; only `verify`
//! and `inspect` also work beside a running server, which shows its orders to `verify` through a
//! socket (`verify_socket`). Each holds a bounded number of orders in memory. Work that needs the
//! history of many orders is done in passes over the log, each for some user partitions (`passes`).

mod accounts;
mod accounts_against_postgres;
mod against_index;
mod against_postgres;
mod backfill;
mod caught_up;
mod error;
mod fields;
mod inspect;
mod open;
mod passes;
mod replay;
mod report;
mod reserved;
mod restore;
mod verify;
mod verify_client;
mod verify_socket;

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
pub use verify::{differences, verify};
pub use verify_socket::VerifySocket;

/// Most orders in memory with their history, at some 500 bytes each.
pub const MAX_ORDERS_IN_MEMORY: u64 = 500_000;

/// Refuses to hold the records of a member of a cluster against Postgres.
fn check_no_member(data_dir: &DataDir) -> Result<(), OfflineError> {
    match data_dir.member().exists() {
        true => Err(OfflineError::OfMember { data_dir: data_dir.path().to_path_buf() }),
        false => Ok(()),
    }
}

#[derive(Debug, Clone)]
pub struct OfflineOptions {
    /// The server's data directory.
    pub data_dir: DataDir,
    /// Most orders in memory with their history.
    pub max_orders_in_memory: u64,
    /// Whether the records of a running server are refused.
    pub must_be_stopped: bool,
}

impl OfflineOptions {
    /// Default options for a data directory.
    pub fn new(data_dir: impl Into<DataDir>) -> Self {
        Self {
            data_dir: data_dir.into(),
            max_orders_in_memory: MAX_ORDERS_IN_MEMORY,
            must_be_stopped: false,
        }
    }
}
