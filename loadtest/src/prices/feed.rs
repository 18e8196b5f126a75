//! Reads the exchange's trade feed for the peers, so that every server gets its prints from the same
//! source in the same way.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde::Deserialize;

use crate::error::{Context, Error, Result, excerpt};

/// Bytes per read, as in Longbow.
const READ_BYTES: usize = 256 * 1024;
/// Longest response head and longest line.
const MAX_LINE_BYTES: usize = 16 * 1024;
/// Timeout of a connect, and how long a read waits before checking for a stop.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// Pause before connecting again.
pub(super) const RECONNECT_PAUSE: Duration = Duration::from_millis(100);

/// A trade of the feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Print<'a> {
    /// The symbol.
    pub symbol: &'a str,
    /// Price per share.
    pub price_cents: i64,
    /// When it happened, in microseconds since the Unix epoch.
    pub timestamp_micros: u64,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line<'a> {
    sequence: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow, default)]
    symbol: Option<&'a str>,
    #[serde(default)]
    price_in_cents: Option<i64>,
    #[serde(default)]
    timestamp: u64,
}

/// One connection to the feed.
#[derive(Debug)]
pub(super) struct Feed {
    stream: TcpStream,
    buffer: Vec<u8>,
    /// Bytes of an incomplete line.
    rest: Vec<u8>,
    /// Sequence of the last line; initially of the last one before the connection.
    pub sequence: u64,
}

impl Feed {
    /// Connects, to receive prints from now on.
    ///
    /// # Errors
    /// [`Error::Io`] when the exchange cannot be reached, [`Error::Answer`] when it refuses.
    pub(super) fn open(exchange: SocketAddr) -> Result<Self> {
        let connected = TcpStream::connect_timeout(&exchange, CONNECT_TIMEOUT);
        let mut stream = connected.context("connecting to the exchange's feed")?;
        stream.set_nodelay(true).context("a socket option")?;
        stream.set_read_timeout(Some(LOOK_INTERVAL)).context("a socket option")?;
        // HTTP/1.0 avoids chunked encoding.
        let request = format!("GET /v1/feed HTTP/1.0\r\nHost: {exchange}\r\n\r\n");
        stream.write_all(request.as_bytes()).context("asking for the feed")?;
        let buffer = vec![0; READ_BYTES];
        let mut feed = Self { stream, buffer, rest: Vec::new(), sequence: 0 };
        feed.read_head()?;
        Ok(feed)
    }

    /// Reads the head and the line that names the session.
    fn read_head(&mut self) -> Result<()> {
        loop {
            let end = memchr::memmem::find(&self.rest, b"\r\n\r\n").map(|end| end + 4);
            if let Some(end) = end
                && let Some(line) = memchr::memchr(b'\n', self.rest.get(end..).unwrap_or_default())
            {
                let first = self.rest.get(end..end + line).unwrap_or_default();
                let session: std::result::Result<Line<'_>, _> = serde_json::from_slice(first);
                let is_feed = self.rest.starts_with(b"HTTP/1.") && session.is_ok();
                self.sequence = session.map_or(0, |line| line.sequence);
                if !is_feed {
                    break;
                }
                self.rest.drain(..=end + line);
                return Ok(());
            }
            if self.rest.len() > MAX_LINE_BYTES || self.fill()?.is_none() {
                break;
            }
        }
        Err(Error::Answer { what: "no feed".to_owned(), answer: excerpt(&self.rest) })
    }

    /// Bytes received, zero on timeout; `None` at the end of the feed.
    fn fill(&mut self) -> Result<Option<usize>> {
        match self.stream.read(&mut self.buffer) {
            Ok(0) => Ok(None),
            Ok(length) => {
                self.rest.extend_from_slice(self.buffer.get(..length).unwrap_or_default());
                Ok(Some(length))
            }
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => Ok(Some(0)),
                ErrorKind::ConnectionReset => Ok(None),
                _ => Err(error).context("reading the feed"),
            },
        }
    }

    /// Waits briefly for lines and visits the trades among them. Returns `false` at the end of the
    /// feed.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Answer`] for a line that cannot be read.
    pub(super) fn read(&mut self, mut visit: impl FnMut(Print<'_>)) -> Result<bool> {
        if self.fill()?.is_none() {
            return Ok(false);
        }
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &self.rest) {
            let text = self.rest.get(start..end).unwrap_or_default();
            start = end + 1;
            let line: Line<'_> = serde_json::from_slice(text).map_err(|_| Error::Answer {
                what: "an unreadable line of the feed".to_owned(),
                answer: excerpt(text),
            })?;
            self.sequence = line.sequence;
            if let ("trade", Some(symbol), Some(price_cents)) =
                (line.kind, line.symbol, line.price_in_cents)
            {
                visit(Print { symbol, price_cents, timestamp_micros: line.timestamp });
            }
        }
        self.rest.drain(..start);
        Ok(true)
    }
}

/// Writes the data of a price event, as every measured server sends it.
pub(super) fn write_data(out: &mut Vec<u8>, print: Print<'_>) {
    let Print { symbol, price_cents, timestamp_micros } = print;
    // Writing to a vector cannot fail.
    let _ = write!(
        out,
        "{{\"symbol\":\"{symbol}\",\"priceInCents\":{price_cents},\"timestamp\":{timestamp_micros}}}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn trades_are_visited_however_the_lines_are_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 256]).unwrap();
            let text = "HTTP/1.0 200 OK\r\n\r\n\
                {\"type\":\"session\",\"session\":\"7\",\"sequence\":4}\n\
                {\"sequence\":5,\"type\":\"trade\",\"executionId\":\"e5\",\"symbol\":\"SPY\",\
                \"priceInCents\":16740,\"numShares\":100,\"timestamp\":12}\n\
                {\"sequence\":5,\"type\":\"heartbeat\",\"timestamp\":13}\n";
            for piece in text.as_bytes().chunks(50) {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let mut feed = Feed::open(address).unwrap();
        assert_eq!(feed.sequence, 4);
        let mut data = Vec::new();
        while feed.read(|print| write_data(&mut data, print)).unwrap() {}
        server.join().unwrap();
        let expected = "{\"symbol\":\"SPY\",\"priceInCents\":16740,\"timestamp\":12}";
        assert_eq!(String::from_utf8(data).unwrap(), expected);
        assert_eq!(feed.sequence, 5);
    }
}
