//! The thread `bridge`: publishes each change of a price to Redis, and the lines of orders, while this
//! process reads the exchange's feed.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, ErrorKind, RedisError};
use tokio::time::timeout;

use super::BridgeError;
use super::batch::Batch;
use super::deployment::{CLAIM_INTERVAL, claim};
use super::fence::close_earlier;
use super::line_queue::LineQueue;
use super::links::LinkError;
use super::message::FeedMessage;
use super::metrics::BridgeMetrics;
use super::redis_health::RedisHealth;
use crate::exchange::{FeedRole, PublishedLine};
use crate::market::{
    Directory, LastValue, MarketReader, SessionOrdinal, ShardWatch, SymbolMap, Tick,
};
use crate::shutdown::Shutdown;
use crate::sync::Receiver;
use crate::types::{Backoff, LogThrottle, MAX_SYMBOLS, MonotonicMicros, SymbolIndex};

/// Most ticks of one request.
const MAX_BATCH_TICKS: usize = 2_048;
/// Symbols of one request after a connection.
const MAX_BATCH_KEYS: usize = 1_024;
/// How often the state of the feed is published if it stays the same.
pub(crate) const FEED_INTERVAL: Duration = Duration::from_secs(1);
/// The same, if the feed has gone on. So far behind are the positions of followers whose symbols are
/// quiet, and the figures of symbols that trade at the same price.
const MOVED_INTERVAL: Duration = Duration::from_millis(250);
/// How often a process that does not lead looks whether it does.
const ROLE_INTERVAL: Duration = Duration::from_millis(10);
/// How soon a stop, or a feed that is lost, is noticed.
const LONGEST_SLEEP: Duration = Duration::from_millis(100);
/// Longest wait for a connection or an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// How long an answer of Redis keeps this process leading when Postgres does not say who does. Something
/// is published each second.
pub(crate) const KEPT_LEADING: Duration = Duration::from_secs(2);
const _: () = assert!(KEPT_LEADING.as_millis() > FEED_INTERVAL.as_millis());
/// Pause before Redis is tried again: at first and at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(2);
/// What a subscriber knows may be any price.
const UNKNOWN_CENTS: i64 = -1;
/// The epoch of a process without others.
const ALONE: u64 = 0;
/// Least time between two log lines about a Redis that fails.
const LOG_PACE: Duration = Duration::from_secs(10);

/// The last price of a symbol that was published, and the feed position that it includes. Ticks up to
/// there are not published again: the table is ahead of the ring.
#[derive(Debug, Clone, Copy, Default)]
struct Published {
    cents: i64,
    position: Option<(SessionOrdinal, u64)>,
    /// There are prints at the same price that the key does not include.
    is_behind: bool,
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

/// What a publisher is made of.
pub struct PublisherOptions {
    /// The prices.
    pub market: MarketReader,
    /// Wakes the publisher when there are any.
    pub watch: Arc<ShardWatch>,
    /// Whether this process publishes.
    pub role: FeedRole,
    /// The lines of orders, where other processes follow this one.
    pub lines: Option<Receiver<PublishedLine>>,
    /// The Redis, and is told how it does.
    pub health: RedisHealth,
    /// Counters.
    pub metrics: BridgeMetrics,
}

/// Publishes the prices of this node. Run [`run`](Self::run) on a thread `bridge`.
pub struct Publisher {
    client: Client,
    health: RedisHealth,
    market: MarketReader,
    watch: Arc<ShardWatch>,
    role: FeedRole,
    lines: Option<LineQueue>,
    metrics: BridgeMetrics,
    /// What has been published last of each symbol.
    published: SymbolMap<Published>,
    /// Symbols with [`Published::is_behind`].
    behind: Vec<SymbolIndex>,
    /// The session that subscribers have been told of.
    told: SessionOrdinal,
    /// As of the newest list of symbols all keys have been set.
    listed: Arc<Directory>,
    /// The last state of the feed that was published, and when.
    feed: Option<(FeedMessage, Instant)>,
    failures: LogThrottle,
}

impl Publisher {
    /// A publisher that has not connected yet.
    pub fn new(options: PublisherOptions) -> Self {
        let PublisherOptions { market, watch, role, lines, health, metrics } = options;
        let client = health.address().client().clone();
        for index in (0..MAX_SYMBOLS).filter_map(SymbolIndex::new) {
            watch.set_watched(index, true);
        }
        let published = SymbolMap::filled_with(Published::default);
        let failures = LogThrottle::new(LOG_PACE);
        Self {
            client,
            health,
            listed: market.directory.load(),
            market,
            watch,
            role,
            lines: lines.map(|lines| LineQueue::new(lines, rand::random())),
            metrics,
            published,
            behind: Vec::new(),
            told: 0,
            feed: None,
            failures,
        }
    }

