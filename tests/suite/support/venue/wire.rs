//! Transmission of bytes, with faults.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::Duration;

use super::Venue;

/// A connection's sending side, with faults.
pub(super) struct Wire {
    venue: Venue,
    pub(super) stream: TcpStream,
    /// Pause after each byte.
    pub(super) pause: Duration,
    /// Bytes left until the connection is cut.
    pub(super) left: usize,
}

impl Wire {
    pub(super) fn new(venue: Venue, stream: TcpStream) -> Self {
        Self { venue, stream, pause: Duration::ZERO, left: usize::MAX }
    }

    /// Ends the faults.
    pub(super) fn be_fine(&mut self) {
        (self.pause, self.left) = (Duration::ZERO, usize::MAX);
    }

    pub(super) fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        let bytes = &bytes[..bytes.len().min(self.left)];
        self.left -= bytes.len();
        if self.pause.is_zero() {
            self.stream.write_all(bytes)?;
        } else {
            for byte in bytes {
                self.stream.write_all(&[*byte])?;
                self.venue.pause(self.pause);
            }
        }
        match self.left {
            0 => Err(std::io::ErrorKind::ConnectionAborted.into()),
            _ => Ok(()),
        }
    }

    pub(super) fn send_lines(&mut self, lines: &str, is_chunked: bool) -> std::io::Result<()> {
        match is_chunked {
            true => self.send(format!("{:x}\r\n{lines}\r\n", lines.len()).as_bytes()),
            false => self.send(lines.as_bytes()),
        }
    }
}

pub(super) fn answer_bytes(status: u16, headers: &[(&str, String)], body: &str) -> Vec<u8> {
    let more: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    format!(
        "HTTP/1.1 {status} Test\r\nContent-Type: application/json\r\n{more}\
         Content-Length: {length}\r\n\r\n{body}"
    )
    .into_bytes()
}

pub(super) fn read_chunks(reader: &mut BufReader<TcpStream>) -> Option<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut chunk = vec![0; length + 2];
        reader.read_exact(&mut chunk).ok()?;
        if length == 0 {
            return Some(body);
        }
        body.extend_from_slice(&chunk[..length]);
    }
}

pub(super) fn cut_all(connections: &mut Vec<TcpStream>) {
    for connection in connections.drain(..) {
        // It may be closed already.
        let _gone = connection.shutdown(Shutdown::Both);
    }
}
