//! A minimal blocking HTTP/1.1 client for the feed thread: one GET per connection, its body read as
//! it arrives. Nothing is buffered between the socket and the feed lines, because every price takes
//! this path: one read takes up to 256 KiB, some 1,500 lines.
//!
//! No client library does this. hyper needs an executor and hands every chunk of the body to another
//! task; this thread is a loop that never yields. ureq blocks, but its timeouts are deadlines for a
//! whole answer, and this answer never ends: to tell a silent connection from a quiet market, or to
//! notice a stop, another thread would have to close the socket. Nor can ureq bind a local address or
//! take a connection from [`Dialer`].

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::{Duration, Instant};

use super::dial::Dialer;
use crate::shutdown::Shutdown;

/// Longest response head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Most 1xx responses before the final one (RFC 9110, section 15.2).
const MAX_INTERIM_HEADS: usize = 16;
/// Interval at which a silent connection checks for a stop.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Most headers of a response.
const MAX_HEADERS: usize = 64;
/// Longest chunk-size line, extensions included.
const MAX_CHUNK_LINE_BYTES: usize = 256;
/// Bytes per read from the socket: about 1,500 feed lines.
const READ_BYTES: usize = 256 * 1024;

/// How the end of the body is delimited (RFC 9112, section 6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framing {
    /// Bytes left of `Content-Length`.
    Length(u64),
    /// Bytes left of the current chunk; at zero a chunk-size line follows.
    Chunked(u64),
    /// The line end after a chunk follows.
    ChunkEnd,
    /// The body ends when the connection closes.
    Close,
    /// The body is complete.
    Done,
}

/// A socket whose whole response must arrive by a deadline, however slowly it drips. Reading fails
/// once a stop is requested.
pub(super) struct DeadlineStream {
    stream: TcpStream,
    /// `None` for a response that never ends.
    deadline: Option<Instant>,
    shutdown: Shutdown,
}

impl Read for DeadlineStream {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        loop {
            if self.shutdown.is_requested() {
                let stopped = io::ErrorKind::ConnectionAborted;
                return Err(io::Error::new(stopped, "a stop was requested"));
            }
            if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                let late = "the response was incomplete at the deadline";
                return Err(io::Error::new(io::ErrorKind::TimedOut, late));
            }
            match self.stream.read(into) {
                Err(error) if self.deadline.is_some() && is_timeout(&error) => {}
                outcome => return outcome,
            }
        }
    }
}

/// Whether the read timed out; more bytes may follow.
pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

/// A response whose body is still arriving, from a socket or any other reader.
pub(super) struct Response<S = DeadlineStream> {
    /// The status code.
    pub status: u16,
    stream: S,
    framing: Framing,
    /// Bytes received but not yet decoded: `raw[taken..filled]`.
    raw: Vec<u8>,
    taken: usize,
    filled: usize,
}

fn malformed(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}

/// Options of [`get`].
#[derive(Debug, Clone)]
pub(super) struct GetOptions {
    /// Local address to connect from; `None` lets the system choose.
    pub source: Option<IpAddr>,
    /// Time limit for the connection and the whole response together.
    pub timeout: Duration,
    /// Aborts the request when a stop is requested.
    pub shutdown: Shutdown,
}

/// Sends a GET and reads the response head.
///
/// # Errors
/// The exchange is not reachable, the response was not complete within the timeout or is not HTTP,
/// or a stop was requested.
pub(super) fn get(dialer: &Dialer, path: &str, options: &GetOptions) -> io::Result<Response> {
    let GetOptions { source, timeout, shutdown } = options;
    let deadline = Some(Instant::now() + *timeout);
    let mut stream = dialer.connect(*source, *timeout, &|| shutdown.is_requested())?;
    stream.set_read_timeout(Some(LOOK_INTERVAL.min(*timeout)))?;
    stream.set_write_timeout(Some(*timeout))?;
    let authority = dialer.exchange().authority();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Response::read_head(DeadlineStream { stream, deadline, shutdown: shutdown.clone() })
}

