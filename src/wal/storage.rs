//! The disk: a directory of files that are written at offsets and synced. The second implementation
//! of the trait is the faulty disk of the tests.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{Advice, FallocateFlags, OFlags, fadvise, fallocate};
use rustix::io::Errno;

use super::aligned::AlignedBuffer;
use super::room::FreeRoom;
use super::{BLOCK_BYTES, WalError};

/// The file whose lock marks the log as open.
const LOCK_NAME: &str = "wal.lock";

/// Size of one write of zeros on a file system that cannot allocate.
const ALLOCATE_BYTES: usize = 64 * BLOCK_BYTES;

/// A directory for segments. No change to it is durable before [`Storage::sync`].
pub trait Storage: Send + Sync + 'static {
    /// A file of the directory.
    type File: StorageFile;

    /// The path of the directory, for messages.
    fn path(&self) -> &Path;
    fn names(&self) -> io::Result<Vec<String>>;
    /// Creates an empty file, replacing any old one, for reading and writing.
    fn create(&self, name: &str) -> io::Result<Self::File>;
    /// Opens an existing file for reading and writing.
    fn open(&self, name: &str) -> io::Result<Self::File>;
    fn rename(&self, from: &str, to: &str) -> io::Result<()>;
    fn remove(&self, name: &str) -> io::Result<()>;
    /// Makes created, renamed and removed files durable.
    fn sync(&self) -> io::Result<()>;
    /// The space that this user may still take on the disk.
    fn free_room(&self) -> io::Result<FreeRoom>;
    /// Whether the directory is no longer under its path, although its files still work.
    fn is_gone(&self) -> bool;
}

/// A file of the log. Offsets and lengths are multiples of the block size, and memory is aligned to
/// it.
pub trait StorageFile: Send + 'static {
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Reads until the buffer is full or the file ends. Returns the number of bytes.
    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize>;
    /// Writes all bytes.
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Extends an empty file with zeros and allocates its space on the disk.
    fn allocate(&self, bytes: u64) -> io::Result<()>;
    /// Makes written bytes durable. After an error their state is unknown.
    fn sync(&self) -> io::Result<()>;
}

/// A real directory. A lock on it belongs to this process while the value lives.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    handle: File,
    /// Whether to open files with `O_DIRECT`; cleared if the file system refuses it.
    direct: AtomicBool,
    lock: Option<File>,
}

impl Directory {
    /// Creates the directory if missing, and locks it.
    ///
    /// # Errors
    /// [`WalError::Locked`] and [`WalError::Io`].
    pub(super) fn lock(path: &Path) -> Result<Self, WalError> {
        create_durably(path).map_err(|error| WalError::io("create the directory", path, error))?;
        let handle =
            File::open(path).map_err(|error| WalError::io("open the directory", path, error))?;
        let lock_path = path.join(LOCK_NAME);
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&lock_path)
            .map_err(|error| WalError::io("open", &lock_path, error))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(WalError::Locked { directory: path.to_path_buf() });
            }
            Err(TryLockError::Error(error)) => {
                return Err(WalError::io("lock", &lock_path, error));
            }
        }
        Ok(Self {
            path: path.to_path_buf(),
            handle,
            direct: AtomicBool::new(true),
            lock: Some(lock),
        })
    }

    /// Opens an existing directory without the lock, for reading beside its owner.
    ///
    /// # Errors
    /// [`WalError::NotThere`] and [`WalError::Io`].
    pub(super) fn open_unlocked(path: &Path) -> Result<Self, WalError> {
        let handle = File::open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => WalError::NotThere { directory: path.to_path_buf() },
            _ => WalError::io("open the directory", path, error),
        })?;
        Ok(Self { path: path.to_path_buf(), handle, direct: AtomicBool::new(true), lock: None })
    }

    /// Checks a change to the directory, which is not for those who only read beside its owner.
    fn check_owned(&self) {
        assert!(self.lock.is_some(), "only who holds the lock changes the log");
    }

    fn open_with(&self, name: &str, options: &mut OpenOptions) -> io::Result<DirectoryFile> {
        let path = self.path.join(name);
        options.read(true);
        // A hint shared by two threads: neither ordering nor a repeated attempt matters.
        if self.direct.load(Ordering::Relaxed) {
            match options.custom_flags(OFlags::DIRECT.bits().cast_signed()).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                    if self.direct.swap(false, Ordering::Relaxed) {
                        tracing::warn!(
                            directory = %self.path.display(),
                            "this file system refuses O_DIRECT: the log is written through the page cache"
                        );
                    }
                }
                opened => return opened.map(DirectoryFile),
            }
        }
        let file = options.custom_flags(0).open(&path)?;
        // After a failed sync the page cache may show bytes that the disk never got: read from the
        // disk.
        fadvise(&file, 0, None, Advice::DontNeed)?;
        Ok(DirectoryFile(file))
    }
}

/// Removes a file durably.
pub(super) fn remove<S: Storage>(storage: &S, name: &str) -> Result<(), WalError> {
    storage
        .remove(name)
        .and_then(|()| storage.sync())
        .map_err(|error| WalError::io("remove", storage.path().join(name), error))
}

