//! Raw sockets of streams, and the epoll set that watches them.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags, recv, send};
use socket2::SockRef;

/// Kernel limits for the socket of one price stream.
#[derive(Debug, Clone, Copy)]
pub struct SocketLimits {
    /// Bytes that may wait unsent before the socket counts as full (`TCP_NOTSENT_LOWAT`). Small,
    /// because prices that wait there are stale when they leave.
    pub unsent_bytes: u32,
    /// The kernel's send buffer (`SO_SNDBUF`), which bounds its memory for a stalled peer.
    pub send_buffer_bytes: usize,
    /// How long sent bytes may stay unacknowledged (`TCP_USER_TIMEOUT`): ends streams whose peer
    /// vanished.
    pub unacknowledged: Duration,
}

/// The socket of one price stream: non-blocking, owned, without any runtime state.
#[derive(Debug)]
pub struct StreamSocket(OwnedFd);

/// The outcome of one send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendOutcome {
    /// The kernel took this many bytes, possibly fewer than offered.
    Sent(usize),
    /// The socket is full; the poll set reports when it has room.
    Blocked,
    /// The peer is gone.
    Closed,
}

impl StreamSocket {
    /// Takes over a connected socket and bounds what the kernel may queue for it.
    ///
    /// The system refused an option, as it does for a socket whose peer is gone.
    /// The system refused an option, as it does for a socket whose peer is already gone.
    pub fn new(descriptor: OwnedFd, limits: SocketLimits) -> io::Result<Self> {
        let socket = SockRef::from(&descriptor);
        socket.set_nonblocking(true)?;
        socket.set_tcp_nodelay(true)?;
        socket.set_send_buffer_size(limits.send_buffer_bytes)?;
        socket.set_tcp_notsent_lowat(limits.unsent_bytes)?;
        socket.set_tcp_user_timeout(Some(limits.unacknowledged))?;
        Ok(Self(descriptor))
    }

    /// Sends bytes without waiting.
    pub fn send(&self, bytes: &[u8]) -> SendOutcome {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        match rustix::io::retry_on_intr(|| send(&self.0, bytes, flags)) {
            Ok(sent) => SendOutcome::Sent(sent),
            Err(rustix::io::Errno::WOULDBLOCK) => SendOutcome::Blocked,
            Err(_) => SendOutcome::Closed,
        }
    }

    /// Reads what the peer has sent, without waiting. `false` if that is more than a few line ends,
    /// or if the peer is gone: a stream's client has nothing to send. Some clients send line ends
    /// after a body, others before a request (RFC 9112, section 2.2).
    pub fn takes_only_line_ends(&self) -> bool {
        let mut bytes = [0; MOST_LINE_ENDS];
        match rustix::io::retry_on_intr(|| recv(&self.0, &mut bytes, RecvFlags::DONTWAIT)) {
            Ok((0, _) | (MOST_LINE_ENDS.., _)) => false,
            Ok((read, _)) => bytes.iter().take(read).all(|byte| matches!(byte, b'\r' | b'\n')),
            Err(error) => error == rustix::io::Errno::WOULDBLOCK,
        }
    }
}

/// Most bytes that a stream's client may send at a time.
const MOST_LINE_ENDS: usize = 64;

/// A change of a socket, found by [`PollSet::look`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// The token under which the socket was added.
    pub token: u64,
    /// The socket has room again.
    pub writable: bool,
    /// The peer has sent something.
    pub readable: bool,
    /// The peer closed or reset.
    pub ended: bool,
}

/// Most events per look; the rest stays for the next.
const EVENTS_PER_LOOK: usize = 256;

/// All stream sockets of one shard, watched edge-triggered: one system call reports the changes of
/// any number of sockets.
#[derive(Debug)]
pub struct PollSet(OwnedFd);

