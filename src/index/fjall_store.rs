//! The store on disk: one fjall database, one keyspace per space.

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

/// fjall's worker threads: one flushes memtables, the other compacts.
const WORKER_THREADS: usize = 2;
/// Most table files that stay open between two reads. The store's own default is far more than what the
/// process can spare of its open files.
pub const MAX_STORE_FILES: usize = 256;
/// Memtable size of a space of orders. At full load it fills in some seconds.
const ORDER_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// Memtable size of a space of small values: about as many keys, which is what writes cost.
const LINK_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Memtables of one space before a commit waits, by fjall's own limit. With the sizes above all
/// spaces together take at most 1.2 GB, and mostly a fifth of that.
const MOST_MEMTABLES: u64 = 5;
/// Size of fjall's own journal. A start reads all of it, at several hundred MB a second.
const JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// Filter bits per key, for spaces where most lookups miss. The filters stay in memory whatever the
/// cache holds: threads that must not wait for a disk look up as well, and one miss in two thousand
/// reads the disk.
const FILTER_BITS_PER_KEY: f32 = 16.0;

/// Most bytes that the workers flush at a time.
pub(super) const WRITE_OUT_BYTES: u64 = WORKER_THREADS as u64 * ORDER_MEMTABLE_BYTES;

/// Only the newest period is written to.
const MEMTABLES_BYTES: u64 = 3 * ORDER_MEMTABLE_BYTES + 9 * LINK_MEMTABLE_BYTES;
const _: () = assert!(MEMTABLES_BYTES * MOST_MEMTABLES <= 1_200 * 1024 * 1024);
const _: () = assert!(JOURNAL_BYTES > MEMTABLES_BYTES, "memtables fill before the journal does");

pub(super) struct FjallStore {
    database: Database,
    spaces: FixedSpaces,
    /// Replaced as a whole, by the only writer.
    periods: ArcSwap<Periods>,
}

/// The spaces that always exist.
struct FixedSpaces {
    open: Keyspace,
    ended: Keyspace,
    history: Keyspace,
    keys: Keyspace,
    external: Keyspace,
    node: Keyspace,
    executions: Keyspace,
    accounts: Keyspace,
    cash: Keyspace,
    activities: Keyspace,
}

type Periods = BTreeMap<Period, PeriodSpaces>;

#[derive(Clone)]
struct PeriodSpaces {
    changes: Keyspace,
    versions: Keyspace,
}

impl FjallStore {
    /// Opens the store in a directory, or creates it. All that is readable afterwards is durable.
    ///
    /// # Errors
    /// [`IndexError::Store`], and [`IndexError::StorePanicked`] for damage that fjall does not
    /// expect.
    pub(super) fn open(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        // On a thread of its own: fjall's workers inherit the priority of the thread that starts
        // them.
        let opened = thread::scope(|scope| {
            let open = || {
                lower_priority();
                Self::open_unguarded(directory, cache_bytes)
            };
            scope.spawn(open).join()
        });
        // fjall reads files that may hold anything, and asserts here and there what they should
        // hold.
        opened.unwrap_or_else(|panic| {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(|&m| m.to_owned()));
            let message = message.unwrap_or_else(|| "panicked".to_owned());
            Err(IndexError::StorePanicked { message })
        })
    }

    fn open_unguarded(directory: &Path, cache_bytes: u64) -> Result<Self, IndexError> {
        let database = Database::builder(directory)
            .cache_size(cache_bytes)
            .worker_threads(WORKER_THREADS)
            .max_cached_files(Some(MAX_STORE_FILES))
            .max_journaling_size(JOURNAL_BYTES)
            // A lost batch is replayed from the log.
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
            executions: open(Space::Executions)?,
            accounts: open(Space::Accounts)?,
            cash: open(Space::Cash)?,
            activities: open(Space::Activities)?,
        };
        let periods = ArcSwap::from_pointee(open_periods(&database)?);
        Ok(Self { database, spaces, periods })
    }

    /// Looks a space up.
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
            Space::Executions => &self.spaces.executions,
            Space::Accounts => &self.spaces.accounts,
            Space::Cash => &self.spaces.cash,
            Space::Activities => &self.spaces.activities,
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

