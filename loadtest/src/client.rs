//! The stream client: one pinned thread that owns all connections, reads whatever is there and
//! looks at every frame. The tested server and the bare loop face exactly this code.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use hdrhistogram::Histogram;
use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    io::Errno,
};
use socket2::{Domain, Protocol, Socket, Type};

use crate::{
    clock::{Moment, seconds_between, thread_cpu_nanos, wall_micros},
    cpu,
    error::{Context, Error, Result, excerpt},
    frames::{Block, FrameParser},
    phase::{Control, Phase},
};

/// Bytes taken in one read: far more than a socket has between two looks, so that one read
/// empties it.
const READ_BYTES: usize = 64 * 1024;
/// Events taken from the kernel at once.
const EVENTS: usize = 1024;
/// Longest sleep without an event, so that a change of phase is seen in time.
const IDLE: Timespec = Timespec { tv_sec: 0, tv_nsec: 5_000_000 };
/// Connections that are opened between two looks at those that stream already.
const CONNECT_BATCH: usize = 32;
/// Last bytes of the loopback addresses that connections come from.
const SOURCES: [u8; 4] = [1, 2, 3, 4];
/// How long one connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest response head that is waited for.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Longest age that the histogram tells apart, in microseconds.
const MAX_AGE_MICROS: u64 = 600_000_000;

/// What the client thread is to do.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Where to connect.
    pub address: SocketAddr,
    /// Number of connections.
    pub connections: usize,
    /// The whole HTTP request that opens a stream; connection `i` sends number `i % len`.
    pub requests: Vec<Vec<u8>>,
    /// The core that the thread is pinned to.
    pub core: usize,
    /// Whether timestamps of one connection may never go back (true for a single symbol).
    pub ordered: bool,
    /// Only what connections with an even number get is counted: the odd ones may be told to stop
    /// reading ([`Control::set_stalled`]).
    pub only_even: bool,
    /// `SO_RCVBUF` of each connection; the system's default without one.
    pub receive_buffer_bytes: Option<usize>,
    /// Never sleep: then no send has to wake the client, at the price of its whole core.
    pub spin: bool,
}

/// What the client saw in the measured window.
#[derive(Debug, Clone)]
pub struct ClientReport {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Price frames.
    pub prices: u64,
    /// Other blocks: open events, heartbeats, ids, anything else.
    pub other_blocks: u64,
    /// `event: gap` blocks: each tells of lost prices.
    pub gaps: u64,
    /// Price frames since the connections were made, the window and all before it.
    pub all_prices: u64,
    /// Reads that returned data.
    pub reads: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Share of the window that the client thread was on its core, 0 to 1.
    pub cpu_share: f64,
    /// Age of each price when it was read, in microseconds.
    pub ages: Histogram<u64>,
    /// Price frames of the connection that got fewest, and of the one that got most.
    pub prices_per_connection: (u64, u64),
    /// Prices older than one that the same connection had before.
    pub out_of_order: u64,
    /// Connections that were closed before the end, since the start.
    pub closed: u64,
}

/// A running client thread.
#[derive(Debug)]
pub struct Client {
    thread: JoinHandle<Result<ClientReport>>,
    windows: mpsc::Receiver<ClientReport>,
}

impl Client {
    /// Starts the thread, which connects at once. `control` reports the connections whose
    /// response head and first block have arrived.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be made.
    pub fn start(options: ClientOptions, control: Arc<Control>) -> Result<Self> {
        let (reports, windows) = mpsc::channel();
        let work = move || ClientLoop::new(&options, reports)?.run(&options, &control);
        let thread = thread::Builder::new().name("client".to_owned()).spawn(work);
        Ok(Self { thread: thread.context("starting the client thread")?, windows })
    }

    /// What was counted in the window that [`Phase::Counted`] closed last. `None` when the thread
    /// has ended or takes longer than `seconds`: its join tells why.
    #[must_use]
    pub fn window(&self, seconds: f64) -> Option<ClientReport> {
        self.windows.recv_timeout(Duration::from_secs_f64(seconds)).ok()
    }

    /// Whether the thread has ended, which before [`Phase::Stop`] means that it failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.thread.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn join(self) -> Result<ClientReport> {
        self.thread.join().map_err(|_| Error::Thread("client"))?
    }
}

/// One stream as the client keeps it.
struct Connection {
    socket: TcpStream,
    /// Whether the bytes are still those of the response head.
    in_head: bool,
    /// Whether a block arrived after the head.
    ready: bool,
    /// Whether a price arrived.
    priced: bool,
    /// Whether what it gets is counted.
    counted: bool,
    /// Bytes of an incomplete head or block.
    tail: Vec<u8>,
    prices: u64,
    newest_micros: u64,
}

