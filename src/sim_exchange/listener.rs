//! The exchange's listener: bounds the number of connections and sets their socket options.

use std::fmt;
use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at a time; further ones wait in the backlog.
const MAX_CONNECTIONS: usize = 512;
/// How long a peer may leave sent bytes unacknowledged, or its window shut, before the kernel
/// closes the connection: otherwise a feed reader that never reads would hold it forever.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

/// A listener that accepts only while there is room.
pub(super) struct BoundedListener {
    inner: TcpListener,
    room: Arc<Semaphore>,
}

impl BoundedListener {
    pub(super) fn new(inner: TcpListener) -> Self {
        Self { inner, room: Arc::new(Semaphore::new(MAX_CONNECTIONS)) }
    }
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (BoundedStream, SocketAddr) {
        loop {
            let room = Arc::clone(&self.room).acquire_owned().await;
            // This waits by itself while the process has no free descriptor.
            let (stream, address) = Listener::accept(&mut self.inner).await;
            let options = stream.set_nodelay(true).and_then(|()| {
                socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))
            });
            match (room, options) {
                (Ok(room), Ok(())) => {
                    let connection = Connection::default();
                    return (BoundedStream { inner: stream, connection, _room: room }, address);
                }
                (_, Err(error)) => {
                    tracing::debug!(%error, "a peer was gone before its connection was set up")
                }
                (Err(error), _) => tracing::error!(%error, "the connection semaphore is closed"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A handler's control over the connection of its request.
#[derive(Clone)]
pub(super) struct Connection(Arc<Control>);

struct Control {
    /// Bytes that may still be written; [`UNLIMITED`] by default.
    left: AtomicUsize,
    when_closed: Mutex<Option<Box<dyn FnOnce() + Send>>>,
}

const UNLIMITED: usize = usize::MAX;

impl Connection {
    /// Closes the connection at the first write after this many more bytes.
    pub(super) fn cut_after(&self, bytes: usize) {
        self.0.left.store(bytes, Ordering::Relaxed);
    }

    /// Calls `callback` when the connection closes, whichever side closes it.
    pub(super) fn when_closed(&self, callback: impl FnOnce() + Send + 'static) {
        let mut slot = self.0.when_closed.lock().unwrap_or_else(PoisonError::into_inner);
        *slot = Some(Box::new(callback));
    }

    fn closed(&self) {
        let mut slot = self.0.when_closed.lock().unwrap_or_else(PoisonError::into_inner);
        let callback = slot.take();
        drop(slot);
        if let Some(callback) = callback {
            callback();
        }
    }

    /// How many of `bytes` may be written.
    ///
    /// # Errors
    /// The connection is to be cut.
    fn allowed(&self, bytes: usize) -> io::Result<usize> {
        match self.0.left.load(Ordering::Relaxed) {
            0 => Err(io::Error::new(io::ErrorKind::ConnectionAborted, "cut as told")),
            left => Ok(bytes.min(left)),
        }
    }

    fn wrote(&self, bytes: usize) {
        let left = self.0.left.load(Ordering::Relaxed);
        if left != UNLIMITED {
            self.0.left.store(left.saturating_sub(bytes), Ordering::Relaxed);
        }
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self(Arc::new(Control { left: AtomicUsize::new(UNLIMITED), when_closed: Mutex::new(None) }))
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Connection").field("left", &self.0.left).finish_non_exhaustive()
    }
}

impl Connected<IncomingStream<'_, BoundedListener>> for Connection {
    fn connect_info(stream: IncomingStream<'_, BoundedListener>) -> Self {
        stream.io().connection.clone()
    }
}

/// A connection that releases its permit when dropped.
pub(super) struct BoundedStream {
    inner: TcpStream,
    connection: Connection,
    _room: OwnedSemaphorePermit,
}

impl Drop for BoundedStream {
    fn drop(&mut self) {
        self.connection.closed();
    }
}

impl BoundedStream {
    /// Records how much a write wrote.
    fn noting(&self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(bytes)) = written {
            self.connection.wrote(bytes);
        }
        written
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let allowed = self.connection.allowed(bytes.len())?;
        let (bytes, _) = bytes.split_at(allowed);
        let written = Pin::new(&mut self.inner).poll_write(context, bytes);
        self.noting(written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let total = slices.iter().map(|slice| slice.len()).sum();
        if self.connection.allowed(total)? < total {
            // Write slice by slice, so that the cut falls exactly at the limit.
            let first = slices.iter().find(|slice| !slice.is_empty());
            return self.poll_write(context, first.map_or(&[], |slice| slice));
        }
        let written = Pin::new(&mut self.inner).poll_write_vectored(context, slices);
        self.noting(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