    /// Publishes until a stop is requested. Failures of Redis are retried.
    ///
    /// # Errors
    /// [`BridgeError::Runtime`].
    pub fn run(mut self, shutdown: &Shutdown) -> Result<(), BridgeError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.map_err(BridgeError::Runtime)?.block_on(async {
            let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
            let mut published_in = ALONE;
            while !shutdown.is_requested() {
                let Some(epoch) = self.role.begun_epoch() else {
                    self.skip();
                    self.role.redis_takes();
                    tokio::time::sleep(ROLE_INTERVAL).await;
                    continue;
                };
                if std::mem::replace(&mut published_in, epoch) != epoch {
                    self.begin();
                }
                let published = self.publish(epoch, shutdown, &mut backoff).await;
                self.role.publishes_no_more();
                self.metrics.up.set(0);
                let Err(error) = published else { continue };
                self.metrics.failures.inc();
                match &error {
                    // Ours: it takes what belongs there.
                    LinkError::Redis(error) if error.kind() == ErrorKind::Client => {
                        self.role.redis_takes();
                    }
                    _ => self.role.redis_fails(MonotonicMicros::now()),
                }
                self.health.takes_nothing(&error);
                if let Some(count) = self.failures.note(MonotonicMicros::now()) {
                    tracing::warn!(redis = %self.health.address(), %error, count, "Redis takes no prices");
                }
                tokio::time::sleep(backoff.advance()).await;
            }
            Ok(())
        })
    }

    /// Another process publishes: what this one follows is no news.
    fn skip(&mut self) {
        while !matches!(self.market.ring.try_next(), Ok(None)) {}
    }

    /// This process publishes in place of another, which may not have said everything: each price is
    /// news again.
    fn begin(&mut self) {
        self.skip();
        for index in (0..MAX_SYMBOLS).filter_map(SymbolIndex::new) {
            self.published[index] = Published { cents: UNKNOWN_CENTS, ..Published::default() };
        }
        self.behind.clear();
        self.told = 0;
    }

