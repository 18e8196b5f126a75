//! The order client: one pinned thread, N kept-alive connections, one order in flight on each.
//! Closed loop: every answer is followed by the next order. Open loop: orders are due at fixed
//! times whatever the server does, and their latency counts from then, so that a stall is seen by
//! every order that it kept waiting.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    sync::Arc,
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

use crate::{
    clock::{Moment, seconds_between, thread_cpu_nanos},
    cpu,
    error::{Context, Error, Result, excerpt},
    http,
    phase::{Control, Phase},
};

/// Longest latency that the histogram tells apart, in microseconds.
const MAX_LATENCY_MICROS: u64 = 600_000_000;
/// The answer to an order that the exchange has.
const ACCEPTED: u16 = 201;
/// Longest sleep without an event, so that a change of phase is seen in time.
const IDLE_NANOS: u64 = 5_000_000;
/// Bytes taken in one read: more than an answer.
const READ_BYTES: usize = 16 * 1024;
/// How long one connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Orders that may be due and have no connection yet. At this point the server is minutes behind
/// and the test has failed.
const MAX_WAITING: usize = 1_000_000;
/// An order that leaves so long after it was due was kept waiting by something: by the client itself,
/// or because every connection had one in flight.
const LATE_NANOS: u64 = 1_000_000;
/// Different answers that are kept as examples of what went wrong.
const MAX_EXAMPLES: usize = 5;

/// What the client thread is to do.
#[derive(Debug, Clone)]
pub struct OrderOptions {
    /// Where to connect.
    pub address: SocketAddr,
    /// `host:port` for the `Host` header.
    pub authority: String,
    /// Number of connections, each with one order in flight.
    pub in_flight: usize,
    /// Bearer tokens; connection `i` uses number `i % len`.
    pub tokens: Vec<String>,
    /// Orders a second in the open loop; `None` for the closed loop.
    pub rate: Option<f64>,
    /// Beginning of each `clientOrderId`, unique to this run.
    pub run_id: String,
    /// Symbols of the orders, in turn.
    pub symbols: Vec<String>,
    /// Limits of the (buy) orders, in turn. Those far below the market stay open.
    pub limit_prices_cents: Vec<u64>,
    /// Send no more than so many orders.
    pub most_orders: Option<u64>,
    /// The core that the thread is pinned to.
    pub core: usize,
}

/// What the client saw in the measured window.
#[derive(Debug, Clone)]
pub struct OrderReport {
    /// Length of the window in seconds.
    pub seconds: f64,
    /// Answers that came in the window.
    pub answered: u64,
    /// How many of them say that the order is at the exchange (`201`).
    pub accepted: u64,
    /// Answers to the orders of the window by status code, also of those that came after it.
    pub answers: BTreeMap<u16, u64>,
    /// All answers since the start, by status code.
    pub all_answers: BTreeMap<u16, u64>,
    /// Microseconds from the time that an order was due (open loop) or sent (closed loop) to its
    /// whole answer, of the orders whose time lies in the window.
    pub latencies: Histogram<u64>,
    /// Share of the window that the client thread was on its core, 0 to 1.
    pub cpu_share: f64,
    /// Most orders that were due and had no connection yet.
    pub most_waiting: usize,
    /// Orders of the window that were sent a millisecond or more after they were due, and by how
    /// much at most, in nanoseconds. Their latency counts from when they were due all the same.
    pub sent_late: u64,
    /// See `sent_late`.
    pub most_late_nanos: u64,
    /// Orders sent since the start.
    pub sent: u64,
    /// Orders without an answer at the end, after the time to drain; those that were due and never
    /// sent are among them.
    pub unanswered: u64,
    /// Some answers that were not `201`.
    pub examples: Vec<String>,
}

/// A running client thread.
#[derive(Debug)]
pub struct OrderClient(JoinHandle<Result<OrderReport>>);

impl OrderClient {
    /// Starts the thread, which connects and sends at once. After [`Phase::Counted`], or when it has
    /// sent all that it may, it sends no more, and says so when the last answer has come.
    ///
    /// # Errors
    /// [`Error::Io`] when the thread cannot be made.
    pub fn start(options: OrderOptions, control: Arc<Control>) -> Result<Self> {
        let work = move || OrderLoop::new(options)?.run(&control);
        let thread = thread::Builder::new().name("order-client".to_owned()).spawn(work);
        Ok(Self(thread.context("starting the client thread")?))
    }

