//! Connects to the first of several addresses that answers.

use std::io;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};

use super::listener::bind_source;

/// How long a silent address delays the attempt at the next one (RFC 8305, section 5).
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);
/// Interval at which a pending connection checks for a stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);

/// A pending connection.
struct Attempt {
    address: SocketAddr,
    socket: Socket,
}

/// Connects to whichever of `addresses` answers first. Each is tried once the one before it has
/// failed or been silent for a quarter of a second, so that a dead address costs no more than that.
/// Blocks, and gives up once `is_stopped`.
///
/// # Errors
/// None can be reached within `timeout` (the last error), or `source` is not a local address.
pub fn connect_any(
    addresses: &[SocketAddr],
    source: Option<IpAddr>,
    timeout: Duration,
    is_stopped: &dyn Fn() -> bool,
) -> io::Result<(SocketAddr, TcpStream)> {
    let until = Instant::now() + timeout;
    let mut untried = addresses.iter().copied().peekable();
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut next_attempt = Instant::now();
    let mut failure = io::Error::new(io::ErrorKind::NotFound, "there is no address to connect to");
    loop {
        let now = Instant::now();
        if is_stopped() {
            return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "a stop was requested"));
        }
        if now >= until {
            return Err(attempts.first().map_or(failure, |silent| timed_out(silent, timeout)));
        }
        if (attempts.is_empty() || now >= next_attempt)
            && let Some(address) = untried.next()
        {
            match begin(address, source) {
                Ok(socket) => attempts.push(Attempt { address, socket }),
                Err(error) => failure = of_address(address, &error),
            }
            next_attempt = now + ATTEMPT_DELAY;
            continue;
        }
        if attempts.is_empty() {
            return Err(failure);
        }
        let look = if untried.peek().is_some() { until.min(next_attempt) } else { until };
        let wait = look.saturating_duration_since(now).min(LOOK_INTERVAL);
        for index in completed(&attempts, wait)?.into_iter().rev() {
            let Attempt { address, socket } = attempts.swap_remove(index);
            match socket.take_error()? {
                None => {
                    socket.set_nonblocking(false)?;
                    return Ok((address, socket.into()));
                }
                Some(error) => failure = of_address(address, &error),
            }
        }
    }
}

/// Starts a non-blocking connect.
fn begin(address: SocketAddr, source: Option<IpAddr>) -> io::Result<Socket> {
    let socket = match source {
        None => Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?,
        Some(source) => bind_source(source)?,
    };
    socket.set_nonblocking(true)?;
    match socket.connect(&address.into()) {
        Ok(()) => Ok(socket),
        Err(error) if error.raw_os_error() == Some(Errno::INPROGRESS.raw_os_error()) => Ok(socket),
        Err(error) => Err(error),
    }
}

/// Indices of the attempts that have completed or failed, lowest first. Waits for the first.
fn completed(attempts: &[Attempt], wait: Duration) -> io::Result<Vec<usize>> {
    let mut waiting: Vec<PollFd<'_>> =
        attempts.iter().map(|attempt| PollFd::new(&attempt.socket, PollFlags::OUT)).collect();
    let wait = Timespec::try_from(wait).map_err(io::Error::other)?;
    match poll(&mut waiting, Some(&wait)) {
        Ok(_) | Err(Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let has_outcome =
        |(index, fd): (usize, &PollFd<'_>)| (!fd.revents().is_empty()).then_some(index);
    Ok(waiting.iter().enumerate().filter_map(has_outcome).collect())
}

fn of_address(address: SocketAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

fn timed_out(silent: &Attempt, timeout: Duration) -> io::Error {
    let message = format!("{}: no answer within {timeout:?}", silent.address);
    io::Error::new(io::ErrorKind::TimedOut, message)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use std::net::TcpListener;

    const LONG: Duration = Duration::from_secs(20);

    /// An address that does not answer: its accept queue is full.
    pub(crate) fn silent_address() -> (SocketAddr, Vec<Socket>) {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any_port = SocketAddr::from(([127, 0, 0, 1], 0));
        listener.bind(&any_port.into()).unwrap();
        listener.listen(0).unwrap();
        let address = listener.local_addr().unwrap().as_socket().unwrap();
        let mut held = vec![listener];
        for _ in 0..8 {
            let filler = begin(address, None).unwrap();
            held.push(filler);
        }
        (address, held)
    }

    fn refusing_address() -> SocketAddr {
        TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
    }

    #[test]
    fn a_refusing_or_silent_address_does_not_block_the_next() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let alive = listener.local_addr().unwrap();
        let (silent, _held) = silent_address();
        let addresses = [refusing_address(), silent, alive];
        let (reached, _stream) = connect_any(&addresses, None, LONG, &|| false).unwrap();
        assert_eq!(reached, alive);
    }

    #[test]
    fn errors_name_an_address_and_come_in_time() {
        let refusing = refusing_address();
        let refused = connect_any(&[refusing], None, LONG, &|| false).unwrap_err();
        assert!(refused.to_string().contains(&refusing.to_string()), "{refused}");
        let (silent, _held) = silent_address();
        let short = Duration::from_millis(50);
        let silence = connect_any(&[silent], None, short, &|| false).unwrap_err();
        assert_eq!(silence.kind(), io::ErrorKind::TimedOut);
        assert!(connect_any(&[], None, short, &|| false).is_err());
    }

    #[test]
    fn a_stop_ends_the_wait() {
        let (silent, _held) = silent_address();
        let looks = std::cell::Cell::new(0);
        let stop = || looks.replace(looks.get() + 1) > 2;
        let stopped = connect_any(&[silent], None, LONG * 100, &stop).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::ConnectionAborted);
    }
}
