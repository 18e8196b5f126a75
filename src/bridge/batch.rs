//! One request to Redis with keys, changes of prices and the state of the feed.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError};

use super::message::{FeedMessage, LastMessage, PriceMessage, encode};
use super::names::{FEED, last_key, price_channel};
use crate::market::{Directory, LastValue, MarketReader, Tick};
use crate::types::SymbolIndex;

/// One request to Redis.
pub(super) struct Batch {
    pub(super) directory: Arc<Directory>,
    /// Symbols whose keys are set, before anything is published.
    pub(super) keys: Vec<SymbolIndex>,
    /// Changes, each with its channel, in the order of the feed, and the beginnings of sessions between
    /// them.
    pub(super) changes: Vec<(String, Vec<u8>)>,
    /// How many of them are changes of prices.
    prices: u64,
    feed: Option<Vec<u8>>,
}

impl Batch {
    pub(super) fn new(market: &MarketReader) -> Self {
        let directory = market.directory.load();
        Self { directory, keys: Vec::new(), changes: Vec::new(), prices: 0, feed: None }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.changes.is_empty() && self.feed.is_none()
    }

    /// Number of published changes.
    pub(super) fn prices(&self) -> u64 {
        self.prices
    }

    /// A tick that has changed the price.
    pub(super) fn change(&mut self, tick: &Tick) {
        // Only a symbol that was listed since this request was begun is not there: its key is set.
        let message = self.directory.listing(tick.symbol).map(|listing| PriceMessage {
            symbol: listing.symbol,
            price_in_cents: tick.price_cents,
            timestamp: tick.timestamp.micros(),
            sequence: tick.sequence,
        });
        self.add(tick.symbol, message);
    }

    /// The newest price, after others that nobody has heard of.
    pub(super) fn newest(&mut self, index: SymbolIndex, value: &LastValue) {
        let listing = self.directory.listing(index);
        let message = listing.map(|listing| PriceMessage::of(listing.symbol, value));
        self.add(index, message);
    }

    fn add(&mut self, index: SymbolIndex, message: Option<PriceMessage>) {
        self.keys.push(index);
        if let Some(message) = message {
            self.changes.push((price_channel(&message.symbol), encode(&message)));
            self.prices += 1;
        }
    }

    /// Another session begins before the changes that follow.
    pub(super) fn session(&mut self, message: &FeedMessage) {
        self.changes.push((FEED.to_owned(), encode(message)));
    }

    /// The state of the feed, after everything else.
    pub(super) fn feed(&mut self, message: &FeedMessage) {
        self.feed = Some(encode(message));
    }

    /// All commands of the request. Keys have the newest values, each once.
    pub(super) fn commands(&mut self, market: &MarketReader) -> Pipeline {
        self.keys.sort_unstable();
        self.keys.dedup();
        let mut commands = Pipeline::new();
        let directory = market.directory.load();
        for &index in &self.keys {
            let Some(listing) = directory.listing(index) else { continue };
            let value = market.table.get(index);
            // While another session begins, the name belongs to none that the value may be of.
            let (ordinal, session) =
                market.status.position().map_or((0, "".into()), |(of, name, _)| (of, name));
            let text = encode(&LastMessage::of(listing, &value, (ordinal, &session)));
            commands.cmd("SET").arg(last_key(&listing.symbol)).arg(text).ignore();
        }
        for (channel, text) in &self.changes {
            commands.cmd("PUBLISH").arg(channel).arg(text).ignore();
        }
        if let Some(text) = &self.feed {
            commands.cmd("SET").arg(FEED).arg(text).ignore();
            commands.cmd("PUBLISH").arg(FEED).arg(text).ignore();
        }
        commands
    }

    pub(super) async fn send(
        &mut self,
        market: &MarketReader,
        mut connection: MultiplexedConnection,
    ) -> Result<(), RedisError> {
        if self.is_empty() {
            return Ok(());
        }
        self.commands(market).query_async(&mut connection).await
    }
}
