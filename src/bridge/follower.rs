//! A node that does not read the exchange's feed: it follows the prices of the symbols that its
//! clients watch, and the lines of orders, through Redis.

mod heard;
mod known;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::StreamExt;
use redis::{Client, Msg};
use tokio::time::{MissedTickBehavior, interval, sleep};

use super::deployment::CLAIM_INTERVAL;
use super::line_reader::{LineReader, Told};
use super::links::{LinkError, Links};
use super::message::{FeedMessage, LastMessage, PriceMessage};
use super::metrics::FollowerMetrics;
use super::names::FEED;
use super::redis_health::RedisHealth;
use super::stream_id::{Entry, newest};
use super::subscriptions::Subscriptions;
use crate::exchange::feed::Feed;
use crate::exchange::{FeedRole, OrderFeedMessage};
use crate::market::{PriceInterest, ShardWatch};
use crate::shutdown::Shutdown;
use crate::types::{Backoff, LogThrottle, MonotonicMicros, Symbol, SymbolIndex, TimestampMicros};

/// How often the follower looks what is watched, whether it still follows, and at a part of the keys.
const LOOK_INTERVAL: Duration = Duration::from_millis(20);
/// In so many looks all keys are read again: for the figures of the day, and in case of a lost message.
const LOOKS_PER_REFRESH: usize = 50;
/// Most messages that are taken before shards are woken.
const MAX_BATCH: usize = 1_024;
/// Most symbols that are subscribed to at once.
const MAX_SUBSCRIBED: usize = 512;
/// Silence of the process that reads the feed, after which it counts as lost. It speaks each second.
const FEED_SILENCE: Duration = Duration::from_millis(2_500);
/// How often symbols that nobody watches any longer are looked for.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);
/// Pause before Redis is tried again: at first and at most.
const FIRST_BACKOFF: Duration = Duration::from_millis(50);
const LAST_BACKOFF: Duration = Duration::from_secs(1);
/// How long an answer of Redis shows that it is there. It answers twice a second.
pub(crate) const HEARD_FOR: Duration = Duration::from_secs(2);
/// Silence of the stream of lines, after which its newest entry is looked at: it may have begun anew with
/// ids below what was read. Its writer speaks each second.
pub(crate) const LINES_SILENCE: Duration = Duration::from_secs(2);
/// Least time between two log lines about a Redis that fails.
const LOG_PACE: Duration = Duration::from_secs(10);

/// What a follower is made of.
pub struct FollowerOptions {
    /// What the streams of each shard watch.
    pub shards: Vec<Arc<ShardWatch>>,
    /// What requests ask for.
    pub interest: Arc<PriceInterest>,
    /// Whether this process follows.
    pub role: FeedRole,
    /// Until when.
    pub shutdown: Shutdown,
    /// The Redis, and is told how it does.
    pub health: RedisHealth,
    /// Counters.
    pub metrics: FollowerMetrics,
}

/// Follows the process that reads the exchange's feed.
pub struct Follower {
    pub(super) client: Client,
    pub(super) health: RedisHealth,
    shards: Vec<Arc<ShardWatch>>,
    pub(super) interest: Arc<PriceInterest>,
    pub(super) role: FeedRole,
    pub(super) shutdown: Shutdown,
    pub(super) metrics: FollowerMetrics,
    pub(super) subscriptions: Subscriptions,
    pub(super) lines: LineReader,
    /// Messages for which the orders thread had no room, each with the numbering of its session.
    pub(super) waiting: VecDeque<(OrderFeedMessage, u32)>,
    /// The last epoch in which this process has read the feed itself; 0 before the first.
    pub(super) led: u64,
    /// The state of the feed, and when it was told.
    state: Option<(FeedMessage, Instant)>,
    /// The last sequence of the session up to which the prices of all current symbols are known.
    pub(super) position: u64,
    /// All symbols that were watched when the connection began are current.
    is_level: bool,
    /// Prices of this node come from Redis, and none that was known before.
    has_followed: bool,
    /// The newest time of the exchange in a message.
    seen: Option<TimestampMicros>,
    /// When the connection began, and when the last line about orders has come, or none could.
    connected_at: Instant,
    lines_at: Instant,
    /// Whether the Redis was found to be this deployment's, and when that was last looked for.
    is_claimed: bool,
    claimed_at: Instant,
    /// Whose key is read again next.
    next_refreshed: usize,
    /// Whose key is read next although nobody watches it, and whether all have been read once.
    next_known: usize,
    knows_all: bool,
    swept: Instant,
    failures: LogThrottle,
}