impl PollSet {
    /// An empty set.
    ///
    /// The process has no free descriptor.
    /// No descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self(epoll::create(epoll::CreateFlags::CLOEXEC)?))
    }

    /// Watches a socket until it is closed; closing removes it.
    ///
    /// # Errors
    /// The kernel's limit of watches is reached.
    pub fn add(&self, socket: &StreamSocket, token: u64) -> io::Result<()> {
        let flags = epoll::EventFlags::IN
            | epoll::EventFlags::OUT
            | epoll::EventFlags::RDHUP
            | epoll::EventFlags::ET;
        epoll::add(&self.0, &socket.0, epoll::EventData::new_u64(token), flags)?;
        Ok(())
    }

    /// Appends the changes since the last look, without waiting. Returns `true` if there may be
    /// more.
    ///
    /// # Errors
    /// The system's error; an interrupted look counts as empty.
    pub fn look(&self, found: &mut Vec<Interest>) -> io::Result<bool> {
        let mut events = [MaybeUninit::<epoll::Event>::uninit(); EVENTS_PER_LOOK];
        let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
        let ready = match epoll::wait(&self.0, &mut events, Some(&now)) {
            Ok((ready, _)) => ready,
            Err(error) if error == rustix::io::Errno::INTR => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let ended = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        found.extend(ready.iter().map(|event| {
            let flags = event.flags;
            Interest {
                token: event.data.u64(),
                writable: flags.contains(epoll::EventFlags::OUT),
                readable: flags.contains(epoll::EventFlags::IN),
                ended: flags.intersects(ended),
            }
        }));
        Ok(ready.len() == EVENTS_PER_LOOK)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    const LIMITS: SocketLimits = SocketLimits {
        unsent_bytes: 4 * 1024,
        send_buffer_bytes: 64 * 1024,
        unacknowledged: Duration::from_secs(20),
    };

    fn pair() -> (StreamSocket, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        (StreamSocket::new(server.into(), LIMITS).unwrap(), client)
    }

    /// Looks until the wanted change is found, for at most five seconds.
    fn await_interest(set: &PollSet, wanted: impl Fn(&Interest) -> bool) -> bool {
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        let mut found = Vec::new();
        while std::time::Instant::now() < deadline {
            set.look(&mut found).unwrap();
            if found.iter().any(&wanted) {
                return true;
            }
            std::thread::yield_now();
        }
        false
    }

    #[test]
    fn a_client_that_never_reads_fills_the_socket_soon() {
        let (socket, mut client) = pair();
        let frame = [b'x'; 100];
        let mut taken = 0;
        loop {
            match socket.send(&frame) {
                SendOutcome::Sent(bytes) => taken += bytes,
                SendOutcome::Blocked => break,
                SendOutcome::Closed => panic!("the peer is connected"),
            }
            assert!(taken < 8 << 20, "the socket never fills");
        }
        let set = PollSet::new().unwrap();
        set.add(&socket, 7).unwrap();
        let mut buffer = vec![0; taken];
        client.read_exact(&mut buffer).unwrap();
        assert!(await_interest(&set, |interest| interest.token == 7 && interest.writable));
    }

    #[test]
    fn line_ends_are_ignored_and_anything_else_is_an_error() {
        let set = PollSet::new().unwrap();
        let (socket, mut client) = pair();
        set.add(&socket, 3).unwrap();
        assert!(socket.takes_only_line_ends(), "nothing has come");
        for (sent, is_fine) in [("\r\n", true), ("\n\r\n", true), ("\r\nG", false)] {
            client.write_all(sent.as_bytes()).unwrap();
            assert!(await_interest(&set, |interest| interest.readable && !interest.ended));
            assert_eq!(socket.takes_only_line_ends(), is_fine, "{sent:?}");
        }
        client.write_all(&[b'\n'; MOST_LINE_ENDS]).unwrap();
        assert!(await_interest(&set, |interest| interest.readable));
        assert!(!socket.takes_only_line_ends());
    }

    #[test]
    fn a_closed_client_is_noticed() {
        let (socket, client) = pair();
        let set = PollSet::new().unwrap();
        set.add(&socket, 9).unwrap();
        drop(client);
        assert!(await_interest(&set, |interest| interest.token == 9 && interest.ended));
    }
}
