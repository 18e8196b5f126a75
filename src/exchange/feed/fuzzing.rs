//! What the fuzz target `feed` calls: the lines of a feed connection, from its first on.

use std::sync::Arc;
use std::time::Duration;

use super::connection::Connection;
use super::{Feed, FeedMetrics, FeedOptions};
use crate::exchange::feed_types::MAX_RAW_BYTES;
use crate::exchange::{ExchangeAddress, ExchangeClock, OrderFeedMessage};
use crate::market::{Listing, MAX_SEQUENCE, MarketReader, Watchers, open_market};
use crate::shutdown::Shutdown;
use crate::sync::{Receiver, mailbox};
use crate::types::{PriceCents, Symbol};

/// Symbols that the lines may name.
const SYMBOLS: [&str; 2] = ["SPY", "BRK.A"];
/// Messages for the orders thread until it is behind: few, so that this is reached.
const ORDER_QUEUE_CAPACITY: usize = 4;
/// The lines come in pieces of this size: most of them are cut.
const PIECE_BYTES: usize = 37;

/// The body of a feed answer. The lowest bits of its first byte say whether the position that the
/// connection goes on from is known, and that position.
///
/// # Panics
/// When a price, a session or a message for the orders thread is one that the contract excludes.
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
    let (market, reader) = open_market(Watchers::default());
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
        assert!(value.low_cents <= value.high_cents, "the lowest is below the highest");
        assert_eq!(value.low_cents > 0, value.high_cents > 0, "both or none");
        if value.changed_ordinal == reader.status.ordinal() {
            assert!(value.changed_sequence <= reader.status.sequence(), "of a line that was taken");
        }
    }
    // It goes out to clients within a line of their streams.
    let session = reader.status.session();
    assert!(session.bytes().all(|byte| byte.is_ascii_graphic()), "{session:?}");
}

fn assert_message_is_sane(message: &OrderFeedMessage) {
    match message {
        OrderFeedMessage::Line(line) => {
            assert!(line.order_id.is_some(), "only lines of orders");
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
    fn a_session_that_would_break_a_line_of_a_stream_is_refused() {
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
        assert!(take(&(session(1) + &beat(u64::MAX))).is_ok(), "a line is skipped");
    }
}