    /// Publishes over one connection, for as long as this process leads with this epoch.
    async fn publish(
        &mut self,
        epoch: u64,
        shutdown: &Shutdown,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        let limits = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(ANSWER_TIMEOUT))
            .set_response_timeout(Some(ANSWER_TIMEOUT));
        let connection = self.client.get_multiplexed_async_connection_with_config(&limits);
        let mut connection = connection.await?;
        self.feed = None;
        // Subscribers may have heard nothing of what was sent last.
        self.told = 0;
        if let Some(lines) = &mut self.lines {
            close_earlier(&mut connection, self.role.deployment(), epoch).await?;
            lines.keep_epoch(epoch);
            lines.connect(epoch, connection.clone()).await?;
        }
        self.set_all_keys(epoch, &connection).await?;
        self.metrics.up.set(1);
        backoff.reset();
        self.health.takes();
        tracing::info!(redis = %self.health.address(), "prices are published to Redis");
        let mut claimed = Instant::now();
        while !shutdown.is_requested() && self.role.leads_in(epoch) {
            if self.lines.is_some() && claimed.elapsed() >= CLAIM_INTERVAL {
                if let Some(deployment) = self.role.deployment() {
                    claim(&mut connection, deployment).await?;
                }
                claimed = Instant::now();
            }
            let mut batch = Batch::new(&self.market);
            self.collect(&mut batch);
            self.note_list(&mut batch);
            self.note_feed(&mut batch);
            let has_lines = self.lines.as_ref().is_some_and(|lines| !lines.is_empty());
            if batch.is_empty() && !has_lines {
                self.role.redis_takes();
                self.sleep().await;
                continue;
            }
            self.send(epoch, &mut batch, &connection).await?;
        }
        Ok(())
    }

    /// Sends one request with prices, and one with lines beside it.
    async fn send(
        &mut self,
        epoch: u64,
        batch: &mut Batch,
        connection: &MultiplexedConnection,
    ) -> Result<(), RedisError> {
        // What was read while this process led is sent at once or, if it was held up, not at all.
        if !self.role.leads_in(epoch) {
            return Ok(());
        }
        let sent = MonotonicMicros::now();
        let prices = batch.send(&self.market, connection.clone());
        let lines = async {
            match &mut self.lines {
                Some(lines) => lines.send(epoch, connection.clone()).await,
                None => Ok(0),
            }
        };
        let (prices, lines) = tokio::join!(prices, lines);
        prices?;
        self.metrics.lines.inc_by(lines? as u64);
        self.role.redis_takes();
        self.role.publishes(epoch, sent.saturating_add(KEPT_LEADING));
        self.metrics.batches.inc();
        self.metrics.published.inc_by(batch.prices());
        Ok(())
    }

    /// Sleeps until a price changes, but not for long.
    async fn sleep(&mut self) {
        let (watch, ring) = (&self.watch, &self.market.ring);
        let lines = &mut self.lines;
        let changed = poll_fn(|context| {
            let has_lines = lines.as_mut().is_some_and(|lines| lines.poll_some(context));
            let ticks = watch.wakeup.poll_wait(context, || ring.has_next());
            if has_lines { Poll::Ready(()) } else { ticks }
        });
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
                    self.take_tick(&tick, batch);
                }
                Err(_lagged) => {
                    self.metrics.laps.inc();
                    self.collect_changed(batch);
                    return;
                }
            }
        }
    }

    fn take_tick(&mut self, tick: &Tick, batch: &mut Batch) {
        let published = &mut self.published[tick.symbol];
        if !published.advance(tick.price_cents, (tick.ordinal, tick.sequence)) {
            if !std::mem::replace(&mut published.is_behind, true) {
                self.behind.push(tick.symbol);
            }
            return;
        }
        if self.tell_session(tick.ordinal, tick.sequence.saturating_sub(1), batch) {
            batch.change(tick);
        } else {
            // Its name is gone: the key says that an earlier session has set the price.
            batch.keys.push(tick.symbol);
        }
    }

    /// Tells subscribers which session the changes that follow belong to. False if its name is not known
    /// any more.
    fn tell_session(&mut self, ordinal: SessionOrdinal, before: u64, batch: &mut Batch) -> bool {
        if self.told == ordinal {
            return true;
        }
        let status = &self.market.status;
        let first_sequence = status.first_sequence();
        let Some(session) = status.session_of(ordinal) else { return false };
        let up = status.is_up();
        batch.session(&FeedMessage { up, session, sequence: before, first_sequence });
        self.told = ordinal;
        true
    }

    /// Adds a price that is news by itself.
    fn add_newest(&mut self, index: SymbolIndex, value: &LastValue, batch: &mut Batch) {
        // One of an earlier session is in its key.
        let is_current = self.market.status.ordinal() == value.changed_ordinal;
        if is_current && self.tell_session(value.changed_ordinal, 0, batch) {
            batch.newest(index, value);
        } else {
            batch.keys.push(index);
        }
    }

    /// Sets all keys again when the exchange's list was read: trading days may have begun.
    fn note_list(&mut self, batch: &mut Batch) {
        if Arc::ptr_eq(&self.listed, &batch.directory) {
            return;
        }
        self.listed = batch.directory.clone();
        let has_price = |index: &SymbolIndex| self.market.table.get(*index).has_price();
        batch.keys.extend(batch.directory.clone().indexes().filter(has_price));
    }

    /// Takes the newest price of each symbol whose price has changed.
    fn collect_changed(&mut self, batch: &mut Batch) {
        for index in batch.directory.clone().indexes() {
            let value = self.market.table.get(index);
            let position = (value.last_ordinal, value.last_sequence);
            if self.published[index].advance(value.price_cents, position) {
                self.add_newest(index, &value, batch);
            }
        }
    }

    /// Sets the key of each symbol, and publishes those prices that have changed: Redis may have been
    /// away, or have lost everything.
    async fn set_all_keys(
        &mut self,
        epoch: u64,
        connection: &MultiplexedConnection,
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
                    self.add_newest(index, &value, &mut batch);
                } else {
                    batch.keys.push(index);
                }
            }
            if !batch.is_empty() && self.role.leads_in(epoch) {
                batch.send(&self.market, connection.clone()).await?;
                self.metrics.published.inc_by(batch.prices());
            }
        }
        Ok(())
    }

    /// Adds the state of the feed, if it is another or has not been said for a while. Up to its
    /// sequence the prices are in this request or in an earlier one.
    fn note_feed(&mut self, batch: &mut Batch) {
        let status = &self.market.status;
        let first_sequence = status.first_sequence();
        // While another session begins: the next request says so.
        let Some((ordinal, session, sequence)) = status.position() else { return };
        // Of that position, all ticks must have been taken.
        if self.market.ring.has_next() && self.feed.is_some() {
            return;
        }
        let now = FeedMessage { up: status.is_up(), session, sequence, first_sequence };
        let is_due = self.feed.as_ref().is_none_or(|(said, at)| {
            let interval = if *said == now { FEED_INTERVAL } else { MOVED_INTERVAL };
            (said.up, &said.session) != (now.up, &now.session) || at.elapsed() >= interval
        });
        if is_due {
            for index in self.behind.drain(..) {
                self.published[index].is_behind = false;
                batch.keys.push(index);
            }
            self.told = ordinal;
            batch.feed(&now);
            self.feed = Some((now, Instant::now()));
        }
    }
}

#[cfg(test)]
#[path = "publisher_tests.rs"]
mod tests;
