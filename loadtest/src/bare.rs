//! The bare `send()` loop: the least that a server can do to send a frame to each of N sockets.
//! Its CPU time per send is the unit of a server's.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use socket2::{Domain, Protocol, SockRef, Socket, Type};

use crate::{
    clock::{Moment, seconds_between, thread_cpu_nanos, wall_micros},
    cpu,
    error::{Context, Error, Result},
    phase::{Control, Phase},
};

/// Connections that may wait to be accepted: the client opens many at once.
const BACKLOG: i32 = 4096;
/// How long a client may take to send its request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest request head that is read.
const MAX_REQUEST_BYTES: usize = 16 * 1024;
/// Sleep between two checks for a new connection or for the end.
const PAUSE: Duration = Duration::from_micros(200);
/// `TCP_USER_TIMEOUT` of each socket, the same as a stream's.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Response head and first event, so that the client runs the same code as with the real server.
const HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\nConnection: close\r\n\r\nevent: open\ndata: {}\n\n";

/// Options of the bare loop.
#[derive(Debug, Clone)]
pub(crate) struct BareOptions {
    /// Number of connections to wait for before the loop starts.
    pub connections: usize,
    /// The symbol in the frames, so that they have the size of real ones.
    pub symbol: String,
    /// The core that the thread is pinned to.
    pub core: usize,
    /// `TCP_NOTSENT_LOWAT` of each socket, in bytes.
    pub notsent_low_water_bytes: u32,
    /// `SO_SNDBUF` of each socket, in bytes as given to the kernel.
    pub send_buffer_bytes: usize,
}

/// What the loop did in the measured window.
#[derive(Debug, Clone)]
pub(crate) struct BareReport {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Calls of `send` that accepted the frame.
    pub sends: u64,
    /// Calls of `send` that would have blocked because the client reads too slowly.
    pub would_block: u64,
    /// CPU time of the thread in nanoseconds.
    pub cpu_nanos: u64,
    /// Bytes of one frame.
    pub frame_bytes: usize,
    /// Connections that the client closed.
    pub closed: u64,
}

/// A running bare loop.
#[derive(Debug)]
pub(crate) struct Bare {
    thread: JoinHandle<Result<BareReport>>,
    /// Where the clients connect.
    pub address: SocketAddr,
}

impl Bare {
    /// Listens and starts the thread.
    ///
    /// # Errors
    /// [`Error::Io`] when it cannot listen.
    pub(crate) fn start(options: BareOptions, control: Arc<Control>) -> Result<Self> {
        let listener = listen().context("listening for the bare loop")?;
        let address = listener.local_addr().context("address of the bare loop")?;
        let work = move || {
            cpu::pin(options.core, "server-core")?;
            let sockets = accept_all(&listener, &options, &control)?;
            run(sockets, &options, &control)
        };
        let thread = thread::Builder::new().name("bare".to_owned()).spawn(work);
        Ok(Self { thread: thread.context("starting the bare thread")?, address })
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped the run.
    pub(crate) fn join(self) -> Result<BareReport> {
        self.thread.join().map_err(|_| Error::Thread("bare"))?
    }
}

fn listen() -> std::io::Result<TcpListener> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, Some(Protocol::TCP))?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

fn accept_all(
    listener: &TcpListener,
    options: &BareOptions,
    control: &Control,
) -> Result<Vec<Peer>> {
    let mut peers = Vec::with_capacity(options.connections);
    while peers.len() < options.connections && control.phase() != Phase::Stop {
        match listener.accept() {
            Ok((socket, _)) => peers.push(greet(socket, options).context("accepting a client")?),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(PAUSE),
            Err(error) => return Err(error).context("accepting a client"),
        }
    }
    Ok(peers)
}

/// Reads the request, sets the socket options of a stream and sends the head.
fn greet(mut socket: TcpStream, options: &BareOptions) -> std::io::Result<Peer> {
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(REQUEST_TIMEOUT))?;
    let (mut request, mut piece) = (Vec::new(), [0; 1024]);
    while memchr::memmem::find(&request, b"\r\n\r\n").is_none() {
        let length = socket.read(&mut piece)?;
        if length == 0 || request.len() > MAX_REQUEST_BYTES {
            return Err(ErrorKind::InvalidData.into());
        }
        request.extend_from_slice(piece.get(..length).unwrap_or_default());
    }
    let socket_ref = SockRef::from(&socket);
    socket_ref.set_tcp_nodelay(true)?;
    socket_ref.set_send_buffer_size(options.send_buffer_bytes)?;
    socket_ref.set_tcp_notsent_lowat(options.notsent_low_water_bytes)?;
    socket_ref.set_tcp_user_timeout(Some(UNACKNOWLEDGED))?;
    socket.write_all(HEAD)?;
    socket.set_nonblocking(true)?;
    Ok(Peer { socket, rest: Vec::new(), gone: false })
}

