//! The feed without its thread and socket: whoever drives it opens the connections and supplies their
//! bytes.

use std::time::Duration;

use crate::exchange::feed::connection::{Connection, Resume};
use crate::exchange::feed::{Ended, Feed, FeedMetrics, FeedOptions};
use crate::exchange::{ExchangeAddress, ExchangeClock, OrderFeedMessage};
use crate::market::MarketWriter;
use crate::shutdown::Shutdown;
use crate::sync::Sender;
use crate::types::MonotonicMicros;

/// A feed whose connections and bytes are supplied by hand.
pub struct ManualFeed {
    feed: Feed,
    resume: Resume,
    /// `None` while disconnected.
    connection: Option<Connection>,
}

impl ManualFeed {
    /// A disconnected feed whose heartbeats set `exchange_clock`.
    pub fn new(
        market: MarketWriter,
        orders: Sender<OrderFeedMessage>,
        resume: Resume,
        exchange_clock: ExchangeClock,
    ) -> Self {
        let options = FeedOptions {
            // Nothing connects to it.
            exchange: ExchangeAddress::from(std::net::SocketAddr::from(([127, 0, 0, 1], 9))),
            source: None,
            request_timeout: Duration::ZERO,
            silence_timeout: Duration::ZERO,
            resume: None,
            exchange_clock,
        };
        let feed = Feed::new(options, market, orders, Shutdown::new(), FeedMetrics::default());
        Self { feed, resume, connection: None }
    }

    pub fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What the next connection requests.
    pub fn resume(&self) -> &Resume {
        &self.resume
    }

    /// The exchange answers 200; lines follow.
    pub fn connect(&mut self) {
        self.connection = Some(Connection::new(self.resume.clone()));
    }

    /// The exchange answers 410.
    pub fn refuse(&mut self) {
        self.end(&Ended::PositionGone);
    }

    /// The connection breaks.
    pub fn cut(&mut self) {
        self.end(&Ended::Unexpected("cut".to_owned()));
    }

    /// Takes bytes of the connection, received at `received`. Returns the reason if the feed closes
    /// the connection.
    pub fn take(&mut self, bytes: &[u8], received: MonotonicMicros) -> Option<String> {
        let connection = self.connection.as_mut()?;
        self.feed.received = received;
        connection.body.extend_from_slice(bytes);
        let taken = self.feed.take_lines(connection);
        let ended = taken.and_then(|()| self.feed.end_batch()).err()?;
        self.end(&ended);
        Some(ended.to_string())
    }

    /// The market, for the next process.
    pub fn into_market(self) -> MarketWriter {
        self.feed.market
    }

    fn end(&mut self, ended: &Ended) {
        self.resume = self.feed.resume_after(ended, self.resume.take());
        self.connection = None;
    }
}
