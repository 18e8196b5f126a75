use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

/// Connections that may wait to be accepted. The kernel cuts it to `net.core.somaxconn`; large,
/// so that everybody who reconnects at once is queued and not turned away.
const BACKLOG: i32 = 65_535;

/// Why an address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The address that was asked for.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// Opens a listening socket. Several sockets may share one address (`SO_REUSEPORT`): the kernel
/// then spreads connections over them, which is how each shard gets an accept queue of its own.
///
/// # Errors
/// The address is taken, not local, or not permitted.
pub fn listen(address: SocketAddr, share_port: bool) -> Result<OwnedFd, ListenError> {
    let open = || -> io::Result<OwnedFd> {
        let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
        socket.set_reuse_address(true)?;
        if share_port {
            socket.set_reuse_port(true)?;
        }
        socket.bind(&address.into())?;
        socket.listen(BACKLOG)?;
        Ok(socket.into())
    };
    open().map_err(|source| ListenError { address, source })
}

/// The address that a listening socket really has, its port chosen by the system where 0 was asked.
///
/// # Errors
/// The system does not tell.
pub fn bound_address(listener: &OwnedFd, address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let local = SockRef::from(listener).local_addr();
    local
        .and_then(|local| local.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(|source| ListenError { address, source })
}

/// Hands a listening socket to the executor of the calling thread.
pub fn adopt_listener(listener: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is open, listening, and owned by nobody else once it is released.
    unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) }
}

/// Accepts one connection with small-packet delay off.
///
/// # Errors
/// What the system said, out of descriptors (`EMFILE`) included.
pub async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let stream = listener.accept().await.map_err(io::Error::from)?;
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(stream)
}

/// Connects with small-packet delay off.
///
/// # Errors
/// Refused, unreachable, or not there within `timeout`.
pub async fn connect(address: SocketAddr, timeout: Duration) -> io::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?;
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(stream)
}
