//! The client of a running server's socket: copies the orders that the server shows, within the
//! disk space that the server does not need.

use std::fs::{self, File};
use std::io::{self, BufReader, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rustix::net::{RecvFlags, recv};

use super::OfflineError;
use super::verify_socket::{HEADER_BYTES, Header, in_directory};
use crate::data_dir::DataDir;
use crate::index::{DEFAULT_CACHE_BYTES, IndexError, IndexFiller};
use crate::money::Account;
use crate::order::decode_stored;
use crate::types::UserId;
use crate::wal::{LogId, Lsn};

/// Longest order: far more than any has.
const MAX_ORDER_BYTES: u32 = 256 * 1024 * 1024;
/// How often the client signals that it is still there.
const SIGNAL_INTERVAL: Duration = Duration::from_secs(10);
/// A copy takes at most one part in this many of the free space beyond the server's reserve: log
/// and index grow meanwhile.
const FREE_PER_COPY: u64 = 4;
/// Most bytes of orders between two measurements of the copy; it takes several times as many on
/// disk.
const MEASURE_BYTES: u64 = 4 * 1024 * 1024;
/// The unit of `st_blocks`, whatever the disk's block size (stat(2)).
const BLOCK_BYTES: u64 = 512;

/// The records that a running server shows.
#[derive(Debug)]
pub(super) struct ServerRecords {
    pub(super) log_id: LogId,
    /// The last record that was durable.
    pub(super) last: Lsn,
    copy: Copy,
    /// While it is open, the server does not cut its log.
    connection: Connection,
}

impl ServerRecords {
    /// The directory of an index with the orders.
    pub(super) fn index_directory(&self) -> PathBuf {
        self.copy.index_directory()
    }

    /// Ends the use of the records.
    ///
    /// # Errors
    /// [`OfflineError::NotShown`] if the server ended it earlier: it may have cut its log.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        let Self { copy, connection, .. } = self;
        if connection.is_shown() {
            return Ok(());
        }
        let source = io::Error::other("the server stopped sending them; its log says why");
        let copied_to = copy.directory.path();
        let data_dir = copied_to.parent().unwrap_or(copied_to).to_path_buf();
        Err(OfflineError::NotShown { data_dir, source })
    }
}

/// A connection on which the client signals that it is still there.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) stream: UnixStream,
    /// Its drop ends the thread that sends the signals.
    _signals: Sender<()>,
}

impl Connection {
    pub(super) fn new(stream: UnixStream) -> io::Result<Self> {
        let mut out = stream.try_clone()?;
        let (signals, end) = channel();
        std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            while end.recv_timeout(SIGNAL_INTERVAL) == Err(RecvTimeoutError::Timeout)
                && out.write_all(&[0]).is_ok()
            {}
        })?;
        Ok(Self { stream, _signals: signals })
    }

    /// Whether the server has kept its log so far.
    pub(super) fn is_shown(&self) -> bool {
        let answer = recv(&self.stream, &mut [0], RecvFlags::DONTWAIT);
        matches!(answer, Err(rustix::io::Errno::WOULDBLOCK))
    }
}

/// The directory of the copy, removed on drop.
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
            io::Error::new(io::ErrorKind::ResourceBusy, "another comparison is running")
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
        // The next comparison removes what stays.
        let _remains = fs::remove_dir_all(self.directory.path());
    }
}

/// Asks the server that has a data directory open for its records.
///
/// # Errors
/// [`OfflineError::NotShown`]; errors of the copy.
pub(super) fn ask(data_dir: &DataDir) -> Result<ServerRecords, OfflineError> {
    let not_shown =
        |source| OfflineError::NotShown { data_dir: data_dir.path().to_path_buf(), source };
    let stream = in_directory(data_dir, |socket| UnixStream::connect(socket)).map_err(not_shown)?;
    let connection = Connection::new(stream).map_err(not_shown)?;
    let copy = Copy::prepare(data_dir).map_err(not_shown)?;
    let mut input = BufReader::new(&connection.stream);
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(not_shown)?;
    let unknown = || io::Error::other("the server has a different version");
    let Header { log_id, position, last, order_bytes, least_free_bytes } =
        Header::decode(&header).ok_or_else(unknown).map_err(not_shown)?;
    let mut budget = CopyBudget::of(&copy, least_free_bytes)?;
    budget.check(order_bytes)?;
    let mut filler = IndexFiller::create(&copy.index_directory(), DEFAULT_CACHE_BYTES)?;
    budget.measure()?;
    let mut bytes = Vec::new();
    while next_frame(&mut input, &mut bytes).map_err(not_shown)? {
        let order = decode_stored(&bytes).map_err(IndexError::from)?;
        filler.order(&order)?;
        if let Some(id) = &order.order().external_order_id {
            filler.external(id, order.order().order_id)?;
        }
        budget.take(bytes.len() as u64)?;
    }
    let mut keeps_accounts = [0];
    input.read_exact(&mut keeps_accounts).map_err(not_shown)?;
    if keeps_accounts == [1] {
        filler.keep_accounts();
    }
    while next_frame(&mut input, &mut bytes).map_err(not_shown)? {
        let name = String::from_utf8_lossy(&bytes).into_owned();
        let user = UserId::new(&name).map_err(|error| not_shown(io::Error::other(error)))?;
        next_frame(&mut input, &mut bytes).map_err(not_shown)?;
        let account = Account::from_bytes(&bytes)
            .map_err(|source| IndexError::Account { user: user.clone(), source })?;
        filler.account(&user, &account)?;
        budget.take(bytes.len() as u64)?;
    }
    filler.finish_at(log_id, position)?;
    budget.measure()?;
    Ok(ServerRecords { log_id, last, copy, connection })
}

