use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::time::Duration;

use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, SockRef, Socket, Type};

use super::spawn_blocking;

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

/// Hands a connected socket to the executor of the calling thread.
pub fn adopt_stream(stream: std::net::TcpStream) -> TcpStream {
    // SAFETY: the descriptor is open, connected, and owned by nobody else once it is released.
    unsafe { TcpStream::from_raw_fd(stream.into_raw_fd()) }
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

/// Connects with small-packet delay off, from a local address where one is given.
///
/// # Errors
/// Refused, unreachable, or not there within `timeout`; the local address is not one.
pub async fn connect(
    address: SocketAddr,
    source: Option<IpAddr>,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let stream = match source {
        None => TcpStream::connect_timeout(address, timeout).await.map_err(io::Error::from)?,
        Some(source) => {
            // glommio binds no socket before it connects, so another thread does.
            let connecting = move || connect_blocking(address, Some(source), timeout);
            adopt_stream(spawn_blocking(connecting).await?)
        }
    };
    stream.set_nodelay(true).map_err(io::Error::from)?;
    Ok(stream)
}

/// Connects and waits, from a local address where one is given.
///
/// # Errors
/// Refused, unreachable, or not there within `timeout`; the local address is not one.
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

/// A socket that connections from a local address can be made with.
///
/// # Errors
/// It is not an address of this machine.
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
    fn connections_come_from_the_address_that_was_given() {
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
