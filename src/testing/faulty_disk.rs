//! A disk in memory. It loses and tears unsynced bytes, fails on demand, rots and runs
//! full.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a failure in here is a bug in the test, which may panic"
)]

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use crate::wal::storage::{Storage, StorageFile};
use crate::wal::{BLOCK_BYTES, FreeRoom};

/// Unit that a disk writes atomically.
const SECTOR_BYTES: usize = 512;

/// A fault at a chosen operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The process dies: this operation and all later ones fail.
    Crash,
    /// The operation fails once. A failed sync loses any part of what it should have made durable.
    Error,
}

/// What survives a crash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Crash {
    /// The process was killed: everything survives except parts of the write in flight.
    Kill,
    /// Synced bytes survive, and any part of the others.
    PowerLoss,
}

type FileId = usize;

#[derive(Debug, Clone)]
enum DirectoryChange {
    Set(String, FileId),
    Rename(String, String),
    Remove(String),
}

impl DirectoryChange {
    fn apply(&self, names: &mut BTreeMap<String, FileId>) {
        match self {
            Self::Set(name, id) => drop(names.insert(name.clone(), *id)),
            Self::Rename(from, to) => {
                let id = names.remove(from).unwrap();
                names.insert(to.clone(), id);
            }
            Self::Remove(name) => drop(names.remove(name)),
        }
    }
}

#[derive(Debug, Default)]
struct Content {
    /// The bytes that readers see.
    bytes: Arc<Vec<u8>>,
    /// The bytes that the last sync made durable.
    durable: Arc<Vec<u8>>,
    /// Offset and bytes of each write since then, in order.
    unsynced: Vec<(usize, Vec<u8>)>,
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        put(Arc::make_mut(&mut self.bytes), offset, bytes);
        self.unsynced.push((offset, bytes.to_vec()));
    }

    fn sync(&mut self) {
        let durable = Arc::make_mut(&mut self.durable);
        durable.resize(self.bytes.len(), 0);
        for (offset, bytes) in self.unsynced.drain(..) {
            put(durable, offset, &bytes);
        }
    }

    /// Replaces the bytes, durable at once.
    fn replace(&mut self, bytes: Vec<u8>) {
        self.bytes = Arc::new(bytes);
        self.durable = Arc::clone(&self.bytes);
        self.unsynced.clear();
    }

    /// Loses random sectors of the unsynced writes from `from_write` on.
    fn lose_some(&mut self, from_write: usize, random: &mut SmallRng) {
        let writes = std::mem::take(&mut self.unsynced);
        let len = self.bytes.len();
        self.bytes = Arc::clone(&self.durable);
        if self.bytes.len() != len {
            Arc::make_mut(&mut self.bytes).resize(len, 0);
        }
        // Some crashes lose everything, some nothing, most a part.
        let keep_percent: u8 = [0, 50, 90, 100][random.random_range(0..4)];
        for (index, (offset, bytes)) in writes.into_iter().enumerate() {
            for (sector, bytes) in bytes.chunks(SECTOR_BYTES).enumerate() {
                if index < from_write || random.random_range(0..100) < keep_percent {
                    self.write(offset + sector * SECTOR_BYTES, bytes);
                }
            }
        }
    }
}

/// Writes bytes at an offset of a file, extending it if needed.
fn put(content: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset + bytes.len();
    if content.len() < end {
        content.resize(end, 0);
    }
    content[offset..end].copy_from_slice(bytes);
}

#[derive(Debug, Default)]
struct State {
    names: BTreeMap<String, FileId>,
    durable_names: BTreeMap<String, FileId>,
    unsynced_changes: Vec<DirectoryChange>,
    contents: Vec<Content>,
    operations: u64,
    fault: Option<(u64, Fault)>,
    is_dead: bool,
    /// The file with a write in flight when the process died.
    torn_write: Option<FileId>,
    space_bytes: Option<usize>,
    space_is_reported: bool,
    random: Option<SmallRng>,
    /// Reads since they became unsteady; `None` while they are steady.
    unsteady_reads: Option<u32>,
}

impl State {
    /// Counts an operation and injects the fault.
    fn operate(&mut self) -> Result<(), Fault> {
        if self.is_dead {
            return Err(Fault::Crash);
        }
        self.operations += 1;
        match self.fault {
            Some((at, fault)) if at == self.operations => {
                self.is_dead = fault == Fault::Crash;
                Err(fault)
            }
            _ => Ok(()),
        }
    }

    fn operate_or_fail(&mut self) -> io::Result<()> {
        self.operate().map_err(|_| failure())
    }

    fn change(&mut self, change: DirectoryChange) {
        change.apply(&mut self.names);
        self.unsynced_changes.push(change);
    }