/// Creates a directory and its missing ancestors, each durable in its parent.
fn create_durably(path: &Path) -> io::Result<()> {
    if path.is_dir() {
        return Ok(());
    }
    let parent = match path.parent() {
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
        None => Path::new("/"),
    };
    create_durably(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    File::open(parent)?.sync_all()
}

impl Storage for Directory {
    type File = DirectoryFile;

    fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            // Names of the log are valid text; skip others.
            if let Ok(name) = entry?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn create(&self, name: &str) -> io::Result<DirectoryFile> {
        self.check_owned();
        self.open_with(name, OpenOptions::new().write(true).create(true).truncate(true))
    }

    fn open(&self, name: &str) -> io::Result<DirectoryFile> {
        // Who holds no lock writes nothing, and may read a file system that refuses writers.
        self.open_with(name, OpenOptions::new().write(self.lock.is_some()))
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        self.check_owned();
        fs::rename(self.path.join(from), self.path.join(to))
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        self.check_owned();
        fs::remove_file(self.path.join(name))
    }

    fn sync(&self) -> io::Result<()> {
        self.handle.sync_all()
    }

    fn free_room(&self) -> io::Result<FreeRoom> {
        let disk = rustix::fs::fstatvfs(&self.handle)?;
        Ok(FreeRoom {
            // Saturating: the figures are the file system's own.
            bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
            // File systems that create inodes on demand report a total of zero.
            is_out_of_files: disk.f_files > 0 && disk.f_favail == 0,
        })
    }

    fn is_gone(&self) -> bool {
        let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
        let here = self.handle.metadata().map(identity);
        let there = fs::metadata(&self.path).map(identity);
        match (here, there) {
            (Ok(here), Ok(there)) => here != there,
            (_, Err(error)) => error.kind() == io::ErrorKind::NotFound,
            // The path leads to a directory, which may be this one.
            (Err(_), Ok(_)) => false,
        }
    }
}

/// Checks what `O_DIRECT` requires of a read or write.
fn check_blocks(offset: u64, bytes: usize) {
    assert!(
        offset.is_multiple_of(BLOCK_BYTES as u64),
        "files are read and written from a block on"
    );
    assert!(bytes.is_multiple_of(BLOCK_BYTES), "files are read and written in whole blocks");
}

/// A file of a real directory.
#[derive(Debug)]
pub struct DirectoryFile(File);

impl StorageFile for DirectoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_at(&self, offset: u64, into: &mut [u8]) -> io::Result<usize> {
        check_blocks(offset, into.len());
        let mut filled = 0;
        while let Some(rest) = into.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match self.0.read_at(rest, offset + filled as u64) {
                Ok(0) => break,
                Ok(read) => filled += read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(filled)
    }

    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        check_blocks(offset, bytes.len());
        self.0.write_all_at(bytes, offset)
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        match fallocate(&self.0, FallocateFlags::empty(), 0, bytes) {
            // Not every file system supports it. Writing zeros does the same, slower.
            Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
                let zeros = AlignedBuffer::new(ALLOCATE_BYTES);
                let mut offset = 0;
                while offset < bytes {
                    let left = super::to_usize(bytes - offset);
                    let zeros = zeros.as_slice();
                    let zeros = zeros.get(..left).unwrap_or(zeros);
                    self.write_at(offset, zeros)?;
                    offset += zeros.len() as u64;
                }
                assert_eq!(offset, bytes, "a file is extended by whole writes");
                Ok(())
            }
            allocated => Ok(allocated?),
        }
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_lock_fails_and_names_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data/wal");
        let first = Directory::lock(&path).unwrap();
        let refused = Directory::lock(&path).unwrap_err();
        assert!(matches!(&refused, WalError::Locked { directory } if *directory == path));
        assert!(refused.to_string().contains(path.to_str().unwrap()));
        drop(first);
        Directory::lock(&path).unwrap();
    }

    #[test]
    fn files_are_created_written_renamed_and_read() {
        let directory = tempfile::tempdir().unwrap();
        let storage = Directory::lock(directory.path()).unwrap();
        let file = storage.create("a").unwrap();
        let mut block = AlignedBuffer::new(BLOCK_BYTES);
        block.as_mut_slice().fill(9);
        file.write_at(BLOCK_BYTES as u64, block.as_slice()).unwrap();
        file.sync().unwrap();
        storage.rename("a", "b").unwrap();
        storage.sync().unwrap();
        let file = storage.open("b").unwrap();
        assert_eq!(file.len().unwrap(), 2 * BLOCK_BYTES as u64);
        let mut read = AlignedBuffer::new(4 * BLOCK_BYTES);
        assert_eq!(file.read_at(0, read.as_mut_slice()).unwrap(), 2 * BLOCK_BYTES);
        assert_eq!(read.as_slice()[BLOCK_BYTES], 9);
        storage.remove("b").unwrap();
        assert_eq!(storage.names().unwrap(), [LOCK_NAME]);
    }

    #[test]
    fn a_file_system_without_direct_io_is_served_through_the_cache() {
        // /dev/shm is a tmpfs where it exists; newer kernels allow O_DIRECT there as well.
        let Ok(directory) = tempfile::tempdir_in("/dev/shm") else { return };
        let storage = Directory::lock(directory.path()).unwrap();
        storage.direct.store(false, Ordering::Relaxed);
        let file = storage.create("a").unwrap();
        file.write_at(0, &[1; BLOCK_BYTES]).unwrap();
        file.sync().unwrap();
        let mut read = vec![0; BLOCK_BYTES];
        storage.open("a").unwrap().read_at(0, &mut read).unwrap();
        assert_eq!(read, [1; BLOCK_BYTES]);
    }
}
