use std::io;
use std::path::PathBuf;

use crate::index::IndexError;
use crate::order::RecordError;
use crate::projection::ProjectionError;
use crate::wal::{Lsn, WalError};

/// Why records could not be compared, restored or copied.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A server has the records open.
    #[error("the records in {} are in use: stop the server first", data_dir.display())]
    InUse { data_dir: PathBuf },
    /// A server has the records open and does not show them.
    #[error(
        "the records in {} are in use by a process that does not show them: stop the server first",
        data_dir.display()
    )]
    NotShown {
        data_dir: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A copy of the orders would take disk space that the running server needs.
    #[error(
        "comparing beside a running server copies its orders to {}, and there is room for only {} KiB (a quarter of the free space beyond the server's reserve): make room, or stop the server first",
        directory.display(),
        most_bytes >> 10
    )]
    NoRoom {
        /// The directory of the copy.
        directory: PathBuf,
        /// Most bytes that the copy may take.
        most_bytes: u64,
    },
    /// The records are those of a member of a cluster.
    #[error(
        "{} has only what a member of a cluster has written since its start: Postgres has the orders of all nodes, and cannot be compared with it",
        data_dir.display()
    )]
    OfMember { data_dir: PathBuf },
    /// There are no records.
    #[error(
        "there is no log in {}: --data-dir names the data directory of the server",
        data_dir.display()
    )]
    NoRecords { data_dir: PathBuf },
    /// The records cannot be opened without writing.
    #[error(
        "{} is on a read-only file system, and opening the records writes beside them: copy wal/ and \
         index/ to another directory, and name that with --data-dir",
        data_dir.display()
    )]
    ReadOnly { data_dir: PathBuf },
    /// The target of a restore is not empty.
    #[error(
        "{} is not empty, it contains {found:?}: `longbow restore` fills an empty data directory, \
         or creates one",
        data_dir.display()
    )]
    NotEmpty {
        data_dir: PathBuf,
        /// Something in it.
        found: String,
    },
    /// A restore was interrupted.
    #[error(
        "{} was only partly restored: run `longbow restore --postgres ...` again, or empty the \
         directory to begin without any orders",
        data_dir.display()
    )]
    HalfRestored { data_dir: PathBuf },
    /// An account in Postgres reserves something else than its open orders.
    #[error(
        "the account of {user} in Postgres does not reserve what the open orders of {user} do, so a row of accounts, positions or orders was changed: correct it, or recover it from a backup"
    )]
    Reserved { user: String },
    /// The index does not advance to the end of the log.
    #[error("the index stopped at record {position}, but the log ends with record {last}")]
    Stuck {
        /// The position of the index.
        position: Lsn,
        /// The newest record.
        last: Lsn,
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
    /// The differences could not be written.
    #[error("cannot write the differences")]
    Output(#[source] io::Error),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] WalError),
    /// A log record cannot be decoded.
    #[error("record {lsn} of the log cannot be decoded")]
    Record {
        /// The record.
        lsn: Lsn,
        /// The cause.
        source: RecordError,
    },
    /// The index cannot be read or written.
    #[error("the index cannot be read or written")]
    Index(#[from] IndexError),
    /// Postgres failed.
    #[error(transparent)]
    Postgres(#[from] ProjectionError),
}

impl From<WalError> for OfflineError {
    /// Unwraps an error of a visitor of records.
    fn from(error: WalError) -> Self {
        match error {
            WalError::Visit { lsn, source } => match source.downcast::<Self>() {
                Ok(own) => *own,
                Err(source) => Self::Log(WalError::Visit { lsn, source }),
            },
            error => Self::Log(error),
        }
    }
}
