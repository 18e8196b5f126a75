//! The little of HTTP/1.1 that the feed thread needs: one GET on a connection of its own, and a
//! body read as it comes. Blocking and without buffers between the socket and the lines, because
//! every price passes here: one read takes up to 256 KiB, some 1,500 lines.
//!
//! No client library does this. hyper needs an executor, and hands every chunk of the body to another
//! task; this thread is a loop that never yields. ureq blocks, but its timeouts are deadlines of a
//! whole answer, and this one never ends: a silent connection could be told from a quiet market, or a
//! stop be seen, only by closing the socket from another thread. It also cannot bind a local address
//! or take the connection from [`Dialer`].

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use super::dial::Dialer;
use crate::shutdown::Shutdown;

/// Longest response head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most heads of the 1xx kind before the answer's own (RFC 9110, section 15.2).
const MAX_INTERIM_HEADS: usize = 16;
/// How often a silent connection is looked at, so that a stop is seen.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Most headers of a response.
const MAX_HEADERS: usize = 64;
/// Longest chunk-size line, extensions included.
const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Bytes asked from the socket at once: some 1,500 feed lines.
const READ_BYTES: usize = 256 * 1024;

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// So many bytes are left.
    Length(u64),
    /// So many bytes of the current chunk are left; zero: a size line follows.
    Chunked(u64),
    /// The line end after a chunk follows.
    ChunkEnd,
    /// Ends with the connection.
    Close,
    /// All read.
    Done,
}

/// A connection on which a whole answer is awaited until a deadline, whatever drips meanwhile, and
/// that ends when a stop is asked for.
pub(super) struct Awaited {
    stream: TcpStream,
    /// `None`: there is no end to the answer.
    deadline: Option<Instant>,
    shutdown: Shutdown,
}

impl Read for Awaited {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.shutdown.is_requested() {
                let stopped = io::ErrorKind::ConnectionAborted;
                return Err(io::Error::new(stopped, "a stop was asked for"));
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let late = "the whole answer did not come in time";
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
            match self.stream.read(into) {
                Err(error) if self.deadline.is_some() && is_timeout(&error) => {}
                outcome => return outcome,
            }
        }
    }
}

/// Whether nothing came in time, and more may still come.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// An answer whose body is still coming, from a socket or from whatever else gives bytes.
pub(super) struct Response<S = Awaited> {
    /// The status code.
    pub status: u16,
    stream: S,
    framing: Framing,
    /// Bytes that came and were not taken yet: `raw[taken..filled]`.
    raw: Vec<u8>,
    taken: usize,
    filled: usize,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// From where and for how long is asked.
#[derive(Debug, Clone)]
pub(super) struct GetOptions {
    /// Local address to connect from; the system chooses without one.
    pub source: Option<IpAddr>,
    /// Longest wait for the connection and the whole answer together.
    pub timeout: Duration,
    /// Ends the wait.
    pub shutdown: Shutdown,
}

/// Sends a GET and reads the head of its answer.
///
/// # Errors
/// Not reachable, no whole answer within the timeout, not HTTP, or a stop was asked for.
pub(super) fn get(dialer: &Dialer, path: &str, options: &GetOptions) -> io::Result<Response> {
    let GetOptions { source, timeout, shutdown } = options;
    let deadline = Some(Instant::now() + *timeout);
    let mut stream = dialer.connect(*source, *timeout, &|| shutdown.is_requested())?;
    stream.set_read_timeout(Some(LOOK_INTERVAL.min(*timeout)))?;
    stream.set_write_timeout(Some(*timeout))?;
    let authority = dialer.exchange().authority();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Response::read_head(Awaited { stream, deadline, shutdown: shutdown.clone() })
}

impl Response {
    /// From here on the answer may go on for ever.
    pub fn without_deadline(mut self) -> Self {
        self.stream.deadline = None;
        self
    }
}

impl<S: Read> Response<S> {
    pub(super) fn read_head(stream: S) -> io::Result<Self> {
        let raw = vec![0; READ_BYTES];
        let mut response =
            Self { status: 0, stream, framing: Framing::Close, raw, taken: 0, filled: 0 };
        let mut interim_heads = 0;
        loop {
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut headers);
            let bytes = response.raw.get(response.taken..response.filled).unwrap_or_default();
            match head.parse(bytes).map_err(|error| malformed(&error.to_string()))? {
                httparse::Status::Complete(length) => {
                    let status = head.code.unwrap_or(0);
                    response.taken += length;
                    if !(100..200).contains(&status) {
                        response.framing = framing(head.headers)?;
                        response.status = status;
                        return Ok(response);
                    }
                    // Only hints for whoever can use them; the answer follows.
                    interim_heads += 1;
                    if status == 101 || interim_heads > MAX_INTERIM_HEADS {
                        return Err(malformed("1xx and no answer"));
                    }
                }
                httparse::Status::Partial if bytes.len() >= MAX_HEAD_BYTES => {
                    return Err(malformed("the response head is too long"));
                }
                httparse::Status::Partial => {
                    if response.fill()? == 0 {
                        return Err(malformed("the connection ended within the response head"));
                    }
                }
            }
        }
    }

