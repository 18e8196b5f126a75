//! A reader of event streams on a bare socket, which sees every byte from the server.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use serde_json::Value;

use super::PATIENCE;

/// One block of a stream.
#[derive(Debug, Default, Clone, PartialEq)]
pub(crate) struct Event {
    /// Its `event:`; empty for a block without one.
    pub name: String,
    /// Its `data:`.
    pub data: Value,
    pub id: Option<String>,
    pub retry: Option<u64>,
    /// A comment, without its colon.
    pub comment: Option<String>,
}

/// An open stream.
pub(crate) struct EventStream {
    lines: BufReader<TcpStream>,
    /// Status line and headers.
    pub head: Vec<String>,
}

impl EventStream {
    /// `POST /subscribe` for these symbols.
    pub(crate) fn subscribe(address: &str, token: &str, symbols: &[&str]) -> Self {
        let body = serde_json::json!({ "symbols": symbols }).to_string();
        Self::send(
            address,
            &format!(
                "POST /subscribe HTTP/1.1\r\nHost: test\r\nAuthorization: Bearer {token}\r\n\
                 Content-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            ),
        )
    }

    /// `GET /subscribe` with a query and extra headers.
    pub(crate) fn get(address: &str, token: &str, query: &str, headers: &str) -> Self {
        Self::send(
            address,
            &format!(
                "GET /subscribe?{query} HTTP/1.1\r\nHost: test\r\n\
                 Authorization: Bearer {token}\r\n{headers}\r\n"
            ),
        )
    }

    /// Sends a request as it is and reads the response head.
    pub(crate) fn send(address: &str, request: &str) -> Self {
        let mut stream = Self { lines: BufReader::new(connect(address)), head: Vec::new() };
        stream.write(request);
        stream.read_head();
        stream
    }

    /// Sends a request and returns everything until the server closes.
    pub(crate) fn until_closed(address: &str, request: &str) -> String {
        let mut connection = connect(address);
        connection.write_all(request.as_bytes()).expect("the request is taken");
        Self::rest_of(connection)
    }

    /// Sends a request and closes the sending side with its last byte; returns everything until the
    /// server closes.
    pub(crate) fn half_closed(address: &str, request: &str) -> String {
        let mut connection = connect(address);
        let (begin, end) = request.split_at(request.len() - 1);
        connection.write_all(begin.as_bytes()).expect("the request is taken");
        // The last byte and the end leave in one packet.
        socket2::SockRef::from(&connection).set_tcp_cork(true).expect("a TCP socket");
        connection.write_all(end.as_bytes()).expect("the request is taken");
        connection.shutdown(Shutdown::Write).expect("the server is there");
        Self::rest_of(connection)
    }

    fn rest_of(mut connection: TcpStream) -> String {
        let mut answer = String::new();
        match connection.read_to_string(&mut answer) {
            // Closing with unread data resets the connection.
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("{error}"),
            _ => answer,
        }
    }

    /// Reads until so many heartbeats have come.
    pub(crate) fn await_heartbeats(mut self, count: usize) {
        let mut heard = 0;
        while heard < count {
            let event = self.next().expect("the stream goes on");
            heard += usize::from(event.comment.is_some());
        }
    }

    /// Resets the connection, as when the client's process dies.
    pub(crate) fn reset(self) {
        let socket = socket2::SockRef::from(self.lines.get_ref());
        socket.set_linger(Some(Duration::ZERO)).expect("a setting that every socket has");
    }

    /// Closes the sending side.
    pub(crate) fn end_of_requests(&self) {
        self.lines.get_ref().shutdown(Shutdown::Write).expect("the server is there");
    }

    /// Sends more on the same connection.
    pub(crate) fn write(&mut self, request: &str) {
        self.lines.get_mut().write_all(request.as_bytes()).expect("the request is taken");
    }

    /// Reads the head of an answer.
    pub(crate) fn read_head(&mut self) {
        self.head.clear();
        loop {
            let line = read_line(&mut self.lines).expect("a head");
            if line.is_empty() {
                return;
            }
            self.head.push(line);
        }
    }

    /// Reads the body of an answer that has a `Content-Length`.
    pub(crate) fn skip_body(&mut self) {
        let length = self
            .head
            .iter()
            .filter_map(|line| line.split_once(": "))
            .find(|(name, _)| name.eq_ignore_ascii_case("content-length"))
            .and_then(|(_, length)| length.parse().ok())
            .expect("a length");
        let mut body = vec![0; length];
        self.lines.read_exact(&mut body).expect("a body");
    }

    /// The next block or comment; `None` once the server has closed the stream.
    pub(crate) fn next(&mut self) -> Option<Event> {
        let mut event = Event::default();
        let mut any = false;
        loop {
            let line = read_line(&mut self.lines)?;
            if line.is_empty() {
                assert!(any, "an empty block");
                assert!(!event.data.is_null(), "a block without data: {event:?}");
                return Some(event);
            }
            // A comment is not a block.
            if let Some(comment) = line.strip_prefix(':').filter(|_| !any) {
                let comment = comment.strip_prefix(' ').unwrap_or(comment);
                return Some(Event { comment: Some(comment.to_owned()), ..event });
            }
            any = true;
            let (field, value) = line.split_once(':').unwrap_or((&line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value);
            match field {
                "event" => value.clone_into(&mut event.name),
                "data" => event.data = serde_json::from_str(value).expect("data is JSON"),
                "id" => event.id = Some(value.to_owned()),
                "retry" => event.retry = value.parse().ok(),
                other => panic!("an unknown field {other:?}"),
            }
        }
    }

    /// Reads until a block fits.
    pub(crate) fn await_event(
        &mut self,
        what: &str,
        mut fits: impl FnMut(&Event) -> bool,
    ) -> Event {
        loop {
            let event = self.next().unwrap_or_else(|| panic!("the stream ended before {what}"));
            if fits(&event) {
                return event;
            }
        }
    }

    /// The next price of a symbol: cents and timestamp.
    pub(crate) fn await_price(&mut self, symbol: &str) -> (i64, u64) {
        let event = self.await_event(&format!("a price of {symbol}"), |event| {
            event.name == "price" && event.data["symbol"] == symbol
        });
        let cents = event.data["priceInCents"].as_i64().expect("whole cents");
        (cents, event.data["timestamp"].as_u64().expect("microseconds"))
    }
}

fn connect(address: &str) -> TcpStream {
    let host = address.strip_prefix("http://").expect("an http address");
    let stream = TcpStream::connect(host).expect("the server listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

fn read_line(lines: &mut BufReader<TcpStream>) -> Option<String> {
    let mut line = String::new();
    let read = match lines.read_line(&mut line) {
        // Equivalent to an end: the server closed with unread data from us.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
        read => read.expect("the stream goes on in time"),
    };
    (read > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
}
