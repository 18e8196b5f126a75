//! The thread `feed` of one of several processes: it reads the exchange's feed while it has the lease,
//! and follows the process that does otherwise.

use std::time::Duration;

use compact_str::CompactString;
use tokio::time::timeout;

use super::BridgeError;
use super::fence::close_earlier;
use super::follower::Follower;
use super::links::{LinkError, Links};
use super::message::LastMessage;
use super::stream_id::newest;
use crate::exchange::feed::{Feed, HandedPositions};
use crate::market::{HandedSymbol, MarketWriter};
use crate::types::{Symbol, SymbolIndex};

/// Longest time that what another process knew is waited for. After that the feed is read without it.
const TAKE_OVER_TIMEOUT: Duration = Duration::from_secs(1);
/// Keys of one request.
const MAX_KEYS: usize = 512;

/// The feed of one of several processes, and its follower. Run [`run`](Self::run) on a thread `feed`.
pub struct FeedThread {
    feed: Feed,
    follower: Follower,
}

impl FeedThread {
    /// Neither reads nor follows yet.
    pub fn new(feed: Feed, follower: Follower) -> Self {
        Self { feed, follower }
    }

    /// Reads or follows the feed until a stop.
    ///
    /// # Errors
    /// [`BridgeError::Runtime`].
    pub fn run(self) -> Result<(), BridgeError> {
        let Self { mut feed, mut follower } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(BridgeError::Runtime)?;
        let interest = follower.interest.clone();
        interest.set_all(false);
        while !follower.shutdown.is_requested() {
            let Some(epoch) = follower.role.leading_epoch() else {
                runtime.block_on(follower.follow(&mut feed));
                continue;
            };
            runtime.block_on(follower.take_over(epoch, &mut feed));
            interest.set_all(true);
            follower.led = epoch;
            feed.lead(epoch);
            interest.set_all(false);
        }
        Ok(())
    }
}

impl Follower {
    /// Takes over what the process before knew. If Redis does not tell, this process goes on from what it
    /// has followed itself.
    async fn take_over(&mut self, epoch: u64, feed: &mut Feed) {
        feed.await_symbols();
        let read = timeout(TAKE_OVER_TIMEOUT, self.read_all(epoch, feed)).await;
        let redis = self.health.address().clone();
        let (positions, symbols) = match read {
            Ok(Ok(Some(known))) => known,
            Ok(Ok(None)) => self.followed(feed),
            Ok(Err(error)) => {
                tracing::warn!(%redis, %error, "Redis does not tell the prices that the feed goes on from");
                self.followed(feed)
            }
            Err(_late) => {
                tracing::warn!(%redis, "Redis is too slow to tell the prices that the feed goes on from");
                self.followed(feed)
            }
        };
        feed.take_over(&positions, symbols);
    }

    /// What Redis has: all keys, and the rest of the lines. `None` if it has no state of the feed.
    async fn read_all(
        &mut self,
        epoch: u64,
        feed: &mut Feed,
    ) -> Result<Option<(HandedPositions, Vec<HandedSymbol>)>, LinkError> {
        let mut links = Links::open(&self.client).await?;
        // From here on nobody else writes what is read.
        close_earlier(&mut links.keys, self.role.deployment(), epoch).await?;
        // Before the keys, which may be newer then.
        let state = links.feed().await?;
        let newest_line = newest(&mut links.keys).await?;
        if let Some(told) = self.lines.connect(newest_line) {
            self.take_told(told, feed);
        }
        loop {
            let entries = links.present_lines(self.lines.last()).await?;
            if entries.is_empty() {
                break;
            }
            self.take_lines(entries, feed);
        }
        let state = state.filter(|state| state.is_possible() && !state.session.is_empty());
        let Some(state) = state else { return Ok(None) };
        feed.follow_session(&state.session, state.first_sequence);
        let (ordinal, session) = {
            let market = feed.market_mut();
            (market.ordinal(), market.status().session())
        };
        let names = listed(feed.market_mut());
        let mut symbols = Vec::with_capacity(names.len());
        for names in names.chunks(MAX_KEYS) {
            let values = links.last_values(names).await?;
            symbols.extend(values.iter().flatten().map(|read| HandedSymbol {
                symbol: read.price.symbol,
                value: LastMessage::value(read, (ordinal, session.as_str())),
                session: read.trading_session(),
            }));
        }
        let lines = self.handed_lines();
        let prices = Some((state.session, state.first_sequence, state.sequence));
        Ok(Some((HandedPositions { prices, lines }, symbols)))
    }

    /// What this process has followed itself.
    fn followed(&mut self, feed: &mut Feed) -> (HandedPositions, Vec<HandedSymbol>) {
        let lines = self.handed_lines();
        let market = feed.market_mut();
        if market.ordinal() == 0 {
            return (HandedPositions { prices: None, lines }, Vec::new());
        }
        let handed = |(index, symbol, session)| HandedSymbol {
            symbol,
            value: market.last_value(index),
            session,
        };
        let listed = market.directory().listed();
        let listed = listed.map(|(index, listing)| (index, listing.symbol, listing.session));
        let has_price = |handed: &HandedSymbol| handed.value.has_price();
        let symbols = listed.map(handed).filter(has_price).collect();
        let status = market.status();
        let prices = Some((status.session(), status.first_sequence(), status.sequence()));
        (HandedPositions { prices, lines }, symbols)
    }

    /// Up to where the orders thread has the lines.
    fn handed_lines(&mut self) -> Option<(CompactString, u32, u64)> {
        if self.waiting.is_empty() {
            return self.lines.position().cloned();
        }
        // It reconciles its orders now in any case.
        self.waiting.clear();
        None
    }
}

fn listed(market: &MarketWriter) -> Vec<Symbol> {
    let directory = market.directory();
    let indexes: Vec<SymbolIndex> = directory.indexes().collect();
    indexes.into_iter().filter_map(|index| Some(directory.listing(index)?.symbol)).collect()
}