struct ClientLoop {
    epoll: OwnedFd,
    connections: Vec<Option<Connection>>,
    parser: FrameParser,
    buffer: Vec<u8>,
    counts: Counts,
    windows: mpsc::Sender<ClientReport>,
    ready: usize,
    priced: usize,
    closed: u64,
    all_prices: u64,
    /// How often all connections were dropped and made again, and when that was last.
    generation: usize,
    reconnected: Moment,
    stalled: bool,
}

/// What is counted between the start and the end of the window.
struct Counts {
    prices: u64,
    other_blocks: u64,
    gaps: u64,
    reads: u64,
    bytes: u64,
    ordered: bool,
    out_of_order: u64,
    ages: Histogram<u64>,
    started: Moment,
    cpu_nanos_at_start: u64,
}

impl Counts {
    fn start(ordered: bool) -> Result<Self> {
        let ages = Histogram::new_with_bounds(1, MAX_AGE_MICROS, 3)
            .map_err(std::io::Error::other)
            .context("making the age histogram")?;
        Ok(Self {
            prices: 0,
            other_blocks: 0,
            gaps: 0,
            reads: 0,
            bytes: 0,
            ordered,
            out_of_order: 0,
            ages,
            started: Moment::now(),
            cpu_nanos_at_start: thread_cpu_nanos(),
        })
    }
}

/// What became of a connection after it was looked at.
enum Look {
    Alive,
    Closed,
}

impl ClientLoop {
    fn new(options: &ClientOptions, windows: mpsc::Sender<ClientReport>) -> Result<Self> {
        cpu::pin(options.core, "client-core")?;
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?,
            connections: Vec::with_capacity(options.connections),
            parser: FrameParser::default(),
            buffer: vec![0; READ_BYTES],
            counts: Counts::start(options.ordered)?,
            windows,
            ready: 0,
            priced: 0,
            closed: 0,
            all_prices: 0,
            generation: 0,
            reconnected: Moment::now(),
            stalled: false,
        })
    }

    fn run(mut self, options: &ClientOptions, control: &Control) -> Result<ClientReport> {
        let mut events = Vec::with_capacity(EVENTS);
        let (mut measuring, mut counted) = (false, None);
        let pause = if options.spin { Timespec::default() } else { IDLE };
        loop {
            match control.phase() {
                Phase::Measure if !measuring => {
                    measuring = true;
                    self.start_counts(options)?;
                }
                Phase::Counted if measuring => {
                    measuring = false;
                    let report = self.report();
                    // Whoever does not ask for single windows takes the last one from the join.
                    let _ = self.windows.send(report.clone());
                    counted = Some(report);
                    control.set_counted();
                }
                Phase::Warm | Phase::Measure | Phase::Counted => {}
                Phase::Stop => return Ok(counted.unwrap_or_else(|| self.report())),
            }
            self.obey(control)?;
            if self.connections.len() < options.connections {
                self.connect_some(options)?;
            }
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&pause)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in events.drain(..) {
                let gone =
                    epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
                // The kernel's record is packed: fields are copied, not borrowed.
                let (data, flags) = (event.data, event.flags);
                self.look(data.u64(), flags.intersects(gone))?;
            }
            self.tell(options, control);
        }
    }

    fn start_counts(&mut self, options: &ClientOptions) -> Result<()> {
        self.all_prices += self.counts.prices;
        self.counts = Counts::start(options.ordered)?;
        for connection in self.connections.iter_mut().flatten() {
            connection.prices = 0;
        }
        Ok(())
    }

    /// Does what [`Control`] asks for beside the phases.
    fn obey(&mut self, control: &Control) -> Result<()> {
        let generation = control.generation();
        if generation != self.generation {
            self.generation = generation;
            self.reconnected = Moment::now();
            self.connections.clear();
            (self.ready, self.priced) = (0, 0);
        }
        let stalled = control.is_stalled();
        if stalled != self.stalled {
            self.stalled = stalled;
            let odd = self.connections.iter().enumerate().skip(1).step_by(2);
            for (index, connection) in odd.filter_map(|(i, c)| Some((i, c.as_ref()?))) {
                if stalled {
                    epoll::delete(&self.epoll, &connection.socket).context("epoll_ctl")?;
                } else {
                    watch(&self.epoll, &connection.socket, index)?;
                }
            }
        }
        Ok(())
    }

    fn tell(&self, options: &ClientOptions, control: &Control) {
        control.set_ready(self.ready);
        if self.priced == options.connections && control.settled(self.generation).is_none() {
            control.set_settled(self.generation, self.reconnected, Moment::now());
        }
    }

    /// Opens the next few connections, if any are missing.
    fn connect_some(&mut self, options: &ClientOptions) -> Result<()> {
        let missing = options.connections - self.connections.len().min(options.connections);
        for _ in 0..missing.min(CONNECT_BATCH) {
            let index = self.connections.len();
            let request = options.requests.get(index % options.requests.len().max(1));
            let socket = connect(options, index, request.map_or(&[], Vec::as_slice))
                .context(&format!("opening connection {index} to {}", options.address))?;
            watch(&self.epoll, &socket, index)?;
            self.connections.push(Some(Connection {
                socket,
                in_head: true,
                ready: false,
                priced: false,
                counted: !options.only_even || index.is_multiple_of(2),
                tail: Vec::new(),
                prices: 0,
                newest_micros: 0,
            }));
        }
        Ok(())
    }

    /// Reads what one connection has; `to_the_end` when the peer has closed.
    fn look(&mut self, index: u64, to_the_end: bool) -> Result<()> {
        let Some(slot) = usize::try_from(index).ok().and_then(|at| self.connections.get_mut(at))
        else {
            return Ok(());
        };
        let Some(connection) = slot else { return Ok(()) };
        let (was_ready, was_priced) = (connection.ready, connection.priced);
        let look = connection.read(&self.parser, &mut self.buffer, &mut self.counts, to_the_end)?;
        if connection.ready && !was_ready {
            self.ready += 1;
        }
        if connection.priced && !was_priced {
            self.priced += 1;
        }
        if matches!(look, Look::Closed) {
            self.closed += 1;
            self.ready -= usize::from(connection.ready);
            self.priced -= usize::from(connection.priced);
            *slot = None;
        }
        Ok(())
    }

    fn report(&self) -> ClientReport {
        let nanos = Moment::now().nanos_since(self.counts.started).max(1);
        let cpu_nanos = thread_cpu_nanos() - self.counts.cpu_nanos_at_start;
        let prices = || self.connections.iter().map(|c| c.as_ref().map_or(0, |c| c.prices));
        ClientReport {
            seconds: seconds_between(self.counts.started, Moment::now()),
            prices: self.counts.prices,
            other_blocks: self.counts.other_blocks,
            gaps: self.counts.gaps,
            all_prices: self.all_prices + self.counts.prices,
            reads: self.counts.reads,
            bytes: self.counts.bytes,
            cpu_share: cpu_nanos as f64 / nanos as f64,
            prices_per_connection: (prices().min().unwrap_or(0), prices().max().unwrap_or(0)),
            out_of_order: self.counts.out_of_order,
            closed: self.closed,
            ages: self.counts.ages.clone(),
        }
    }
}