    /// Whether the thread has ended, which before [`Phase::Stop`] means that it failed.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the end of the thread.
    ///
    /// # Errors
    /// Whatever stopped it.
    pub fn join(self) -> Result<OrderReport> {
        self.0.join().map_err(|_| Error::Thread("order client"))?
    }
}

/// One kept-alive connection.
struct Connection {
    socket: TcpStream,
    /// The request head up to the value of `Content-Length`.
    head: String,
    received: Vec<u8>,
    /// When the order in flight was due.
    due: Option<Moment>,
}

/// What is counted between the start and the end of the window.
struct Counts {
    answered: u64,
    accepted: u64,
    answers: BTreeMap<u16, u64>,
    latencies: Histogram<u64>,
    most_waiting: usize,
    sent_late: u64,
    most_late_nanos: u64,
    started: Moment,
    cpu_nanos_at_start: u64,
    /// Set when the window is over: its end, and the CPU time of the thread since its start.
    ended: Option<(Moment, u64)>,
}

impl Counts {
    fn start() -> Result<Self> {
        Ok(Self {
            answered: 0,
            accepted: 0,
            answers: BTreeMap::new(),
            latencies: Histogram::new_with_bounds(1, MAX_LATENCY_MICROS, 3)
                .map_err(std::io::Error::other)
                .context("making the latency histogram")?,
            most_waiting: 0,
            sent_late: 0,
            most_late_nanos: 0,
            started: Moment::now(),
            cpu_nanos_at_start: thread_cpu_nanos(),
            ended: None,
        })
    }

    fn end(&mut self) {
        let cpu_nanos = thread_cpu_nanos() - self.cpu_nanos_at_start;
        self.ended = Some((Moment::now(), cpu_nanos));
    }

    fn is_of_window(&self, due: Moment) -> bool {
        due >= self.started && self.ended.is_none_or(|(end, _)| due < end)
    }

    /// Counts an order that was due at `due` and leaves now.
    fn send(&mut self, due: Moment) {
        let late_nanos = Moment::now().nanos_since(due);
        if late_nanos >= LATE_NANOS && self.is_of_window(due) {
            self.sent_late += 1;
            self.most_late_nanos = self.most_late_nanos.max(late_nanos);
        }
    }

    /// Counts an answer to an order that was due at `due`.
    fn answer(&mut self, status: u16, due: Moment) {
        let now = Moment::now();
        let end = self.ended.map(|(end, _)| end);
        self.answered += u64::from(end.is_none());
        self.accepted += u64::from(end.is_none() && status == ACCEPTED);
        if self.is_of_window(due) {
            self.latencies.saturating_record((now.nanos_since(due) / 1_000).max(1));
            *self.answers.entry(status).or_default() += 1;
        }
    }
}

/// When orders are due in the open loop.
struct Schedule {
    start: Moment,
    rate: f64,
    next: u64,
}

impl Schedule {
    /// When the next order is due.
    fn next_due(&self) -> Moment {
        self.start.plus_seconds(self.next as f64 / self.rate)
    }
}

struct OrderLoop {
    options: OrderOptions,
    epoll: OwnedFd,
    connections: Vec<Connection>,
    /// Connections without an order in flight; the longest idle one is used first.
    idle: VecDeque<usize>,
    /// Due times of the orders that wait for a connection.
    waiting: VecDeque<Moment>,
    schedule: Option<Schedule>,
    buffer: Vec<u8>,
    request: Vec<u8>,
    counts: Counts,
    sent: u64,
    answers: BTreeMap<u16, u64>,
    examples: Vec<String>,
}

