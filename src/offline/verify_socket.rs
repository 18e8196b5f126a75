//! Shows the records of a running server to `longbow verify`: its orders at one moment, and the end
//! of its log. The socket is in the data directory, so only users who may read that directory can
//! open it.
//!
//! The protocol: a [`Header`], then each order after its length, then a length of zero. The server
//! keeps its whole log as long as the client reads orders and afterwards sends a byte every few
//! seconds, unless the room for new orders runs out.

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
use crate::types::UserPartition;
use crate::wal::{LogClaim, LogHandle, LogId, Lsn, WalError};

/// The first bytes, with the version of the protocol.
const MAGIC: [u8; 8] = *b"LBBOOKS3";
pub(super) const HEADER_BYTES: usize = 48;
/// Orders read from the index at a time.
const BATCH_ORDERS: usize = 1_000;
/// How soon a stop is noticed.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// How long the log is kept for a client that takes nothing and sends nothing.
const LEASE_TIMEOUT: Duration = Duration::from_secs(60);
/// Attempts to claim the log, which may be cut between finding its beginning and claiming it.
const CLAIM_ATTEMPTS: usize = 10;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) log_id: LogId,
    /// The orders are as the log left them here.
    pub(super) position: Lsn,
    /// The last record that was durable.
    pub(super) last: Lsn,
    /// Bytes of the orders on disk, approximately.
    pub(super) order_bytes: u64,
    /// Bytes that must stay free on the disk, or new orders are refused.
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

/// Shows the records of a running server. Run [`run`](Self::run) on the thread `offline`.
#[derive(Debug)]
pub struct VerifySocket {
    listener: UnixListener,
    path: PathBuf,
    index: Index,
    log: LogHandle,
}

/// Why records are not shown to the end.
#[derive(Debug, thiserror::Error)]
enum ShowError {
    #[error("the connection ended early")]
    Ended(#[from] io::Error),
    #[error("the index cannot be read")]
    Index(#[from] IndexError),
    #[error("an order cannot be shown")]
    Order(#[from] StoredOrderError),
    #[error("the log cannot be claimed")]
    Log(#[from] WalError),
}

impl VerifySocket {
    /// Opens the socket. The data directory belongs to this process, so an existing socket is left
    /// over from an earlier one.
    ///
    /// # Errors
    /// The socket cannot be created.
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

    /// Serves one client after the other until a stop is requested.
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
                // The client is gone already, or too many files are open.
                Err(error) => {
                    tracing::debug!(
                        error = &error as &dyn std::error::Error,
                        "cannot accept a client"
                    );
                    std::thread::sleep(POLL_INTERVAL);
                    continue;
                }
            };
            if let Err(error) = self.show(stream, shutdown) {
                let error: &dyn std::error::Error = &error;
                tracing::warn!(error, "the comparison of a client was cut short");
            }
        }
        drop(self.listener);
        // The next start removes what stays.
        let _remains = fs::remove_file(&self.path);
        Ok(())
    }

    fn show(&self, stream: UnixStream, shutdown: &Shutdown) -> Result<(), ShowError> {
        stream.set_nonblocking(false)?;
        stream.set_write_timeout(Some(POLL_INTERVAL))?;
        stream.set_read_timeout(Some(POLL_INTERVAL))?;
        let claim = self.claim()?;
        let is_short = || self.log.room().trouble.is_some();
        let mut lease = Lease::new(shutdown, &is_short, LEASE_TIMEOUT);
        let shown = self.show_orders(&stream, &mut lease);
        let shown = shown.and_then(|()| Ok(await_end(&stream, lease)?));
        claim.advance(Lsn(u64::MAX));
        shown
    }

    /// Claims all of the log.
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

    fn show_orders(&self, mut stream: &UnixStream, lease: &mut Lease<'_>) -> Result<(), ShowError> {
        let mut scan = self.index.scan_orders()?;
        // After the scan, which holds only durable records.
        let (log_id, last) = (self.log.log_id(), self.log.committed());
        let header = Header {
            log_id,
            position: scan.position(),
            last,
            order_bytes: self.index.order_bytes()?,
            least_free_bytes: self.log.room().least_free_bytes,
        };
        // First of all, so that the client can refuse for lack of room.
        stream.write_all(&header.encode())?;
        let mut out = BufWriter::new(LeasedWriter { stream, lease });
        let mut encoder = StoredOrderEncoder::new();
        loop {
            let orders = scan.next_orders(BATCH_ORDERS, |_| true)?;
            if orders.is_empty() {
                break;
            }
            for order in &orders {
                let bytes = encoder.encode(order)?;
                write_frame(&mut out, bytes)?;
            }
        }
        out.write_all(&0_u32.to_le_bytes())?;
        out.write_all(&[u8::from(scan.keeps_accounts()?)])?;
        for partition in UserPartition::all() {
            let mut accounts = Vec::new();
            scan.load_accounts(partition, &mut |user, account| accounts.push((user, account)))?;
            for (user, account) in accounts {
                write_frame(&mut out, user.as_str().as_bytes())?;
                write_frame(&mut out, &account.to_bytes())?;
            }
        }
        out.write_all(&0_u32.to_le_bytes())?;
        Ok(out.flush()?)
    }
}

fn write_frame(out: &mut impl Write, bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    out.write_all(&length.to_le_bytes())?;
    out.write_all(bytes)
}

/// How long the records are shown to a client.
struct Lease<'a> {
    shutdown: &'a Shutdown,
    /// Whether new orders are refused for lack of room: the kept log may be the cause.
    is_short: &'a dyn Fn() -> bool,
    most: Duration,
    renewed_at: Instant,
}