impl Connection {
    fn read(
        &mut self,
        parser: &FrameParser,
        buffer: &mut [u8],
        counts: &mut Counts,
        to_the_end: bool,
    ) -> Result<Look> {
        loop {
            let length = match (&self.socket).read(buffer) {
                Ok(0) => return self.end(),
                Ok(length) => length,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Ok(Look::Alive),
                    ErrorKind::Interrupted => continue,
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => return self.end(),
                    _ => return Err(error).context("reading a stream"),
                },
            };
            counts.reads += 1;
            counts.bytes += length as u64;
            let data = buffer.get(..length).unwrap_or_default();
            if self.in_head {
                self.head(parser, data, counts)?;
            } else {
                self.body(parser, data, counts)?;
            }
            // With edge-triggered events a read that left room has emptied the socket; what comes
            // later makes a new event.
            if length < buffer.len() && !to_the_end {
                return Ok(Look::Alive);
            }
        }
    }

    /// Bytes of the response head: only a `200` goes on.
    fn head(&mut self, parser: &FrameParser, data: &[u8], counts: &mut Counts) -> Result<()> {
        self.tail.extend_from_slice(data);
        let Some(end) = memchr::memmem::find(&self.tail, b"\r\n\r\n") else {
            if self.tail.len() > MAX_HEAD_BYTES {
                return Err(refused(&self.tail));
            }
            return Ok(());
        };
        let is_ok =
            [&b"HTTP/1.1 200 "[..], b"HTTP/1.0 200 "].iter().any(|ok| self.tail.starts_with(ok));
        if !is_ok {
            return Err(refused(&self.tail));
        }
        self.in_head = false;
        let tail = std::mem::take(&mut self.tail);
        self.body(parser, tail.get(end + 4..).unwrap_or_default(), counts)
    }

    fn body(&mut self, parser: &FrameParser, data: &[u8], counts: &mut Counts) -> Result<()> {
        let now_micros = wall_micros();
        let Self { tail, ready, priced, counted, prices, newest_micros, .. } = self;
        let fed = parser.feed(tail, data, |block| {
            *ready = true;
            let Block::Price { timestamp_micros } = block else {
                counts.other_blocks += 1;
                counts.gaps += u64::from(block == Block::Gap);
                return;
            };
            *priced = true;
            if !*counted {
                return;
            }
            counts.prices += 1;
            *prices += 1;
            counts.ages.saturating_record(now_micros.saturating_sub(timestamp_micros).max(1));
            if counts.ordered && timestamp_micros < *newest_micros {
                counts.out_of_order += 1;
            }
            *newest_micros = timestamp_micros.max(*newest_micros);
        });
        fed.map_err(|_| Error::Answer {
            what: "a stream sent a block without an end".to_owned(),
            answer: excerpt(&self.tail),
        })
    }

    /// The server closed: before the end of the head that is a refusal.
    fn end(&self) -> Result<Look> {
        if self.in_head { Err(refused(&self.tail)) } else { Ok(Look::Closed) }
    }
}

