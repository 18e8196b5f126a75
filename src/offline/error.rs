use std::io;
use std::path::PathBuf;

use crate::index::IndexError;
use crate::order::RecordError;
use crate::projection::ProjectionError;
use crate::wal::{Lsn, WalError};

/// Why the records cannot be compared, restored or copied.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// A server has the records open.
    #[error("the records in {} are in use: stop the server first", data_dir.display())]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// A server has the records open and does not show them.
    #[error(
        "the records in {} are in use, and whoever has them open does not show them: stop the server first",
        data_dir.display()
    )]
    NotShown {
        /// The data directory.
        data_dir: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A running server needs the room that a copy of its orders would take.
    #[error(
        "beside a running server its orders are copied to {}, and a copy may take {} KiB: a quarter of what is free beyond the server's reserve. That is too little: make room, or stop the server first",
        directory.display(),
        most_bytes >> 10
    )]
    NoRoom {
        /// Where they are copied to.
        directory: PathBuf,
        /// What a copy may take.
        most_bytes: u64,
    },
    /// There are no records.
    #[error(
        "there is no log in {}: --data-dir names the data directory of the server",
        data_dir.display()
    )]
    NoRecords {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// Something is where a restore would put its records.
    #[error(
        "{} is not empty, it has {found:?} in it: `longbow restore` fills an empty data directory, \
         or makes one",
        data_dir.display()
    )]
    NotEmpty {
        /// The data directory.
        data_dir: PathBuf,
        /// What is in it.
        found: String,
    },
    /// A restore has not come to its end.
    #[error(
        "{} was not restored to the end: run `longbow restore --postgres ...` again, or empty the \
         directory to begin without any orders",
        data_dir.display()
    )]
    HalfRestored {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The index cannot be moved to the end of the log.
    #[error("the index stays at record {position}, and the log ends with record {last}")]
    Stuck {
        /// Where the index stays.
        position: Lsn,
        /// The newest record.
        last: Lsn,
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
    /// The differences have no place to go.
    #[error("the differences cannot be written")]
    Output(#[source] io::Error),
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[source] WalError),
    /// A record of the log cannot be read.
    #[error("record {lsn} of the log cannot be used")]
    Record {
        /// Which record.
        lsn: Lsn,
        /// Why not.
        source: RecordError,
    },
    /// The index cannot be read or written.
    #[error("the index cannot be used")]
    Index(#[from] IndexError),
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] ProjectionError),
}

impl From<WalError> for OfflineError {
    /// What a visitor of records said is said as it was.
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