    fn id(&self, name: &str) -> io::Result<FileId> {
        self.names.get(name).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used_bytes(&self) -> usize {
        self.names.values().map(|&id| self.contents[id].bytes.len()).sum()
    }
}

fn failure() -> io::Error {
    io::Error::other("the test's disk failed")
}

/// The disk. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct FaultyDisk {
    state: Arc<Mutex<State>>,
}

/// An open file.
#[derive(Debug)]
pub struct FaultyFile {
    state: Arc<Mutex<State>>,
    id: FileId,
}

impl FaultyDisk {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap()
    }

    /// Injects a fault into the n-th operation from now.
    pub fn fail_after(&self, operations: u64, fault: Fault, seed: u64) {
        let mut state = self.state();
        state.fault = Some((state.operations + operations, fault));
        state.random = Some(SmallRng::seed_from_u64(seed));
    }

    /// Limits the total size of all files. The limit is reported as free space, or noticed only
    /// when a write fails.
    pub fn set_space(&self, bytes: usize, is_reported: bool) {
        let mut state = self.state();
        state.space_bytes = Some(bytes);
        state.space_is_reported = is_reported;
    }

    /// Crashes the process that uses the disk and restarts the machine.
    pub fn crash(&self, crash: Crash, seed: u64) {
        let mut guard = self.state();
        let state = &mut *guard;
        let mut random = SmallRng::seed_from_u64(seed);
        match crash {
            Crash::Kill => {
                if let Some(id) = state.torn_write {
                    let content = &mut state.contents[id];
                    let last_write = content.unsynced.len().saturating_sub(1);
                    content.lose_some(last_write, &mut random);
                }
            }
            Crash::PowerLoss => {
                for content in &mut state.contents {
                    content.lose_some(0, &mut random);
                    content.sync();
                }
                let kept = random.random_range(0..=state.unsynced_changes.len());
                for change in &state.unsynced_changes[..kept] {
                    change.apply(&mut state.durable_names);
                }
                state.names = state.durable_names.clone();
                state.unsynced_changes.clear();
            }
        }
        state.is_dead = false;
        state.fault = None;
        state.torn_write = None;
    }

    pub fn file_names(&self) -> Vec<String> {
        self.state().names.keys().cloned().collect()
    }

    pub fn file_bytes(&self, name: &str) -> Vec<u8> {
        let state = self.state();
        state.contents[state.names[name]].bytes.to_vec()
    }

    /// The bytes of all files, by name.
    pub fn snapshot(&self) -> BTreeMap<String, Vec<u8>> {
        let names = self.file_names().into_iter();
        names.map(|name| (name.clone(), self.file_bytes(&name))).collect()
    }

    /// Replaces the bytes of a file, durable at once.
    pub fn set_file_bytes(&self, name: &str, bytes: Vec<u8>) {
        let mut state = self.state();
        let id = state.names[name];
        state.contents[id].replace(bytes);
    }

    /// From now on reads are a little short, so that the same bytes are read again and again, and
    /// every second one shows zeros.
    #[cfg(test)]
    pub(crate) fn become_unsteady(&self) {
        self.state().unsteady_reads = Some(0);
    }

    /// Flips one stored bit.
    pub fn flip_bit(&self, name: &str, at: usize, bit: u32) {
        let mut state = self.state();
        let id = state.names[name];
        let mut bytes = state.contents[id].bytes.to_vec();
        bytes[at] ^= 1_u8 << bit;
        state.contents[id].replace(bytes);
    }

    fn file(&self, id: FileId) -> FaultyFile {
        FaultyFile { state: self.state.clone(), id }
    }

    /// Whether the process died in an operation of this disk.
    pub fn is_dead(&self) -> bool {
        self.state().is_dead
    }

    /// Whether the injected fault has occurred, or an earlier one killed the process while it
    /// closed its files.
    pub fn has_failed(&self) -> bool {
        let state = self.state();
        state.is_dead || state.fault.is_some_and(|(at, _)| state.operations >= at)
    }

    /// Limits all files together to `bytes` more than they take now.
    pub fn leave_space(&self, bytes: usize, is_reported: bool) {
        let used = self.state().used_bytes();
        self.set_space(used + bytes, is_reported);
    }

    /// Cancels the fault of [`fail_after`](Self::fail_after).
    pub fn calm(&self) {
        self.state().fault = None;
    }

    /// Lifts the limit of the space.
    pub fn free_space(&self) {
        self.state().space_bytes = None;
    }

    /// A copy with the minimum that a power loss would leave of the last `last_files` files.
    pub fn durable_copy(&self, last_files: usize) -> Self {
        let state = self.state();
        let files = state.durable_names.iter().rev().take(last_files);
        Self::holding(files.map(|(name, &id)| (name, &state.contents[id].durable)))
    }

    /// A copy with the bytes that readers see.
    pub fn visible_copy(&self) -> Self {
        let state = self.state();
        Self::holding(state.names.iter().map(|(name, &id)| (name, &state.contents[id].bytes)))
    }

    fn holding<'a>(files: impl Iterator<Item = (&'a String, &'a Arc<Vec<u8>>)>) -> Self {
        let mut state = State::default();
        for (name, bytes) in files {
            let (bytes, durable) = (Arc::clone(bytes), Arc::clone(bytes));
            state.names.insert(name.clone(), state.contents.len());
            state.contents.push(Content { bytes, durable, unsynced: Vec::new() });
        }
        state.durable_names = state.names.clone();
        Self { state: Arc::new(Mutex::new(state)) }
    }
}