    /// Appends the next piece of the body. `false` once it has ended.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when nothing came in time (call again), the connection broke, or
    /// its framing is wrong.
    pub fn read_more(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        loop {
            if self.decode(body)? {
                return Ok(true);
            }
            if self.framing == Framing::Done {
                return Ok(false);
            }
            if self.fill()? == 0 {
                return match self.framing {
                    Framing::Close => Ok(false),
                    _ => Err(io::ErrorKind::UnexpectedEof.into()),
                };
            }
        }
    }

    /// Reads the whole body of at most `limit` bytes.
    pub fn read_to_end(mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.read_more(&mut body)? {
            if body.len() > limit {
                return Err(malformed("the response body is too long"));
            }
        }
        Ok(body)
    }

    fn fill(&mut self) -> io::Result<usize> {
        // A chunk-size line that came in part stays, at the front.
        self.raw.copy_within(self.taken..self.filled, 0);
        (self.taken, self.filled) = (0, self.filled - self.taken);
        let free = self.raw.get_mut(self.filled..).unwrap_or_default();
        let read = loop {
            match self.stream.read(free) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.filled += read;
        Ok(read)
    }

    /// Takes body bytes out of what has come; true when there were any.
    fn decode(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let before = body.len();
        while self.taken < self.filled {
            let available = self.raw.get(self.taken..self.filled).unwrap_or_default();
            match self.framing {
                Framing::Done => break,
                Framing::Close => {
                    body.extend_from_slice(available);
                    self.taken = self.filled;
                }
                Framing::Length(left) | Framing::Chunked(left @ 1..) => {
                    let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body.extend_from_slice(available.get(..length).unwrap_or_default());
                    self.taken += length;
                    let left = left - length as u64;
                    self.framing = match (self.framing, left) {
                        (Framing::Length(_), 0) => Framing::Done,
                        (Framing::Length(_), left) => Framing::Length(left),
                        (_, 0) => Framing::ChunkEnd,
                        (_, left) => Framing::Chunked(left),
                    };
                }
                Framing::Chunked(0) => {
                    let Some((line, length)) = line_of(available)? else { break };
                    let size = chunk_size(line)?;
                    self.taken += length;
                    self.framing = if size == 0 { Framing::Done } else { Framing::Chunked(size) };
                }
                Framing::ChunkEnd => {
                    let Some((line, length)) = line_of(available)? else { break };
                    if !line.is_empty() {
                        return Err(malformed("bytes behind the end of a chunk"));
                    }
                    self.taken += length;
                    self.framing = Framing::Chunked(0);
                }
            }
        }
        Ok(body.len() > before)
    }
}

/// A line without its end, and its length with it; `None` while it is not complete.
fn line_of(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let searched = bytes.get(..MAX_CHUNK_LINE_BYTES).unwrap_or(bytes);
    match memchr::memchr(b'\n', searched) {
        Some(end) => {
            let line = searched.get(..end).unwrap_or_default();
            let line = line.strip_suffix(b"\r").ok_or_else(|| malformed("a bare line feed"))?;
            Ok(Some((line, end + 1)))
        }
        None if bytes.len() >= MAX_CHUNK_LINE_BYTES => Err(malformed("a chunk line is too long")),
        None => Ok(None),
    }
}

fn chunk_size(line: &[u8]) -> io::Result<u64> {
    let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii();
    let invalid = || malformed("a chunk size is not a hexadecimal number");
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(invalid());
    }
    let text = std::str::from_utf8(digits).map_err(|_| invalid())?;
    u64::from_str_radix(text, 16).map_err(|_| invalid())
}

