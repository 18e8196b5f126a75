use crate::index::IndexError;
use crate::order::RecordError;
use crate::wal::WalError;

/// What ends the orders thread, and with it the process.
#[derive(Debug, thiserror::Error)]
pub enum OmsError {
    /// The log cannot be read, or takes no more. What is durable is found out at the next start.
    #[error("orders cannot go on without their log")]
    Log(#[from] WalError),
    /// The stored orders cannot be read.
    #[error("the stored orders cannot be loaded")]
    Store(#[from] IndexError),
    /// An event that cannot be written.
    #[error("an event cannot be recorded")]
    Record(#[from] RecordError),
    /// The log gave a record another place than the one that effects wait for.
    #[error("the log gave an event place {given}, expected {expected}")]
    OutOfStep {
        /// What it gave.
        given: u64,
        /// What was expected.
        expected: u64,
    },
}
