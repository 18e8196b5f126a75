//! State that the request handlers share.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::exchange::webhook::WebhookVerifier;
use crate::market::{Directory, MarketReader};
use crate::metrics::Metrics;
use crate::oms::OrderService;
use crate::stream::{Hub, StreamQuotas, StreamRouter};

use super::auth::Authenticator;
use super::health::Health;
use super::problem::Problem;

/// State shared by all shards.
#[derive(Clone)]
pub struct Site {
    /// Prices and symbols.
    pub market: MarketReader,
    /// Takes orders and answers queries about them.
    pub orders: OrderService,
    /// Authenticates users.
    pub authenticator: Arc<Authenticator>,
    /// Verifies posted fills; `None` if there is no webhook.
    pub webhook: Option<Arc<WebhookVerifier>>,
    /// Stream quotas, and the router to the streams of other shards.
    pub streams: StreamService,
    /// Counters, served by the operators' listener.
    pub metrics: Arc<Metrics>,
    /// Further inputs of readiness.
    pub health: Health,
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
}

impl App {
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
