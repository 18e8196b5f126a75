//! The thread `bridge`: publishes each change of a price to Redis.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, Pipeline, RedisError};
use tokio::time::timeout;

use super::message::{FeedMessage, LastMessage, PriceMessage, encode};
use super::metrics::BridgeMetrics;
use super::{BridgeError, RedisAddress};
use crate::market::{
    Directory, LastValue, MarketReader, SessionOrdinal, ShardWatch, SymbolMap, Tick,
};
use crate::shutdown::Shutdown;
use crate::types::{Backoff, LogThrottle, MAX_SYMBOLS, MonotonicMicros, SymbolIndex};

/// Most ticks of one request.
const MAX_BATCH_TICKS: usize = 2_048;
/// Symbols of one request after a connection.
const MAX_BATCH_KEYS: usize = 1_024;
/// How often the state of the feed is published if it stays the same, and the longest sleep.
const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// How soon a stop, or a feed that is lost, is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// Longest wait for a connection or an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// Pause before Redis is tried again: at first and at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// The channel and key of the state of the feed.
const FEED: &str = "stock:feed";
/// Least time between two log lines about a Redis that fails.
const LOG_PACE: Duration = Duration::from_secs(10);

/// The last price of a symbol that was published, and the feed position that it includes. Ticks up to
/// there are not published again: the table is ahead of the ring.
#[derive(Debug, Clone, Copy, Default)]
struct Published {
    cents: i64,
    position: Option<(SessionOrdinal, u64)>,
}

impl Published {
    /// Moves on to a price at a position. Returns whether the price has changed.
    fn advance(&mut self, cents: i64, position: (SessionOrdinal, u64)) -> bool {
        let position = Some(position);
        if position <= self.position {
            return false;
        }
        self.position = position;
        std::mem::replace(&mut self.cents, cents) != cents
    }
}

/// Publishes the prices of this node. Run [`run`](Self::run) on a thread `bridge`.
pub struct Publisher {
    client: Client,
    market: MarketReader,
    watch: Arc<ShardWatch>,
    metrics: BridgeMetrics,
    /// What has been published last of each symbol.
    published: SymbolMap<Published>,
    /// The last state of the feed that was published, and when.
    feed: Option<(FeedMessage, Instant)>,
    failures: LogThrottle,
}

impl Publisher {
    /// A publisher to the Redis at this address. `watch` wakes it.
    pub fn new(
        address: &RedisAddress,
        market: MarketReader,
        watch: Arc<ShardWatch>,
        metrics: BridgeMetrics,
    ) -> Self {
        let client = address.client().clone();
        for index in (0..MAX_SYMBOLS).filter_map(SymbolIndex::new) {
            watch.set_watched(index, true);
        }
        let published = SymbolMap::filled_with(Published::default);
        let failures = LogThrottle::new(LOG_PACE);
        Self { client, market, watch, metrics, published, feed: None, failures }
    }

