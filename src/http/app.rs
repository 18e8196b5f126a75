use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;

use crate::exchange::webhook::WebhookVerifier;
use crate::market::{Directory, MarketReader};
use crate::metrics::Metrics;
use crate::oms::OrderService;
use crate::stream::{Hub, StreamQuotas, StreamRouter};

use super::auth::Authenticator;
use super::problem::Problem;
use super::ready::Health;

/// What every shard serves: made once, shared by all of them.
#[derive(Clone)]
pub struct Site {
    /// Prices and symbols.
    pub market: MarketReader,
    /// Takes orders and answers questions about them.
    pub orders: OrderService,
    /// Who a request comes from.
    pub authenticator: Arc<Authenticator>,
    /// Who may post fills; nobody without one.
    pub webhook: Option<Arc<WebhookVerifier>>,
    /// Room for streams, and the way to those of other shards.
    pub streams: StreamService,
    /// Counters, for the operators' listener.
    pub metrics: Arc<Metrics>,
    /// What readiness depends on beside the above.
    pub health: Health,
}

/// What the streams of all shards share.
#[derive(Debug, Clone)]
pub struct StreamService {
    /// How many there may be.
    pub quotas: Arc<StreamQuotas>,
    /// Where to ask for changes of open ones.
    pub router: StreamRouter,
    /// Sends a second of a stream that asks for no rate; `None` for no limit.
    pub default_rate: Option<u32>,
}

/// What the requests of one shard see.
pub struct App {
    /// Shared with the other shards.
    pub site: Site,
    /// This shard's streams.
    pub hub: Rc<RefCell<Hub>>,
}

impl App {
    /// What the exchange lists.
    ///
    /// # Errors
    /// It has not told its symbols yet: no name is known, and none is unknown. That passes by itself.
    pub(super) fn symbols(&self) -> Result<Arc<Directory>, Problem> {
        let directory = self.site.market.directory.load();
        if directory.is_empty() {
            let detail = "The exchange has not told its symbols yet. Try again.";
            return Err(Problem::unavailable("no_symbols_yet", detail));
        }
        Ok(directory)
    }
}
