use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use fjall::config::{
    BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry, PinningPolicy,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, LsmError, PersistMode, Readable,
    Snapshot,
};

use super::IndexError;
use super::patience::step_back;
use super::store::{Bytes, ScanOrder, Space, Store, View, Visit, Write};

/// fjall's threads: one writes out memory tables, the other one compacts.
const WORKER_THREADS: usize = 2;
/// How much of a space of orders gathers in memory before it is written out as a file. At full load
/// that takes some seconds.
const ORDER_MEMTABLE_BYTES: u64 = 32 * 1024 * 1024;
/// The same for a space of small values: as many keys, which is what writing into it costs.
const LINK_MEMTABLE_BYTES: u64 = 16 * 1024 * 1024;
/// Tables of one space that may be in memory before a commit waits, by fjall's own limit: with the
/// sizes above all together take at most 0.7 GB, and mostly a fifth of that.
const MOST_MEMTABLES: u64 = 5;
/// What fjall keeps of its own journal. A start reads it all, at several hundred MB a second.
const JOURNAL_BYTES: u64 = 256 * 1024 * 1024;
/// Bits of the filters for each key of a space that is mostly asked for what is not there. They stay
/// in memory, whatever the cache holds: threads that must not wait for a disk ask as well, and one
/// lookup of a missing key in two thousand looks at the disk.
const FILTER_BITS_PER_KEY: f32 = 16.0;

const MEMTABLES_BYTES: u64 = 2 * ORDER_MEMTABLE_BYTES + 4 * LINK_MEMTABLE_BYTES;
const _: () = assert!(Space::ALL.len() == 6, "as many spaces as are counted above");
const _: () = assert!(MEMTABLES_BYTES * MOST_MEMTABLES < 700 * 1024 * 1024);
const _: () = assert!(JOURNAL_BYTES > MEMTABLES_BYTES, "a table is full before its journal is");

/// The index on disk.
pub(super) struct FjallStore {
    database: Database,
    spaces: [Keyspace; Space::ALL.len()],
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
                step_back();
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
        let open = |space: Space| {
            let keyspace = database.keyspace(space.name(), || options(space));
            keyspace.map_err(IndexError::store("open a space"))
        };
        let spaces = [
            open(Space::Open)?,
            open(Space::Ended)?,
            open(Space::History)?,
            open(Space::Keys)?,
            open(Space::External)?,
            open(Space::Node)?,
        ];
        Ok(Self { database, spaces })
    }

    fn space(&self, space: Space) -> &Keyspace {
        let [open, ended, history, keys, external, node] = &self.spaces;
        match space {
            Space::Open => open,
            Space::Ended => ended,
            Space::History => history,
            Space::Keys => keys,
            Space::External => external,
            Space::Node => node,
        }
    }
}

/// How a space is kept. Only what it is made with counts, later starts do not change it.
fn options(space: Space) -> KeyspaceCreateOptions {
    let bits_per_key = BloomConstructionPolicy::BitsPerKey(FILTER_BITS_PER_KEY);
    let memtable_bytes = match space {
        Space::Open | Space::Ended => ORDER_MEMTABLE_BYTES,
        Space::History | Space::Keys | Space::External | Space::Node => LINK_MEMTABLE_BYTES,
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
        // Only ever scanned.
        Space::History => options.filter_policy(FilterPolicy::disabled()),
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

impl View for (Arc<FjallStore>, Snapshot) {
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        let (store, snapshot) = self;
        snapshot.get(store.space(space), key).map_err(IndexError::store("read"))
    }

    fn scan(
        &self,
        space: Space,
        (from, to): (&[u8], &[u8]),
        order: ScanOrder,
        visit: &mut Visit<'_>,
    ) -> Result<(), IndexError> {
        let (store, snapshot) = self;
        let mut range = snapshot.range(store.space(space), from..to);
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
    fn get(&self, space: Space, key: &[u8]) -> Result<Option<Bytes>, IndexError> {
        self.space(space).get(key).map_err(IndexError::store("read"))
    }

    fn view(self: Arc<Self>) -> Box<dyn View> {
        let snapshot = self.database.snapshot();
        Box::new((self, snapshot))
    }

    fn commit(&self, writes: Vec<Write>) -> Result<(), IndexError> {
        let mut batch = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), writes.len());
        for Write { space, key, value } in writes {
            match value {
                Some(value) => batch.insert(self.space(space), key, value),
                None => batch.remove(self.space(space), key),
            }
        }
        batch.commit().map_err(IndexError::store("write"))
    }

    fn persist(&self) -> Result<(), IndexError> {
        self.database.persist(PersistMode::SyncData).map_err(IndexError::store("sync"))
    }
}
