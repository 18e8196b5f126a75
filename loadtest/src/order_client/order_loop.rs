//! The loop that sends orders over its connections and reads the answers.

use std::{
    collections::{BTreeMap, VecDeque},
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::{
    buffer::spare_capacity,
    event::{Timespec, epoll},
    fd::OwnedFd,
    io::Errno,
};

use super::counts::Counts;
use super::{OrderOptions, OrderReport};
use crate::{
    clock::{Moment, seconds_between},
    cpu,
    error::{Context, Error, Result, excerpt},
    http,
    phase::{Control, Phase},
};

/// The status code of an accepted order.
pub(super) const ACCEPTED: u16 = 201;
/// Longest sleep without an event, so that a phase change is noticed in time.
const IDLE_NANOS: u64 = 5_000_000;
/// Bytes per read: more than an answer.
const READ_BYTES: usize = 16 * 1024;
/// How long one connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Most orders due without a free connection. At this point the server is minutes behind and the test
/// has failed.
const MAX_WAITING: usize = 1_000_000;
/// Most distinct error answers kept as examples.
const MAX_EXAMPLES: usize = 5;

/// One kept-alive connection.
struct Connection {
    socket: TcpStream,
    /// The request head up to the value of `Content-Length`.
    head: String,
    received: Vec<u8>,
    /// When the order in flight was due.
    due: Option<Moment>,
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

/// The loop of the client thread.
pub(super) struct OrderLoop {
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
    pub(super) fn new(options: OrderOptions) -> Result<Self> {
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

    pub(super) fn run(mut self, control: &Control) -> Result<OrderReport> {
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
                // The kernel's record is packed: the field is copied, not borrowed.
                let data = event.data;
                if let Ok(index) = usize::try_from(data.u64()) {
                    self.receive(index)?;
                }
            }
        }
    }

    /// Sends every due order that has a free connection; returns the longest sleep, in nanoseconds.
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
        // A single request always fits the empty send buffer, so there are no partial writes.
        (&connection.socket).write_all(&self.request).context("sending an order")?;
        connection.due = Some(due);
        self.sent += 1;
        self.counts.send(due);
        Ok(())
    }

    fn receive(&mut self, index: usize) -> Result<()> {
        let Some(connection) = self.connections.get_mut(index) else { return Ok(()) };
        match (&connection.socket).read(&mut self.buffer) {
            // The server may close an idle connection at any time, but not one with an order in flight.
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

    /// Replaces a connection that the server closed.
    fn reconnect(&mut self, index: usize) -> Result<()> {
        let socket = connect(self.options.address).context("opening a connection again")?;
        let data = epoll::EventData::new_u64(index as u64);
        epoll::add(&self.epoll, &socket, data, epoll::EventFlags::IN).context("epoll_ctl")?;
        if let Some(connection) = self.connections.get_mut(index) {
            // Closing the old socket removes it from the epoll set.
            connection.socket = socket;
            connection.received.clear();
        }
        Ok(())
    }

    /// Whether only orders that were due before are still sent.
    fn is_over(&self) -> bool {
        let most = self.options.most_orders;
        self.counts.ended.is_some() || most.is_some_and(|most| self.sent >= most)
    }

    /// Orders waiting for their answer or, in the open loop, for a connection.
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