impl Response {
    /// Lifts the deadline: from here on the body may go on for ever.
    pub(super) fn without_deadline(mut self) -> Self {
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
            let bytes = undecoded(&response.raw, response.taken, response.filled);
            match head.parse(bytes).map_err(|error| malformed(&error.to_string()))? {
                httparse::Status::Complete(length) => {
                    let status = head.code.unwrap_or(0);
                    response.taken += length;
                    if !(100..200).contains(&status) {
                        response.framing = framing(head.headers)?;
                        response.status = status;
                        return Ok(response);
                    }
                    // An interim response; the final one follows.
                    interim_heads += 1;
                    if status == 101 || interim_heads > MAX_INTERIM_HEADS {
                        return Err(malformed("a 1xx response without a final one"));
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

    /// Appends the next piece of the body; `false` once the body has ended.
    ///
    /// # Errors
    /// `WouldBlock` or `TimedOut` when nothing arrived in time (call again), the connection broke,
    /// or the framing is invalid.
    pub(super) fn read_more(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
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

    /// Reads the whole body, at most `limit` bytes.
    pub(super) fn read_to_end(mut self, limit: usize) -> io::Result<Vec<u8>> {
        let mut body = Vec::new();
        while self.read_more(&mut body)? {
            if body.len() > limit {
                return Err(malformed("the response body is too long"));
            }
        }
        Ok(body)
    }

    fn fill(&mut self) -> io::Result<usize> {
        // Keep a partial chunk-size line: move it to the front.
        self.raw.copy_within(self.taken..self.filled, 0);
        (self.taken, self.filled) = (0, self.filled - self.taken);
        let (_, free) = self.raw.split_at_mut(self.filled);
        assert!(
            !free.is_empty(),
            "a head or a chunk line that fills the buffer is an error before"
        );
        let read = loop {
            match self.stream.read(free) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome?,
            }
        };
        self.filled += read;
        Ok(read)
    }

    /// Decodes body bytes from what has arrived; `true` if there were any.
    fn decode(&mut self, body: &mut Vec<u8>) -> io::Result<bool> {
        let before = body.len();
        while self.taken < self.filled {
            let available = undecoded(&self.raw, self.taken, self.filled);
            match self.framing {
                Framing::Done => break,
                Framing::Close => {
                    body.extend_from_slice(available);
                    self.taken = self.filled;
                }
                Framing::Length(left) | Framing::Chunked(left @ 1..) => {
                    let length = available.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                    body.extend_from_slice(available.split_at(length).0);
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
                        return Err(malformed("bytes after the end of a chunk"));
                    }
                    self.taken += length;
                    self.framing = Framing::Chunked(0);
                }
            }
        }
        Ok(body.len() > before)
    }
}

/// The bytes received but not yet decoded.
fn undecoded(raw: &[u8], taken: usize, filled: usize) -> &[u8] {
    assert!(taken <= filled, "bytes are received before they are decoded");
    raw.split_at(filled).0.split_at(taken).1
}

/// A line without its line end, and its length with it; `None` while it is incomplete.
fn line_of(bytes: &[u8]) -> io::Result<Option<(&[u8], usize)>> {
    let searched = bytes.get(..MAX_CHUNK_LINE_BYTES).unwrap_or(bytes);
    match memchr::memchr(b'\n', searched) {
        Some(end) => {
            let (line, _) = searched.split_at(end);
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

/// How the body is delimited. Ambiguous framing is rejected (RFC 9112, section 6.3).
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
            return Err(malformed("conflicting lengths of the body"));
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

    /// Serves the pieces one write at a time and returns the status and the decoded body.
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
    fn bodies_are_decoded_with_any_framing() {
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
    fn interim_responses_are_skipped() {
        let hints = &[
            "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ",
            "200 OK\r\ncontent-length: 5\r\n\r\nhello",
        ];
        assert_eq!(body_of(hints).unwrap(), (200, "hello".into()));
        assert!(body_of(&["HTTP/1.1 101 Switching Protocols\r\n\r\n"]).is_err());
    }

    /// A server whose response drips forever, a byte at a time.
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
    fn a_dripping_response_has_one_deadline() {
        for head in ["HTTP/1.1 200 OK\r\nx-drip: ", "HTTP/1.1 200 OK\r\n\r\n"] {
            let dialer = dripping(head);
            let answer = get(&dialer, "/path", &options(Duration::from_millis(300)));
            let late = answer.and_then(|answer| answer.read_to_end(usize::MAX)).unwrap_err();
            assert_eq!(late.kind(), io::ErrorKind::TimedOut, "{head}");
        }
    }

    #[test]
    fn a_stop_aborts_the_response() {
        let dialer = dripping("HTTP/1.1 200 OK\r\n\r\n");
        let options = options(Duration::from_secs(600));
        let answer = get(&dialer, "/path", &options).unwrap();
        options.shutdown.request(StopReason::Requested);
        let stopped = answer.read_to_end(usize::MAX).unwrap_err();
        assert_eq!(stopped.kind(), io::ErrorKind::ConnectionAborted);
    }

    #[test]
    fn invalid_framing_is_an_error() {
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
