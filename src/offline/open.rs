//! Log and index of a server that is stopped, or as a running one shows them.

use super::look::{self, Shown};
use super::{OfflineError, OfflineOptions, check_restored};
use crate::data_dir::DataDir;
use crate::index::{Index, IndexError, IndexOptions};
use crate::order::{Event, decode};
use crate::wal::{self, LogId, LogStart, Lsn, RecordView, Recovery, WalError, WalOptions};

/// Log and index, both locked for as long as this lives, or kept by a running server. Nothing in them is
/// changed.
pub(super) struct OpenRecords {
    pub(super) index: Index,
    pub(super) log: WalOptions,
    pub(super) log_id: LogId,
    /// The oldest record of the log, and the newest; 0 where there was never any.
    pub(super) first: Lsn,
    pub(super) last: Lsn,
    hold: Hold,
}

/// What keeps the log from changing under a look.
enum Hold {
    /// Its lock; also to open it for appending with.
    Lock(Box<Recovery>),
    /// The running server that cuts nothing of it meanwhile.
    Server(Shown),
}

impl OpenRecords {
    /// Opens the records of a server that has been stopped.
    ///
    /// # Errors
    /// A server has them open; they are not there, damaged, or do not belong together.
    pub(super) fn open(options: &OfflineOptions) -> Result<Self, OfflineError> {
        let data_dir = || options.data_dir.path().to_path_buf();
        check_restored(&options.data_dir)?;
        // Nothing of the log is ever cut here, and neither a log nor an index made.
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

    /// Opens the records of a server that has been stopped, or those that a running one shows.
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
        let shown = look::ask(&options.data_dir)?;
        let log = WalOptions::new(options.data_dir.wal());
        let log_start =
            LogStart { log_id: Some(shown.log_id), first_lsn: wal::log_start(&log)?.first_lsn };
        let index = Index::open_existing(IndexOptions::new(shown.index_directory(), log_start))?;
        let (log_id, last, first) = (shown.log_id, shown.last, log_start.first_lsn);
        Ok(Self { index, log, log_id, first, last, hold: Hold::Server(shown) })
    }

    /// Whether a server goes on writing them.
    pub(super) fn is_live(&self) -> bool {
        matches!(self.hold, Hold::Server(_))
    }

    /// The parts of records that are locked: index, log, and what opens that for appending.
    pub(super) fn into_locked(self) -> Option<(Index, WalOptions, Recovery)> {
        match self.hold {
            Hold::Lock(recovery) => Some((self.index, self.log, *recovery)),
            Hold::Server(_) => None,
        }
    }

    /// Ends the look at them.
    ///
    /// # Errors
    /// A running server may have cut its log meanwhile.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        match self.hold {
            Hold::Lock(_) => Ok(()),
            Hold::Server(shown) => shown.end(),
        }
    }

    /// Visits all records that there are.
    ///
    /// # Errors
    /// What cannot be read, and what `visit` says.
    pub(super) fn each_record(
        &self,
        visit: &mut dyn FnMut(RecordView<'_>) -> Result<(), OfflineError>,
    ) -> Result<(), OfflineError> {
        let last = self.last;
        wal::inspect(&self.log.directory, None, &mut |record| {
            // What is behind is a torn end.
            if record.lsn > last { Ok(()) } else { Ok(visit(record)?) }
        })?;
        Ok(())
    }
}

/// The record up to which the index has the log, for who looks at the log alone. `None` where the index
/// cannot be asked: a server has it open, or it is not there, or cannot be read.
pub fn stored_position(data_dir: &DataDir) -> Option<Lsn> {
    let log = wal::log_start(&WalOptions::new(data_dir.wal())).ok()?;
    let index = Index::open_existing(IndexOptions::new(data_dir.index(), log)).ok()?;
    Some(index.position())
}

/// The event that a record is.
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
