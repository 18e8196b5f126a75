//! Listening and connecting sockets.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::spawn_blocking;

/// Length of the accept queue, which the kernel caps at `net.core.somaxconn`. Large, so that a
/// reconnect storm is queued instead of refused.
const BACKLOG: i32 = 65_535;

/// An address cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct ListenError {
    /// The requested address.
    pub address: SocketAddr,
    /// The system's error.
    pub source: io::Error,
}

/// Opens a listening socket. With `SO_REUSEPORT` several sockets share one address and the kernel
/// spreads connections over them, which gives each shard an accept queue of its own.
///
/// # Errors
/// The address is in use, not local, or not permitted.
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

/// The actual address of a listening socket; the system chooses the port if port 0 was requested.
///
/// # Errors
/// The system cannot tell.
pub fn bound_address(listener: &OwnedFd, address: SocketAddr) -> Result<SocketAddr, ListenError> {
    let local = SockRef::from(listener).local_addr();
    local
        .and_then(|local| local.as_socket().ok_or_else(|| io::ErrorKind::InvalidData.into()))
        .map_err(|source| ListenError { address, source })
}

/// Hands a listening socket to the calling thread's executor.
pub fn adopt_listener(listener: OwnedFd) -> TcpListener {
    // SAFETY: the descriptor is open, listening, and owned by nobody else once it is released.
    unsafe { TcpListener::from_raw_fd(listener.into_raw_fd()) }
}

/// Hands a connected socket to the calling thread's executor.
pub fn adopt_stream(stream: std::net::TcpStream) -> TcpStream {
    // SAFETY: the descriptor is open, connected, and owned by nobody else once it is released.
    unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) }
}

/// Accepts one connection and sets `TCP_NODELAY`.
///
/// # Errors
/// The system's error, such as being out of descriptors (`EMFILE`).
pub async fn accept(listener: &TcpListener) -> io::Result<TcpStream> {
    let stream = listener.accept().await.map_err(io::Error::from)?;
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(stream)
}

/// Connects with `TCP_NODELAY`, from `source` if given.
///
/// # Errors
/// Refused, unreachable or not connected within `timeout`; or `source` is not a local address.
pub async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?,
        Some(source) => {
            // glommio cannot bind a socket before it connects, so a blocking thread does.
            let connecting = move || connect_blocking(address, Some(source), timeout);
            adopt_stream(spawn_blocking(connecting).await?)
        }
    };
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(stream)
}

/// Connects, blocking, from `source` if given.
///
/// # Errors
/// Refused, unreachable or not connected within `timeout`; or `source` is not a local address.
pub fn connect_blocking(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<std::net::TcpStream> {
    let socket = match source {
        None => Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?,
        Some(source) => bind_source(source)?,
    };
    socket.connect_timeout(&address.into(), timeout)?;
    Ok(socket.into())
}

/// A socket bound to a local address, for connecting from it.
///
/// # Errors
/// The address does not belong to this machine.
pub fn bind_source(source: IpAddr) -> io::Result<Socket> {
    let local = SocketAddr::new(source, 0);
    let socket = Socket::new(Domain::for_address(local), Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&local.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_come_from_the_given_source() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let source: IpAddr = "127.0.0.9".parse().unwrap();
        let timeout = Duration::from_secs(5);
        let _stream = connect_blocking(address, Some(source), timeout).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), source);
        let _stream = connect_blocking(address, None, timeout).unwrap();
        assert_eq!(listener.accept().unwrap().1.ip(), address.ip());
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        assert!(bind_source("192.0.2.1".parse().unwrap()).is_err());
    }
}
