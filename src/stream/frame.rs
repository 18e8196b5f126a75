//! The bytes of a stream: its head, its events, its comments (WHATWG HTML, "Server-sent events").

use crate::market::LastValue;
use crate::types::{Symbol, TimestampMicros};

/// Longest price frame: fixed text, a symbol of 15 bytes, and two numbers of 20.
pub(super) const MAX_FRAME_BYTES: usize = 112;

/// What the response head of every stream begins with. No chunking: the body ends with the connection.
const HEAD: &str = "HTTP/1.1 200 OK\r\n\
    Content-Type: text/event-stream\r\n\
    Cache-Control: no-store\r\n\
    X-Accel-Buffering: no\r\n\
    Connection: close\r\n";

/// Separates the two halves of an id on a stream of prices and orders: the position in the feed, and
/// the cursor into the changes of orders.
pub const ID_SEPARATOR: u8 = b'/';

/// What breaks a stream's silence after the heartbeat interval.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, strum::EnumString)]
#[strum(serialize_all = "snake_case")]
pub enum Heartbeat {
    /// `: hb`, which costs least, and which a page never sees. No empty line follows: some clients
    /// would take it for an empty message.
    #[default]
    Comment,
    /// `event: heartbeat`, for a page that must tell silence from a frozen server.
    Event,
}

impl Heartbeat {
    /// The bytes that are sent.
    pub(super) fn frame(self) -> &'static [u8] {
        match self {
            Self::Comment => b": hb\n",
            Self::Event => b"event: heartbeat\ndata: {}\n\n",
        }
    }
}

/// The prices that follow do not continue what came before; they begin with a snapshot.
pub(super) const RESET: &[u8] = b"event: reset\ndata: {\"of\":\"prices\"}\n\n";
/// So do the orders that follow: a stream of both tells which.
pub(super) const ORDER_RESET: &[u8] = b"event: reset\ndata: {\"of\":\"orders\"}\n\n";
/// The connection to the exchange's feed is lost.
pub(super) const FEED_DOWN: &[u8] = b"event: feed\ndata: {\"up\":false}\n\n";
/// The connection to the exchange's feed is back.
pub(super) const FEED_UP: &[u8] = b"event: feed\ndata: {\"up\":true}\n\n";

/// Where a client resumes: it has received everything up to `sequence` of `session`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ResumePoint {
    /// The feed session, as the exchange names it.
    pub session: String,
    /// The sequence in that session.
    pub sequence: u64,
}

impl ResumePoint {
    /// Parses an `id:` that a stream has sent, `session-sequence`; `None` for anything else.
    pub fn parse(id: &str) -> Option<Self> {
        let (session, sequence) = id.rsplit_once('-')?;
        let sequence = sequence.parse().ok()?;
        (!session.is_empty()).then(|| Self { session: session.to_owned(), sequence })
    }
}

/// Feed sequences, both included, between which a stream may lack prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub from: u64,
    pub to: u64,
}

/// One encoded `price` event, shared by all streams that send it.
#[derive(Debug, Clone, Copy)]
pub(super) struct PriceFrame {
    bytes: [u8; MAX_FRAME_BYTES],
    length: u8,
}

impl PriceFrame {
    /// A copy of an encoded event.
    #[expect(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "asserted")]
    pub(super) fn new(encoded: &[u8]) -> Self {
        const { assert!(MAX_FRAME_BYTES <= u8::MAX as usize) };
        assert!(encoded.len() <= MAX_FRAME_BYTES, "the longest price frame fits");
        let mut bytes = [0; MAX_FRAME_BYTES];
        bytes[..encoded.len()].copy_from_slice(encoded);
        Self { bytes, length: encoded.len() as u8 }
    }

    /// Leaves the frame empty, until it is encoded again.
    pub(super) fn clear(&mut self) {
        self.length = 0;
    }

    /// The encoded event.
    #[inline]
    #[expect(clippy::indexing_slicing, reason = "the length is at most MAX_FRAME_BYTES")]
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.length)]
    }
}

impl Default for PriceFrame {
    fn default() -> Self {
        Self { bytes: [0; MAX_FRAME_BYTES], length: 0 }
    }
}

