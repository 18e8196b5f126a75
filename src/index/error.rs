use std::io;
use std::path::PathBuf;

use crate::money::{Refusal, StoredAccountError};
use crate::order::{RecordError, StoredOrderError};
use crate::types::{OrderId, UserId};
use crate::wal::{LogId, Lsn, WalError};

/// An error of the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has the index open.
    #[error("the index in {} is in use by another process", directory.display())]
    Locked {
        /// The directory of the index.
        directory: PathBuf,
    },
    /// The operating system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// The operation.
        action: &'static str,
        /// Its path.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The index was written by a newer version.
    #[error(
        "the index in {} has format {found}, this version reads up to {newest}; start the newer \
         version, or move the directory away while the log still begins with record 1",
        directory.display()
    )]
    Newer {
        /// The directory of the index.
        directory: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format that this version reads.
        newest: u32,
    },
    /// The index follows another log than the one beside it.
    #[error(
        "the index in {} follows log {index_log}, but the log here is {log}; pair each \
         index directory with its own log",
        directory.display()
    )]
    OtherLog {
        /// The directory of the index.
        directory: PathBuf,
        /// The log that the index follows.
        index_log: LogId,
        /// The log beside it.
        log: LogId,
    },
    /// An index is there, but its log is missing.
    #[error(
        "the index in {} goes up to record {position} of log {index_log}, but the log is gone; \
         restore the directory of the log",
        directory.display()
    )]
    LogMissing {
        /// The directory of the index.
        directory: PathBuf,
        /// The log that the index follows.
        index_log: LogId,
        /// The last record in the index.
        position: Lsn,
    },
    /// There is no index, and the log no longer begins with record 1.
    #[error(
        "there is no index in {}, and it cannot be rebuilt: the log begins with record {first}; \
         restore the index from a backup that reaches at least record {first}",
        directory.display()
    )]
    Missing {
        /// Where the index should be.
        directory: PathBuf,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// There is no index to read.
    #[error(
        "there is no index in {}: start the server once, which builds it from the log",
        directory.display()
    )]
    NotThere {
        /// Where the index should be.
        directory: PathBuf,
    },
    /// The target of a restore is not empty.
    #[error("{} is not empty: an index is restored into an empty directory", directory.display())]
    NotEmpty {
        /// The target directory.
        directory: PathBuf,
    },
    /// The index ends before the log begins.
    #[error(
        "the index in {} ends with record {position}, but the log begins with record {first}; \
         restore an index that reaches at least record {first}, or the older segments of the log",
        directory.display()
    )]
    TooOld {
        /// The directory of the index.
        directory: PathBuf,
        /// The last record in the index.
        position: Lsn,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// The index is damaged, and the log no longer begins with record 1.
    #[error(
        "the index in {} is damaged, and it cannot be rebuilt: the log begins with record \
         {first}; restore the index from a backup that reaches at least record {first}",
        directory.display()
    )]
    Damaged {
        /// The directory of the index.
        directory: PathBuf,
        /// The oldest record of the log.
        first: Lsn,
        /// The damage.
        source: Box<IndexError>,
    },
    /// The underlying store failed, or its content is unreadable.
    #[error(
        "the store of the index failed to {action}; free the disk if it is full, or move the \
         directory of the index away while the log still begins with record 1"
    )]
    Store {
        /// The operation.
        action: &'static str,
        /// The store's error.
        source: fjall::Error,
    },
    /// A write failed, and the underlying store is not reopened yet.
    #[error("the store of the index failed and is being reopened")]
    Reopening,
    /// The reopened store lacks records that were durable.
    #[error(
        "the store of the index reopened at record {found} although record {durable} was durable; \
         restart the server, which rebuilds it from the log or says what to restore"
    )]
    LostRecords {
        /// The last record in the reopened store.
        found: Lsn,
        /// The last record that was durable.
        durable: Lsn,
    },
    /// The underlying store panicked.
    #[error("the store of the index cannot be opened: {message}")]
    StorePanicked {
        /// The panic's message.
        message: String,
    },
    /// A key or value of the index is malformed.
    #[error("the index holds {what} that cannot be read")]
    Unreadable {
        /// What it should be.
        what: &'static str,
    },
    /// A stored order cannot be decoded or encoded.
    #[error("an order of the index cannot be used")]
    Order(#[from] StoredOrderError),
    /// A stored account cannot be decoded.
    #[error("the stored account of user {user} cannot be used")]
    Account {
        /// Its user.
        user: UserId,
        /// The cause.
        source: StoredAccountError,
    },
    /// The log moves cash of a user that the stored account lacks: the two do not belong together.
    #[error("the log moves cash of user {user} as the stored account does not allow")]
    CashMovement {
        /// The user.
        user: UserId,
        /// The cause.
        source: Refusal,
    },
    /// A log record cannot be decoded.
    #[error("record {lsn} of the log cannot be used")]
    Record {
        /// The record.
        lsn: Lsn,
        /// The cause.
        source: RecordError,
    },
    /// A log record names an order that the index lacks: the two do not belong together.
    #[error("record {lsn} of the log is about order {order_id}, which is not in the index")]
    UnknownOrder {
        /// The record.
        lsn: Lsn,
        /// The order.
        order_id: OrderId,
    },
    /// A record was skipped or repeated.
    #[error("record {lsn} of the log came in place of record {expected}")]
    OutOfOrder {
        /// The record that came.
        lsn: Lsn,
        /// The record after the position of the index.
        expected: Lsn,
    },
    /// The log hands out no record although it has committed more.
    #[error(
        "the log has records up to {last}, but shows none after record {position}; `longbow wal \
         verify` shows what is readable"
    )]
    NoProgress {
        /// The last record taken.
        position: Lsn,
        /// The last record committed.
        last: Lsn,
    },
    /// The log cannot be read or cut.
    #[error("the log cannot be followed")]
    Log(#[from] WalError),
}

impl IndexError {
    /// Whether it concerns only the requested order, and repeating the read fails the same way.
    pub const fn is_of_one_order(&self) -> bool {
        matches!(self, Self::Order(_) | Self::Unreadable { .. })
    }
}

impl IndexError {
    /// Whether the underlying store failed to work, which may pass; its content is not at fault.
    pub(super) fn is_of_the_store(&self) -> bool {
        match self {
            Self::Store { .. } | Self::StorePanicked { .. } | Self::Io { .. } => true,
            Self::Locked { .. } | Self::Reopening => true,
            Self::Newer { .. }
            | Self::OtherLog { .. }
            | Self::LogMissing { .. }
            | Self::Missing { .. }
            | Self::NotThere { .. }
            | Self::NotEmpty { .. }
            | Self::TooOld { .. }
            | Self::Damaged { .. }
            | Self::LostRecords { .. }
            | Self::Unreadable { .. }
            | Self::Order(_)
            | Self::Account { .. }
            | Self::CashMovement { .. }
            | Self::Record { .. }
            | Self::UnknownOrder { .. }
            | Self::OutOfOrder { .. }
            | Self::NoProgress { .. }
            | Self::Log(_) => false,
        }
    }

    /// Whether the log's files are out of reach, which may pass: too many files are open, or the
    /// log was moved.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Log(WalError::Io { .. }))
    }

    pub(super) fn store(action: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Store { action, source }
    }
}
