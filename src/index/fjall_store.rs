use std::collections::{BTreeMap, HashSet};
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use arc_swap::ArcSwap;
use fjall::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable,
    Snapshot,
};

use super::IndexError;
use super::store::{Bytes, Period, ScanOrder, Space, Store, View, Visit, Write};
use super::thread_priority::lower_priority;

/// fjall's threads: one writes out memory tables, the other one compacts.
const WORKER_THREADS: usize = 2;
/// How much of a space of orders gathers in memory before it is written out as a file. At full load
/// that takes some seconds.
const ORDER_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// The same for a space of small values: as many keys, which is what writing into it costs.
const LINK_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Tables of one space that may be in memory before a commit waits, by fjall's own limit: with the
/// sizes above all together take at most 0.9 GB, and mostly a fifth of that.
const MOST_MEMTABLES: u64 = 5;
/// What fjall keeps of its own journal. A start reads it all, at several hundred MB a second.
const JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// Bits of the filters for each key of a space that is mostly asked for what is not there. They stay
/// in memory, whatever the cache holds: threads that must not wait for a disk ask as well, and one
/// lookup of a missing key in two thousand looks at the disk.
const FILTER_BITS_PER_KEY: f32 = 16.0;

/// Most that the threads write out of memory tables at a time.
pub(super) const WRITE_OUT_BYTES: u64 = WORKER_THREADS as u64 * ORDER_MEMTABLE_BYTES;

/// Of the periods only the newest is written to.
const MEMTABLES_BYTES: u64 = 3 * ORDER_MEMTABLE_BYTES + 5 * LINK_MEMTABLE_BYTES;
const _: () = assert!(MEMTABLES_BYTES * MOST_MEMTABLES < 900 * 1024 * 1024);
const _: () = assert!(JOURNAL_BYTES > MEMTABLES_BYTES, "a table is full before its journal is");

/// The index on disk.
pub(super) struct FjallStore {
    database: Database,
    spaces: FixedSpaces,
    /// Replaced as a whole by the one thread that writes.
    periods: ArcSwap<Periods>,
}

/// The spaces that are always there.
struct FixedSpaces {
    open: Keyspace,
    ended: Keyspace,
    history: Keyspace,
    keys: Keyspace,
    external: Keyspace,
    node: Keyspace,
}

/// The spaces of each period.
type Periods = BTreeMap<Period, PeriodSpaces>;

#[derive(Clone)]
struct PeriodSpaces {
    changes: Keyspace,
    versions: Keyspace,
}

impl FjallStore {
    /// Opens the store in a directory, or makes it where there is none. What can be read then has
    /// been made durable.
    ///
    /// # Errors
    /// [`IndexError::Store`], and [`IndexError::StorePanicked`] for damage that fjall did not expect.
    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        // A thread of its own, because its workers are as patient as the thread that starts them.
        let opened = thread::scope(|scope| {
            let open = || {
                lower_priority();
                Self::open_unguarded(directory, cache_bytes)
            };
            scope.spawn(open).join()
        });
        // It reads files that may hold anything, and asserts here and there what they should hold.
        opened.unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(|&m| m.to_owned()));
            let message = message.unwrap_or_else(|| "it panicked".to_owned());
            Err(IndexError::StorePanicked { message })
        })
    }

    fn open_unguarded(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        let database = Database::builder(directory)
            .cache_size(cache_bytes)
            .worker_threads(WORKER_THREADS)
            .max_journaling_size(JOURNAL_BYTES)
            // A batch that is lost comes again from the log.
            .manual_journal_persist(true)
            .open()
            .map_err(|source| match source {
                fjall::Error::Locked => IndexError::Locked { directory: directory.to_path_buf() },
                source => IndexError::Store { action: "open", source },
            })?;
        let open = |space| open_space(&database, space);
        let spaces = FixedSpaces {
            open: open(Space::Open)?,
            ended: open(Space::Ended)?,
            history: open(Space::History)?,
            keys: open(Space::Keys)?,
            external: open(Space::External)?,
            node: open(Space::Node)?,
        };
        let periods = ArcSwap::from_pointee(open_periods(&database)?);
        Ok(Self { database, spaces, periods })
    }

    /// A space, if it is among these.
    fn space<'a>(&'a self, space: Space, periods: &'a Periods) -> Result<&'a Keyspace, IndexError> {
        let of_period = |period| {
            let missing = IndexError::Unreadable { what: "a change of a period that is dropped" };
            periods.get(&period).ok_or(missing)
        };
        Ok(match space {
            Space::Open => &self.spaces.open,
            Space::Ended => &self.spaces.ended,
            Space::History => &self.spaces.history,
            Space::Keys => &self.spaces.keys,
            Space::External => &self.spaces.external,
            Space::Node => &self.spaces.node,
            Space::Changes(period) => &of_period(period)?.changes,
            Space::Versions(period) => &of_period(period)?.versions,
        })
    }

    fn change_periods(&self, change: impl FnOnce(&mut Periods)) {
        let mut periods = Periods::clone(&self.periods.load());
        change(&mut periods);
        self.periods.store(Arc::new(periods));
    }
}

