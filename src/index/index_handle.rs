//! The handle to the index: its position and waits for it, and reopening after a failed write.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::IndexError;
use super::fjall_store::FjallStore;
use super::node::{self, Meta};
use super::open;
use super::store::{Store, View};
use crate::engine::EngineOptions;
use crate::sync::{WaitError, Watermark};
use crate::types::{ExternalOrderId, OrderId};
use crate::wal::{LogId, LogStart, Lsn};

/// Default size of the block cache. Filters need memory besides: 2 bytes per client key and per
/// external id.
pub const DEFAULT_CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// Default retention of order changes.
pub const DEFAULT_CHANGES_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Most tasks waiting for the index to advance. Each is an order stream whose cursor is older than
/// the changes in memory; further streams are asked to retry.
const MAX_WAITING_TASKS: usize = 65_536;

/// Longest wait for running reads before a failed store is closed.
const READERS_TIMEOUT: Duration = Duration::from_secs(10);

/// How to open an index.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// Directory of the index, created if missing. One process at a time can open it.
    pub directory: PathBuf,
    /// Block cache, in bytes.
    pub cache_bytes: u64,
    /// Retention of unmatched reports, in microseconds: the same as the engine's.
    pub unmatched_report_age_micros: u64,
    /// Retention of order changes, in microseconds.
    pub changes_age_micros: u64,
    /// How long after its end an order is still listed in the node state, in microseconds before
    /// the feed position: the window in which the engine queries ended orders after a gap.
    pub ended_window_micros: u64,
    /// The log that the index follows: see [`crate::wal::log_start`].
    pub log: LogStart,
}

impl IndexOptions {
    /// Defaults for the index in `directory` of the given log.
    pub fn new(directory: impl Into<PathBuf>, log: LogStart) -> Self {
        Self {
            directory: directory.into(),
            cache_bytes: DEFAULT_CACHE_BYTES,
            unmatched_report_age_micros: IndexAges::default().unmatched_report_micros,
            changes_age_micros: IndexAges::default().changes_micros,
            ended_window_micros: IndexAges::default().ended_window_micros,
            log,
        }
    }
}

/// Maximum number of ids that wait to be taken by [`Index::take_reused_ids`].
const MAX_REUSED_IDS: usize = 4_096;

/// An exchange id that a new order has, and the earlier order that it belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReusedId {
    pub id: ExternalOrderId,
    pub before: OrderId,
}

/// Retention of what the index does not keep forever.
#[derive(Debug, Clone, Copy)]
pub struct IndexAges {
    /// Unmatched reports.
    pub unmatched_report_micros: u64,
    /// Order changes.
    pub changes_micros: u64,
    /// Ids of ended orders.
    pub ended_window_micros: u64,
}

impl Default for IndexAges {
    fn default() -> Self {
        Self {
            unmatched_report_micros: EngineOptions::default().unmatched_report_age_micros,
            changes_micros: DEFAULT_CHANGES_AGE.as_secs() * 1_000_000,
            ended_window_micros: EngineOptions::default().ended_window_micros,
        }
    }
}

/// All orders on disk: the log applied up to [`position`](Self::position). Clones share the index.
/// Reads may wait for the disk; each read sees a consistent snapshot.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

/// Opens the underlying store; called again after a failure.
type Open = dyn Fn() -> Result<Arc<dyn Store>, IndexError> + Send + Sync;

struct Shared {
    /// `None` while it is being reopened.
    store: RwLock<Option<Arc<dyn Store>>>,
    open: Box<Open>,
    directory: PathBuf,
    log_id: Mutex<Option<LogId>>,
    /// The position of the store since it was last opened. A reopened store may be at an earlier
    /// position, so it gets a new watermark.
    position: ArcSwap<Watermark>,
    durable: AtomicU64,
    /// See [`Index::memory_shows`].
    shown: AtomicU64,
    /// Why the last write failed; `None` while the store advances.
    trouble: Mutex<Option<String>>,
    /// See [`Index::take_reused_ids`].
    reused: Mutex<Vec<ReusedId>>,
    ages: IndexAges,
}

