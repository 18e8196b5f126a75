//! The other end of a look at a running server's records: its orders are copied as it shows them, within the
//! room that it does not need.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use super::OfflineError;
use super::show::{HEADER_BYTES, Header, in_directory};
use crate::data_dir::DataDir;
use crate::index::{DEFAULT_CACHE_BYTES, IndexError, IndexFiller};
use crate::order::decode_stored;
use crate::wal::{LogId, Lsn};

/// Longest order: far more than any has.
const MAX_ORDER_BYTES: u32 = 256 * 1024 * 1024;
/// How often who looks says that it still does.
const SIGN_INTERVAL: Duration = Duration::from_secs(10);
/// A copy takes no more than this part of what is free beyond the server's reserve: the log and the index
/// grow meanwhile.
const FREE_PER_COPY: u64 = 4;
/// Bytes of orders between two looks at how much a copy has taken, at most: several times as many come to
/// the disk.
const ROOM_LOOK_BYTES: u64 = 4 * 1024 * 1024;
/// In which the system counts what files take, whatever the disk does (stat(2), `st_blocks`).
const BLOCK_BYTES: u64 = 512;

/// What a running server has shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// Its log.
    pub(super) log_id: LogId,
    /// The last record that was durable.
    pub(super) last: Lsn,
    copy: Copy,
    /// For as long as it is open nothing of the log is cut.
    look: Look,
}

impl Shown {
    /// An index of the orders.
    pub(super) fn index_directory(&self) -> PathBuf {
        self.copy.index_directory()
    }

    /// Ends the look.
    ///
    /// # Errors
    /// [`OfflineError::NotShown`] where the server has ended it before: it may have cut its log.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        let Self { copy, look, .. } = self;
        if look.is_shown() {
            return Ok(());
        }
        let source = io::Error::other("it no longer does: its log says why");
        let copied_to = copy.directory.path();
        let data_dir = copied_to.parent().unwrap_or(copied_to).to_path_buf();
        Err(OfflineError::NotShown { data_dir, source })
    }
}

/// A connection through which the other side hears that somebody still looks.
#[derive(Debug)]
pub(super) struct Look {
    pub(super) stream: UnixStream,
    /// The thread that says so ends with it.
    _signs: Sender<()>,
}

impl Look {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let mut out = stream.try_clone()?;
        let (signs, end) = channel();
        std::thread::Builder::new().name("look".to_owned()).spawn(move || {
            while end.recv_timeout(SIGN_INTERVAL) == Err(RecvTimeoutError::Timeout)
                && out.write_all(&[0]).is_ok()
            {}
        })?;
        Ok(Self { stream, _signs: signs })
    }

    /// Whether the other side has kept its log all the time.
    pub(super) fn is_shown(&self) -> bool {
        let answer = recv(&self.stream, &mut [0], RecvFlags::DONTWAIT);
        matches!(answer, Err(rustix::io::Errno::WOULDBLOCK))
    }
}

/// Where the orders are copied to. Removed at the end.
#[derive(Debug)]
struct Copy {
    directory: DataDir,
    _lock: File,
}

impl Copy {
    fn prepare(data_dir: &DataDir) -> io::Result<Self> {
        let directory = data_dir.verifying();
        fs::create_dir_all(directory.path())?;
        let lock = File::create(directory.fill_lock())?;
        lock.try_lock().map_err(|_| {
            io::Error::new(io::ErrorKind::ResourceBusy, "another comparison is at work")
        })?;
        let copy = Self { directory, _lock: lock };
        match fs::remove_dir_all(copy.index_directory()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(copy),
        }
    }

    fn index_directory(&self) -> PathBuf {
        self.directory.index()
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays is taken away by the next comparison.
        let _stays = fs::remove_dir_all(self.directory.path());
    }
}

/// Asks the server that has a data directory open for its records.
///
/// # Errors
/// [`OfflineError::NotShown`]; the copy cannot be made.
pub(super) fn ask(data_dir: &DataDir) -> Result<Shown, OfflineError> {
    let not_shown =
        |source| OfflineError::NotShown { data_dir: data_dir.path().to_path_buf(), source };
    let stream = in_directory(data_dir, |socket| UnixStream::connect(socket)).map_err(not_shown)?;
    let look = Look::new(stream).map_err(not_shown)?;
    let copy = Copy::prepare(data_dir).map_err(not_shown)?;
    let mut input = BufReader::new(&look.stream);
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(not_shown)?;
    let unknown = || io::Error::other("it is of another version");
    let Header { log_id, position, last, order_bytes, least_free_bytes } =
        Header::decode(&header).ok_or_else(unknown).map_err(not_shown)?;
    let mut room = CopyRoom::of(&copy, least_free_bytes)?;
    room.check(order_bytes)?;
    let mut filler = IndexFiller::create(&copy.index_directory(), DEFAULT_CACHE_BYTES)?;
    room.look()?;
    let mut bytes = Vec::new();
    while next_order(&mut input, &mut bytes).map_err(not_shown)? {
        let order = decode_stored(&bytes).map_err(IndexError::from)?;
        filler.order(&order)?;
        if let Some(id) = &order.order().external_order_id {
            filler.external(id, order.order().order_id)?;
        }
        room.take(bytes.len() as u64)?;
    }
    filler.finish_at(log_id, position)?;
    room.look()?;
    Ok(Shown { log_id, last, copy, look })
}

