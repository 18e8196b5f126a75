//! Errors that end the orders thread.

use crate::index::IndexError;
use crate::order::RecordError;
use crate::wal::WalError;

/// Why the orders thread ends, and with it the process.
#[derive(Debug, thiserror::Error)]
pub enum OmsError {
    /// The log cannot be read or written. The next start finds out what is durable.
    #[error("the orders thread cannot continue without its log")]
    Log(#[from] WalError),
    /// The stored orders cannot be read.
    #[error("the stored orders cannot be loaded")]
    Store(#[from] IndexError),
    /// An event cannot be encoded.
    #[error("an event cannot be recorded")]
    Record(#[from] RecordError),
    /// The log gave a record another position than the one that effects wait for.
    #[error("the log assigned record {given} to an event, expected {expected}")]
    OutOfStep {
        /// The position that the log gave.
        given: u64,
        /// The expected position.
        expected: u64,
    },
}