impl Follower {
    /// A follower that has not connected yet.
    pub fn new(options: FollowerOptions) -> Self {
        let FollowerOptions { shards, interest, role, shutdown, health, metrics } = options;
        let now = Instant::now();
        Self {
            client: health.address().client().clone(),
            health,
            shards,
            interest,
            role,
            shutdown,
            metrics,
            subscriptions: Subscriptions::default(),
            lines: LineReader::default(),
            waiting: VecDeque::new(),
            led: 0,
            state: None,
            position: 0,
            is_level: false,
            has_followed: false,
            seen: None,
            connected_at: now,
            lines_at: now,
            is_claimed: false,
            claimed_at: now,
            next_refreshed: 0,
            next_known: 0,
            knows_all: false,
            swept: now,
            failures: LogThrottle::new(LOG_PACE),
        }
    }

    fn is_over(&self) -> bool {
        self.shutdown.is_requested() || self.role.leading_epoch().is_some()
    }

    /// Follows until this process leads, or until a stop. Failures of Redis are retried.
    pub(super) async fn follow(&mut self, feed: &mut Feed) {
        self.lines = LineReader::after_leading(self.led);
        self.has_followed = false;
        let mut backoff = Backoff::new(FIRST_BACKOFF, LAST_BACKOFF);
        while !self.is_over() {
            let followed = self.follow_over_one_connection(feed, &mut backoff).await;
            self.disconnect(feed);
            let Err(error) = followed else { break };
            self.metrics.failures.inc();
            self.health.gives_nothing(&error);
            if let Some(count) = self.failures.note(MonotonicMicros::now()) {
                tracing::warn!(redis = %self.health.address(), %error, count, "Redis gives no prices");
            }
            self.pause(feed, backoff.advance()).await;
        }
    }

    /// Waits before the next connection.
    async fn pause(&mut self, feed: &mut Feed, wait: Duration) {
        let until = Instant::now() + wait;
        while !self.is_over() && Instant::now() < until {
            feed.keep_symbols(None);
            self.hand_over(feed);
            sleep(LOOK_INTERVAL).await;
        }
    }

    /// No price is current any more.
    fn disconnect(&mut self, feed: &mut Feed) {
        feed.set_up(false);
        self.role.hears_redis_no_more();
        self.interest.set_served(false);
        for symbol in self.subscriptions.current() {
            self.interest.set_followed(symbol, false);
        }
        self.subscriptions.lose();
        (self.state, self.is_level) = (None, false);
        self.metrics.up.set(0);
        self.metrics.symbols.set(0);
    }

    async fn follow_over_one_connection(
        &mut self,
        feed: &mut Feed,
        backoff: &mut Backoff,
    ) -> Result<(), LinkError> {
        let mut links = Links::open(&self.client).await?;
        self.claim(&mut links).await?;
        if let Some(state) = links.feed().await? {
            // How old it is is not known: the next message shows whether anybody reads the feed.
            self.take_state(state, feed);
            self.state = None;
        }
        self.begin_lines(&mut links, feed).await?;
        self.note_heard();
        self.health.answers();
        (self.connected_at, self.lines_at) = (Instant::now(), Instant::now());
        (self.next_known, self.knows_all) = (0, false);
        backoff.reset();
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut reading = pin!(links.read_lines(self.lines.last()));
        let mut last_lines = Instant::now();
        while !self.is_over() {
            let interest = Arc::clone(&self.interest);
            let asked =
                poll_fn(|context| interest.wakeup.poll_wait(context, || interest.is_asked()));
            tokio::select! {
                message = links.messages.next() => {
                    self.take_messages(message.ok_or(LinkError::Closed)?, &mut links, feed).await?;
                    continue;
                }
                entries = &mut reading, if self.waiting.is_empty() => {
                    let entries = entries?;
                    self.note_heard();
                    if !entries.is_empty() {
                        last_lines = Instant::now();
                        self.lines_at = last_lines;
                    } else if last_lines.elapsed() >= LINES_SILENCE {
                        last_lines = Instant::now();
                        self.begin_lines(&mut links, feed).await?;
                    }
                    self.take_lines(entries, feed);
                    reading.set(links.read_lines(self.lines.last()));
                    continue;
                }
                _ = looks.tick() => self.look(&mut links, feed).await?,
                () = asked => {}
            }
            self.follow_watched(&mut links, feed).await?;
        }
        Ok(())
    }