fn refused(head: &[u8]) -> Error {
    Error::Answer { what: "the server refused a stream".to_owned(), answer: excerpt(head) }
}

/// On loopback, connections come from several addresses in turn: from a single one the kernel
/// searches longer and longer for a free port once half of them are taken.
fn source(address: SocketAddr, index: usize) -> Option<SocketAddr> {
    let is_loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let last = SOURCES.get(index % SOURCES.len())?;
    is_loopback.then(|| SocketAddr::from(([127, 0, 0, *last], 0)))
}

fn watch(epoll: &OwnedFd, socket: &TcpStream, index: usize) -> Result<()> {
    let wanted = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    epoll::add(epoll, socket, epoll::EventData::new_u64(index as u64), wanted).context("epoll_ctl")
}

/// Connects and sends the request. The socket is reset at its close, so that rounds of thousands
/// of connections leave no ports in `TIME_WAIT`.
fn connect(options: &ClientOptions, index: usize, request: &[u8]) -> std::io::Result<TcpStream> {
    let address = options.address;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    if let Some(bytes) = options.receive_buffer_bytes {
        socket.set_recv_buffer_size(bytes)?;
    }
    if let Some(source) = source(address, index) {
        socket.bind(&source.into())?;
    }
    socket.set_linger(Some(Duration::ZERO))?;
    socket.set_tcp_nodelay(true)?;
    socket.connect_timeout(&address.into(), CONNECT_TIMEOUT)?;
    let mut socket = TcpStream::from(socket);
    // A fresh socket has room for a request: this never blocks for long.
    socket.write_all(request)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bare::{Bare, BareOptions};
    use crate::phase::Interrupt;

    fn options(address: SocketAddr, connections: usize) -> ClientOptions {
        ClientOptions {
            address,
            connections,
            requests: vec![b"POST /subscribe HTTP/1.1\r\n\r\n".to_vec()],
            core: cpu::core_count() - 1,
            ordered: true,
            only_even: false,
            receive_buffer_bytes: None,
            spin: false,
        }
    }

    #[test]
    fn client_and_bare_loop_agree_on_what_was_sent() {
        let (bare_control, control) = (Control::new(), Control::new());
        let bare = Bare::start(
            BareOptions {
                connections: 20,
                symbol: "SPY".to_owned(),
                core: 0,
                notsent_low_water_bytes: 4096,
                send_buffer_bytes: 64 * 1024,
            },
            bare_control.clone(),
        )
        .unwrap();
        let client = Client::start(options(bare.address, 20), control.clone()).unwrap();
        let interrupt = Interrupt::never();
        assert!(interrupt.wait_until(60.0, || Ok(control.ready() == 20)).unwrap());
        // The client's window lies around that of the loop.
        control.set(Phase::Measure);
        interrupt.sleep(0.1).unwrap();
        bare_control.set(Phase::Measure);
        interrupt.sleep(0.1).unwrap();
        bare_control.set(Phase::Counted);
        assert!(interrupt.wait_until(60.0, || Ok(bare_control.has_counted())).unwrap());
        interrupt.sleep(0.1).unwrap();
        control.set(Phase::Counted);
        assert!(interrupt.wait_until(60.0, || Ok(control.has_counted())).unwrap());
        bare_control.set(Phase::Stop);
        let sent = bare.join().unwrap();
        control.set(Phase::Stop);
        let seen = client.join().unwrap();
        assert!(sent.sends > 0 && sent.cpu_nanos > 0);
        assert!(seen.prices >= sent.sends, "{} frames of {} sends", seen.prices, sent.sends);
        assert_eq!(seen.ages.len(), seen.prices);
        assert!(seen.bytes >= seen.prices * sent.frame_bytes as u64);
        assert_eq!((seen.out_of_order, seen.closed, sent.closed), (0, 0, 0));
    }

    #[test]
    fn a_refused_stream_says_what_the_server_answered() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = Client::start(options(address, 1), Control::new()).unwrap();
        let (mut socket, _) = listener.accept().unwrap();
        let mut request = [0; 64];
        let _ = socket.read(&mut request).unwrap();
        socket.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n{\"code\":\"unknown_symbol\"}").unwrap();
        let error = client.join().unwrap_err();
        assert!(error.to_string().contains("unknown_symbol"), "{error}");
    }
}
