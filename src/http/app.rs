//! State that the request handlers share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::day_end::DayEnds;
use crate::engine::AccountRules;
use crate::exchange::webhook::WebhookVerifier;
use crate::index::CandleReads;
use crate::market::{Directory, MarketReader};
use crate::metrics::Metrics;
use crate::oms::OrderService;
use crate::runtime::sleep;
use crate::stream::{Hub, StreamQuotas, StreamRouter};

use super::auth::Authenticator;
use super::health::Health;
use super::peers::{PeerPool, Peers};
use super::problem::Problem;
use super::relay::Relays;
use super::room::ClientRoom;
use crate::types::{PriceCents, Symbol, SymbolIndex};

/// Longest wait for the prices of symbols that nobody on this node watches yet. After it they come, or
/// are marked as stale.
const LONGEST_WAIT_FOR_PRICES: Duration = Duration::from_millis(500);
/// How often they are looked for. On one host they come within a millisecond.
const PRICE_LOOK_INTERVAL: Duration = Duration::from_micros(500);

/// State shared by all shards.
#[derive(Clone)]
pub struct Site {
    /// Prices and symbols.
    pub market: MarketReader,
    /// Candles; `None` where they are not made.
    pub candles: Option<CandleReads>,
    /// Takes orders and answers queries about them.
    pub orders: OrderService,
    /// Authenticates users.
    pub authenticator: Arc<Authenticator>,
    /// Verifies posted fills; `None` if there is no webhook.
    pub webhook: Option<Arc<WebhookVerifier>>,
    /// Stream quotas, and the router to the streams of other shards.
    pub streams: StreamService,
    /// Room for connections of clients.
    pub room: Arc<ClientRoom>,
    /// Counters, served by the operators' listener.
    pub metrics: Arc<Metrics>,
    /// Further inputs of readiness.
    pub health: Health,
    /// The other nodes, where this one shares users with them.
    pub peers: Option<Peers>,
    /// What accounts are for.
    pub accounts: AccountSettings,
    /// Comparisons with the exchange at the ends of days; `None` where nodes share the users.
    pub day_ends: Option<DayEnds>,
}

/// What accounts are for, as far as requests are concerned.
#[derive(Debug, Clone, Copy)]
pub struct AccountSettings {
    /// The rules of the order engines.
    pub rules: AccountRules,
    /// How old a price may be that says what a market buy needs.
    pub market_price_age: Duration,
}

/// Settings and services that all streams share.
#[derive(Debug, Clone)]
pub struct StreamService {
    /// How many streams there may be.
    pub quotas: Arc<StreamQuotas>,
    /// Routes changes to open streams.
    pub router: StreamRouter,
    /// Sends per second of a stream that requests no rate; `None` for no limit.
    pub default_rate: Option<u32>,
}

/// State of one shard's request handlers.
pub struct App {
    /// Shared with the other shards.
    pub site: Site,
    /// This shard's streams.
    pub hub: Rc<RefCell<Hub>>,
    /// Streams that other nodes have.
    pub(super) relays: Rc<Relays>,
    /// This shard's connections to other nodes.
    pub(super) peer_pool: PeerPool,
}

impl App {
    /// The handlers' state on one shard.
    pub fn new(site: Site, hub: Rc<RefCell<Hub>>, relays: Rc<Relays>) -> Self {
        Self { site, hub, relays, peer_pool: PeerPool::default() }
    }

    /// The number of this node, where it shares users with others.
    pub(super) fn node(&self) -> Option<u16> {
        self.site.peers.as_ref().and_then(|peers| peers.node_id().try_into().ok())
    }

    /// Waits until this node has current prices of these symbols, but not for long. A node that reads
    /// the exchange's feed has them all.
    pub(super) async fn await_prices(&self, symbols: &[SymbolIndex]) {
        let MarketReader { interest, status, .. } = &self.site.market;
        let are_missing = || symbols.iter().any(|symbol| !interest.has(*symbol));
        // Without the one that reads the feed, or the way to its prices, there is nothing to wait for, and
        // the client is told so.
        let may_come = || status.is_up() || interest.is_served();
        if !may_come() || !are_missing() {
            return;
        }
        for symbol in symbols.iter().filter(|symbol| !interest.has(**symbol)) {
            interest.ask(*symbol);
        }
        let until = Instant::now() + LONGEST_WAIT_FOR_PRICES;
        while may_come() && are_missing() && Instant::now() < until {
            sleep(PRICE_LOOK_INTERVAL).await;
        }
    }

    /// The last price of a symbol, if it is fresh: the feed is up, and the exchange printed it lately.
    pub(super) async fn fresh_price(&self, symbol: &Symbol) -> Option<PriceCents> {
        let index = self.symbols().ok()?.index_of(symbol)?;
        self.await_prices(&[index]).await;
        let (value, is_current) = self.site.market.last_value(index);
        let commands = self.site.orders.commands();
        let now = commands.exchange_clock().now(commands.clock().moment());
        let age = Duration::from_micros(now.micros_since(value.timestamp));
        let is_fresh = is_current && age <= self.site.accounts.market_price_age;
        PriceCents::new(value.price_cents).ok().filter(|_| is_fresh)
    }

    /// The symbols that the exchange lists.
    ///
    /// # Errors
    /// No symbol list has arrived yet, so names cannot be checked. Passes by itself.
    pub(super) fn symbols(&self) -> Result<Arc<Directory>, Problem> {
        let directory = self.site.market.directory.load();
        if directory.is_empty() {
            let detail = "The exchange's list of symbols has not arrived yet. Try again.";
            return Err(Problem::unavailable("no_symbols_yet", detail));
        }
        Ok(directory)
    }
}