impl FaultyFile {
    fn write(&self, offset: usize, bytes: &[u8]) -> io::Result<()> {
        let mut state = self.state.lock().unwrap();
        let was_dead = state.is_dead;
        let outcome = state.operate();
        if was_dead || outcome == Err(Fault::Error) {
            return Err(failure());
        }
        let end = offset + bytes.len();
        let growth = end.saturating_sub(state.contents[self.id].bytes.len());
        if growth > 0 && state.space_bytes.is_some_and(|space| state.used_bytes() + growth > space)
        {
            return Err(io::ErrorKind::StorageFull.into());
        }
        state.contents[self.id].write(offset, bytes);
        if outcome.is_err() {
            state.torn_write = Some(self.id);
        }
        outcome.map_err(|_| failure())
    }
}

impl Storage for FaultyDisk {
    type File = FaultyFile;

    fn path(&self) -> &Path {
        Path::new("/faulty")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.file_names())
    }

    fn create(&self, name: &str) -> io::Result<FaultyFile> {
        let mut state = self.state();
        state.operate_or_fail()?;
        let id = state.contents.len();
        state.contents.push(Content::default());
        state.change(DirectoryChange::Set(name.to_owned(), id));
        drop(state);
        Ok(self.file(id))
    }

    fn open(&self, name: &str) -> io::Result<FaultyFile> {
        let id = self.state().id(name)?;
        Ok(self.file(id))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate_or_fail()?;
        state.id(from)?;
        state.change(DirectoryChange::Rename(from.to_owned(), to.to_owned()));
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut state = self.state();
        state.operate_or_fail()?;
        state.id(name)?;
        state.change(DirectoryChange::Remove(name.to_owned()));
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.state();
        state.operate_or_fail()?;
        state.durable_names = state.names.clone();
        state.unsynced_changes.clear();
        Ok(())
    }

    fn free_room(&self) -> io::Result<FreeRoom> {
        let state = self.state();
        let bytes = match state.space_bytes {
            Some(space) if state.space_is_reported => {
                space.saturating_sub(state.used_bytes()) as u64
            }
            _ => u64::MAX,
        };
        Ok(FreeRoom { bytes, is_out_of_files: false })
    }

    fn is_gone(&self) -> bool {
        false
    }
}

impl StorageFile for FaultyFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.state.lock().unwrap().contents[self.id].bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let mut state = self.state.lock().unwrap();
        let offset = usize::try_from(offset).unwrap();
        let bytes = state.contents[self.id].bytes.get(offset..).unwrap_or_default();
        let mut len = bytes.len().min(into.len());
        into[..len].copy_from_slice(&bytes[..len]);
        if let Some(reads) = &mut state.unsteady_reads {
            *reads += 1;
            len = len.saturating_sub(1);
            if reads.is_multiple_of(2) {
                into.fill(0);
            }
        }
        Ok(len)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let offset = usize::try_from(offset).unwrap();
        assert!(offset.is_multiple_of(BLOCK_BYTES), "O_DIRECT requires aligned offsets");
        assert!(bytes.len().is_multiple_of(BLOCK_BYTES), "O_DIRECT requires whole blocks");
        assert!(
            bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES),
            "O_DIRECT requires aligned memory"
        );
        self.write(offset, bytes)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        self.write(0, &vec![0; usize::try_from(bytes).unwrap()])
    }

    fn sync(&self) -> io::Result<()> {
        let mut guard = self.state.lock().unwrap();
        let state = &mut *guard;
        match state.operate() {
            Ok(()) => state.contents[self.id].sync(),
            Err(Fault::Error) => {
                let random = state.random.as_mut().unwrap();
                let content = &mut state.contents[self.id];
                content.lose_some(0, random);
                content.sync();
                return Err(failure());
            }
            Err(Fault::Crash) => return Err(failure()),
        }
        Ok(())
    }
}
