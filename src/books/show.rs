//! A running server shows its books to whoever compares them: its orders as they are at one moment, and how
//! far the log has come. They go through a socket in the data directory, so that who may read that may
//! look, and nobody else.
//!
//! What comes through it: [`Header`], then each order behind its length, then a length of zero. The server
//! cuts nothing of the log for as long as the other side stays connected.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::BooksError;
use crate::index::{DEFAULT_CACHE_BYTES, Index, IndexError, IndexFiller};
use crate::order::{StoredOrderEncoder, StoredOrderError, decode_stored};
use crate::shutdown::Shutdown;
use crate::wal::{LogClaim, LogHandle, LogId, Lsn, WalError};

/// The socket in the data directory.
const SOCKET: &str = "books.sock";
/// Where the orders of a running server are copied to, in the data directory.
const COPY: &str = "verifying";
/// The first bytes, with the version of what follows.
const MAGIC: [u8; 8] = *b"LBBOOKS1";
const HEADER_BYTES: usize = 32;
/// Orders that are read from the index at a time.
const BATCH_ORDERS: usize = 1_000;
/// Longest order: far more than any has.
const MAX_ORDER_BYTES: u32 = 256 * 1024 * 1024;
/// How soon a stop is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Who takes the log's place again when it was cut between two looks at it.
const CLAIM_ATTEMPTS: usize = 10;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Header {
    log_id: LogId,
    /// The orders are what the log has made of them up to here.
    position: Lsn,
    /// The last record that was durable then.
    last: Lsn,
}

impl Header {
    fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields = [MAGIC, self.log_id.0.to_le_bytes(), self.position.0.to_le_bytes()];
        let fields = fields.into_iter().chain([self.last.0.to_le_bytes()]);
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        bytes
    }

    fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut fields = bytes.chunks_exact(8).filter_map(|field| field.try_into().ok());
        if fields.next() != Some(MAGIC) {
            return None;
        }
        let mut number = || fields.next().map(u64::from_le_bytes);
        Some(Self { log_id: LogId(number()?), position: Lsn(number()?), last: Lsn(number()?) })
    }
}

/// Shows the books of a running server: give it a thread `books` and call [`run`](Self::run).
#[derive(Debug)]
pub struct BooksDoor {
    listener: UnixListener,
    path: PathBuf,
    index: Index,
    log: LogHandle,
}

/// Why books are not shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error("the other side has gone")]
    Gone(#[from] io::Error),
    #[error("the index cannot be read")]
    Index(#[from] IndexError),
    #[error("an order cannot be shown")]
    Order(#[from] StoredOrderError),
    #[error("the log cannot be kept")]
    Log(#[from] WalError),
}

impl BooksDoor {
    /// Opens it. The data directory is this process's, so that a socket in it is of one that has ended.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(data_dir: &Path, index: Index, log: LogHandle) -> io::Result<Self> {
        let path = data_dir.join(SOCKET);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = in_directory(data_dir, |socket| UnixListener::bind(socket))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, index, log })
    }

    /// Shows the books to one after the other, until a stop is asked for.
    ///
    /// # Errors
    /// The socket fails.
    pub fn run(self, shutdown: &Shutdown) -> io::Result<()> {
        while !shutdown.is_requested() {
            if !is_ready(&self.listener)? {
                continue;
            }
            let stream = match self.listener.accept() {
                Ok((stream, _)) => stream,
                // It has gone again, or there are too many open files.
                Err(error) => {
                    tracing::debug!(error = &error as &dyn std::error::Error, "nobody to show to");
                    std::thread::sleep(LOOK_INTERVAL);
                    continue;
                }
            };
            if let Err(error) = self.show(stream, shutdown) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the books were not shown to the end");
            }
        }
        drop(self.listener);
        // What stays is taken away by the next start.
        let _stays = fs::remove_file(&self.path);
        Ok(())
    }

    fn show(&self, stream: UnixStream, shutdown: &Shutdown) -> Result<(), ShowError> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(LOOK_INTERVAL))?;
        stream.set_read_timeout(Some(LOOK_INTERVAL))?;
        let claim = self.claim()?;
        let shown = self.show_orders(&stream, shutdown);
        let shown = shown.and_then(|()| Ok(await_end(&stream, shutdown)?));
        claim.advance(Lsn(u64::MAX));
        shown
    }

    /// Keeps all of the log.
    fn claim(&self) -> Result<LogClaim, WalError> {
        let claim = || self.log.claim("verify", Lsn(self.log.first_lsn().0.saturating_sub(1)));
        let mut claimed = claim();
        for _ in 1..CLAIM_ATTEMPTS {
            if claimed.is_ok() {
                break;
            }
            claimed = claim();
        }
        claimed
    }

    fn show_orders(&self, stream: &UnixStream, shutdown: &Shutdown) -> Result<(), ShowError> {
        let mut out = BufWriter::new(Patient { stream, shutdown });
        let mut scan = self.index.scan_orders()?;
        // Behind the scan, which has nothing that is not durable.
        let (log_id, last) = (self.log.log_id(), self.log.committed());
        out.write_all(&Header { log_id, position: scan.position(), last }.encode())?;
        let mut encoder = StoredOrderEncoder::new();
        loop {
            let orders = scan.next_orders(BATCH_ORDERS, |_| true)?;
            if orders.is_empty() {
                break;
            }
            for order in &orders {
                let bytes = encoder.encode(order)?;
                let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
                out.write_all(&length.to_le_bytes())?;
                out.write_all(bytes)?;
            }
        }
        out.write_all(&0_u32.to_le_bytes())?;
        Ok(out.flush()?)
    }
}