/// How the end of the body is told. What could be read in two ways is refused (RFC 9112, 6.3).
fn framing(headers: &[httparse::Header<'_>]) -> io::Result<Framing> {
    let mut framing = None;
    for header in headers {
        let told = if header.name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.trim_ascii().eq_ignore_ascii_case(b"chunked") {
                return Err(malformed("a transfer encoding other than chunked"));
            }
            Framing::Chunked(0)
        } else if header.name.eq_ignore_ascii_case("content-length") {
            match content_length(header.value)? {
                0 => Framing::Done,
                length => Framing::Length(length),
            }
        } else {
            continue;
        };
        if framing.replace(told).is_some_and(|before| before != told) {
            return Err(malformed("the length of the body is told in two ways"));
        }
    }
    Ok(framing.unwrap_or(Framing::Close))
}

fn content_length(value: &[u8]) -> io::Result<u64> {
    let digits = value.trim_ascii();
    let text = std::str::from_utf8(digits).ok().filter(|_| digits.iter().all(u8::is_ascii_digit));
    text.and_then(|text| text.parse().ok())
        .ok_or_else(|| malformed("a content length that is not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::ExchangeAddress;
    use crate::shutdown::StopReason;
    use std::net::TcpListener;

    fn options(timeout: Duration) -> GetOptions {
        GetOptions { source: None, timeout, shutdown: Shutdown::new() }
    }

    /// Serves the pieces one write at a time and reads the body that comes out.
    fn body_of(pieces: &'static [&'static str]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let dialer = Dialer::new(ExchangeAddress::from(listener.local_addr()?));
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 1024];
            let read = stream.read(&mut request).unwrap();
            assert!(request[..read].starts_with(b"GET /path HTTP/1.1\r\n"));
            stream.set_nodelay(true).unwrap();
            for piece in pieces {
                // The client may have hung up on an earlier piece.
                let _hung_up = stream.write_all(piece.as_bytes());
            }
        });
        let response = get(&dialer, "/path", &options(Duration::from_secs(5)))?;
        let status = response.status;
        let body = response.read_to_end(1024);
        server.join().unwrap();
        Ok((status, String::from_utf8(body?).unwrap()))
    }

    #[test]
    fn bodies_come_out_whatever_their_framing() {
        let length = &["HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe", "llo"];
        assert_eq!(body_of(length).unwrap(), (200, "hello".into()));
        let close = &["HTTP/1.1 410 Gone\r\n\r\nhe", "llo"];
        assert_eq!(body_of(close).unwrap(), (410, "hello".into()));
        let chunked = &[
            "HTTP/1.1 200 OK\r\ntransfer-",
            "encoding: chunked\r\n\r\n4;x=1\r",
            "\nhell\r",
            "\n1\r\no\r\n0\r\n\r\n",
        ];
        assert_eq!(body_of(chunked).unwrap(), (200, "hello".into()));
    }

    #[test]
    fn heads_of_the_1xx_kind_are_passed() {
        let hints = &[
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ",
            "200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ];
        assert_eq!(body_of(hints).unwrap(), (200, "hello".into()));
        assert!(body_of(&["HTTP/1.1 101 Switching Protocols\r\n\r\n"]).is_err());
    }

    /// A server whose answer drips for ever, a byte at a time.
    fn dripping(head: &'static str) -> Dialer {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let dialer = Dialer::new(ExchangeAddress::from(listener.local_addr().unwrap()));
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _hung_up = stream.write_all(head.as_bytes());
            while stream.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        dialer
    }

    #[test]
    fn an_answer_that_drips_has_a_deadline_as_a_whole() {
        for head in ["HTTP/1.1 200 OK\r\nx-drip: ", "HTTP/1.1 200 OK\r\n\r\n"] {
            let dialer = dripping(head);
            let answer = get(&dialer, "/path", &options(Duration::from_millis(300)));
            let late = answer.and_then(|answer| answer.read_to_end(usize::MAX)).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut, "{head}");
        }
    }

    #[test]
    fn a_stop_ends_the_wait_for_an_answer() {
        let dialer = dripping("HTTP/1.1 200 OK\r\n\r\n");
        let options = options(Duration::from_secs(600));
        let answer = get(&dialer, "/path", &options).unwrap();
        options.shutdown.request(StopReason::Asked);
        let stopped = answer.read_to_end(usize::MAX).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn broken_framing_is_an_error() {
        for pieces in [
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n"][..],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nabc\r\n"],
            &["HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\ncontent-length: +1\r\n\r\nx"],
            &["HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy"],
            &[
                "HTTP/1.1 200 OK\r\ncontent-length: 9\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            ],
            &["HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"],
            &["not http at all\r\n\r\n"],
            &["HTTP/1.1 200 OK\r\n"],
        ] {
            assert!(body_of(pieces).is_err(), "{pieces:?}");
        }
    }
}
