//! Opens log and index of a stopped server, or as a running one shows them.

use rustix::fs::{Access, access};
use rustix::io::Errno;

use super::verify_client::{self, ServerRecords};
use super::{OfflineError, OfflineOptions, check_restored};
use crate::data_dir::DataDir;
use crate::index::{Index, IndexError, IndexOptions};
use crate::order::{Event, decode};
use crate::wal::{self, LogId, LogStart, Lsn, RecordView, Recovery, WalError, WalOptions};

/// Log and index, unchanging for as long as this lives: locked, or kept by a running server.
pub(super) struct OpenRecords {
    pub(super) index: Index,
    pub(super) log: WalOptions,
    pub(super) log_id: LogId,
    /// The oldest and the newest record of the log; 0 if it never had any.
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    hold: Hold,
}

/// What keeps the log unchanged.
enum Hold {
    /// Its lock, which also allows appending.
    Lock(Box<Recovery>),
    /// A running server, which cuts nothing meanwhile.
    Server(ServerRecords),
}

impl OpenRecords {
    /// Opens the records of a stopped server.
    ///
    /// # Errors
    /// A server has them open; they are missing, damaged, or do not belong together.
    pub(super) fn open(options: &OfflineOptions) -> Result<Self, OfflineError> {
        let data_dir = || options.data_dir.path().to_path_buf();
        check_restored(&options.data_dir)?;
        if access(options.data_dir.path(), Access::WRITE_OK) == Err(Errno::ROFS) {
            return Err(OfflineError::ReadOnly { data_dir: data_dir() });
        }
        // Never cuts the log, and creates neither a log nor an index.
        let log = WalOptions { keep_bytes: u64::MAX, ..WalOptions::new(options.data_dir.wal()) };
        let log_start = wal::log_start(&log)?;
        let log_id =
            log_start.log_id.ok_or_else(|| OfflineError::NoRecords { data_dir: data_dir() })?;
        let index = IndexOptions::new(options.data_dir.index(), log_start);
        let index = Index::open_existing(index).map_err(|error| match error {
            IndexError::Locked { .. } => OfflineError::InUse { data_dir: data_dir() },
            error => error.into(),
        })?;
        let recovery = wal::recover(&log, index.position(), &mut |_| Ok(()));
        let recovery = recovery.map_err(|error| match error {
            WalError::Locked { .. } => OfflineError::InUse { data_dir: data_dir() },
            error => error.into(),
        })?;
        let (first, last) = (recovery.first_lsn, Lsn(recovery.next_lsn.0.saturating_sub(1)));
        Ok(Self { index, log, log_id, first, last, hold: Hold::Lock(Box::new(recovery)) })
    }

    /// Opens the records of a stopped server, or those that a running one shows.
    ///
    /// # Errors
    /// As [`open`](Self::open); a server that has them open and does not show them.
    pub(super) fn open_or_ask(options: &OfflineOptions) -> Result<Self, OfflineError> {
        match Self::open(options) {
            Err(OfflineError::InUse { .. }) => Self::ask(options),
            opened => opened,
        }
    }

    fn ask(options: &OfflineOptions) -> Result<Self, OfflineError> {
        let shown = verify_client::ask(&options.data_dir)?;
        let log = WalOptions::new(options.data_dir.wal());
        let log_start =
            LogStart { log_id: Some(shown.log_id), first_lsn: wal::log_start(&log)?.first_lsn };
        let index = Index::open_existing(IndexOptions::new(shown.index_directory(), log_start))?;
        let (log_id, last, first) = (shown.log_id, shown.last, log_start.first_lsn);
        Ok(Self { index, log, log_id, first, last, hold: Hold::Server(shown) })
    }

    /// Whether a server is still writing the records.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.hold, Hold::Server(_))
    }

    /// Index, log and recovery of locked records, to append to the log.
    pub(super) fn into_locked(self) -> Option<(Index, WalOptions, Recovery)> {
        match self.hold {
            Hold::Lock(recovery) => Some((self.index, self.log, *recovery)),
            Hold::Server(_) => None,
        }
    }

    /// Ends the use of the records.
    ///
    /// # Errors
    /// A running server may have cut its log meanwhile.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        match self.hold {
            Hold::Lock(_) => Ok(()),
            Hold::Server(shown) => shown.end(),
        }
    }

    /// Visits all log records.
    ///
    /// # Errors
    /// Read errors, and errors of `visit`.
    pub(super) fn each_record(
        &self,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), OfflineError>,
    ) -> Result<(), OfflineError> {
        let last = self.last;
        wal::inspect(&self.log.directory, None, &mut |record| {
            // Later records belong to a torn tail.
            if record.lsn > last { Ok(()) } else { Ok(visit(record)?) }
        })?;
        Ok(())
    }
}

/// The position of the index, for commands that read only the log. `None` if the index is in use or
/// cannot be read, or if a start would build it from the log.
///
/// # Errors
/// The index is missing or does not belong to the log, and a start would say so.
pub fn stored_position(data_dir: &DataDir) -> Result<Option<Lsn>, IndexError> {
    let Ok(log) = wal::log_start(&WalOptions::new(data_dir.wal())) else { return Ok(None) };
    match Index::open_existing(IndexOptions::new(data_dir.index(), log)) {
        Ok(index) => Ok(Some(index.position())),
        Err(IndexError::NotThere { directory }) if log.first_lsn > Lsn(1) => {
            Err(IndexError::Missing { directory, first: log.first_lsn })
        }
        Err(
            error @ (IndexError::TooOld { .. }
            | IndexError::OtherLog { .. }
            | IndexError::LogMissing { .. }
            | IndexError::Newer { .. }),
        ) => Err(error),
        Err(_) => Ok(None),
    }
}

/// Decodes a record.
pub(super) fn event_of(record: &RecordView<'_>) -> Result<Event, OfflineError> {
    let lsn = record.lsn;
    decode(record.kind, record.format_version, record.payload)
        .map_err(|source| OfflineError::Record { lsn, source })
}

impl std::fmt::Debug for OpenRecords {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenRecords")
            .field("log_id", &self.log_id)
            .field("first", &self.first)
            .field("last", &self.last)
            .finish_non_exhaustive()
    }
}