/// The complete periods. One that a crash left incomplete is empty or was being dropped; its rest
/// is dropped.
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

/// The name of a space, which is part of the format.
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
        Space::Executions => "executions".to_owned(),
        Space::Accounts => "accounts".to_owned(),
        Space::Cash => "cash".to_owned(),
        Space::Activities => "activities".to_owned(),
        Space::Changes(period) => of_period(CHANGES_PREFIX, period),
        Space::Versions(period) => of_period(VERSIONS_PREFIX, period),
    }
}

/// Parses the period at the end of a name.
fn period_of(end_of_name: &str) -> Option<Period> {
    let (first, start_micros) = end_of_name.split_once('-')?;
    let number = |hex| u64::from_str_radix(hex, 16).ok();
    Some(Period { first: number(first)?, start_micros: number(start_micros)? })
}

/// How a space is kept. fjall takes these options when the space is created; later starts do not
/// change them.
fn options(space: Space) -> KeyspaceCreateOptions {
    let bits_per_key = BloomConstructionPolicy::BitsPerKey(FILTER_BITS_PER_KEY);
    let memtable_bytes = match space {
        Space::Open | Space::Ended | Space::Versions(_) => ORDER_MEMTABLE_BYTES,
        Space::History
        | Space::Keys
        | Space::External
        | Space::Node
        | Space::Executions
        | Space::Accounts
        | Space::Cash
        | Space::Activities
        | Space::Changes(_) => LINK_MEMTABLE_BYTES,
    };
    let options = KeyspaceCreateOptions::default()
        .manual_journal_persist(true)
        .max_memtable_size(memtable_bytes);
    match space {
        // Most lookups miss: filters on every level.
        Space::Keys | Space::External | Space::Cash => options
            .expect_point_read_hits(false)
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::Bloom(bits_per_key)))
            .filter_block_pinning_policy(PinningPolicy::all(true)),
        // Read as a whole at a start. A new user has no account yet.
        Space::Accounts => options
            .expect_point_read_hits(true)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
        // Read as a whole at a start, and most of it is short-lived: not worth compressing.
        Space::Open | Space::Node => options
            .expect_point_read_hits(true)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
        // Lookups hit: the last level needs no filters.
        Space::Ended => options.expect_point_read_hits(true),
        // As above, and compressed already.
        Space::Versions(_) => options
            .expect_point_read_hits(true)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::None)),
        // Only scanned.
        Space::History | Space::Executions | Space::Activities | Space::Changes(_) => {
            options.filter_policy(FilterPolicy::disabled())
        }
    }
}

/// Whether an error at opening means that the files are damaged. Any other error may pass or is for
/// the operator to fix, and nothing may be moved aside because of it.
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

/// A snapshot of the store, and the periods at that time or a moment later.
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
        // The periods after the snapshot, so that all those the snapshot refers to are included.
        let snapshot = self.database.snapshot();
        let periods = self.periods.load_full();
        Box::new(FjallView { store: self, snapshot, periods })
    }

    fn periods(&self) -> Vec<Period> {
        self.periods.load().keys().copied().collect()
    }

    fn add_period(&self, period: Period) -> Result<(), IndexError> {
        // In this order: a period exists once its changes do.
        let versions = open_space(&self.database, Space::Versions(period))?;
        let changes = open_space(&self.database, Space::Changes(period))?;
        self.change_periods(|periods| {
            periods.insert(period, PeriodSpaces { changes, versions });
        });
        Ok(())
    }

    fn drop_period(&self, period: Period) -> Result<(), IndexError> {
        // It was dropped before.
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
