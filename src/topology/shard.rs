use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::http::{App, HttpLimits, HttpMetrics, Site, serve_clients};
use crate::market::ShardWatch;
use crate::oms::{OrderChanges, OrderEventFeed, OrderWatch};
use crate::runtime::{self, ExecutorOptions, adopt_listener, sleep, spawn_local};
use crate::shutdown::Shutdown;
use crate::stream::{
    ChangeInbox, Hub, HubOptions, StoreReply, StreamLimits, StreamMetrics, drive, serve_changes,
};

/// What one shard is made of.
pub(super) struct Shard {
    pub number: u16,
    pub core: usize,
    /// How long it looks for work before it sleeps.
    pub spin: Duration,
    pub site: Site,
    pub watch: Arc<ShardWatch>,
    pub inbox: ChangeInbox,
    pub order_watch: OrderWatch,
    /// One for each address that clients connect to.
    pub listeners: Vec<OwnedFd>,
    pub streams: StreamLimits,
    pub http: HttpLimits,
    pub stream_metrics: StreamMetrics,
    pub http_metrics: HttpMetrics,
    pub shutdown: Shutdown,
}

/// Pause before the next query to a store that could not answer.
const STORE_BREAK: Duration = Duration::from_millis(20);

impl Shard {
    pub(super) fn register_metrics(&self) {
        let number = self.number;
        self.site.metrics.register(|registry| {
            self.stream_metrics.register(registry, number);
            self.http_metrics.register(registry, &format!("shard-{number}"));
        });
    }

    /// Serves until a stop is requested.
    ///
    /// # Errors
    /// The executor or the poll set could not be made.
    pub(super) fn run(self) -> Result<(), String> {
        let options = ExecutorOptions {
            core: Some(self.core),
            spin: Some(self.spin),
            ..ExecutorOptions::default()
        };
        runtime::run(options, self.serve()).map_err(|error| error.to_string())?
    }

    async fn serve(self) -> Result<(), String> {
        let order_changes = self.site.orders.changes().clone();
        let hub = Hub::new(
            self.site.market.clone(),
            Arc::clone(&self.watch),
            HubOptions {
                shard: self.number,
                limits: self.streams,
                metrics: self.stream_metrics,
                orders: Box::new(OrderEventFeed::new(self.order_watch, order_changes.clone())),
            },
        )
        .map_err(|error| error.to_string())?;
        let hub = Rc::new(RefCell::new(hub));
        let app = Rc::new(App { site: self.site.clone(), hub: Rc::clone(&hub) });
        let changing = spawn_local(serve_changes(Rc::clone(&hub), self.inbox));
        let answering = spawn_local(answer_store_queries(Rc::clone(&hub), order_changes));
        let driving = spawn_local(drive(hub, self.watch, self.shutdown.clone()));
        let serving: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| {
                let (metrics, shutdown) = (self.http_metrics.clone(), self.shutdown.clone());
                let listener = adopt_listener(listener);
                let app = Rc::clone(&app);
                spawn_local(serve_clients(listener, self.http, metrics, shutdown, app))
            })
            .collect();
        driving.await;
        changing.cancel().await;
        answering.cancel().await;
        for serving in serving {
            serving.await;
        }
        Ok(())
    }
}

/// Runs the queries of streams against the store: one at a time per stream, and no stream waits for
/// another's.
async fn answer_store_queries(hub: Rc<RefCell<Hub>>, changes: OrderChanges) {
    loop {
        let query = poll_fn(|context| hub.borrow_mut().poll_store_query(context)).await;
        let (hub, changes) = (Rc::clone(&hub), changes.clone());
        let answering = async move {
            let answer = changes.answer(&query).await;
            if answer == StoreReply::Unavailable {
                sleep(STORE_BREAK).await;
            }
            hub.borrow_mut().answer(&query, answer);
        };
        spawn_local(answering).detach();
    }
}
