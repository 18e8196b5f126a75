//! A disk that only keeps: the log's code is what is tried here, not the disk's.

use std::collections::BTreeMap;
use std::io::{self, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::wal::FreeRoom;
use crate::wal::storage::{Storage, StorageFile};

/// All files by name.
pub(super) type Files = BTreeMap<String, Vec<u8>>;

/// The disk. Clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(super) struct MemoryDisk(Arc<Mutex<Files>>);

impl MemoryDisk {
    /// The files, to look at or to damage.
    pub(super) fn files(&self) -> MutexGuard<'_, Files> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A copy of all files.
    pub(super) fn snapshot(&self) -> Files {
        self.files().clone()
    }

    fn file(&self, name: &str) -> MemoryFile {
        MemoryFile { disk: self.clone(), name: name.to_owned() }
    }
}

fn missing() -> io::Error {
    io::ErrorKind::NotFound.into()
}

impl Storage for MemoryDisk {
    type File = MemoryFile;

    fn path(&self) -> &Path {
        Path::new("memory")
    }

    fn names(&self) -> io::Result<Vec<String>> {
        Ok(self.files().keys().cloned().collect())
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        self.files().insert(name.to_owned(), Vec::new());
        Ok(self.file(name))
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        if self.files().contains_key(name) { Ok(self.file(name)) } else { Err(missing()) }
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let bytes = self.files().remove(from).ok_or_else(missing)?;
        self.files().insert(to.to_owned(), bytes);
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.files().remove(name).map(drop).ok_or_else(missing)
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }

    fn free_room(&self) -> io::Result<FreeRoom> {
        Ok(FreeRoom { bytes: u64::MAX, is_out_of_files: false })
    }

    fn is_gone(&self) -> bool {
        false
    }
}

/// A file that is open. A renamed one is opened again before it is used.
#[derive(Debug)]
pub(super) struct MemoryFile {
    disk: MemoryDisk,
    name: String,
}

impl StorageFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        self.disk.files().get(&self.name).map(|bytes| bytes.len() as u64).ok_or_else(missing)
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        let files = self.disk.files();
        let bytes = files.get(&self.name).ok_or_else(missing)?;
        let rest = usize::try_from(offset).ok().and_then(|offset| bytes.get(offset..));
        rest.unwrap_or_default().read(into)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let mut files = self.disk.files();
        let file = files.get_mut(&self.name).ok_or_else(missing)?;
        let offset = usize::try_from(offset).map_err(io::Error::other)?;
        let end = offset + bytes.len();
        if file.len() < end {
            file.resize(end, 0);
        }
        if let Some(place) = file.get_mut(offset..end) {
            place.copy_from_slice(bytes);
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut files = self.disk.files();
        let file = files.get_mut(&self.name).ok_or_else(missing)?;
        file.resize(usize::try_from(bytes).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
