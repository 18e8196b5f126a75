use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::IndexError;
use super::changes::{self, StoredChanges};
use super::fjall_store::FjallStore;
use super::keys;
use super::node::{self, Meta, NodeState};
use super::open;
use super::store::{ScanOrder, Space, Store, View};
use crate::engine::{EngineOptions, MAX_UNMATCHED_REPORTS};
use crate::order::{Order, TrackedOrder, decode_stored};
use crate::sync::{WaitError, Watermark};
use crate::types::{
    ClientOrderId, ExternalOrderId, OrderId, TimestampMicros, UserId, UserPartition,
};
use crate::wal::{LogId, LogStart, Lsn};

/// Memory for blocks of the index unless configured. Filters come on top: 2 bytes for each key and
/// each of the exchange's ids.
pub const DEFAULT_CACHE_BYTES: u64 = 256 * 1024 * 1024;

/// How long changes of orders are kept unless configured.
pub const DEFAULT_CHANGES_AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// Most tasks that wait for the index to move on. Each is a stream whose user changes orders faster than
/// memory keeps; more of them are told to come again.
const MAX_WAITING_TASKS: usize = 65_536;

/// Longest wait for reads to end before a failed store is closed.
const READERS_PATIENCE: Duration = Duration::from_secs(10);

/// Where the index is, and the log that it follows.
#[derive(Debug, Clone)]
pub struct IndexOptions {
    /// Directory of the index; made when it does not exist. One process at a time.
    pub directory: PathBuf,
    /// Memory for blocks that were read, in bytes.
    pub cache_bytes: u64,
    /// How long reports about unknown orders are kept: as long as the engine keeps them, in
    /// microseconds.
    pub unmatched_report_age_micros: u64,
    /// How long changes of orders are kept, in microseconds.
    pub changes_age_micros: u64,
    /// How long before a feed position an order may have ended and is named in what the node goes on
    /// from: as long as the engine asks about them after a gap, in microseconds.
    pub ended_window_micros: u64,
    /// What log there is: see [`crate::wal::log_start`].
    pub log: LogStart,
}

impl IndexOptions {
    /// The index in `directory` of the log of a log that starts so, all else as by default.
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

/// How long the index keeps what is not kept for good.
#[derive(Debug, Clone, Copy)]
pub struct IndexAges {
    /// Reports about unknown orders.
    pub unmatched_report_micros: u64,
    /// Changes of orders.
    pub changes_micros: u64,
    /// Which orders have ended.
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

/// The orders of a node on disk, as the log has made them up to [`position`](Self::position). Clones
/// are the same index. Every read may wait for the disk; each one sees one moment.
#[derive(Clone)]
pub struct Index(Arc<Shared>);

/// Opens the store below, again and again.
type Open = dyn Fn() -> Result<Arc<dyn Store>, IndexError> + Send + Sync;

struct Shared {
    /// `None` while it is being opened again.
    store: RwLock<Option<Arc<dyn Store>>>,
    open: Box<Open>,
    directory: PathBuf,
    log_id: Mutex<Option<LogId>>,
    /// Of the store as it was last opened: a store that is opened again may begin before where it
    /// was, and with a watermark of its own.
    position: ArcSwap<Watermark>,
    durable: AtomicU64,
    /// See [`Index::memory_shows`].
    shown: AtomicU64,
    /// Why a write has failed; `None` while the store moves.
    trouble: Mutex<Option<String>>,
    ages: IndexAges,
}

impl Index {
    /// Opens the index, or makes an empty one where there is none and the log is whole. One that
    /// cannot be read is moved aside with a warning when the log has everything that was in it.
    ///
    /// # Errors
    /// [`IndexError::Locked`]; [`IndexError::OtherLog`], [`IndexError::LogMissing`],
    /// [`IndexError::Missing`], [`IndexError::TooOld`] and [`IndexError::Damaged`] where index and
    /// log together do not have all orders; [`IndexError::Newer`]; [`IndexError::Store`] and
    /// [`IndexError::Io`] for what the system refuses.
    pub fn open(options: IndexOptions) -> Result<Self, IndexError> {
        let opened = open::open(&options)?;
        Ok(Self::of_directory(options, opened))
    }

    /// Opens the index that is there, for who looks at it or copies it: makes none, and moves none
    /// aside.
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

    /// An index in memory, for simulations.
    ///
    /// # Errors
    /// [`IndexError::Unreadable`] where the store holds something else.
    #[cfg(any(test, feature = "simulation"))]
    pub fn in_memory(store: &super::MemoryStore, ages: IndexAges) -> Result<Self, IndexError> {
        let again = store.clone();
        let store: Arc<dyn Store> = Arc::new(store.clone());
        let meta = node::meta(&*Arc::clone(&store).view())?;
        let open: Box<Open> = Box::new(move || Ok(Arc::new(again.clone())));
        Ok(Self::over((store, open), meta, PathBuf::from("memory"), ages))
    }