/// The disk space that a copy may take beside a running server.
struct CopyBudget {
    directory: PathBuf,
    most_bytes: u64,
    /// Bytes of orders since the copy was last measured.
    unmeasured_bytes: u64,
}

impl CopyBudget {
    fn of(copy: &Copy, least_free_bytes: u64) -> Result<Self, OfflineError> {
        let directory = copy.directory.path().to_path_buf();
        let disk = rustix::fs::statvfs(&directory).map_err(|error| OfflineError::Io {
            action: "measure the free space of",
            path: directory.clone(),
            source: error.into(),
        })?;
        let most_bytes = most_copied((disk.f_bavail * disk.f_frsize, least_free_bytes));
        Ok(Self { directory, most_bytes, unmeasured_bytes: 0 })
    }

    /// Refuses a copy that takes more than it may.
    fn check(&self, copied_bytes: u64) -> Result<(), OfflineError> {
        if self.most_bytes > 0 && copied_bytes <= self.most_bytes {
            return Ok(());
        }
        let (directory, most_bytes) = (self.directory.clone(), self.most_bytes);
        Err(OfflineError::NoRoom { directory, most_bytes })
    }

    /// Counts the bytes of another order.
    fn take(&mut self, order_bytes: u64) -> Result<(), OfflineError> {
        self.unmeasured_bytes += order_bytes;
        if self.unmeasured_bytes < MEASURE_BYTES.min(self.most_bytes / FREE_PER_COPY) {
            return Ok(());
        }
        self.measure()
    }

    /// Measures the copy.
    fn measure(&mut self) -> Result<(), OfflineError> {
        self.unmeasured_bytes = 0;
        let taken = disk_bytes(&self.directory).map_err(|source| OfflineError::Io {
            action: "measure",
            path: self.directory.clone(),
            source,
        })?;
        self.check(taken)
    }
}

/// Most bytes of a copy, given the free space and the part of it that the server needs.
fn most_copied((free_bytes, least_free_bytes): (u64, u64)) -> u64 {
    free_bytes.saturating_sub(least_free_bytes) / FREE_PER_COPY
}

/// Bytes that a directory takes on disk. Files may come and go meanwhile.
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

/// Reads the next bytes of a known length, as of an order; false after the last.
fn next_frame(input: &mut impl Read, bytes: &mut Vec<u8>) -> io::Result<bool> {
    let mut length = [0; 4];
    input.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > MAX_ORDER_BYTES {
        return Err(io::Error::other(format!("an order or account of {length} bytes")));
    }
    bytes.clear();
    input.take(length.into()).read_to_end(bytes)?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(length > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn truncated_orders_are_an_error() {
        let mut bytes = Vec::new();
        let mut input = &b"\x02\0\0\0ab\0\0\0\0"[..];
        assert!(next_frame(&mut input, &mut bytes).unwrap());
        assert_eq!(bytes, b"ab");
        assert!(!next_frame(&mut input, &mut bytes).unwrap());
        for short in [&b"\x02\0\0\0a"[..], b"\x02\0", b"\xff\xff\xff\xff", b""] {
            assert!(next_frame(&mut &short[..], &mut bytes).is_err(), "{short:?}");
        }
    }

    #[test]
    fn a_copy_takes_at_most_a_quarter_of_the_free_space_beyond_the_reserve() {
        assert_eq!(most_copied((1_400, 1_000)), 100);
        assert_eq!(most_copied((1_000, 1_000)), 0);
        assert_eq!(most_copied((0, 1_000)), 0);
        let folder = tempfile::tempdir().unwrap();
        let of = |most_bytes| CopyBudget {
            directory: folder.path().to_path_buf(),
            most_bytes,
            unmeasured_bytes: 0,
        };
        let refused = |checked: Result<(), OfflineError>| {
            let error = checked.unwrap_err().to_string();
            assert!(error.contains("make room, or stop the server first"), "{error}");
        };
        assert!(of(100 << 10).check(100 << 10).is_ok());
        refused(of(100 << 10).check((100 << 10) + 1));
        refused(of(0).check(0));
        // Only bytes on disk count.
        let mut budget = of(100 << 10);
        fs::create_dir(folder.path().join("index")).unwrap();
        fs::write(folder.path().join("index/one"), vec![1; 90 << 10]).unwrap();
        assert!(budget.take(30 << 10).is_ok());
        fs::write(folder.path().join("two"), vec![1; 90 << 10]).unwrap();
        assert!(budget.take(1).is_ok(), "not measured each time");
        refused(budget.take(30 << 10));
    }
}
