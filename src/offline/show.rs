//! A running server shows its records to whoever compares them: its orders as they are at one moment, and how
//! far the log has come. They go through a socket in the data directory, so that who may read that may
//! look, and nobody else.
//!
//! What comes through it: [`Header`], then each order behind its length, then a length of zero. The server
//! cuts nothing of the log for as long as the other side takes orders, and then gives a byte every few
//! seconds; and no longer than there is room for new ones.

use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::data_dir::DataDir;
use crate::index::{Index, IndexError};
use crate::order::{StoredOrderEncoder, StoredOrderError};
use crate::shutdown::Shutdown;
use crate::wal::{LogClaim, LogHandle, LogId, Lsn, WalError};

/// The first bytes, with the version of what follows.
const MAGIC: [u8; 8] = *b"LBBOOKS2";
pub(super) const HEADER_BYTES: usize = 48;
/// Orders that are read from the index at a time.
const BATCH_ORDERS: usize = 1_000;
/// How soon a stop is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// How long the log is kept for somebody who takes nothing and says nothing.
const PATIENCE: Duration = Duration::from_secs(60);
/// Who takes the log's place again when it was cut between two looks at it.
const CLAIM_ATTEMPTS: usize = 10;

/// What comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: LogId,
    /// The orders are what the log has made of them up to here.
    pub(super) position: Lsn,
    /// The last record that was durable then.
    pub(super) last: Lsn,
    /// About how much the orders take of the disk.
    pub(super) order_bytes: u64,
    /// What has to stay free on the disk, or new orders are refused.
    pub(super) least_free_bytes: u64,
}

impl Header {
    pub(super) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        let fields = [MAGIC, self.log_id.0.to_le_bytes(), self.position.0.to_le_bytes()];
        let more = [self.last.0, self.order_bytes, self.least_free_bytes].map(u64::to_le_bytes);
        let fields = fields.into_iter().chain(more);
        for (place, field) in bytes.chunks_exact_mut(8).zip(fields) {
            place.copy_from_slice(&field);
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; HEADER_BYTES]) -> Option<Self> {
        let mut fields = bytes.chunks_exact(8).filter_map(|field| field.try_into().ok());
        if fields.next() != Some(MAGIC) {
            return None;
        }
        let mut number = || fields.next().map(u64::from_le_bytes);
        Some(Self {
            log_id: LogId(number()?),
            position: Lsn(number()?),
            last: Lsn(number()?),
            order_bytes: number()?,
            least_free_bytes: number()?,
        })
    }
}

/// Shows the records of a running server: give it a thread `offline` and call [`run`](Self::run).
#[derive(Debug)]
pub struct VerifySocket {
    listener: UnixListener,
    path: PathBuf,
    index: Index,
    log: LogHandle,
}