impl OrderLoop {
    fn new(options: OrderOptions) -> Result<Self> {
        cpu::pin(options.core, "client-core")?;
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC).context("epoll_create")?;
        let mut connections = Vec::with_capacity(options.in_flight);
        for index in 0..options.in_flight {
            let token = options.tokens.get(index % options.tokens.len().max(1));
            let socket = connect(options.address)
                .context(&format!("opening connection {index} to {}", options.address))?;
            let data = epoll::EventData::new_u64(index as u64);
            epoll::add(&epoll, &socket, data, epoll::EventFlags::IN).context("epoll_ctl")?;
            let head = format!(
                "POST /order HTTP/1.1\r\nHost: {}\r\nAuthorization: Bearer {}\r\n\
                 Content-Type: application/json\r\nContent-Length: ",
                options.authority,
                token.map_or("", String::as_str)
            );
            connections.push(Connection { socket, head, received: Vec::new(), due: None });
        }
        let rate = options.rate;
        Ok(Self {
            epoll,
            idle: (0..connections.len()).collect(),
            connections,
            waiting: VecDeque::new(),
            schedule: rate.map(|rate| Schedule { start: Moment::now(), rate, next: 0 }),
            buffer: vec![0; READ_BYTES],
            request: Vec::new(),
            counts: Counts::start()?,
            sent: 0,
            answers: BTreeMap::new(),
            examples: Vec::new(),
            options,
        })
    }

    fn run(mut self, control: &Control) -> Result<OrderReport> {
        let mut events = Vec::with_capacity(self.connections.len().max(1));
        let mut measuring = false;
        control.set_ready(self.connections.len());
        loop {
            match control.phase() {
                Phase::Measure if !measuring => {
                    measuring = true;
                    self.counts = Counts::start()?;
                }
                Phase::Counted if self.counts.ended.is_none() => self.counts.end(),
                Phase::Stop => return Ok(self.report()),
                Phase::Warm | Phase::Measure | Phase::Counted => {}
            }
            if self.is_over() && self.unanswered() == 0 {
                control.set_counted();
            }
            let timeout = self.send_what_is_due()?;
            let timeout = Timespec { tv_sec: 0, tv_nsec: i64::try_from(timeout).unwrap_or(0) };
            match epoll::wait(&self.epoll, spare_capacity(&mut events), Some(&timeout)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in events.drain(..) {
                // The kernel's record is packed: its field is copied, not borrowed.
                let data = event.data;
                if let Ok(index) = usize::try_from(data.u64()) {
                    self.receive(index)?;
                }
            }
        }
    }

    /// Sends every order that is due and has a connection; returns how long to sleep at most, in
    /// nanoseconds.
    fn send_what_is_due(&mut self) -> Result<u64> {
        let mut sleep = IDLE_NANOS;
        let over = self.is_over();
        if let Some(schedule) = self.schedule.as_mut().filter(|_| !over) {
            let now = Moment::now();
            while schedule.next_due() <= now && self.waiting.len() < MAX_WAITING {
                self.waiting.push_back(schedule.next_due());
                schedule.next += 1;
            }
            sleep = sleep.min(schedule.next_due().nanos_since(now));
            self.counts.most_waiting = self.counts.most_waiting.max(self.waiting.len());
        }
        while let Some(index) = self.idle.pop_front() {
            let due = match &self.schedule {
                None if !self.is_over() => Moment::now(),
                _ => match self.waiting.pop_front() {
                    Some(due) => due,
                    None => {
                        self.idle.push_front(index);
                        break;
                    }
                },
            };
            self.send(index, due)?;
        }
        Ok(sleep)
    }

    fn send(&mut self, index: usize, due: Moment) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        let symbols = &self.options.symbols;
        let number = usize::try_from(self.sent).unwrap_or(0);
        let at = number % symbols.len().max(1);
        let limits = &self.options.limit_prices_cents;
        let limit = limits.get(number % limits.len().max(1)).copied().unwrap_or_default();
        let body = format!(
            "{{\"position\":\"buy\",\"symbol\":\"{}\",\"numShares\":1,\"priceInCents\":{},\
             \"clientOrderId\":\"{}-{}\"}}",
            symbols.get(at).map_or("", String::as_str),
            limit,
            self.options.run_id,
            self.sent
        );
        self.request.clear();
        // Writing to a vector cannot fail.
        let _ = write!(self.request, "{}{}\r\n\r\n{body}", connection.head, body.len());
        // One request in flight always fits the empty send buffer: no partial write to remember.
        (&connection.socket).write_all(&self.request).context("sending an order")?;
        connection.due = Some(due);
        self.sent += 1;
        self.counts.send(due);
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        match (&connection.socket).read(&mut self.buffer) {
            // An idle connection may be closed at any time; one with an order in flight may not.
            Ok(0) if connection.due.is_none() => return self.reconnect(index),
            Ok(0) => {
                let received = excerpt(&connection.received);
                return Err(wrong("the server closed a connection", &received));
            }
            Ok(length) => {
                let data = self.buffer.get(..length).unwrap_or_default();
                connection.received.extend_from_slice(data);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading an answer"),
        }
        let answer = http::parse(&connection.received)
            .map_err(|_| wrong("an answer is no readable HTTP", &excerpt(&connection.received)))?;
        let Some(answer) = answer else { return Ok(()) };
        let Some(due) = connection.due.take() else {
            return Err(wrong("an answer without a request", &excerpt(&connection.received)));
        };
        self.counts.answer(answer.status, due);
        *self.answers.entry(answer.status).or_default() += 1;
        if answer.status != ACCEPTED && self.examples.len() < MAX_EXAMPLES {
            let body = connection.received.get(answer.body_start..answer.length);
            let example = format!("{} {}", answer.status, excerpt(body.unwrap_or_default()));
            if !self.examples.contains(&example) {
                self.examples.push(example);
            }
        }
        connection.received.drain(..answer.length);
        if answer.closes {
            self.reconnect(index)?;
        }
        self.idle.push_back(index);
        Ok(())
    }

    /// Replaces a connection that the server closes or has closed.
    fn reconnect(&mut self, index: usize) -> Result<()> {
        let socket = connect(self.options.address).context("opening a connection again")?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).context("epoll_ctl")?;
        if let Some(connection) = self.connections.get_mut(index) {
            // Closing the old socket takes it out of the epoll set.
            connection.socket = socket;
            connection.received.clear();
        }
        Ok(())
    }

    /// Whether no order is sent any more, but those that were due before.
    fn is_over(&self) -> bool {
        let most = self.options.most_orders;
        self.counts.ended.is_some() || most.is_some_and(|most| self.sent >= most)
    }

    /// Orders that wait for their answer or, in the open loop, for a connection.
    fn unanswered(&self) -> u64 {
        let in_flight = self.connections.iter().filter(|connection| connection.due.is_some());
        (in_flight.count() + self.waiting.len()) as u64
    }

    fn report(mut self) -> OrderReport {
        if self.counts.ended.is_none() {
            self.counts.end();
        }
        let (end, cpu_nanos) = self.counts.ended.unwrap_or((self.counts.started, 0));
        let nanos = end.nanos_since(self.counts.started).max(1);
        OrderReport {
            seconds: seconds_between(self.counts.started, end),
            answered: self.counts.answered,
            accepted: self.counts.accepted,
            cpu_share: cpu_nanos as f64 / nanos as f64,
            most_waiting: self.counts.most_waiting,
            sent_late: self.counts.sent_late,
            most_late_nanos: self.counts.most_late_nanos,
            sent: self.sent,
            unanswered: self.unanswered(),
            answers: self.counts.answers,
            all_answers: self.answers,
            latencies: self.counts.latencies,
            examples: self.examples,
        }
    }
}