impl Index {
    /// Opens the index, or creates an empty one if there is none and the log begins with record 1.
    /// A damaged index is moved aside, with a warning, if the log can rebuild it.
    ///
    /// # Errors
    /// [`IndexError::Locked`]; [`IndexError::OtherLog`], [`IndexError::LogMissing`],
    /// [`IndexError::Missing`], [`IndexError::TooOld`] and [`IndexError::Damaged`] if index and log
    /// together lack orders; [`IndexError::Newer`]; [`IndexError::Store`] and [`IndexError::Io`] for
    /// failures of the system.
    pub fn open(options: IndexOptions) -> Result<Self, IndexError> {
        let opened = open::open(&options)?;
        Ok(Self::of_directory(options, opened))
    }

    /// Opens an existing index to read or copy it. Creates none and moves none aside.
    ///
    /// # Errors
    /// [`IndexError::NotThere`], and those of [`open`](Self::open).
    pub fn open_existing(options: IndexOptions) -> Result<Self, IndexError> {
        let opened = open::open_existing(&options)?;
        Ok(Self::of_directory(options, opened))
    }

    fn of_directory(options: IndexOptions, (store, meta): (Arc<FjallStore>, Option<Meta>)) -> Self {
        let ages = IndexAges {
            unmatched_report_micros: options.unmatched_report_age_micros,
            changes_micros: options.changes_age_micros,
            ended_window_micros: options.ended_window_micros,
        };
        let IndexOptions { directory, cache_bytes, .. } = options;
        let path = directory.clone();
        let open: Box<Open> = Box::new(move || Ok(Arc::new(FjallStore::open(&path, cache_bytes)?)));
        Self::over((store, open), meta, directory, ages)
    }

    pub(crate) fn over(
        (store, open): (Arc<dyn Store>, Box<Open>),
        meta: Option<Meta>,
        directory: PathBuf,
        ages: IndexAges,
    ) -> Self {
        // Opening the store made its contents durable.
        let position = meta.map_or(0, |meta| meta.position.0);
        Self(Arc::new(Shared {
            store: RwLock::new(Some(store)),
            open,
            directory,
            log_id: Mutex::new(meta.map(|meta| meta.log_id)),
            position: ArcSwap::from_pointee(watermark(Lsn(position))),
            durable: AtomicU64::new(position),
            shown: AtomicU64::new(u64::MAX),
            trouble: Mutex::new(None),
            reused: Mutex::default(),
            ages,
        }))
    }

    /// The directory, for messages.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// The last log record that reads show.
    pub fn position(&self) -> Lsn {
        Lsn(self.0.position.load().get())
    }

