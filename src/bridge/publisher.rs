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
use crate::market::{Directory, LastValue, MarketReader, ShardWatch, SymbolMap, Tick};
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
/// Least time between two log lines about a Redis that fails.
const LOG_PACE: Duration = Duration::from_secs(10);

/// Publishes the prices of this node. Run [`run`](Self::run) on a thread `bridge`.
pub struct Publisher {
    client: Client,
    market: MarketReader,
    watch: Arc<ShardWatch>,
    metrics: BridgeMetrics,
    /// The price of each symbol in its key.
    published_cents: SymbolMap<i64>,
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
        let published_cents = SymbolMap::filled_with(|| 0);
        let failures = LogThrottle::new(LOG_PACE);
        Self { client, market, watch, metrics, published_cents, feed: None, failures }
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
            batch.send(&mut connection).await?;
            self.metrics.batches.inc();
            self.metrics.published.inc_by(batch.changes);
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
                    let published = &mut self.published_cents[tick.symbol];
                    if std::mem::replace(published, tick.price_cents) != tick.price_cents {
                        batch.change(&tick, &self.market.table.get(tick.symbol));
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
            let published = &mut self.published_cents[index];
            if std::mem::replace(published, value.price_cents) != value.price_cents {
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
        // Ticks up to here are in the table.
        while !matches!(self.market.ring.try_next(), Ok(None)) {}
        let indexes: Vec<SymbolIndex> = self.market.directory.load().indexes().collect();
        for indexes in indexes.chunks(MAX_BATCH_KEYS) {
            let mut batch = Batch::new(&self.market);
            for &index in indexes {
                let value = self.market.table.get(index);
                if !value.has_price() {
                    continue;
                }
                let published = &mut self.published_cents[index];
                let before = std::mem::replace(published, value.price_cents);
                if before == 0 || before == value.price_cents {
                    batch.set_key(index, &value);
                } else {
                    batch.newest(index, &value);
                }
            }
            if !batch.is_empty() {
                batch.send(connection).await?;
                self.metrics.published.inc_by(batch.changes);
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
        let now = FeedMessage {
            up: status.is_up(),
            session: status.session().into(),
            sequence: status.sequence(),
        };
        let is_due = self.feed.as_ref().is_none_or(|(said, at)| {
            (said.up, &said.session) != (now.up, &now.session) || at.elapsed() >= FEED_INTERVAL
        });
        if is_due {
            batch.feed(&now);
            self.feed = Some((now, Instant::now()));
        }
    }
}

/// One request to Redis.
struct Batch {
    commands: Pipeline,
    directory: Arc<Directory>,
    /// The name and the ordinal of the current session.
    session: (String, u16),
    /// Published changes.
    changes: u64,
    is_empty: bool,
}

impl Batch {
    fn new(market: &MarketReader) -> Self {
        // The ordinal first: a session that begins in between has another one.
        let ordinal = market.status.ordinal();
        let session = (market.status.session().into(), ordinal);
        let directory = market.directory.load();
        Self { commands: Pipeline::new(), directory, session, changes: 0, is_empty: true }
    }

    fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// A tick that has changed the price. The key may have a newer one.
    fn change(&mut self, tick: &Tick, newest: &LastValue) {
        self.set_key(tick.symbol, newest);
        let directory = Arc::clone(&self.directory);
        let Some(listing) = directory.listing(tick.symbol) else { return };
        self.publish(&PriceMessage {
            symbol: &listing.symbol,
            price_in_cents: tick.price_cents,
            timestamp: tick.timestamp.micros(),
            sequence: tick.sequence,
        });
    }

    /// The newest price, after others that nobody has heard of.
    fn newest(&mut self, index: SymbolIndex, value: &LastValue) {
        self.set_key(index, value);
        let directory = Arc::clone(&self.directory);
        let Some(listing) = directory.listing(index) else { return };
        self.publish(&PriceMessage::of(&listing.symbol, value));
    }

    fn set_key(&mut self, index: SymbolIndex, value: &LastValue) {
        let directory = Arc::clone(&self.directory);
        // Listed since this request was begun: the next change sets its key.
        let Some(listing) = directory.listing(index) else { return };
        let is_current = value.changed_ordinal == self.session.1;
        let session = if is_current { self.session.0.as_str() } else { "" };
        let text = encode(&LastMessage::of(&listing.symbol, value, session));
        let key = format!("stock:last:{}", listing.symbol);
        self.commands.cmd("SET").arg(key).arg(text).ignore();
        self.is_empty = false;
    }

    fn publish(&mut self, message: &PriceMessage<'_>) {
        let channel = format!("stock:price:{}", message.symbol);
        self.commands.cmd("PUBLISH").arg(channel).arg(encode(message)).ignore();
        self.changes += 1;
        self.is_empty = false;
    }

    fn feed(&mut self, state: &FeedMessage) {
        let text = encode(state);
        self.commands.cmd("SET").arg("stock:feed").arg(&text).ignore();
        self.commands.cmd("PUBLISH").arg("stock:feed").arg(&text).ignore();
        self.is_empty = false;
    }

    async fn send(&self, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
        self.commands.query_async(connection).await
    }
}