/// Why records are not shown.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error("the look has ended early")]
    Ended(#[from] io::Error),
    #[error("the index cannot be read")]
    Index(#[from] IndexError),
    #[error("an order cannot be shown")]
    Order(#[from] StoredOrderError),
    #[error("the log cannot be kept")]
    Log(#[from] WalError),
}

impl VerifySocket {
    /// Opens it. The data directory is this process's, so that a socket in it is of one that has ended.
    ///
    /// # Errors
    /// The socket cannot be made.
    pub fn open(data_dir: &DataDir, index: Index, log: LogHandle) -> io::Result<Self> {
        let path = data_dir.verify_socket();
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = in_directory(data_dir, |socket| UnixListener::bind(socket))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, path, index, log })
    }

    /// Shows the records to one after the other, until a stop is asked for.
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
                tracing::warn!(error, "the records were not shown to the end");
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
        let is_short = || self.log.room().trouble.is_some();
        let mut patience = Patience::new(shutdown, &is_short, PATIENCE);
        let shown = self.show_orders(&stream, &mut patience);
        let shown = shown.and_then(|()| Ok(await_end(&stream, patience)?));
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

    fn show_orders(
        &self,
        mut stream: &UnixStream,
        patience: &mut Patience<'_>,
    ) -> Result<(), ShowError> {
        let mut scan = self.index.scan_orders()?;
        // Behind the scan, which has nothing that is not durable.
        let (log_id, last) = (self.log.log_id(), self.log.committed());
        let header = Header {
            log_id,
            position: scan.position(),
            last,
            order_bytes: self.index.order_bytes()?,
            least_free_bytes: self.log.room().least_free_bytes,
        };
        // Before anything else, so that the other side can say that there is no room.
        stream.write_all(&header.encode())?;
        let mut out = BufWriter::new(Patient { stream, patience });
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

/// How long the records are shown to somebody.
struct Patience<'a> {
    shutdown: &'a Shutdown,
    /// Whether new orders are refused for want of room: the log that is kept may be why.
    is_short: &'a dyn Fn() -> bool,
    most: Duration,
    heard_at: Instant,
}

impl<'a> Patience<'a> {
    fn new(shutdown: &'a Shutdown, is_short: &'a dyn Fn() -> bool, most: Duration) -> Self {
        Self { shutdown, is_short, most, heard_at: Instant::now() }
    }

    /// The other side is there.
    fn hear(&mut self) {
        self.heard_at = Instant::now();
    }

    /// Whether to wait for it once more.
    fn check(&self) -> io::Result<()> {
        let why = if self.shutdown.is_requested() {
            "the server stops"
        } else if (self.is_short)() {
            "the log needs the room that it takes"
        } else if self.heard_at.elapsed() >= self.most {
            "nothing was heard of it for too long"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

/// Writes for as long as the other side takes something.
struct Patient<'a, 'b> {
    stream: &'a UnixStream,
    patience: &'a mut Patience<'b>,
}

impl Write for Patient<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.patience.check()?;
            match self.stream.write(bytes) {
                Err(error) if is_timeout(&error) => {}
                written => {
                    self.patience.hear();
                    return written;
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the other side has seen enough.
fn await_end(mut stream: &UnixStream, mut patience: Patience<'_>) -> io::Result<()> {
    let mut sign = [0];
    patience.hear();
    loop {
        patience.check()?;
        match stream.read(&mut sign) {
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok(()),
            Ok(_) => patience.hear(),
        }
    }
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
pub(super) fn in_directory<T>(
    data_dir: &DataDir,
    work: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let directory = File::open(data_dir.path())?;
    let descriptor = Path::new("/proc/self/fd").join(directory.as_raw_fd().to_string());
    work(&DataDir::from(descriptor).verify_socket())
}

#[cfg(test)]
mod tests {
    use super::super::look::Look;
    use super::*;

    #[test]
    fn a_header_comes_back_and_another_one_is_refused() {
        let header = Header {
            log_id: LogId(7),
            position: Lsn(8),
            last: Lsn(9),
            order_bytes: 10,
            least_free_bytes: 11,
        };
        assert_eq!(Header::decode(&header.encode()), Some(header));
        let mut other = header.encode();
        other[7] = b'1';
        assert_eq!(Header::decode(&other), None);
    }

    /// Two ends as a server and somebody who looks have them.
    fn ends() -> (UnixStream, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        own.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        own.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        (own, other)
    }

    const LITTLE: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn who_takes_nothing_or_says_nothing_is_left() {
        let shutdown = Shutdown::new();
        let (own, _full) = ends();
        let mut patience = Patience::new(&shutdown, &|| false, LITTLE);
        let everything =
            io::copy(&mut io::repeat(7), &mut Patient { stream: &own, patience: &mut patience });
        assert!(everything.unwrap_err().to_string().contains("nothing was heard"));
        let (own, other) = ends();
        let silent = await_end(&own, Patience::new(&shutdown, &|| false, LITTLE));
        assert!(silent.unwrap_err().to_string().contains("nothing was heard"));
        // The end is one, and signs come before it.
        let look = Look::new(other).unwrap();
        assert!(look.is_shown(), "{look:?}");
        (&look.stream).write_all(&[0]).unwrap();
        drop(look);
        assert!(await_end(&own, Patience::new(&shutdown, &|| false, LONG)).is_ok());
    }

    #[test]
    fn nobody_is_shown_anything_while_the_log_needs_the_room() {
        let (shutdown, (own, other)) = (Shutdown::new(), ends());
        let look = Look::new(other).unwrap();
        let mut patience = Patience::new(&shutdown, &|| true, LONG);
        let mut out = Patient { stream: &own, patience: &mut patience };
        assert!(out.write(&[1]).unwrap_err().to_string().contains("the room"));
        assert!(await_end(&own, patience).unwrap_err().to_string().contains("the room"));
        assert!(look.is_shown());
        drop(own);
        assert!(!look.is_shown());
    }
}