    /// The last log record that survives a power cut.
    pub fn durable_position(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// Sets the position that readers of memory see; it never goes back. From the first call on the
    /// index does not pass it: otherwise somebody who read an order here could then read an older
    /// version from memory.
    pub fn memory_shows(&self, position: Lsn) {
        let before = self.0.shown.swap(position.0, Ordering::AcqRel);
        assert!(before == u64::MAX || before <= position.0, "what memory shows never goes back");
    }

    /// The last record that may be applied.
    pub(crate) fn may_follow_to(&self) -> Lsn {
        Lsn(self.0.shown.load(Ordering::Acquire))
    }

    /// The failed write that stopped the index; `None` while it advances. Reads still work.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Ids that the exchange gave to a new order while they still belong to an earlier one, as far as
    /// the index has come; each returned once.
    pub fn take_reused_ids(&self) -> Vec<ReusedId> {
        std::mem::take(&mut *self.0.reused.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn note_reused_id(&self, reused: ReusedId) {
        let mut all = self.0.reused.lock().unwrap_or_else(PoisonError::into_inner);
        // An exchange that exceeds it is not one to trade with.
        if all.len() < MAX_REUSED_IDS {
            all.push(reused);
        }
    }

    /// Waits until reads show a record after `position`.
    ///
    /// # Errors
    /// [`WaitError::TooMany`].
    pub async fn beyond(&self, position: Lsn) -> Result<(), WaitError> {
        loop {
            let watermark = self.0.position.load_full();
            match watermark.beyond(position.0).await {
                // The store was reopened.
                Err(WaitError::Closed) => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Blocks for at most `timeout` until reads show a record after `position`. Returns `false` on
    /// timeout.
    pub fn wait_beyond(&self, position: Lsn, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let watermark = self.0.position.load_full();
            let left = deadline.saturating_duration_since(Instant::now());
            let has_moved = watermark.wait_beyond(position.0, left) > position.0;
            if has_moved || left.is_zero() || !watermark.is_closed() {
                return has_moved;
            }
        }
    }

    /// The log that the index follows; `None` before the first record.
    pub fn log_id(&self) -> Option<LogId> {
        *self.0.log_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The underlying store. Never blocks: during a reopening it is an error.
    pub(super) fn store(&self) -> Result<Arc<dyn Store>, IndexError> {
        let store = match self.0.store.try_read() {
            Ok(store) => store.clone(),
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().clone(),
            Err(TryLockError::WouldBlock) => None,
        };
        store.ok_or(IndexError::Reopening)
    }

    pub(super) fn view(&self) -> Result<Box<dyn View>, IndexError> {
        Ok(self.store()?.view())
    }

    /// Reopens the underlying store after a failed write. It then holds what was last durable, or
    /// more; [`position`](Self::position) may go back to that.
    ///
    /// # Errors
    /// The store cannot be opened (yet), has lost durable records, or is still being read. Reads fail
    /// until a later call succeeds.
    pub(super) fn reopen(&self) -> Result<(), IndexError> {
        let failed = self.0.store.write().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(failed) = failed {
            await_readers(&failed);
        }
        let store = (self.0.open)()?;
        let meta = node::meta(&*Arc::clone(&store).view())?;
        let found = meta.map_or(Lsn(0), |meta| meta.position);
        let durable = self.durable_position();
        if found < durable {
            return Err(IndexError::LostRecords { found, durable });
        }
        let before = self.0.position.swap(Arc::new(watermark(found)));
        // Waiters continue with the new watermark.
        before.close();
        self.0.durable.store(found.0, Ordering::Release);
        *self.0.store.write().unwrap_or_else(PoisonError::into_inner) = Some(store);
        self.is_well();
        Ok(())
    }

    pub(super) fn unmatched_report_age_micros(&self) -> u64 {
        self.0.ages.unmatched_report_micros
    }

    pub(super) fn ended_window_micros(&self) -> u64 {
        self.0.ages.ended_window_micros
    }

    pub(super) fn changes_age_micros(&self) -> u64 {
        self.0.ages.changes_micros
    }

    pub(super) fn follows(&self, log_id: LogId) {
        let mut known = self.0.log_id.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(known.is_none_or(|known| known == log_id), "an index follows one log");
        *known = Some(log_id);
    }

    pub(super) fn moved_to(&self, meta: Meta) {
        let watermark = self.0.position.load();
        watermark.advance(meta.position.0);
        assert!(watermark.get() == meta.position.0, "only the writer moves the index, and forward");
    }

    pub(super) fn persisted_to(&self, position: Lsn) {
        assert!(position <= self.position(), "only what is committed is made durable");
        self.0.durable.store(position.0, Ordering::Release);
    }

    /// Clears the trouble: the index advances again.
    pub(super) fn is_well(&self) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Records why the index stopped advancing, for operators.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        let words = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let trouble = format!("the store is not following the log: {words}");
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}

/// The watermark of a store that was just opened.
fn watermark(position: Lsn) -> Watermark {
    Watermark::new(position.0, MAX_WAITING_TASKS)
}

/// Waits until nobody reads a store, so that dropping it closes it. Reads are short; if one does not
/// end, the store is still locked when it is opened next.
fn await_readers(store: &Arc<dyn Store>) {
    let deadline = Instant::now() + READERS_TIMEOUT;
    while Arc::strong_count(store) > 1 && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(1));
    }
}

impl std::fmt::Debug for Index {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Index")
            .field("directory", &self.0.directory)
            .field("position", &self.position())
            .field("durable_position", &self.durable_position())
            .finish_non_exhaustive()
    }
}