    /// Finds out where reading of the lines begins or goes on.
    async fn begin_lines(&mut self, links: &mut Links, feed: &mut Feed) -> Result<(), LinkError> {
        let newest_line = newest(&mut links.keys).await?;
        if let Some(told) = self.lines.connect(newest_line) {
            self.take_told(told, feed);
        }
        self.hand_over(feed);
        Ok(())
    }

    fn note_heard(&self) {
        let now = MonotonicMicros::now();
        self.role.hears_redis(now, now.saturating_add(HEARD_FOR));
    }

    /// Takes a message, and those that have come with it.
    async fn take_messages(
        &mut self,
        first: Msg,
        links: &mut Links,
        feed: &mut Feed,
    ) -> Result<(), LinkError> {
        let mut is_other_session = self.take_message(&first, feed);
        for _ in 1..MAX_BATCH {
            let next = futures_lite::future::poll_once(links.messages.next()).await;
            let Some(message) = next else { break };
            is_other_session |= self.take_message(&message.ok_or(LinkError::Closed)?, feed);
        }
        feed.market_mut().end_batch(self.position);
        if is_other_session {
            // The keys that were read before said less of it.
            let current = self.subscriptions.current();
            for symbols in current.chunks(MAX_SUBSCRIBED) {
                self.read_keys(symbols, links, feed).await?;
            }
        }
        self.show_state(feed);
        Ok(())
    }

    /// True when another session of the feed follows.
    fn take_message(&mut self, message: &Msg, feed: &mut Feed) -> bool {
        let text = message.get_payload_bytes();
        if message.get_channel_name() == FEED {
            let state = serde_json::from_slice::<FeedMessage>(text).ok();
            let Some(state) = state.filter(FeedMessage::is_possible) else {
                self.metrics.unreadable.inc();
                return false;
            };
            return self.take_state(state, feed);
        }
        let price = serde_json::from_slice::<PriceMessage>(text).ok();
        let Some(price) = price.filter(PriceMessage::is_possible) else {
            self.metrics.unreadable.inc();
            return false;
        };
        self.metrics.prices.inc();
        let index = feed.market_mut().index_of(&price.symbol);
        let Some(index) = index.filter(|index| self.subscriptions.has(*index)) else {
            self.metrics.unwanted.inc();
            return false;
        };
        self.position = self.position.max(price.sequence);
        self.seen = self.seen.max(Some(TimestampMicros::new(price.timestamp)));
        feed.market_mut().follow_price(index, &price.followed());
        false
    }

    /// Takes the state of the feed. True when another session follows.
    fn take_state(&mut self, state: FeedMessage, feed: &mut Feed) -> bool {
        let mut is_other = false;
        if state.is_possible() && !state.session.is_empty() {
            is_other = feed.follow_session(&state.session, state.first_sequence);
            self.position =
                if is_other { state.sequence } else { self.position.max(state.sequence) };
        }
        self.state = Some((state, Instant::now()));
        is_other
    }

    /// Tells the streams whether prices are current.
    fn show_state(&mut self, feed: &mut Feed) {
        self.is_level = self.is_level || self.subscriptions.are_complete();
        let is_told = self
            .state
            .as_ref()
            .is_some_and(|(state, told)| state.up && told.elapsed() < FEED_SILENCE);
        let is_up = is_told && self.is_level;
        if is_up && !self.has_followed {
            self.has_followed = true;
            feed.begin_following();
            self.forget_others(feed);
        }
        feed.set_up(is_up);
        self.metrics.up.set(i64::from(is_up));
        self.note_what_comes();
    }

    /// What is done once in a while.
    async fn look(&mut self, links: &mut Links, feed: &mut Feed) -> Result<(), LinkError> {
        self.hand_over(feed);
        feed.keep_symbols(self.seen.take());
        self.refresh(links, feed).await?;
        if !self.is_claimed || self.claimed_at.elapsed() >= CLAIM_INTERVAL {
            self.claim(links).await?;
        }
        let is_due = self.swept.elapsed() >= SWEEP_INTERVAL;
        if is_due {
            self.swept = Instant::now();
            self.sweep(links, feed).await?;
        }
        if is_due || !self.knows_all {
            self.read_known(links, feed).await?;
        }
        self.show_state(feed);
        Ok(())
    }

