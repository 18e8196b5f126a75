//! The feed thread's work without its thread and its socket: connections and their bytes come from
//! whoever decides what happens next.

use super::connection::Connection;
use super::{Ended, Feed, FeedMetrics, FeedOptions};
use crate::exchange::{ExchangeAddress, ExchangeClock, OrderFeedMessage};
use crate::market::MarketWriter;
use crate::shutdown::Shutdown;
use crate::sync::Sender;
use crate::types::MonotonicMicros;
use std::time::Duration;

pub(crate) use super::connection::Resume;

/// A feed that is given its bytes.
pub(crate) struct ManualFeed {
    feed: Feed,
    resume: Resume,
    /// `None` while there is none.
    connection: Option<Connection>,
}

impl ManualFeed {
    /// Tells `exchange_clock` the time of each heartbeat.
    pub(crate) fn new(
        market: MarketWriter,
        orders: Sender<OrderFeedMessage>,
        resume: Resume,
        exchange_clock: ExchangeClock,
    ) -> Self {
        let options = FeedOptions {
            // Nobody connects to it.
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

    pub(crate) fn is_connected(&self) -> bool {
        self.connection.is_some()
    }

    /// What the next connection asks for.
    pub(crate) fn resume(&self) -> &Resume {
        &self.resume
    }

    /// The exchange has answered 200: lines follow.
    pub(crate) fn connect(&mut self) {
        self.connection = Some(Connection::new(self.resume.clone()));
    }

    /// The exchange has answered 410.
    pub(crate) fn refuse(&mut self) {
        self.end(&Ended::PositionGone);
    }

    /// The connection breaks.
    pub(crate) fn cut(&mut self) {
        self.end(&Ended::Unexpected("cut".to_owned()));
    }

    /// Takes bytes of the connection, which came at `received`. Gives why it was ended here, if it
    /// was.
    pub(crate) fn take(&mut self, bytes: &[u8], received: MonotonicMicros) -> Option<String> {
        let connection = self.connection.as_mut()?;
        self.feed.received = received;
        connection.body.extend_from_slice(bytes);
        let taken = self.feed.take_lines(connection);
        let ended = taken.and_then(|()| self.feed.end_batch()).err()?;
        self.end(&ended);
        Some(ended.to_string())
    }

    /// The market, for the next process.
    pub(crate) fn into_market(self) -> MarketWriter {
        self.feed.market
    }

    fn end(&mut self, ended: &Ended) {
        self.resume = self.feed.resume_after(ended, self.resume.take());
        self.connection = None;
    }
}