/// What the `open` event of a stream says.
#[derive(Debug)]
pub(super) struct Opening<'a> {
    /// The node that has the stream, where there are several.
    pub node: Option<u16>,
    pub stream_id: &'a str,
    pub symbols: &'a [Symbol],
    pub heartbeat_ms: u64,
    pub retry_ms: u32,
    /// The client asked to resume from a point that is unknown or gone.
    pub reset: bool,
    pub feed_up: bool,
}

fn push_number(out: &mut Vec<u8>, number: impl itoa::Integer) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// The head of a stream alone, for `HEAD` requests; with the node that has it, where there are several.
pub fn stream_head(node: Option<u16>) -> Vec<u8> {
    let mut out = HEAD.as_bytes().to_vec();
    if let Some(node) = node {
        out.extend_from_slice(b"X-Longbow-Node: ");
        push_number(&mut out, node);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
    out
}

/// Whether these bytes are the beginning of a stream.
pub(super) fn is_beginning(bytes: &[u8]) -> bool {
    bytes.starts_with(HEAD.as_bytes())
}

/// Appends the beginning of an `open` event. Every event has data: some clients take one without for
/// an empty message, and others ignore a `retry:` without data.
fn write_open(out: &mut Vec<u8>, node: Option<u16>, retry_ms: u32) {
    out.extend_from_slice(&stream_head(node));
    out.extend_from_slice(b"event: open\nretry: ");
    push_number(out, retry_ms);
    out.extend_from_slice(b"\ndata: {");
}

fn write_heartbeat_ms(out: &mut Vec<u8>, heartbeat_ms: u64) {
    out.extend_from_slice(b"\"heartbeatMs\":");
    push_number(out, heartbeat_ms);
    out.extend_from_slice(b"}\n\n");
}

/// Appends the first bytes of a stream of orders alone.
pub(super) fn write_order_opening(
    out: &mut Vec<u8>,
    node: Option<u16>,
    heartbeat_ms: u64,
    retry_ms: u32,
) {
    write_open(out, node, retry_ms);
    write_heartbeat_ms(out, heartbeat_ms);
}

/// Appends the first bytes of a stream of prices.
pub(super) fn write_opening(out: &mut Vec<u8>, opening: &Opening<'_>) {
    assert!(!opening.symbols.is_empty(), "a stream without symbols has another opening");
    write_open(out, opening.node, opening.retry_ms);
    out.extend_from_slice(b"\"streamId\":\"");
    out.extend_from_slice(opening.stream_id.as_bytes());
    out.extend_from_slice(b"\",\"symbols\":[");
    for (position, symbol) in opening.symbols.iter().enumerate() {
        if position > 0 {
            out.push(b',');
        }
        out.push(b'"');
        out.extend_from_slice(symbol.as_str().as_bytes());
        out.push(b'"');
    }
    out.extend_from_slice(b"],");
    write_heartbeat_ms(out, opening.heartbeat_ms);
    if opening.reset {
        out.extend_from_slice(RESET);
    }
    if !opening.feed_up {
        out.extend_from_slice(FEED_DOWN);
    }
}

/// A stream that ends at once, for a browser that is to come back later: an `EventSource` gives up
/// for good on any answer but 200.
pub fn come_back_later(node: Option<u16>, retry_ms: u32) -> Vec<u8> {
    let mut out = stream_head(node);
    write_goodbye(&mut out, retry_ms);
    out
}

/// The last event of a stream that the server ends.
pub fn goodbye(retry_ms: u32) -> Vec<u8> {
    let mut out = Vec::new();
    write_goodbye(&mut out, retry_ms);
    out
}

/// Appends a `price` event with the newest price of a symbol.
pub fn write_price(out: &mut Vec<u8>, symbol: &Symbol, value: &LastValue) {
    write_print(out, symbol, value.price_cents, value.timestamp);
}

/// Appends a `price` event.
pub(super) fn write_print(
    out: &mut Vec<u8>,
    symbol: &Symbol,
    price_cents: i64,
    timestamp: TimestampMicros,
) {
    out.extend_from_slice(b"event: price\ndata: {\"symbol\":\"");
    out.extend_from_slice(symbol.as_str().as_bytes());
    out.extend_from_slice(b"\",\"priceInCents\":");
    push_number(out, price_cents);
    out.extend_from_slice(b",\"timestamp\":");
    push_number(out, timestamp.micros());
    out.extend_from_slice(b"}\n\n");
}

/// Appends a `gap` event.
pub(super) fn write_gap(out: &mut Vec<u8>, gap: Gap) {
    assert!(gap.from <= gap.to, "a gap ends after it begins");
    out.extend_from_slice(b"event: gap\ndata: {\"from\":");
    push_number(out, gap.from);
    out.extend_from_slice(b",\"to\":");
    push_number(out, gap.to);
    out.extend_from_slice(b"}\n\n");
}

/// Reopens the last event of `out` for its `id:`, which the caller appends before it calls
/// [`end_event`]. False when `out` does not end with an event.
pub(super) fn open_last_event(out: &mut Vec<u8>) -> bool {
    let ends = out.ends_with(b"\n\n");
    if ends {
        out.pop();
        out.extend_from_slice(b"id: ");
    }
    ends
}

/// Ends an event after its `id:` line.
pub(super) fn end_event(out: &mut Vec<u8>) {
    debug_assert!(!out.ends_with(b"\n"), "an id stands on a line that the caller has not ended");
    out.extend_from_slice(b"\n\n");
}

/// Appends a position in the feed as ids carry it.
pub(super) fn write_point(out: &mut Vec<u8>, session: &str, sequence: u64) {
    out.extend_from_slice(session.as_bytes());
    out.push(b'-');
    push_number(out, sequence);
}

/// Appends the last event of a stream that the server ends.
pub(super) fn write_goodbye(out: &mut Vec<u8>, retry_ms: u32) {
    out.extend_from_slice(b"event: goodbye\ndata: {}\nretry: ");
    push_number(out, retry_ms);
    out.extend_from_slice(b"\n\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMicros;

    #[test]
    fn a_price_frame_is_what_the_contract_shows() {
        let mut out = Vec::new();
        let value = LastValue {
            price_cents: 52_210,
            timestamp: TimestampMicros::new(1_732_400_000_123_456),
            ..LastValue::default()
        };
        write_price(&mut out, &Symbol::new("META").unwrap(), &value);
        let expected = "event: price\ndata: {\"symbol\":\"META\",\"priceInCents\":52210,\
            \"timestamp\":1732400000123456}\n\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn the_opening_names_everything_once() {
        let mut out = Vec::new();
        let symbols = [Symbol::new("META").unwrap(), Symbol::new("AAPL").unwrap()];
        let opening = Opening {
            node: None,
            stream_id: "abc",
            symbols: &symbols,
            heartbeat_ms: 15_000,
            retry_ms: 3_140,
            reset: true,
            feed_up: false,
        };
        write_opening(&mut out, &opening);
        let text = String::from_utf8(out).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
        assert!(!head.to_lowercase().contains("chunked"));
        let expected = "event: open\nretry: 3140\ndata: {\"streamId\":\"abc\",\
            \"symbols\":[\"META\",\"AAPL\"],\"heartbeatMs\":15000}\n\n\
            event: reset\ndata: {\"of\":\"prices\"}\n\nevent: feed\ndata: {\"up\":false}\n\n";
        assert_eq!(body, expected);
    }

    #[test]
    fn an_id_goes_into_the_last_event_and_nowhere_else() {
        let mut out = FEED_UP.to_vec();
        assert!(open_last_event(&mut out));
        write_point(&mut out, "7", 12);
        end_event(&mut out);
        assert_eq!(out, b"event: feed\ndata: {\"up\":true}\nid: 7-12\n\n");
        for other in [&b""[..], b": hb\n", b"\n", b"data: x\n"] {
            let mut out = other.to_vec();
            assert!(!open_last_event(&mut out) && out == other);
        }
    }

    #[test]
    fn only_ids_that_a_stream_sends_are_resume_points() {
        let parsed = ResumePoint::parse("7-184467").unwrap();
        assert_eq!((parsed.session.as_str(), parsed.sequence), ("7", 184_467));
        assert!(ResumePoint::parse("a-b-12").is_some_and(|point| point.session == "a-b"));
        for id in ["", "7", "-5", "7-", "7-x", "7--1"] {
            assert!(ResumePoint::parse(id).is_none_or(|point| point.session == "7-"), "{id}");
        }
    }
}