/// Writes for as long as it takes, unless a stop is asked for.
struct Patient<'a> {
    stream: &'a UnixStream,
    shutdown: &'a Shutdown,
}

impl Write for Patient<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            match self.stream.write(bytes) {
                Err(error) if is_timeout(&error) && !self.shutdown.is_requested() => {}
                written => return written,
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the other side has seen enough.
fn await_end(mut stream: &UnixStream, shutdown: &Shutdown) -> io::Result<()> {
    let mut nothing = [0];
    while !shutdown.is_requested() {
        match stream.read(&mut nothing) {
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    Ok(())
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Waits a little for somebody to come.
fn is_ready(listener: &UnixListener) -> io::Result<bool> {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    let nanoseconds = i64::try_from(LOOK_INTERVAL.as_nanos()).unwrap_or_default();
    let timeout = Timespec { tv_sec: 0, tv_nsec: nanoseconds };
    match poll(&mut ready, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Names the socket of a data directory by a descriptor of that: the name of a socket is short, and the
/// path of a directory need not be.
fn in_directory<T>(data_dir: &Path, work: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    let directory = File::open(data_dir)?;
    work(&Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string()).join(SOCKET))
}

/// What a running server has shown.
#[derive(Debug)]
pub(super) struct Shown {
    /// Its log.
    pub(super) log_id: LogId,
    /// The last record that was durable.
    pub(super) last: Lsn,
    copy: Copy,
    /// For as long as it is open nothing of the log is cut.
    _stream: UnixStream,
}

impl Shown {
    /// An index of the orders.
    pub(super) fn index_directory(&self) -> PathBuf {
        self.copy.index_directory()
    }
}

/// Where the orders are copied to. Removed at the end.
#[derive(Debug)]
struct Copy {
    directory: PathBuf,
    _lock: File,
}

impl Copy {
    fn prepare(data_dir: &Path) -> io::Result<Self> {
        let directory = data_dir.join(COPY);
        fs::create_dir_all(&directory)?;
        let lock = File::create(directory.join("lock"))?;
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
        self.directory.join("index")
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        // What stays is taken away by the next comparison.
        let _stays = fs::remove_dir_all(&self.directory);
    }
}

/// Asks the server that has a data directory open for its books.
///
/// # Errors
/// [`BooksError::NotShown`]; the copy cannot be made.
pub(super) fn ask(data_dir: &Path) -> Result<Shown, BooksError> {
    let not_shown = |source| BooksError::NotShown { data_dir: data_dir.to_path_buf(), source };
    let stream = in_directory(data_dir, |socket| UnixStream::connect(socket)).map_err(not_shown)?;
    let copy = Copy::prepare(data_dir).map_err(not_shown)?;
    let mut input = BufReader::new(&stream);
    let mut header = [0; HEADER_BYTES];
    input.read_exact(&mut header).map_err(not_shown)?;
    let unknown = || io::Error::other("it is of another version");
    let Header { log_id, position, last } =
        Header::decode(&header).ok_or_else(unknown).map_err(not_shown)?;
    let mut filler = IndexFiller::create(&copy.index_directory(), DEFAULT_CACHE_BYTES)?;
    let mut bytes = Vec::new();
    while next_order(&mut input, &mut bytes).map_err(not_shown)? {
        let order = decode_stored(&bytes).map_err(IndexError::from)?;
        filler.order(&order)?;
        if let Some(id) = &order.order().external_order_id {
            filler.external(id, order.order().order_id)?;
        }
    }
    filler.finish_at(log_id, position)?;
    Ok(Shown { log_id, last, copy, _stream: stream })
}

/// Reads the next order; false behind the last.
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
    fn a_header_comes_back_and_another_one_is_refused() {
        let header = Header { log_id: LogId(7), position: Lsn(8), last: Lsn(9) };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        let mut other = header.encode();
        other[7] = b'2';
        assert_eq!(Header::decode(&other), None);
    }

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
}
