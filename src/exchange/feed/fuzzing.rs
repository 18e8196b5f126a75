//! Entry point of the fuzz target `feed`: the lines of a feed connection, from its first.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::{Feed, FeedMetrics, FeedOptions};
use crate::exchange::feed_types::MAX_RAW_BYTES;
use crate::exchange::{ExchangeAddress, ExchangeClock, OrderFeedMessage};
use crate::market::{Listing, MAX_SEQUENCE, MarketLimits, MarketReader, Watchers, open_market};
use crate::shutdown::Shutdown;
use crate::sync::{Receiver, mailbox};
use crate::types::{PriceCents, Symbol};

/// Symbols that the directory lists.
const SYMBOLS: [&str; 2] = ["SPY", "BRK.A"];
/// Capacity of the orders queue: small, so that it fills.
const ORDER_QUEUE_CAPACITY: usize = 4;
/// A small market: a fuzzer would spend its time on the room of a large one.
const LIMITS: MarketLimits = MarketLimits { ring_slots: 64, remembered_prints: 64 };
/// Bytes per read: small, so that most lines arrive in pieces.
const PIECE_BYTES: usize = 37;

/// Parses the body of a feed response. The lowest bit of the first byte says whether the connection
/// resumes, the other bits from which sequence.
///
/// # Panics
/// When a price, a session or a message to the orders thread breaks the contract.
pub fn feed(data: &[u8]) {
    let Some((&first, bytes)) = data.split_first() else { return };
    let asked = (first & 1 != 0).then(|| ("7".into(), u64::from(first >> 1)));
    let (mut feed, reader, mut orders) = idle_feed();
    let mut connection = Connection::new(asked);
    for piece in bytes.chunks(PIECE_BYTES) {
        connection.body.extend_from_slice(piece);
        let taken = feed.take_lines(&mut connection);
        feed.market.end_batch(feed.last_sequence);
        let _next = feed.next_sequence();
        if taken.is_err() {
            break;
        }
    }
    assert_market_is_sane(&reader);
    let mut handed_over = 0;
    while let Some(message) = orders.try_recv() {
        handed_over += 1;
        assert_message_is_sane(&message);
    }
    assert!(handed_over <= ORDER_QUEUE_CAPACITY);
}

fn idle_feed() -> (Feed, MarketReader, Receiver<OrderFeedMessage>) {
    let (market, reader) = open_market(Watchers::default(), LIMITS);
    let (orders, receiver) = mailbox(ORDER_QUEUE_CAPACITY);
    let options = FeedOptions {
        exchange: ExchangeAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 1))),
        source: None,
        request_timeout: Duration::ZERO,
        silence_timeout: Duration::ZERO,
        resume: None,
        exchange_clock: ExchangeClock::default(),
    };
    let mut feed = Feed::new(options, market, orders, Shutdown::new(), FeedMetrics::default());
    let listing = |name| {
        let (symbol, previous_close) = (Symbol::new(name).ok()?, PriceCents::new(1).ok());
        let (open, session, source) = (None, None, Arc::from("fuzz"));
        Some(Listing { symbol, previous_close, open, session, source, synthetic: true })
    };
    let listings: Vec<Listing> = SYMBOLS.into_iter().filter_map(listing).collect();
    assert!(feed.market.list(&listings).is_ok(), "two symbols fit");
    (feed, reader, receiver)
}

fn assert_market_is_sane(reader: &MarketReader) {
    let directory = reader.directory.load();
    for name in SYMBOLS {
        let index = Symbol::new(name).ok().and_then(|symbol| directory.index_of(&symbol));
        let Some(value) = index.map(|index| reader.table.get(index)) else { continue };
        assert!(value.price_cents >= 0, "prices are positive");
        assert!(value.low_cents <= value.high_cents, "low <= high");
        assert_eq!(value.low_cents > 0, value.high_cents > 0, "low and high are set together");
        if value.changed_ordinal == reader.status.ordinal() {
            assert!(
                value.changed_sequence <= reader.status.sequence(),
                "prices change by lines that were read"
            );
        }
    }
    // The session is sent to clients inside a line of their streams.
    let session = reader.status.session();
    assert!(session.bytes().all(|byte| byte.is_ascii_graphic()), "{session:?}");
}

fn assert_message_is_sane(message: &OrderFeedMessage) {
    match message {
        OrderFeedMessage::Line(line) => {
            assert!(line.order_id.is_some(), "the orders thread receives lines of orders alone");
            assert!(line.sequence < MAX_SEQUENCE);
        }
        OrderFeedMessage::Unreadable(line) => {
            assert!(line.raw.len() <= MAX_RAW_BYTES && line.sequence < MAX_SEQUENCE);
        }
        OrderFeedMessage::Position { sequence }
        | OrderFeedMessage::Session { sequence, .. }
        | OrderFeedMessage::Renumbered { sequence, .. } => {
            assert!(*sequence < MAX_SEQUENCE);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ended;
    use super::*;

    fn take(lines: &str) -> Result<(), Ended> {
        let (mut feed, _reader, _orders) = idle_feed();
        let mut connection = Connection::new(None);
        connection.body = lines.as_bytes().to_vec();
        feed.take_lines(&mut connection)
    }

    #[test]
    fn a_session_that_would_break_an_sse_line_is_refused() {
        let first = |session: &str| {
            let session = serde_json::to_string(session).unwrap();
            take(&format!("{{\"type\":\"session\",\"session\":{session},\"sequence\":0}}\n"))
        };
        assert!(first("7").is_ok() && first(&"x".repeat(64)).is_ok());
        for session in ["", "7\n\nevent: price", "7 8", "ä", &"x".repeat(65)] {
            let refused = first(session).unwrap_err().to_string();
            assert!(refused.contains("printable"), "{session:?}: {refused}");
        }
    }

    #[test]
    fn a_sequence_without_a_next_one_is_refused() {
        let session = |sequence: u64| {
            format!("{{\"type\":\"session\",\"session\":\"7\",\"sequence\":{sequence}}}\n")
        };
        let beat = |sequence: u64| {
            format!("{{\"sequence\":{sequence},\"type\":\"heartbeat\",\"timestamp\":1}}\n")
        };
        let highest = crate::market::MAX_SEQUENCE - 1;
        assert!(take(&(session(highest) + &beat(highest))).is_ok());
        let refused = take(&session(highest + 1)).unwrap_err().to_string();
        assert!(refused.contains("is not below"), "{refused}");
        assert!(take(&(session(1) + &beat(u64::MAX))).is_ok(), "the line is skipped");
    }
}