fn wrong(what: &str, answer: &str) -> Error {
    Error::Answer { what: what.to_owned(), answer: answer.to_owned() }
}

fn connect(address: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpStream::connect_timeout(&address, CONNECT_TIMEOUT)?;
    socket.set_nodelay(true)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Interrupt;
    use std::{collections::BTreeSet, io::BufRead, io::BufReader, net::TcpListener, sync::mpsc};

    /// A server that answers `201` and tells the bodies of its requests. The first answer comes
    /// after `stall`; every `close_each`th one ends its connection.
    fn server(stall: Duration, close_each: usize) -> (SocketAddr, mpsc::Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (bodies, seen) = mpsc::channel();
        thread::spawn(move || {
            for (number, socket) in listener.incoming().flatten().enumerate() {
                let (bodies, stall) =
                    (bodies.clone(), if number == 0 { stall } else { Duration::ZERO });
                thread::spawn(move || answer(socket, stall, close_each, &bodies));
            }
        });
        (address, seen)
    }

    fn answer(
        socket: TcpStream,
        stall: Duration,
        close_each: usize,
        bodies: &mpsc::Sender<String>,
    ) {
        let mut reader = BufReader::new(&socket);
        for number in 1.. {
            let mut length = 0;
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).unwrap_or(0) == 0 {
                    return;
                }
                if let Some(value) = line.strip_prefix("Content-Length: ") {
                    length = value.trim().parse().unwrap();
                }
                if line == "\r\n" {
                    break;
                }
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            bodies.send(String::from_utf8(body).unwrap()).unwrap();
            if number == 1 {
                thread::sleep(stall);
            }
            let close = if number % close_each == 0 { "Connection: close\r\n" } else { "" };
            let text = format!("HTTP/1.1 201 Created\r\n{close}Content-Length: 2\r\n\r\n{{}}");
            if (&socket).write_all(text.as_bytes()).is_err() || !close.is_empty() {
                return;
            }
        }
    }

    fn run(options: OrderOptions) -> OrderReport {
        let control = Control::new();
        // The window starts before the first order, so that no order lies outside of it.
        control.set(Phase::Measure);
        let client = OrderClient::start(options, control.clone()).unwrap();
        let interrupt = Interrupt::never();
        interrupt.sleep(0.3).unwrap();
        control.set(Phase::Counted);
        interrupt.wait_until(60.0, || Ok(client.has_ended() || control.has_counted())).unwrap();
        control.set(Phase::Stop);
        client.join().unwrap()
    }

    fn options(address: SocketAddr, in_flight: usize, rate: Option<f64>) -> OrderOptions {
        OrderOptions {
            address,
            authority: address.to_string(),
            in_flight,
            tokens: vec!["a".to_owned(), "b".to_owned()],
            rate,
            run_id: "run".to_owned(),
            symbols: vec!["SPY".to_owned(), "IBM".to_owned()],
            limit_prices_cents: vec![100, 200],
            most_orders: None,
            core: cpu::core_count() - 1,
        }
    }

    #[test]
    fn every_order_is_sent_once_and_answered() {
        let (address, seen) = server(Duration::ZERO, 10);
        let report = run(options(address, 4, None));
        let bodies: Vec<String> = seen.try_iter().collect();
        assert_eq!(bodies.len() as u64, report.sent);
        assert_eq!(bodies.iter().collect::<BTreeSet<_>>().len(), bodies.len(), "all different");
        assert!(report.sent > 40, "connections were closed and opened again");
        assert_eq!((report.unanswered, report.examples.len()), (0, 0));
        assert_eq!(report.answers.keys().collect::<Vec<_>>(), [&201]);
        assert_eq!(report.all_answers, BTreeMap::from([(201, report.sent)]));
        assert_eq!(report.latencies.len(), report.sent, "also those answered after the window");
    }

    #[test]
    fn no_more_orders_leave_than_may() {
        let (address, seen) = server(Duration::ZERO, usize::MAX);
        let report = run(OrderOptions { most_orders: Some(30), ..options(address, 4, None) });
        assert_eq!((report.sent, report.unanswered), (30, 0));
        let cheap = seen.try_iter().filter(|body| body.contains("\"priceInCents\":100,")).count();
        assert_eq!(cheap, 15, "limits take turns");
    }

    #[test]
    fn a_stall_is_seen_by_every_order_that_was_due_in_it() {
        let stall = Duration::from_millis(100);
        let (address, _seen) = server(stall, usize::MAX);
        let report = run(options(address, 1, Some(500.0)));
        assert_eq!(report.unanswered, 0, "what was due is sent, even late");
        assert!(report.sent_late > 10 && report.most_late_nanos > 50_000_000, "and counted");
        // About 50 orders were due while the only connection waited; a closed loop would see one.
        let late = report.latencies.len() - report.latencies.count_between(0, 20_000);
        assert!(late > 10, "{late} of {} orders were late", report.latencies.len());
    }
}
