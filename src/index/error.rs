use std::io;
use std::path::PathBuf;

use crate::order::{RecordError, StoredOrderError};
use crate::types::OrderId;
use crate::wal::{LogId, Lsn, WalError};

/// What can go wrong in the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has the index open.
    #[error("the index in {} is in use by another process", directory.display())]
    Locked {
        /// The directory of the index.
        directory: PathBuf,
    },
    /// The operating system refused something.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why not.
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
        /// The newest format known here.
        newest: u32,
    },
    /// The index was made from another log than the one beside it.
    #[error(
        "the index in {} follows log {index_log}, but the log here is {log}; put the two \
         directories together that belong to each other",
        directory.display()
    )]
    OtherLog {
        /// The directory of the index.
        directory: PathBuf,
        /// The log that it was made from.
        index_log: LogId,
        /// The log that is there.
        log: LogId,
    },
    /// There is no log, but an index of one.
    #[error(
        "the index in {} goes up to record {position} of log {index_log}, but the log is gone; \
         restore the directory of the log",
        directory.display()
    )]
    LogMissing {
        /// The directory of the index.
        directory: PathBuf,
        /// The log that it was made from.
        index_log: LogId,
        /// The last record that is in it.
        position: Lsn,
    },
    /// There is no index, and the log does not have everything that was in it.
    #[error(
        "there is no index in {}, and it cannot be made anew: the log begins with record {first}; \
         restore the index from a backup that goes up to record {first} at least",
        directory.display()
    )]
    Missing {
        /// Where the index should be.
        directory: PathBuf,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// There is no index, where one is to be read.
    #[error(
        "there is no index in {}: start the server once, which makes it from the log",
        directory.display()
    )]
    NotThere {
        /// Where the index should be.
        directory: PathBuf,
    },
    /// There is something, where an index is to be made from elsewhere.
    #[error("{} is not empty: an index is restored into an empty directory", directory.display())]
    NotEmpty {
        /// Where the index should be made.
        directory: PathBuf,
    },
    /// The index is older than the beginning of the log.
    #[error(
        "the index in {} ends with record {position}, but the log begins with record {first}; \
         restore an index that goes up to record {first} at least, or the older segments of the log",
        directory.display()
    )]
    TooOld {
        /// The directory of the index.
        directory: PathBuf,
        /// The last record that is in the index.
        position: Lsn,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// The index cannot be read, and the log does not have everything that was in it.
    #[error(
        "the index in {} is damaged, and it cannot be made anew: the log begins with record \
         {first}; restore the index from a backup that goes up to record {first} at least",
        directory.display()
    )]
    Damaged {
        /// The directory of the index.
        directory: PathBuf,
        /// The oldest record of the log.
        first: Lsn,
        /// What was found.
        source: Box<IndexError>,
    },
    /// The store below failed, or what it holds cannot be read.
    #[error(
        "the store of the index failed to {action}; free the disk if it is full, or move the \
         directory of the index away while the log still begins with record 1"
    )]
    Store {
        /// What was tried.
        action: &'static str,
        /// What the store says.
        source: fjall::Error,
    },
    /// A write has failed, and the store below is not open again yet.
    #[error("the store of the index has failed and is being opened again")]
    Reopening,
    /// What was durable is not there after the store below was opened again.
    #[error(
        "the store of the index came back with record {found} after it had record {durable}; \
         restart the engine, which makes it anew from the log or says what to restore"
    )]
    LostRecords {
        /// The last record that is there.
        found: Lsn,
        /// The last record that was durable.
        durable: Lsn,
    },
    /// The store below broke off in the middle of what it did.
    #[error("the store of the index cannot be opened: {message}")]
    StorePanicked {
        /// What it said.
        message: String,
    },
    /// A key or a record of the index itself is not what it should be.
    #[error("the index holds {what} that cannot be read")]
    Unreadable {
        /// What it should be.
        what: &'static str,
    },
    /// An order of the index cannot be read or written.
    #[error("an order of the index cannot be used")]
    Order(#[from] StoredOrderError),
    /// A record of the log cannot be read.
    #[error("record {lsn} of the log cannot be used")]
    Record {
        /// Which record.
        lsn: Lsn,
        /// Why not.
        source: RecordError,
    },
    /// The log speaks of an order that the index does not have: they do not belong together.
    #[error("record {lsn} of the log is about order {order_id}, which is not in the index")]
    UnknownOrder {
        /// Which record.
        lsn: Lsn,
        /// Which order.
        order_id: OrderId,
    },
    /// A record was left out or came twice.
    #[error("record {lsn} of the log came where record {expected} should have")]
    OutOfOrder {
        /// The record that came.
        lsn: Lsn,
        /// The record that follows the position of the index.
        expected: Lsn,
    },
    /// The log cannot be followed.
    #[error("the log cannot be followed")]
    Log(#[from] WalError),
}

impl IndexError {
    /// Whether it is about the order that was asked for, and will be the same the next time.
    pub const fn is_of_one_order(&self) -> bool {
        matches!(self, Self::Order(_) | Self::Unreadable { .. })
    }
}

impl IndexError {
    /// Whether the store below refuses, which may pass, and nothing is wrong with what it holds.
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
            | Self::Record { .. }
            | Self::UnknownOrder { .. }
            | Self::OutOfOrder { .. }
            | Self::Log(_) => false,
        }
    }

    /// Whether the log's files are out of reach, which may pass: too many are open, or somebody has
    /// moved them.
    pub(super) fn is_out_of_reach(&self) -> bool {
        matches!(self, Self::Log(WalError::Io { .. }))
    }

    pub(super) fn store(action: &'static str) -> impl FnOnce(fjall::Error) -> Self {
        move |source| Self::Store { action, source }
    }
}