fn open_space(database: &Database, space: Space) -> Result<Keyspace, IndexError> {
    let keyspace = database.keyspace(&name(space), || options(space));
    keyspace.map_err(IndexError::store("open a space"))
}

/// The periods that are there as a whole. One that a crash has left by halves is empty, or was being
/// dropped: what is left of it goes.
fn open_periods(database: &Database) -> Result<Periods, IndexError> {
    let mut periods = Periods::new();
    let names: HashSet<String> =
        database.list_keyspace_names().iter().map(|name| name.to_string()).collect();
    for found in &names {
        if let Some(period) = found.strip_prefix(CHANGES_PREFIX).and_then(period_of) {
            let changes = open_space(database, Space::Changes(period))?;
            let versions = open_space(database, Space::Versions(period))?;
            periods.insert(period, PeriodSpaces { changes, versions });
        } else if let Some(period) = found.strip_prefix(VERSIONS_PREFIX).and_then(period_of)
            && !names.contains(&name(Space::Changes(period)))
        {
            let versions = open_space(database, Space::Versions(period))?;
            database.delete_keyspace(versions).map_err(IndexError::store("drop a space"))?;
        }
    }
    Ok(periods)
}

const CHANGES_PREFIX: &str = "changes-";
const VERSIONS_PREFIX: &str = "versions-";

/// What a space is called, which is part of the format.
fn name(space: Space) -> String {
    let of_period = |prefix, Period { first, start_micros }: Period| {
        format!("{prefix}{first:016x}-{start_micros:016x}")
    };
    match space {
        Space::Open => "open".to_owned(),
        Space::Ended => "ended".to_owned(),
        Space::History => "history".to_owned(),
        Space::Keys => "keys".to_owned(),
        Space::External => "external".to_owned(),
        Space::Node => "node".to_owned(),
        Space::Changes(period) => of_period(CHANGES_PREFIX, period),
        Space::Versions(period) => of_period(VERSIONS_PREFIX, period),
    }
}

/// The period that a name ends with.
fn period_of(end_of_name: &str) -> Option<Period> {
    let (first, start_micros) = end_of_name.split_once('-')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    Some(Period { first: number(first)?, start_micros: number(start_micros)? })
}

/// How a space is kept. Only what it is made with counts, later starts do not change it.
fn options(space: Space) -> KeyspaceCreateOptions {
    let bits_per_key = BloomConstructionPolicy::BitsPerKey(FILTER_BITS_PER_KEY);
    let memtable_bytes = match space {
        Space::Open | Space::Ended | Space::Versions(_) => ORDER_MEMTABLE_BYTES,
        Space::History | Space::Keys | Space::External | Space::Node | Space::Changes(_) => {
            LINK_MEMTABLE_BYTES
        }
    };
    let options = KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(memtable_bytes);
    match space {
        // Looked up for what is mostly not there: filters on every level.
        Space::Keys | Space::External => options
            .expect_point_read_hits(false)
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits_per_key)))
            .filter_block_pinning_policy(PinningPolicy::all(true)),
        // Read as a whole at a start, and little of it lives long: not worth compressing.
        Space::Open | Space::Node => options
            .expect_point_read_hits(true)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
        // Looked up for what is there: the last level needs no filters.
        Space::Ended => options.expect_point_read_hits(true),
        // The same, and compressed already.
        Space::Versions(_) => options
            .expect_point_read_hits(true)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
        // Only ever scanned.
        Space::History | Space::Changes(_) => options.filter_policy(FilterPolicy::disabled()),
    }
}

