use std::cell::RefCell;
use std::future::poll_fn;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use crate::cluster::{PartitionMap, Route};
use crate::http::{
    App, HttpLimits, HttpMetrics, RelayLimits, Relays, Site, serve_clients, serve_peers,
};
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
    /// For other nodes, if there may be any.
    pub peer_listener: Option<OwnedFd>,
    pub streams: StreamLimits,
    pub http: HttpLimits,
    pub stream_metrics: StreamMetrics,
    pub http_metrics: HttpMetrics,
    pub peer_http_metrics: HttpMetrics,
    pub shutdown: Shutdown,
}

/// Pause before the next query to a store that could not answer.
const STORE_BREAK: Duration = Duration::from_millis(20);
/// Time between two looks at who has which users.
const PARTITION_LOOK: Duration = Duration::from_millis(100);
/// Looks after a change: a stream that was decided on just before it may be opened just after.
const LOOKS_AFTER_A_CHANGE: u32 = 10;

impl Shard {
    pub(super) fn register_metrics(&self) {
        let number = self.number;
        self.site.metrics.register(|registry| {
            self.stream_metrics.register(registry, number);
            self.http_metrics.register(registry, &format!("shard-{number}"));
            if self.peer_listener.is_some() {
                self.peer_http_metrics.register(registry, &format!("peers-{number}"));
            }
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
                node: self.site.peers.as_ref().and_then(|peers| peers.node_id().try_into().ok()),
                shard: self.number,
                limits: self.streams,
                metrics: self.stream_metrics,
                orders: Box::new(OrderEventFeed::new(self.order_watch, order_changes.clone())),
            },
        )
        .map_err(|error| error.to_string())?;
        let hub = Rc::new(RefCell::new(hub));
        let limits = RelayLimits { stall: self.streams.stall, heartbeat: self.streams.heartbeat };
        let relays = Relays::new(self.shutdown.clone(), limits);
        let app = Rc::new(App::new(self.site.clone(), Rc::clone(&hub), Rc::clone(&relays)));
        let changing = spawn_local(serve_changes(Rc::clone(&hub), self.inbox));
        let answering = spawn_local(answer_store_queries(Rc::clone(&hub), order_changes));
        let map = self.site.peers.as_ref().map(|peers| peers.map().clone());
        let ending = map.map(|map| spawn_local(end_moved_streams(Rc::clone(&hub), map)));
        let driving = spawn_local(drive(hub, self.watch, self.shutdown.clone()));
        let mut serving: Vec<_> = self
            .listeners
            .into_iter()
            .map(|listener| {
                let (metrics, shutdown) = (self.http_metrics.clone(), self.shutdown.clone());
                let listener = adopt_listener(listener);
                let app = Rc::clone(&app);
                spawn_local(serve_clients(listener, self.http, metrics, shutdown, app))
            })
            .collect();
        if let Some(listener) = self.peer_listener {
            let (metrics, listener) = (self.peer_http_metrics.clone(), adopt_listener(listener));
            serving.push(spawn_local(serve_peers(listener, metrics, self.shutdown.clone(), app)));
        }
        driving.await;
        changing.cancel().await;
        answering.cancel().await;
        if let Some(ending) = ending {
            ending.cancel().await;
        }
        for serving in serving {
            serving.await;
        }
        relays.ended().await;
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

/// Ends the streams with orders of users whom another node has from now on: their clients come back, and
/// are shown there what changes.
async fn end_moved_streams(hub: Rc<RefCell<Hub>>, map: PartitionMap) {
    let (mut known, mut looks) = (map.changes(), 0);
    loop {
        sleep(PARTITION_LOOK).await;
        let changes = map.changes();
        if changes != known {
            (known, looks) = (changes, LOOKS_AFTER_A_CHANGE);
        }
        if looks > 0 {
            looks -= 1;
            hub.borrow_mut().end_orders_of(|user| map.route(user.partition()) != Route::Here);
        }
    }
}
