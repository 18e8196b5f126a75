//! The sockets that clients, operators and other nodes connect to.

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::thread;
use std::time::{Duration, Instant};

use rustix::io::Errno;

use crate::config::{ListenAddress, ServeArgs};
use crate::runtime::{ListenError, bound_address, listen};

use super::ServeError;

/// How long an address may be taken that a process has had which is gone.
const RELEASE_PATIENCE: Duration = Duration::from_secs(1);
/// Time between two looks whether it is free.
const RELEASE_LOOK: Duration = Duration::from_millis(20);

/// Where a server listens: every address of the names that were given.
#[derive(Debug)]
pub(super) struct Addresses {
    clients: Vec<SocketAddr>,
    operators: Vec<SocketAddr>,
    /// One, if there may be other nodes: they are told one.
    peers: Option<SocketAddr>,
}

/// Listening sockets.
pub(super) struct Listeners {
    /// Those of each shard, one an address.
    pub shards: Vec<Vec<OwnedFd>>,
    /// What clients connect to.
    pub addresses: Vec<SocketAddr>,
    /// One an address.
    pub operators: Vec<OwnedFd>,
    /// What operators connect to.
    pub operator_addresses: Vec<SocketAddr>,
    /// One of each shard, for other nodes.
    pub peers: Vec<OwnedFd>,
    /// What other nodes connect to.
    pub peer_address: Option<SocketAddr>,
}

impl Addresses {
    /// Looks the names up.
    ///
    /// # Errors
    /// A name is not known, both listeners are at one address, or other nodes would not reach this one.
    pub(super) fn of(arguments: &ServeArgs) -> Result<Self, ServeError> {
        let clients = resolve("--listen", &arguments.listen)?;
        let operators = resolve("--admin-listen", &arguments.admin_listen)?;
        match clients.iter().find(|address| address.port() != 0 && operators.contains(address)) {
            Some(&address) => Err(ServeError::SameAddress { address }),
            None => Ok(Self { peers: address_for_peers(arguments, &clients)?, clients, operators }),
        }
    }

    /// Finds out whether nobody else is there, before anything is made.
    ///
    /// # Errors
    /// An address is taken, not local, or not permitted.
    pub(super) fn probe(&self) -> Result<(), ListenError> {
        let clients = each(&self.clients, listen_alone)?;
        let operators = each(&self.operators, listen_alone)?;
        let peers = each(self.peers.as_slice(), listen_alone)?;
        drop((clients, operators, peers));
        Ok(())
    }

    /// Listens, with sockets of its own for each shard, on addresses that nobody else may be using:
    /// sharing a port would silently give a part of the clients to another process of the same user.
    ///
    /// # Errors
    /// An address is taken, not local, or not permitted.
    pub(super) fn listen(&self, shards: usize) -> Result<Listeners, ListenError> {
        let mut sockets: Vec<Vec<OwnedFd>> = (0..shards).map(|_| Vec::new()).collect();
        let clients = each(&self.clients, |address| listen_shared(address, shards))?;
        let mut addresses = Vec::new();
        for (address, own) in clients {
            addresses.push(address);
            for (of_shard, socket) in sockets.iter_mut().zip(own) {
                of_shard.push(socket);
            }
        }
        let operators = each(&self.operators, listen_alone)?;
        let (operator_addresses, operators) = operators.into_iter().unzip();
        let peers = each(self.peers.as_slice(), |address| listen_shared(address, shards))?;
        let (peer_addresses, peers): (Vec<_>, Vec<_>) = peers.into_iter().unzip();
        Ok(Listeners {
            shards: sockets,
            addresses,
            operators,
            operator_addresses,
            peers: peers.into_iter().flatten().collect(),
            peer_address: peer_addresses.first().copied(),
        })
    }
}

/// Where other nodes are to reach this one, if there may be any. Port 0 for a free one.
fn address_for_peers(
    arguments: &ServeArgs,
    clients: &[SocketAddr],
) -> Result<Option<SocketAddr>, ServeError> {
    let address = match &arguments.peer_listen {
        Some(_) if !arguments.is_member() => return Err(ServeError::PeersOfOneAlone),
        Some(wanted) => resolve("--peer-listen", wanted)?.first().copied(),
        None if !arguments.is_member() => return Ok(None),
        None => clients.first().map(|client| SocketAddr::new(client.ip(), 0)),
    };
    match address {
        Some(address) if address.ip().is_unspecified() => {
            Err(ServeError::PeersCannotReach { address })
        }
        address => Ok(address),
    }
}