/// One accepted client.
struct Peer {
    socket: TcpStream,
    /// The unsent rest of the last frame: nearly always empty.
    rest: Vec<u8>,
    /// Whether the client has gone.
    gone: bool,
}

/// What one `send` did.
enum Sent {
    Whole,
    WouldBlock,
    Closed,
}

impl Peer {
    fn send(&mut self, frame: &[u8]) -> Result<Sent> {
        let resumed = !self.rest.is_empty();
        let data = if resumed { self.rest.as_slice() } else { frame };
        match (&self.socket).write(data) {
            Ok(length) if length == data.len() => {
                self.rest.clear();
                Ok(Sent::Whole)
            }
            Ok(length) => {
                self.rest = data.get(length..).unwrap_or_default().to_vec();
                Ok(Sent::WouldBlock)
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => Ok(Sent::WouldBlock),
                ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => Ok(Sent::Closed),
                _ => Err(error).context("bare send"),
            },
        }
    }
}

/// Counters of the loop, and where the measured window started.
struct Sweeps {
    frame: Vec<u8>,
    sweep: u64,
    sends: u64,
    would_block: u64,
    closed: u64,
    started: Moment,
    cpu_nanos_at_start: u64,
}

impl Sweeps {
    fn start() -> Self {
        Self {
            frame: Vec::new(),
            sweep: 0,
            sends: 0,
            would_block: 0,
            closed: 0,
            started: Moment::now(),
            cpu_nanos_at_start: thread_cpu_nanos(),
        }
    }

    /// Sends one frame to each socket.
    fn sweep(&mut self, peers: &mut Vec<Peer>, symbol: &str) -> Result<()> {
        self.sweep += 1;
        write_frame(&mut self.frame, symbol, self.sweep);
        let before = peers.len();
        let mut lost = false;
        for peer in peers.iter_mut() {
            match peer.send(&self.frame)? {
                Sent::Whole => self.sends += 1,
                Sent::WouldBlock => self.would_block += 1,
                Sent::Closed => (peer.gone, lost) = (true, true),
            }
        }
        if lost {
            peers.retain(|peer| !peer.gone);
            self.closed += (before - peers.len()) as u64;
        }
        Ok(())
    }

    fn report(&self) -> BareReport {
        BareReport {
            seconds: seconds_between(self.started, Moment::now()),
            sends: self.sends,
            would_block: self.would_block,
            cpu_nanos: thread_cpu_nanos() - self.cpu_nanos_at_start,
            frame_bytes: self.frame.len(),
            closed: self.closed,
        }
    }
}

fn run(mut peers: Vec<Peer>, options: &BareOptions, control: &Control) -> Result<BareReport> {
    let mut sweeps = Sweeps::start();
    let (mut measuring, mut counted) = (false, None);
    loop {
        match control.phase() {
            Phase::Measure if !measuring => {
                measuring = true;
                sweeps = Sweeps::start();
            }
            Phase::Counted if counted.is_none() => {
                counted = Some(sweeps.report());
                control.set_counted();
            }
            Phase::Stop => return Ok(counted.unwrap_or_else(|| sweeps.report())),
            Phase::Warm | Phase::Measure | Phase::Counted => {}
        }
        if peers.is_empty() || counted.is_some() {
            thread::sleep(PAUSE);
        } else {
            sweeps.sweep(&mut peers, &options.symbol)?;
        }
    }
}

/// Encodes a price frame in the stream's format, with the current time: once per sweep, as the
/// server encodes it once per pass.
fn write_frame(frame: &mut Vec<u8>, symbol: &str, sweep: u64) {
    /// Keeps the price at five digits.
    const PRICES: u64 = 10_000;
    frame.clear();
    let price = 50_000 + sweep % PRICES;
    let timestamp = wall_micros();
    // Writing to a vector cannot fail.
    let _ = write!(
        frame,
        "event: price\ndata: {{\"symbol\":\"{symbol}\",\"priceInCents\":{price},\"timestamp\":{timestamp}}}\n\n"
    );
}
