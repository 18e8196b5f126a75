//! The little of HTTP/1.1 that the feed thread needs: one GET on a connection of its own, and a
//! body read as it comes. Blocking and without buffers between the socket and the lines, because
//! every price passes here.

use std::io::{self, Read, Write};
use std::net::{IpAddr, TcpStream};
use std::time::Duration;

use super::address::ExchangeAddress;
use crate::net::connect_blocking;

/// Longest response head.
const MAX_HEAD_BYTES: usize = 16 * 1024;
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
    /// The line end behind a chunk follows.
    ChunkEnd,
    /// Ends with the connection.
    Close,
    /// All read.
    Done,
}

/// An answer whose body is still coming, from a socket or from whatever else gives bytes.
pub(super) struct Response<S = TcpStream> {
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

/// Sends a GET and reads the head of its answer.
///
/// # Errors
/// Not reachable, silent for `timeout`, or not HTTP.
pub(super) fn get(
    address: &ExchangeAddress,
    source: Option<IpAddr>,
    path: &str,
    timeout: Duration,
) -> io::Result<Response> {
    let mut stream = connect_blocking(address.resolve()?, source, timeout)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    stream.set_write_timeout(Some(timeout))?;
    let authority = address.authority();
    let request = format!("GET {path} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    Response::read_head(stream)
}

impl Response {
    /// Waits for no longer than this at each read from here on.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(timeout))
    }
}

impl<S: Read> Response<S> {
    pub(super) fn read_head(stream: S) -> io::Result<Self> {
        let raw = vec![0; READ_BYTES];
        let mut response =
            Self { status: 0, stream, framing: Framing::Close, raw, taken: 0, filled: 0 };
        loop {
            if response.fill()? == 0 {
                return Err(malformed("the connection ended within the response head"));
            }
            let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
            let mut head = httparse::Response::new(&mut headers);
            let bytes = response.raw.get(..response.filled).unwrap_or_default();
            match head.parse(bytes).map_err(|error| malformed(&error.to_string()))? {
                httparse::Status::Complete(length) => {
                    response.framing = framing(head.headers)?;
                    response.status = head.code.unwrap_or(0);
                    response.taken = length;
                    return Ok(response);
                }
                httparse::Status::Partial if response.filled >= MAX_HEAD_BYTES => {
                    return Err(malformed("the response head is too long"));
                }
                httparse::Status::Partial => {}
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
    use std::net::TcpListener;

    /// Serves the pieces one write at a time and reads the body that comes out.
    fn body_of(pieces: &'static [&'static str]) -> io::Result<(u16, String)> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = ExchangeAddress::from(listener.local_addr()?);
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
        let response = get(&address, None, "/path", Duration::from_secs(5))?;
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
