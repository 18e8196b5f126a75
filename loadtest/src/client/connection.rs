//! One stream: its socket, response head and blocks.

use std::{
    io::{ErrorKind, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use rustix::{event::epoll, fd::OwnedFd};
use socket2::{Domain, Protocol, Socket, Type};

use super::ClientOptions;
use super::counts::Counts;
use crate::{
    clock::wall_micros,
    error::{Context, Error, Result, excerpt},
    frames::{Block, FrameParser},
};

/// Last bytes of the loopback addresses to connect from.
const SOURCES: [u8; 4] = [1, 2, 3, 4];
/// How long one connect may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest accepted response head.
const MAX_HEAD_BYTES: usize = 16 * 1024;

/// The client's state of one stream.
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    /// Whether the response head is incomplete.
    in_head: bool,
    /// Whether a block arrived after the head.
    pub(super) ready: bool,
    /// Whether a price arrived.
    pub(super) priced: bool,
    /// Whether its prices are counted.
    counted: bool,
    /// Bytes of an incomplete head or block.
    tail: Vec<u8>,
    pub(super) prices: u64,
    newest_micros: u64,
}

/// The state of a connection after a read.
pub(super) enum Look {
    Alive,
    Closed,
}

impl Connection {
    /// Opens the connection with this index.
    pub(super) fn open(options: &ClientOptions, index: usize) -> Result<Self> {
        let request = options.requests.get(index % options.requests.len().max(1));
        let socket = connect(options, index, request.map_or(&[], Vec::as_slice))
            .context(&format!("opening connection {index} to {}", options.address))?;
        Ok(Self {
            socket,
            in_head: true,
            ready: false,
            priced: false,
            counted: !options.only_even || index.is_multiple_of(2),
            tail: Vec::new(),
            prices: 0,
            newest_micros: 0,
        })
    }

    pub(super) fn read(
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
            // With edge-triggered events, a short read has emptied the socket; new data makes a
            // later makes a new event.
            if length < buffer.len() && !to_the_end {
                return Ok(Look::Alive);
            }
        }
    }

    /// Reads bytes of the response head; anything but a `200` is an error.
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

    /// The server closed the connection; before the end of the head, that is a refusal.
    fn end(&self) -> Result<Look> {
        if self.in_head { Err(refused(&self.tail)) } else { Ok(Look::Closed) }
    }
}

fn refused(head: &[u8]) -> Error {
    Error::Answer { what: "the server refused a stream".to_owned(), answer: excerpt(head) }
}

/// On loopback, connections use several source addresses in turn: with a single one, the kernel's
/// search for a free port slows down once half of them are taken.
fn source(address: SocketAddr, index: usize) -> Option<SocketAddr> {
    let is_loopback = matches!(address.ip(), IpAddr::V4(ip) if ip.is_loopback());
    let last = SOURCES.get(index % SOURCES.len())?;
    is_loopback.then(|| SocketAddr::from(([127, 0, 0, *last], 0)))
}

/// Registers the socket for edge-triggered reads.
pub(super) fn watch(epoll: &OwnedFd, socket: &TcpStream, index: usize) -> Result<()> {
    let wanted = epoll::EventFlags::IN | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
    epoll::add(epoll, socket, epoll::EventData::new_u64(index as u64), wanted).context("epoll_ctl")
}

/// Connects and sends the request. Closing resets the socket, so that rounds of thousands of
/// connections leave no ports in `TIME_WAIT`.
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
    // A new socket has room for a request, so this does not block for long.
    socket.write_all(request)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