fn resolve(setting: &'static str, address: &ListenAddress) -> Result<Vec<SocketAddr>, ServeError> {
    address.resolve().map_err(|source| ServeError::UnknownName {
        setting,
        address: address.clone(),
        source,
    })
}

/// A socket for each shard.
fn listen_shared(
    address: SocketAddr,
    shards: usize,
) -> Result<(SocketAddr, Vec<OwnedFd>), ListenError> {
    let (address, probe) = listen_alone(address)?;
    drop(probe);
    let own: Result<Vec<OwnedFd>, ListenError> =
        (0..shards).map(|_| listen(address, true)).collect();
    Ok((address, own?))
}

fn listen_alone(address: SocketAddr) -> Result<(SocketAddr, OwnedFd), ListenError> {
    let socket = listen(address, false)?;
    Ok((bound_address(&socket, address)?, socket))
}

/// Opens something at each address of a name. One that this machine does not have, such as that of
/// IPv6 where there is none, is left out, unless it is the last hope. Where the port is 0 the first
/// address finds one and the others take the same.
fn each<T>(
    addresses: &[SocketAddr],
    mut open: impl FnMut(SocketAddr) -> Result<(SocketAddr, T), ListenError>,
) -> Result<Vec<(SocketAddr, T)>, ListenError> {
    let mut opened: Vec<(SocketAddr, T)> = Vec::new();
    let mut lacking = None;
    for &(mut address) in addresses {
        if let Some((first, _)) = opened.first().filter(|_| address.port() == 0) {
            address.set_port(first.port());
        }
        match patiently(|| open(address)) {
            Ok(socket) => opened.push(socket),
            Err(error) if is_lacking(&error.source) => lacking = Some(error),
            Err(error) => return Err(error),
        }
    }
    match lacking {
        Some(error) if opened.is_empty() => Err(error),
        _ => Ok(opened),
    }
}

/// Opens something, again for a while where the address is taken: the sockets of a process that was
/// killed may be closed some milliseconds after it is gone, where io_uring had them in use.
fn patiently<T>(mut open: impl FnMut() -> Result<T, ListenError>) -> Result<T, ListenError> {
    let deadline = Instant::now() + RELEASE_PATIENCE;
    loop {
        match open() {
            Err(error) if is_taken(&error.source) && Instant::now() < deadline => {
                thread::sleep(RELEASE_LOOK);
            }
            outcome => return outcome,
        }
    }
}

fn is_taken(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn is_lacking(error: &io::Error) -> bool {
    let lacking = [Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT].map(Errno::raw_os_error);
    error.raw_os_error().is_some_and(|code| lacking.contains(&code))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(clients: &[&str], operators: &[&str]) -> Addresses {
        let parse = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
        Addresses { clients: parse(clients), operators: parse(operators), peers: None }
    }

    #[test]
    fn each_shard_listens_on_each_address_that_this_machine_has() {
        // 192.0.2.0/24 is for documentation (RFC 5737): no machine has it.
        let mut names = addresses(&["127.0.0.1:0", "192.0.2.1:0"], &["127.0.0.2:0"]);
        names.peers = Some("127.0.0.3:0".parse().unwrap());
        names.probe().unwrap();
        let listeners = names.listen(3).unwrap();
        assert_eq!(listeners.shards.iter().map(Vec::len).collect::<Vec<_>>(), [1, 1, 1]);
        assert_eq!(listeners.addresses.len(), 1);
        assert_eq!(listeners.operator_addresses[0].ip().to_string(), "127.0.0.2");
        assert_eq!(listeners.peers.len(), 3);
        assert_eq!(listeners.peer_address.unwrap().ip().to_string(), "127.0.0.3");
        let taken = listeners.addresses[0].to_string();
        let error = addresses(&[&taken], &["127.0.0.1:0"]).probe().unwrap_err();
        assert!(error.to_string().contains(&taken), "{error}");
        assert!(addresses(&["192.0.2.1:0"], &["127.0.0.1:0"]).probe().is_err());
    }

    #[test]
    fn an_address_that_becomes_free_in_a_moment_is_waited_for() {
        let (address, taken) = listen_alone("127.0.0.3:0".parse().unwrap()).unwrap();
        let mut looks = 0;
        let mut taken = Some(taken);
        let opened = patiently(|| {
            looks += 1;
            if looks > 2 {
                taken = None;
            }
            listen_alone(address)
        });
        assert_eq!((opened.unwrap().0, looks), (address, 3));
    }
}
