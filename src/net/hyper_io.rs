use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures_lite::{AsyncRead, AsyncWrite};
use glommio::net::TcpStream;
use hyper::rt::{Read, ReadBufCursor, Write};

/// Most bytes taken from the socket in one read: a request head or a small body.
const READ_BYTES: usize = 8 * 1024;

/// A glommio TCP stream as hyper reads and writes it. Remembers whether the last write was taken
/// whole, which tells whether a response may still sit in hyper's buffer.
#[derive(Debug)]
pub struct HyperIo {
    stream: TcpStream,
    write_blocked: bool,
}

impl HyperIo {
    /// Wraps a connected stream.
    pub fn new(stream: TcpStream) -> Self {
        Self { stream, write_blocked: false }
    }

    /// Whether the socket refused bytes at the last write and has not taken them since.
    pub fn write_blocked(&self) -> bool {
        self.write_blocked
    }

    /// A second descriptor of the same socket, for an owner that outlives this one.
    ///
    /// # Errors
    /// No descriptor left.
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
        let Some(free) = chunk.get_mut(..wanted) else { return Poll::Ready(Ok(())) };
        let read = ready!(Pin::new(&mut self.stream).poll_read(context, free))?;
        buffer.put_slice(chunk.get(..read).unwrap_or_default());
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