    fn over(
        (store, open): (Arc<dyn Store>, Box<Open>),
        meta: Option<Meta>,
        directory: PathBuf,
        ages: IndexAges,
    ) -> Self {
        // What was found at the opening has been made durable by it.
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
            ages,
        }))
    }

    /// The directory, for messages.
    pub fn directory(&self) -> &Path {
        &self.0.directory
    }

    /// Every record of the log up to here is visible in reads.
    pub fn position(&self) -> Lsn {
        Lsn(self.0.position.load().get())
    }

    /// Every record of the log up to here survives a power cut.
    pub fn durable_position(&self) -> Lsn {
        Lsn(self.0.durable.load(Ordering::Acquire))
    }

    /// Readers of memory see what the log says up to here; never goes back. From the first call on
    /// the index stays behind that: who has read an order here would else read an older version of
    /// it in memory.
    pub fn memory_shows(&self, position: Lsn) {
        self.0.shown.store(position.0, Ordering::Release);
    }

    /// Up to where the log may be followed.
    pub(crate) fn may_follow_to(&self) -> Lsn {
        Lsn(self.0.shown.load(Ordering::Acquire))
    }

    /// Why the index does not move any more, since a write has failed; `None` while it does. Reads go on.
    pub fn trouble(&self) -> Option<String> {
        self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The latest time that the log has recorded up to [`position`](Self::position); that of the feed
    /// position where an older program wrote the index.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn last_recorded_at(&self) -> Result<TimestampMicros, IndexError> {
        let view = self.view()?;
        let meta = node::meta(&*view)?.map_or_else(TimestampMicros::default, |meta| meta.last_at);
        let feed =
            node::feed_position(&*view)?.map_or_else(TimestampMicros::default, |feed| feed.at);
        Ok(meta.max(feed))
    }

    /// What the node goes on from, beside its orders.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn node_state(&self) -> Result<NodeState, IndexError> {
        let view = self.view()?;
        let unmatched = node::unmatched(&*view)?;
        // No more than the engine takes: of too many the newest.
        let too_many = unmatched.len().saturating_sub(MAX_UNMATCHED_REPORTS);
        let ended = node::ended(&*view)?.into_iter();
        let ended =
            ended.flat_map(|batch| batch.order_ids.into_iter().map(move |id| (batch.at, id)));
        Ok(NodeState {
            feed_position: node::feed_position(&*view)?,
            unmatched: unmatched.into_iter().skip(too_many).map(|(_, report)| report).collect(),
            ended: ended.collect(),
            attended: node::attended(&*view)?,
        })
    }

    /// Visits the open orders of a partition, oldest first.
    ///
    /// # Errors
    /// What cannot be read. What was visited before is to be thrown away.
    pub fn load_open(
        &self,
        partition: UserPartition,
        visit: &mut dyn FnMut(TrackedOrder),
    ) -> Result<(), IndexError> {
        let (from, to) = keys::open_range(partition);
        self.view()?.scan(Space::Open, (&from, &to), ScanOrder::Ascending, &mut |_, value| {
            visit(decode_stored(value)?);
            Ok(true)
        })
    }

    /// A user's order, open or ended. `None` also for another user's order.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn order(
        &self,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Option<TrackedOrder>, IndexError> {
        let stored = stored_order(&*self.view()?, order_id)?;
        let own = stored.filter(|(tracked, _)| tracked.order().user == *user);
        Ok(own.map(|(tracked, _)| tracked))
    }

    /// An order by its id alone, open or ended.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_order_id(&self, order_id: OrderId) -> Result<Option<TrackedOrder>, IndexError> {
        let stored = stored_order(&*self.view()?, order_id)?;
        Ok(stored.map(|(tracked, _)| tracked))
    }

    /// The order that a user's own key names.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_key(
        &self,
        user: &UserId,
        key: &ClientOrderId,
    ) -> Result<Option<OrderId>, IndexError> {
        let found = self.store()?.get(Space::Keys, &keys::client_key(user, key))?;
        found.map(|bytes| keys::order_id(&bytes)).transpose()
    }

    /// The order that an exchange's id means.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn by_external_id(&self, id: &ExternalOrderId) -> Result<Option<TrackedOrder>, IndexError> {
        let view = self.view()?;
        let Some(order_id) = view.get(Space::External, keys::external(id))? else {
            return Ok(None);
        };
        let stored = stored_order(&*view, keys::order_id(&order_id)?)?;
        Ok(stored.map(|(tracked, _)| tracked))
    }

    /// A user's ended orders, newest first, from the last one before `before`, or from the newest on:
    /// at most `most` of them.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn page(
        &self,
        user: &UserId,
        before: Option<OrderId>,
        most: usize,
    ) -> Result<Vec<Arc<Order>>, IndexError> {
        let mut page = Vec::new();
        if most == 0 {
            return Ok(page);
        }
        let view = self.view()?;
        let (from, to) = keys::history_range(user, before);
        view.scan(Space::History, (&from, &to), ScanOrder::Descending, &mut |key, _| {
            let id = keys::order_id_bytes(keys::order_id_at_end(key)?);
            let ended = view.get(Space::Ended, &id)?;
            let ended = ended.ok_or(IndexError::Unreadable { what: "an ended order" })?;
            page.push(Arc::clone(decode_stored(&ended)?.order()));
            Ok(page.len() < most)
        })?;
        Ok(page)
    }

    /// Whether pages of a user's ended orders have this one.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn is_listed(&self, user: &UserId, order_id: OrderId) -> Result<bool, IndexError> {
        Ok(self.store()?.get(Space::History, &keys::history(user, order_id))?.is_some())
    }

    /// A user's changes after a record of the log, oldest first, each with the order as it has left
    /// it: at most `most` of them. None where the store does not have all of them any more.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn changes(
        &self,
        user: &UserId,
        after: Lsn,
        most: usize,
    ) -> Result<StoredChanges, IndexError> {
        changes::read(&*self.view()?, user, after, most)
    }

    /// Waits until reads show more of the log than up to `position`.
    ///
    /// # Errors
    /// [`WaitError::TooMany`].
    pub async fn beyond(&self, position: Lsn) -> Result<(), WaitError> {
        loop {
            let watermark = self.0.position.load_full();
            match watermark.beyond(position.0).await {
                // The store has been opened again.
                Err(WaitError::Closed) => {}
                outcome => return outcome.map(drop),
            }
        }
    }

    /// Blocks until reads show more of the log than up to `position`, at most for `timeout`. False
    /// where they do not yet.
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

    /// Which log the index follows; `None` before it follows one.
    pub fn log_id(&self) -> Option<LogId> {
        *self.0.log_id.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The store below. Never waits: while it is not there, nobody can read.
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

    /// Opens the store below again, after a write to it has failed. It then is what it was when it
    /// was last made durable, or newer; [`position`](Self::position) may go back to that.
    ///
    /// # Errors
    /// It cannot be opened (yet), is not what it was, or is still being read. Reads fail until a
    /// later call succeeds.
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
        // Who waits goes on with the new one.
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
        *self.0.log_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(log_id);
    }

    pub(super) fn moved_to(&self, meta: Meta) {
        self.0.position.load().advance(meta.position.0);
    }

    pub(super) fn persisted_to(&self, position: Lsn) {
        self.0.durable.store(position.0, Ordering::Release);
    }

    /// It moves again.
    pub(super) fn is_well(&self) {
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// It does not move any more, for a reason that is told to operators.
    pub(super) fn failed(&self, error: &dyn std::error::Error) {
        let causes = std::iter::successors(Some(error), |&error| error.source());
        let words = causes.map(ToString::to_string).collect::<Vec<_>>().join(": ");
        let trouble = format!("the store is not following the log: {words}");
        *self.0.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(trouble);
    }
}

/// How far a store has come that has just been opened.
fn watermark(position: Lsn) -> Watermark {
    Watermark::new(position.0, MAX_WAITING_TASKS)
}

/// Waits until nobody reads a store any more, so that it closes when it is dropped. Reads are short,
/// and whoever does not end is met again as a store that is locked.
fn await_readers(store: &Arc<dyn Store>) {
    let patience = Instant::now() + READERS_PATIENCE;
    while Arc::strong_count(store) > 1 && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
}

/// An order by its id alone, and the space that it is in.
pub(super) fn stored_order(
    view: &dyn View,
    order_id: OrderId,
) -> Result<Option<(TrackedOrder, Space)>, IndexError> {
    if let Some(bytes) = view.get(Space::Open, &keys::open(order_id))? {
        return Ok(Some((decode_stored(&bytes)?, Space::Open)));
    }
    let ended = view.get(Space::Ended, &keys::order_id_bytes(order_id))?;
    Ok(ended.map(|bytes| decode_stored(&bytes)).transpose()?.map(|order| (order, Space::Ended)))
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
