//! The exchange's listener: a bounded number of connections, each with its socket options.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Most connections at a time; the next ones wait in the backlog.
const MAX_CONNECTIONS: usize = 512;
/// How long a peer may leave sent bytes unacknowledged, or its window shut, before the kernel
/// closes the connection: a feed reader that never reads would otherwise hold it for good.
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
            // Waits by itself when the process has no descriptor left.
            let (stream, address) = Listener::accept(&mut self.inner).await;
            let options = stream.set_nodelay(true).and_then(|()| {
                socket2::SockRef::from(&stream).set_tcp_user_timeout(Some(USER_TIMEOUT))
            });
            match (room, options) {
                (Ok(room), Ok(())) => {
                    return (BoundedStream { inner: stream, _room: room }, address);
                }
                (_, Err(error)) => tracing::debug!(%error, "the peer was gone at once"),
                (Err(error), _) => tracing::error!(%error, "the room for connections was closed"),
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}

/// A connection that gives its place back when it is dropped.
pub(super) struct BoundedStream {
    inner: TcpStream,
    _room: OwnedSemaphorePermit,
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
        Pin::new(&mut self.inner).poll_write(context, bytes)
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
        Pin::new(&mut self.inner).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}