impl<'a> Lease<'a> {
    fn new(shutdown: &'a Shutdown, is_short: &'a dyn Fn() -> bool, most: Duration) -> Self {
        Self { shutdown, is_short, most, renewed_at: Instant::now() }
    }

    /// Renews the lease: the client is there.
    fn renew(&mut self) {
        self.renewed_at = Instant::now();
    }

    /// Checks whether the lease still holds.
    fn check(&self) -> io::Result<()> {
        let why = if self.shutdown.is_requested() {
            "the server is stopping"
        } else if (self.is_short)() {
            "the log needs the space"
        } else if self.renewed_at.elapsed() >= self.most {
            "the client was silent for too long"
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::ConnectionAborted, why))
    }
}

/// Writes as long as the lease holds.
struct LeasedWriter<'a, 'b> {
    stream: &'a UnixStream,
    lease: &'a mut Lease<'b>,
}

impl Write for LeasedWriter<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        loop {
            self.lease.check()?;
            match self.stream.write(bytes) {
                Err(error) if is_timeout(&error) => {}
                written => {
                    self.lease.renew();
                    return written;
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the client is done.
fn await_end(mut stream: &UnixStream, mut lease: Lease<'_>) -> io::Result<()> {
    let mut signal = [0];
    lease.renew();
    loop {
        lease.check()?;
        match stream.read(&mut signal) {
            Err(error) if is_timeout(&error) => {}
            Err(error) => return Err(error),
            Ok(0) => return Ok(()),
            Ok(_) => lease.renew(),
        }
    }
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// Waits a little for a client.
fn is_ready(listener: &UnixListener) -> io::Result<bool> {
    let mut ready = [PollFd::new(listener, PollFlags::IN)];
    const _: () = assert!(POLL_INTERVAL.as_secs() == 0, "the interval is given in nanoseconds");
    let timeout = Timespec { tv_sec: 0, tv_nsec: POLL_INTERVAL.subsec_nanos().into() };
    match poll(&mut ready, Some(&timeout)) {
        Ok(count) => Ok(count > 0),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Names the socket by a descriptor of its directory: the name of a socket is limited to about a
/// hundred bytes, the path of a directory is not.
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
    use super::super::verify_client::Connection;
    use super::*;

    #[test]
    fn a_header_round_trips_and_another_version_is_refused() {
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

    /// The two ends of a connection, the first one as a server has it.
    fn ends() -> (UnixStream, UnixStream) {
        let (own, other) = UnixStream::pair().unwrap();
        own.set_write_timeout(Some(Duration::from_millis(10))).unwrap();
        own.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
        (own, other)
    }

    const LITTLE: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(600);

    #[test]
    fn a_client_that_takes_nothing_or_sends_nothing_is_dropped() {
        let shutdown = Shutdown::new();
        let (own, _full) = ends();
        let mut lease = Lease::new(&shutdown, &|| false, LITTLE);
        let everything =
            io::copy(&mut io::repeat(7), &mut LeasedWriter { stream: &own, lease: &mut lease });
        assert!(everything.unwrap_err().to_string().contains("was silent"));
        let (own, other) = ends();
        let silent = await_end(&own, Lease::new(&shutdown, &|| false, LITTLE));
        assert!(silent.unwrap_err().to_string().contains("was silent"));
        // Closing the connection ends it without an error, also after signals.
        let verify_client = Connection::new(other).unwrap();
        assert!(verify_client.is_shown(), "{verify_client:?}");
        (&verify_client.stream).write_all(&[0]).unwrap();
        drop(verify_client);
        assert!(await_end(&own, Lease::new(&shutdown, &|| false, LONG)).is_ok());
    }

    #[test]
    fn nothing_is_shown_while_the_log_needs_the_room() {
        let (shutdown, (own, other)) = (Shutdown::new(), ends());
        let verify_client = Connection::new(other).unwrap();
        let mut lease = Lease::new(&shutdown, &|| true, LONG);
        let mut out = LeasedWriter { stream: &own, lease: &mut lease };
        assert!(out.write(&[1]).unwrap_err().to_string().contains("the space"));
        assert!(await_end(&own, lease).unwrap_err().to_string().contains("the space"));
        assert!(verify_client.is_shown());
        drop(own);
        assert!(!verify_client.is_shown());
    }
}