/// Whether an error at opening means that what is on disk cannot be read. Anything else may pass or
/// is for an operator to mend, and nothing may be moved away because of it.
pub(super) fn is_damage(error: &IndexError) -> bool {
    let is_damaged_io = |error: &std::io::Error| {
        matches!(
            error.kind(),
            ErrorKind::UnexpectedEof
                | ErrorKind::InvalidData
                | ErrorKind::InvalidInput
                | ErrorKind::NotFound
                | ErrorKind::AlreadyExists
                | ErrorKind::Other
        )
    };
    match error {
        IndexError::StorePanicked { .. } | IndexError::Unreadable { .. } => true,
        IndexError::Store { source, .. } => match source {
            fjall::Error::Io(error) | fjall::Error::Storage(LsmError::Io(error)) => {
                is_damaged_io(error)
            }
            fjall::Error::InvalidVersion(version) => version.is_none(),
            fjall::Error::Poisoned | fjall::Error::Locked => false,
            _ => true,
        },
        _ => false,
    }
}

/// The store as it was, and the periods that there were at that time or a moment later.
struct FjallView {
    store: Arc<FjallStore>,
    snapshot: Snapshot,
    periods: Arc<Periods>,
}

impl View for FjallView {
    fn periods(&self) -> Vec<Period> {
        self.periods.keys().copied().collect()
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let space = self.store.space(space, &self.periods)?;
        self.snapshot.get(space, key).map_err(IndexError::store("read"))
    }

    fn scan(
        &self,
        space: Space,
        (from, to): (&[u8], &[u8]),
        order: ScanOrder,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let space = self.store.space(space, &self.periods)?;
        let mut range = self.snapshot.range(space, from..to);
        loop {
            let next = match order {
                ScanOrder::Ascending => range.next(),
                ScanOrder::Descending => range.next_back(),
            };
            let Some(entry) = next else { return Ok(()) };
            let (key, value) = entry.into_inner().map_err(IndexError::store("read"))?;
            if !visit(&key, &value)? {
                return Ok(());
            }
        }
    }
}

impl Store for FjallStore {
    fn disk_bytes(&self, space: Space) -> Result<u64, IndexError> {
        Ok(self.space(space, &self.periods.load())?.disk_space())
    }

    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let periods = self.periods.load();
        self.space(space, &periods)?.get(key).map_err(IndexError::store("read"))
    }

    fn view(self: Arc<Self>) -> Box<dyn View> {
        // The periods after the snapshot: all that it knows anything of are among them.
        let snapshot = self.database.snapshot();
        let periods = self.periods.load_full();
        Box::new(FjallView { store: self, snapshot, periods })
    }

    fn periods(&self) -> Vec<Period> {
        self.periods.load().keys().copied().collect()
    }

    fn add_period(&self, period: Period) -> Result<(), IndexError> {
        // In this order: a period is there when the changes are.
        let versions = open_space(&self.database, Space::Versions(period))?;
        let changes = open_space(&self.database, Space::Changes(period))?;
        self.change_periods(|periods| {
            periods.insert(period, PeriodSpaces { changes, versions });
        });
        Ok(())
    }

    fn drop_period(&self, period: Period) -> Result<(), IndexError> {
        let Some(spaces) = self.periods.load().get(&period).cloned() else { return Ok(()) };
        self.change_periods(|periods| {
            periods.remove(&period);
        });
        for space in [spaces.changes, spaces.versions] {
            self.database.delete_keyspace(space).map_err(IndexError::store("drop a space"))?;
        }
        Ok(())
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), IndexError> {
        let periods = self.periods.load();
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), writes.len());
        for Write { space, key, value } in writes {
            let space = self.space(space, &periods)?;
            match value {
                Some(value) => batch.insert(space, key, value),
                None => batch.remove(space, key),
            }
        }
        batch.commit().map_err(IndexError::store("write"))
    }

    fn persist(&self) -> Result<(), IndexError> {
        self.database.persist(PersistMode::SyncData).map_err(IndexError::store("sync"))
    }
}
