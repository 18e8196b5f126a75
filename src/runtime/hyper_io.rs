//! A glommio TCP stream behind hyper's I/O traits.

use std::cell::Cell;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use std::time::Instant;

use futures_lite::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use glommio::net::TcpStream;
use hyper::rt::{Read, ReadBufCursor, Write};
use rustix::net::{RecvFlags, recv};
use socket2::{SockRef, TcpKeepalive};

/// Most bytes taken from the socket in one read: a request head or a small body.
const READ_BYTES: usize = 8 * 1024;

/// Most bytes discarded per read.
const DISCARD_BYTES: usize = 64 * 1024;

/// When the first byte of the current request was read. Shared with its [`HyperIo`].
#[derive(Debug, Clone, Default)]
pub struct FirstRead(Rc<Cell<Option<Instant>>>);

impl FirstRead {
    /// The time of the first byte; `None` if none has arrived.
    pub fn get(&self) -> Option<Instant> {
        self.0.get()
    }

    /// Starts over: the next byte is the first.
    pub fn forget(&self) {
        self.0.set(None);
    }
}

/// A glommio TCP stream with hyper's I/O traits. Remembers whether the last write was complete,
/// which tells whether a response may still be in hyper's buffer.
#[derive(Debug)]
pub struct HyperIo {
    stream: TcpStream,
    write_blocked: bool,
    first_read: FirstRead,
}

impl HyperIo {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, write_blocked: false, first_read: FirstRead::default() }
    }

    /// Whether the last write was incomplete: the socket is full, or failed.
    pub fn write_blocked(&self) -> bool {
        self.write_blocked
    }

    /// When the peer began the request that is not answered yet, for its deadline.
    pub fn first_read(&self) -> FirstRead {
        self.first_read.clone()
    }

    /// Reads and discards, up to the end or `most_bytes`.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn discard(&mut self, most_bytes: usize) -> io::Result<()> {
        let mut chunk = vec![0; DISCARD_BYTES];
        let mut discarded = 0;
        while discarded < most_bytes {
            match self.stream.read(&mut chunk).await? {
                0 => break,
                read => discarded += read,
            }
        }
        Ok(())
    }

    /// Waits until the peer shuts down its side or is gone. What it sends until then is discarded.
    pub async fn ended(&mut self) {
        let mut chunk = [0; 64];
        while matches!(self.stream.read(&mut chunk).await, Ok(1..)) {}
    }

    /// Sends all of these bytes.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn send_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Shuts down this side.
    pub async fn end(&mut self) {
        // Fails only if the peer has closed already.
        let _closed = self.stream.close().await;
    }

    /// Whether the peer has shut down its side, and everything before that was read.
    pub fn has_ended(&self) -> bool {
        let mut byte = [0; 1];
        let flags = RecvFlags::PEEK | RecvFlags::DONTWAIT;
        // SAFETY: the descriptor stays open for as long as `self.stream`, which outlives the borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        matches!(rustix::io::retry_on_intr(|| recv(socket, &mut byte, flags)), Ok((0, _)))
    }

    /// Breaks the connection once sent bytes have been unacknowledged for this long: the network
    /// between the two hosts is cut. After as much silence the peer's host is asked whether it still has
    /// the connection.
    ///
    /// # Errors
    /// The connection broke.
    pub fn limit_unacknowledged(&self, limit: Duration) -> io::Result<()> {
        // SAFETY: the descriptor stays open for as long as `self.stream`, which outlives the borrow.
        let socket = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        let socket = SockRef::from(&socket);
        socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(limit).with_interval(limit))?;
        socket.set_tcp_user_timeout(Some(limit))
    }

    /// A second descriptor of the same socket, for an owner that outlives this one.
    ///
    /// # Errors
    /// The process has no free descriptor.
    pub fn duplicate(&self) -> io::Result<std::os::fd::OwnedFd> {
        // SAFETY: the descriptor stays open for as long as `self.stream`, which outlives the borrow.
        let borrowed = unsafe { BorrowedFd::borrow_raw(self.stream.as_raw_fd()) };
        borrowed.try_clone_to_owned()
    }
}

impl Read for HyperIo {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        mut buffer: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        let wanted = buffer.remaining().min(READ_BYTES);
        let mut chunk = [0_u8; READ_BYTES];
        let (free, _) = chunk.split_at_mut(wanted);
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, free))?;
        let (read, _) = chunk.split_at(read);
        // Line ends before a request are not part of it (RFC 9112, section 2.2).
        if self.first_read.0.get().is_none() && read.iter().any(|b| !matches!(b, b'\r' | b'\n')) {
            self.first_read.0.set(Some(Instant::now()));
        }
        buffer.put_slice(read);
        Poll::Ready(Ok(()))
    }
}

impl Write for HyperIo {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.write_blocked = match &outcome {
            Poll::Ready(Ok(written)) => *written < bytes.len(),
            Poll::Ready(Err(_)) | Poll::Pending => true,
        };
        outcome
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_close(context)
    }
}