/// How much a copy may take beside a running server.
struct CopyRoom {
    directory: PathBuf,
    most_bytes: u64,
    /// Bytes of orders since the last look at what it has taken.
    unseen_bytes: u64,
}

impl CopyRoom {
    fn of(copy: &Copy, least_free_bytes: u64) -> Result<Self, OfflineError> {
        let directory = copy.directory.path().to_path_buf();
        let disk = rustix::fs::statvfs(&directory).map_err(|error| OfflineError::Io {
            action: "look for room in",
            path: directory.clone(),
            source: error.into(),
        })?;
        let most_bytes = most_copied((disk.f_bavail * disk.f_frsize, least_free_bytes));
        Ok(Self { directory, most_bytes, unseen_bytes: 0 })
    }

    /// Refuses a copy of more bytes than it may have.
    fn check(&self, copied_bytes: u64) -> Result<(), OfflineError> {
        if self.most_bytes > 0 && copied_bytes <= self.most_bytes {
            return Ok(());
        }
        let (directory, most_bytes) = (self.directory.clone(), self.most_bytes);
        Err(OfflineError::NoRoom { directory, most_bytes })
    }

    /// Takes note of so many bytes of orders more.
    fn take(&mut self, order_bytes: u64) -> Result<(), OfflineError> {
        self.unseen_bytes += order_bytes;
        if self.unseen_bytes < ROOM_LOOK_BYTES.min(self.most_bytes / FREE_PER_COPY) {
            return Ok(());
        }
        self.look()
    }

    /// Looks at what the copy has taken.
    fn look(&mut self) -> Result<(), OfflineError> {
        self.unseen_bytes = 0;
        let taken = disk_bytes(&self.directory).map_err(|source| OfflineError::Io {
            action: "look for room in",
            path: self.directory.clone(),
            source,
        })?;
        self.check(taken)
    }
}

/// What a copy may take of so much free room, of which so much is another's.
fn most_copied((free_bytes, least_free_bytes): (u64, u64)) -> u64 {
    free_bytes.saturating_sub(least_free_bytes) / FREE_PER_COPY
}

/// What a directory takes of its disk. Files in it may come and go.
fn disk_bytes(directory: &Path) -> io::Result<u64> {
    let mut bytes = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let taken = match entry.metadata() {
            Ok(found) if found.is_dir() => disk_bytes(&entry.path()),
            found => found.map(|found| found.blocks() * BLOCK_BYTES),
        };
        bytes += match taken {
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            taken => taken?,
        };
    }
    Ok(bytes)
}

/// Reads the next order; false after the last.
fn next_order(input: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ORDER_BYTES {
        return Err(io::Error::other(format!("an order of {length} bytes")));
    }
    bytes.clear();
    input.take(length.into()).read_to_end(bytes)?;
    if bytes.len() != usize::try_from(length).unwrap_or_default() {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_are_cut_short_are_an_error() {
        let mut bytes = Vec::new();
        let mut input = &b"\x02\0\0\0ab\0\0\0\0"[..];
        assert!(next_order(&mut input, &mut bytes).unwrap());
        assert_eq!(bytes, b"ab");
        assert!(!next_order(&mut input, &mut bytes).unwrap());
        for short in [&b"\x02\0\0\0a"[..], b"\x02\0", b"\xff\xff\xff\xff", b""] {
            assert!(next_order(&mut &short[..], &mut bytes).is_err(), "{short:?}");
        }
    }

    #[test]
    fn a_copy_takes_a_quarter_of_what_is_free_beyond_the_reserve() {
        assert_eq!(most_copied((1_400, 1_000)), 100);
        assert_eq!(most_copied((1_000, 1_000)), 0);
        assert_eq!(most_copied((0, 1_000)), 0);
        let folder = tempfile::tempdir().unwrap();
        let of = |most_bytes| CopyRoom {
            directory: folder.path().to_path_buf(),
            most_bytes,
            unseen_bytes: 0,
        };
        let refused = |checked: Result<(), OfflineError>| {
            let error = checked.unwrap_err().to_string();
            assert!(error.contains("make room, or stop the server first"), "{error}");
        };
        assert!(of(100 << 10).check(100 << 10).is_ok());
        refused(of(100 << 10).check((100 << 10) + 1));
        refused(of(0).check(0));
        // What comes to the disk counts, not what it was made of.
        let mut room = of(100 << 10);
        fs::create_dir(folder.path().join("index")).unwrap();
        fs::write(folder.path().join("index/one"), vec![1; 90 << 10]).unwrap();
        assert!(room.take(30 << 10).is_ok());
        fs::write(folder.path().join("two"), vec![1; 90 << 10]).unwrap();
        assert!(room.take(1).is_ok(), "not looked at each time");
        refused(room.take(30 << 10));
    }
}