    /// Reads a part of the keys again.
    async fn refresh(&mut self, links: &mut Links, feed: &mut Feed) -> Result<(), LinkError> {
        let current = self.subscriptions.current();
        let count = current.len().div_ceil(LOOKS_PER_REFRESH);
        let from = if self.next_refreshed < current.len() { self.next_refreshed } else { 0 };
        self.next_refreshed = from + count;
        let part: Vec<SymbolIndex> = current.into_iter().skip(from).take(count).collect();
        self.read_keys(&part, links, feed).await
    }

    /// Subscribes to what is watched, and reads the keys after that.
    async fn follow_watched(
        &mut self,
        links: &mut Links,
        feed: &mut Feed,
    ) -> Result<(), LinkError> {
        let now = Instant::now();
        for shard in &self.shards {
            self.subscriptions.want(shard.watched(), now);
        }
        self.subscriptions.want(self.interest.take_asked().into_iter(), now);
        // Without a session there is nothing to compare sequences in.
        if feed.market_mut().ordinal() == 0 {
            return Ok(());
        }
        self.interest.set_served(true);
        loop {
            let missing = self.subscriptions.missing(MAX_SUBSCRIBED);
            let names = names(&missing, feed);
            if names.is_empty() {
                return Ok(());
            }
            links.subscribe(&names).await?;
            self.metrics.subscribed.inc_by(names.len() as u64);
            self.read_keys(&missing, links, feed).await?;
            for symbol in missing {
                self.subscriptions.confirm(symbol);
                self.interest.set_followed(symbol, true);
            }
            self.note_symbols();
        }
    }

    /// Ends subscriptions that nobody needs any longer.
    async fn sweep(&mut self, links: &mut Links, feed: &mut Feed) -> Result<(), LinkError> {
        let unwanted = self.subscriptions.take_unwanted(Instant::now());
        let names = names(&unwanted, feed);
        if names.is_empty() {
            return Ok(());
        }
        for symbol in unwanted {
            self.interest.set_followed(symbol, false);
            self.forget(symbol, feed.market_mut());
        }
        self.note_symbols();
        self.metrics.unsubscribed.inc_by(names.len() as u64);
        links.unsubscribe(&names).await
    }

    fn note_symbols(&self) {
        let count = i64::try_from(self.subscriptions.current().len()).unwrap_or(i64::MAX);
        self.metrics.symbols.set(count);
    }

    /// Takes the last values of symbols from their keys.
    async fn read_keys(
        &mut self,
        symbols: &[SymbolIndex],
        links: &mut Links,
        feed: &mut Feed,
    ) -> Result<(), LinkError> {
        let names = names(symbols, feed);
        let values = links.last_values(&names).await?;
        let market = feed.market_mut();
        let session = (market.ordinal(), market.status().session());
        for value in values.iter().flatten() {
            let Some(index) = market.index_of(&value.price.symbol) else { continue };
            let read = LastMessage::value(value, (session.0, session.1.as_str()));
            market.follow_value(index, read, self.position);
        }
        market.end_batch(self.position);
        Ok(())
    }

    /// Takes lines of orders.
    pub(super) fn take_lines(&mut self, entries: Vec<Entry>, feed: &mut Feed) {
        let mut heard = None;
        for entry in entries {
            self.metrics.lines.inc();
            heard = self.take_told_of(entry);
        }
        // Only the newest is as new as it came.
        if let Some(time) = heard {
            feed.note_heartbeat(time);
        }
        self.hand_over(feed);
    }

    fn take_told_of(&mut self, entry: Entry) -> Option<TimestampMicros> {
        let told = self.lines.take(entry);
        self.metrics.holes.inc_by(u64::from(told.is_after_hole));
        let heard = told.heard;
        self.await_room(told);
        heard
    }

    fn await_room(&mut self, Told { messages, numbering, .. }: Told) {
        self.waiting.extend(messages.into_iter().map(|message| (message, numbering)));
    }

    pub(super) fn take_told(&mut self, told: Told, feed: &mut Feed) {
        self.await_room(told);
        self.hand_over(feed);
    }

    /// Hands lines on, as far as the orders thread has room for them.
    pub(super) fn hand_over(&mut self, feed: &mut Feed) {
        while let Some((message, numbering)) = self.waiting.pop_front() {
            if let Err(message) = feed.hand_over_followed(message, numbering) {
                self.waiting.push_front((message, numbering));
                return;
            }
        }
    }
}

/// The names of symbols.
pub(super) fn names(symbols: &[SymbolIndex], feed: &mut Feed) -> Vec<Symbol> {
    let directory = feed.market_mut().directory();
    symbols.iter().filter_map(|index| Some(directory.listing(*index)?.symbol)).collect()
}