    /// Publishes until a stop is requested. Failures of Redis are retried.
    ///
    /// # Errors
    /// [`BridgeError::Runtime`].
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), BridgeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(BridgeError::Runtime)?.block_on(async {
            let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
            while !shutdown.is_requested() {
                let Err(error) = self.publish(shutdown, &mut backoff).await else { break };
                self.metrics.up.set(0);
                self.metrics.failures.inc();
                if let Some(count) = self.failures.note(MonotonicMicros::now()) {
                    tracing::warn!(%error, count, "Redis takes no prices");
                }
                tokio::time::sleep(backoff.advance()).await;
            }
            Ok(())
        })
    }

    /// Publishes over one connection.
    async fn publish(
        &mut self,
        shutdown: &Shutdown,
        backoff: &mut Backoff,
    ) -> Result<(), RedisError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&limits);
        let mut connection = connection.await?;
        self.feed = None;
        self.set_all_keys(&mut connection).await?;
        self.metrics.up.set(1);
        backoff.reset();
        tracing::info!("prices are published to Redis");
        while !shutdown.is_requested() {
            let mut batch = Batch::new(&self.market);
            self.collect(&mut batch);
            self.note_feed(&mut batch);
            if batch.is_empty() {
                self.sleep().await;
                continue;
            }
            batch.send(&self.market, &mut connection).await?;
            self.metrics.batches.inc();
            self.metrics.published.inc_by(batch.changes());
        }
        Ok(())
    }

    /// Sleeps until a price changes, but not for long.
    async fn sleep(&self) {
        let (watch, ring) = (&self.watch, &self.market.ring);
        let changed = poll_fn(|context| watch.wakeup.poll_wait(context, || ring.has_next()));
        // Nothing is lost if the time is over first.
        let _woken = timeout(LONGEST_SLEEP, changed).await;
    }

    /// Takes what has come since the last request.
    fn collect(&mut self, batch: &mut Batch) {
        for _ in 0..MAX_BATCH_TICKS {
            match self.market.ring.try_next() {
                Ok(None) => return,
                Ok(Some(words)) => {
                    let tick = Tick::from_words(&words);
                    let Some(tick) = tick else { unreachable!("the ring holds ticks") };
                    let position = (tick.ordinal, tick.sequence);
                    if self.published[tick.symbol].advance(tick.price_cents, position) {
                        batch.change(&tick);
                    }
                }
                Err(_lagged) => {
                    self.metrics.laps.inc();
                    self.collect_changed(batch);
                    return;
                }
            }
        }
    }

    /// Takes the newest price of each symbol whose price has changed.
    fn collect_changed(&mut self, batch: &mut Batch) {
        for index in batch.directory.clone().indexes() {
            let value = self.market.table.get(index);
            let position = (value.last_ordinal, value.last_sequence);
            if self.published[index].advance(value.price_cents, position) {
                batch.newest(index, &value);
            }
        }
    }

    /// Sets the key of each symbol, and publishes those prices that have changed: Redis may have been
    /// away, or have lost everything.
    async fn set_all_keys(
        &mut self,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        let indexes: Vec<SymbolIndex> = self.market.directory.load().indexes().collect();
        for indexes in indexes.chunks(MAX_BATCH_KEYS) {
            let mut batch = Batch::new(&self.market);
            for &index in indexes {
                let value = self.market.table.get(index);
                if !value.has_price() {
                    continue;
                }
                let is_first = self.published[index].cents == 0;
                let position = (value.last_ordinal, value.last_sequence);
                let is_changed = self.published[index].advance(value.price_cents, position);
                if is_changed && !is_first {
                    batch.newest(index, &value);
                } else {
                    batch.keys.push(index);
                }
            }
            if !batch.is_empty() {
                batch.send(&self.market, connection).await?;
                self.metrics.published.inc_by(batch.changes());
            }
        }
        Ok(())
    }

    /// Adds the state of the feed, if it is another or has not been said for a while. Up to its
    /// sequence the prices are in this request or in an earlier one.
    fn note_feed(&mut self, batch: &mut Batch) {
        if self.market.ring.has_next() && self.feed.is_some() {
            return;
        }
        let status = &self.market.status;
        // While another session begins: the next request says so.
        let Some((_, session, sequence)) = status.position() else { return };
        let now = FeedMessage { up: status.is_up(), session: session.into(), sequence };
        let is_due = self.feed.as_ref().is_none_or(|(said, at)| {
            (said.up, &said.session) != (now.up, &now.session) || at.elapsed() >= FEED_INTERVAL
        });
        if is_due {
            batch.feed = Some(encode(&now));
            self.feed = Some((now, Instant::now()));
        }
    }
}

/// One request to Redis.
struct Batch {
    directory: Arc<Directory>,
    /// Symbols whose keys are set, before anything is published.
    keys: Vec<SymbolIndex>,
    /// Changes, each with its channel, in the order of the feed.
    changes: Vec<(String, Vec<u8>)>,
    feed: Option<Vec<u8>>,
}

impl Batch {
    fn new(market: &MarketReader) -> Self {
        let directory = market.directory.load();
        Self { directory, keys: Vec::new(), changes: Vec::new(), feed: None }
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.feed.is_none()
    }

    /// Number of published changes.
    fn changes(&self) -> u64 {
        self.changes.len() as u64
    }

    /// A tick that has changed the price.
    fn change(&mut self, tick: &Tick) {
        // Only a symbol that was listed since this request was begun is not there: its key is set.
        let message = self.directory.listing(tick.symbol).map(|listing| {
            message(&PriceMessage {
                symbol: &listing.symbol,
                price_in_cents: tick.price_cents,
                timestamp: tick.timestamp.micros(),
                sequence: tick.sequence,
            })
        });
        self.keys.push(tick.symbol);
        self.changes.extend(message);
    }

    /// The newest price, after others that nobody has heard of.
    fn newest(&mut self, index: SymbolIndex, value: &LastValue) {
        let listing = self.directory.listing(index);
        let message = listing.map(|listing| message(&PriceMessage::of(&listing.symbol, value)));
        self.keys.push(index);
        self.changes.extend(message);
    }

    /// All commands of the request. Keys have the newest values, each once.
    fn commands(&mut self, market: &MarketReader) -> Pipeline {
        self.keys.sort_unstable();
        self.keys.dedup();
        let mut commands = Pipeline::new();
        let directory = market.directory.load();
        for &index in &self.keys {
            let Some(listing) = directory.listing(index) else { continue };
            let value = market.table.get(index);
            let session = market.status.session_of(value.changed_ordinal).unwrap_or_default();
            let text = encode(&LastMessage::of(&listing.symbol, &value, &session));
            commands.cmd("SET").arg(format!("stock:last:{}", listing.symbol)).arg(text).ignore();
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

    async fn send(
        &mut self,
        market: &MarketReader,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), RedisError> {
        self.commands(market).query_async(connection).await
    }
}

/// A change with its channel.
fn message(message: &PriceMessage<'_>) -> (String, Vec<u8>) {
    (format!("stock:price:{}", message.symbol), encode(message))
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
