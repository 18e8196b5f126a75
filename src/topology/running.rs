//! The running server: starts its threads, the log first, and joins them in stages.

use std::error::Error;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bridge::{
    BridgeMetrics, Follower, FollowerMetrics, FollowerOptions, Publisher, PublisherOptions,
    RedisAddress,
};
use crate::cluster::{Membership, PartitionMap, Stops};
use crate::config::ServeArgs;
use crate::data_dir::DataHome;
use crate::exchange::feed::{Feed, FeedMetrics, FeedOptions};
use crate::exchange::{ExchangeAddress, FeedRole, OrderFeedMessage, PublishedLine};
use crate::http::{
    Authenticator, ClientRoom, Health, HttpLimits, HttpMetrics, PeerMetrics, PeerOptions, Peers,
    PeersSecret, Site, StreamService,
};
use crate::index::Index;
use crate::market::{MarketLimits, MarketReader, MarketWriter, ShardWatch, Watchers, open_market};
use crate::metrics::Metrics;
use crate::oms::{
    self, FEED_QUEUE_CAPACITY, KillSwitch, OmsMetrics, OrderService, OrderStore, OrderWatch,
    OrderWatchers, OrdersThread, PostgresSide, Recovered, order_commands,
};
use crate::projection::{Ownership, PostgresReader, PostgresReads, PostgresServers};
use crate::runtime::{self, ExecutorOptions};
use crate::shutdown::{Shutdown, StopReason};
use crate::stream::{ChangeInbox, StreamMetrics, StreamQuotas, stream_router};
use crate::sync::{Receiver, Sender, mailbox};
use crate::types::{SteadyClock, UserId};
use crate::wal::{self, LogHandle, WalAppender, WalOptions};

use super::ServeError;
use super::feed;
use super::host::OrdersHost;
use super::index::{show_records, start_index, start_readers};
use super::link;
use super::log_check::check_old_records;
use super::logging::Log;
use super::node;
use super::operators::Operators;
use super::plan::Plan;
use super::postgres::{self, ProjectionSetup};
use super::shard::Shard;
use super::threads::Threads;
use super::webhook::Webhook;

/// Silence of the feed that means a dead connection: three missed beats.
const FEED_SILENCE: Duration = Duration::from_secs(3);
/// Longest wait for a connection to the feed or the head of its answer.
const FEED_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// How much longer than the exchange's answer another node's is waited for.
const PEER_PATIENCE: Duration = Duration::from_secs(10);
/// The user of the token that a development server prints.
const EXAMPLE_USER: &str = "demo";
/// Order lines on their way to other nodes: seconds of a busy exchange, while Redis is away.
const PUBLISHED_LINES: usize = 65_536;

/// What a server is started with.
pub(super) struct Start<'a> {
    pub(super) arguments: &'a ServeArgs,
    pub(super) plan: &'a Plan,
    pub(super) authenticator: Arc<Authenticator>,
    /// What this node shares with others, if it is one of several.
    pub(super) peers_secret: Option<PeersSecret>,
    pub(super) home: DataHome,
    pub(super) log: WalOptions,
    pub(super) index: Index,
    pub(super) recovered: Recovered,
    pub(super) exchange: ExchangeAddress,
    pub(super) webhook: Webhook,
    pub(super) postgres: Option<PostgresServers>,
    pub(super) shutdown: &'a Shutdown,
    /// Asks a member of a cluster to hand over its users.
    pub(super) hand_over: Shutdown,
    pub(super) logging: &'a Log,
}

/// A server's threads, and where it listens.
pub(super) struct Running {
    stages: Stages,
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    authenticator: Arc<Authenticator>,
}

/// The threads, in the order in which they end.
struct Stages {
    shards: Threads,
    /// Goes on until every shard has ended: their requests want answers.
    orders: Threads,
    stop_orders: Shutdown,
    rest: Threads,
    operators: Threads,
    stop_operators: Shutdown,
    readers: Threads,
}

impl Stages {
    fn new() -> Self {
        Self {
            shards: Threads::new(),
            orders: Threads::new(),
            stop_orders: Shutdown::new(),
            rest: Threads::new(),
            operators: Threads::new(),
            stop_operators: Shutdown::new(),
            readers: Threads::new(),
        }
    }

    fn join(self) {
        self.shards.join();
        self.stop_orders.request(StopReason::Requested);
        self.orders.join();
        self.rest.join();
        self.stop_operators.request(StopReason::Requested);
        self.operators.join();
        self.readers.join();
    }
}

impl Running {
    /// Starts all threads.
    ///
    /// # Errors
    /// Something that they need cannot be had.
    pub(super) fn start(start: Start<'_>) -> Result<Self, ServeError> {
        let Start { arguments, plan, recovered, webhook, shutdown, .. } = start;
        let listeners = plan.addresses.listen(plan.placement.shards.len())?;
        let metrics = Arc::new(Metrics::new());
        metrics.register(|registry| start.logging.register(registry));
        let watches: Vec<_> =
            plan.placement.shards.iter().map(|_| Arc::new(ShardWatch::new())).collect();
        let (watchers, order_watches) = OrderWatchers::new(&watches);
        let bridge_watch = arguments.redis.is_some().then(|| Arc::new(ShardWatch::new()));
        let woken = watches.iter().chain(&bridge_watch).cloned().collect();
        let (market_writer, market) = open_market(Watchers::new(woken), MarketLimits::default());
        let kill_switch = KillSwitch::open(arguments.data_dir.kill_switch())?;
        let clock = SteadyClock::start(recovered.last_time);
        let (commands, receivers) = order_commands(recovered.views.clone(), kill_switch, clock);
        let feed_position = recovered.feed_position.clone();

        let partitions =
            if arguments.is_member() { PartitionMap::unknown() } else { PartitionMap::alone() };
        let sharing = listeners.peer_address.map(|peer_address| Sharing {
            peer_address,
            map: partitions.clone(),
            ownership: Ownership::default(),
            host: OrdersHost(commands.clone()),
            ended_window: Duration::from_micros(
                link::engine_options(arguments).ended_window_micros,
            ),
        });
        let role = if arguments.is_member() { FeedRole::follower() } else { FeedRole::alone() };
        let mut launch = Launch { arguments, metrics, shutdown, role, stages: Stages::new() };
        let records = launch.keep_records(
            start.log,
            (start.index, recovered.wal),
            (start.postgres, start.home),
            (sharing, &start.hand_over),
        )?;
        if records.postgres.as_ref().is_some_and(|side| side.is_awaited) {
            // Shards may be asked before the orders thread has looked how far Postgres is.
            recovered.views.hide();
        }
        let health = Health {
            log: records.log.clone(),
            postgres: records.postgres.as_ref().map(|side| side.progress.clone()),
            exchange_clock_limit: arguments.link.exchange_clock_limit(),
        };

        let (feed_sender, feed_receiver) = mailbox(FEED_QUEUE_CAPACITY);
        let oms_metrics = OmsMetrics::default();
        launch.metrics.register(|registry| {
            oms_metrics.register(registry);
            commands.stages().register(registry);
        });
        let orders = OrdersThread {
            engines: recovered.engines,
            views: recovered.views,
            watchers,
            store: records.store.clone(),
            postgres: records.postgres,
            wal: records.appender,
            receivers,
            feed: feed_receiver,
            options: link::execution_options(arguments, &start.exchange, webhook.registration),
            metrics: oms_metrics,
            shutdown: launch.stages.stop_orders.clone(),
        };
        launch.start_orders(orders, plan.placement.orders)?;
        let feed_options = FeedOptions {
            exchange: start.exchange,
            source: arguments.link.exchange_source_ip.last().copied(),
            request_timeout: FEED_REQUEST_TIMEOUT,
            silence_timeout: FEED_SILENCE,
            resume: feed_position.map(|(session, last)| (session, last.saturating_add(1))),
            exchange_clock: commands.exchange_clock().clone(),
        };
        let (lines, published) = mailbox(PUBLISHED_LINES);
        let followed = Followed { market: &market, shards: &watches, lines };
        launch.read_feed(feed_options, (market_writer, feed_sender), followed)?;

        if let (Some(redis), Some(watch)) = (&arguments.redis, bridge_watch) {
            launch.publish_prices(redis, (market.clone(), watch), published)?;
        }

        let per_user = usize::try_from(arguments.streams.max_streams_per_user);
        let quotas = Arc::new(StreamQuotas::new(plan.streams, per_user.unwrap_or(usize::MAX)));
        launch.metrics.register(|registry| quotas.register(registry));
        let (router, inboxes) = stream_router(plan.placement.shards.len());
        let room = Arc::new(ClientRoom::new(plan.client_connections, Arc::clone(&quotas)));
        let site = Site {
            market,
            orders: OrderService::new(commands, records.store),
            authenticator: start.authenticator.clone(),
            webhook: webhook.verifier,
            room,
            metrics: Arc::clone(&launch.metrics),
            streams: StreamService {
                quotas,
                router,
                default_rate: arguments.streams.default_rate(),
            },
            health,
            peers: launch.know_peers(partitions, start.peers_secret),
        };
        launch.serve_operators(&site, listeners.operators)?;
        let for_peers =
            listeners.peers.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let listening = listeners.shards.into_iter().zip(for_peers);
        let sides = watches.into_iter().zip(listening).zip(inboxes).zip(order_watches);
        launch.serve_clients(
            &site,
            plan,
            sides.map(|(((watch, (listeners, peer_listener)), inbox), orders)| ShardSide {
                watch,
                listeners,
                peer_listener,
                inbox,
                orders,
            }),
        )?;
        Ok(Self {
            stages: launch.stages,
            addresses: listeners.addresses,
            admin_addresses: listeners.operator_addresses,
            authenticator: start.authenticator,
        })
    }

    /// Says where it listens and, for development, what to try.
    pub(super) fn announce(&self, data_dir: &Path, log: &Log) {
        for address in &self.addresses {
            log.announce(format_args!("listening on http://{address}"));
            if self.authenticator.is_development() && !address.ip().is_loopback() {
                tracing::warn!(
                    %address,
                    "anybody who reaches this address may log in under any name: set --jwt-secret-file, or \
                     listen on 127.0.0.1"
                );
            }
        }
        for address in &self.admin_addresses {
            log.announce(format_args!("admin on http://{address}"));
        }
        let Some(address) = self.addresses.first().copied().map(from_here) else { return };
        if !self.authenticator.is_development() {
            return;
        }
        let token = UserId::new(EXAMPLE_USER).and_then(|user| self.authenticator.issue(&user));
        if let Ok(token) = token {
            let data_dir = data_dir.display();
            log.announce(format_args!(
                "\nThe page: http://{address}/\n\
                 Live prices, as the user {EXAMPLE_USER:?} (development log-in, data in {data_dir}):\n\
                 \n  curl -N -H 'Authorization: Bearer {token}' \
                 -d '{{\"symbols\":[\"SPY\",\"IBM\"]}}' http://{address}/subscribe\n"
            ));
        }
    }

    /// Waits for the end of all threads, once a stop is requested.
    pub(super) fn join(self) {
        self.stages.join();
    }
}

/// What a member of a cluster needs beside the log.
struct Sharing {
    peer_address: SocketAddr,
    map: PartitionMap,
    ownership: Ownership,
    host: OrdersHost,
    ended_window: Duration,
}

impl Sharing {
    fn membership(self, log: LogHandle) -> Membership<OrdersHost> {
        let Self { map, ownership, host, ended_window, .. } = self;
        Membership { map, ownership, log, host, ended_window }
    }
}

/// Where the records of orders are, and what follows the log.
struct Records {
    appender: WalAppender,
    log: LogHandle,
    store: OrderStore,
    postgres: Option<PostgresSide>,
}

/// What belongs to one shard alone.
struct ShardSide {
    watch: Arc<ShardWatch>,
    /// One for each address that clients connect to.
    listeners: Vec<OwnedFd>,
    /// For other nodes, if there may be any.
    peer_listener: Option<OwnedFd>,
    inbox: ChangeInbox,
    orders: OrderWatch,
}

/// What one of several nodes has to do with the feed of another.
struct Followed<'a> {
    market: &'a MarketReader,
    shards: &'a [Arc<ShardWatch>],
    /// The lines for other nodes, while this one reads the feed.
    lines: Sender<PublishedLine>,
}

/// Starts thread after thread.
struct Launch<'a> {
    arguments: &'a ServeArgs,
    metrics: Arc<Metrics>,
    shutdown: &'a Shutdown,
    /// Whether this process reads the exchange's feed.
    role: FeedRole,
    stages: Stages,
}

impl Launch<'_> {
    /// Starts the log and what follows it.
    fn keep_records(
        &mut self,
        log: WalOptions,
        (index, recovery): (Index, wal::Recovery),
        (postgres, home): (Option<PostgresServers>, DataHome),
        (sharing, hand_over): (Option<Sharing>, &Shutdown),
    ) -> Result<Records, ServeError> {
        let Self { arguments, metrics, shutdown, role, stages } = self;
        let Stages { rest, readers, operators, stop_operators, stop_orders, .. } = stages;
        let (keep_bytes, segment_bytes) = (log.keep_bytes, log.segment_bytes);
        let log_directory = log.directory.clone();
        let (appender, writer) = wal::open(log, recovery)?;
        let log = writer.handle();
        // Before anything is written: another process may run with the same log.
        let is_member = sharing.is_some();
        let ownership = sharing.as_ref().map(|sharing| sharing.ownership.clone());
        if let Some(servers) = &postgres {
            let peer_address = sharing.as_ref().map(|sharing| sharing.peer_address);
            let mut member =
                node::join(servers, (arguments, home, log.log_id()), peer_address, metrics)?;
            match sharing {
                Some(sharing) => {
                    member.share_feed(role.clone(), stop_orders.clone());
                    let membership = sharing.membership(log.clone());
                    let stops = Stops { hand_over: hand_over.clone(), shutdown: shutdown.clone() };
                    let run = move || member.run_as_member(membership, &stops);
                    operators.spawn("node", shutdown, run).map_err(ServeError::Thread)?;
                }
                None => {
                    let stop = stop_operators.clone();
                    let run = move || member.run(&stop);
                    operators.spawn("node", shutdown, run).map_err(ServeError::Thread)?;
                }
            }
        }
        rest.spawn("wal", shutdown, move || writer.run()).map_err(ServeError::Thread)?;
        let (checked, stop, stored) = (metrics.clone(), shutdown.clone(), index.position());
        rest.spawn("log-check", shutdown, move || {
            check_old_records(&log_directory, stored, &checked, &stop);
            Ok::<(), String>(())
        })
        .map_err(ServeError::Thread)?;
        start_index(&index, log.clone(), metrics, (rest, shutdown))?;
        show_records(&arguments.data_dir, (&index, log.clone()), (rest, shutdown))?;
        let reads = is_member.then(|| postgres.as_ref().map(read_orders)).flatten();
        let index_of_reads = index.clone();
        let start_projection = |servers| {
            let setup = ProjectionSetup {
                arguments: &arguments.postgres,
                keep_bytes,
                segment_bytes,
                log: log.clone(),
                index,
                metrics,
                ownership,
            };
            postgres::start(servers, setup, (rest, shutdown))
        };
        let postgres = postgres.map(start_projection).transpose()?;
        let store = match (reads, &postgres) {
            (Some((reads, reader)), Some(side)) => {
                readers
                    .spawn("postgres-read", shutdown, move || reader.run())
                    .map_err(ServeError::Thread)?;
                let progress = side.progress.clone();
                OrderStore::postgres(index_of_reads, log.log_id(), reads, progress)
            }
            _ => start_readers(&index_of_reads, (readers, shutdown))?.into(),
        };
        Ok(Records { appender, log, store, postgres })
    }

    fn start_orders(
        &mut self,
        thread: OrdersThread,
        core: Option<usize>,
    ) -> Result<(), ServeError> {
        let options = ExecutorOptions {
            core,
            spin: Some(self.arguments.spin()),
            ..ExecutorOptions::default()
        };
        let run =
            move || -> Result<(), Box<dyn Error>> { Ok(runtime::run(options, oms::run(thread))??) };
        self.stages.orders.spawn("orders", self.shutdown, run).map_err(ServeError::Thread)
    }

    fn read_feed(
        &mut self,
        options: FeedOptions,
        (market, orders): (MarketWriter, Sender<OrderFeedMessage>),
        followed: Followed<'_>,
    ) -> Result<(), ServeError> {
        let metrics = FeedMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        // While the streams drain they go on showing prices.
        let stop = self.stages.stop_orders.clone();
        let mut feed = Feed::new(options, market, orders, stop, metrics);
        let follower = self.follower(&followed);
        if follower.is_some() {
            feed.share(self.role.clone(), followed.lines);
        }
        feed::start(
            (feed, follower),
            &self.arguments.data_dir,
            (&mut self.stages.rest, self.shutdown),
        )
        .map_err(ServeError::Thread)
    }

    /// The follower of one of several nodes.
    fn follower(&self, Followed { market, shards, .. }: &Followed<'_>) -> Option<Follower> {
        let address = self.arguments.redis.clone()?;
        let metrics = FollowerMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        if !self.arguments.is_member() {
            return None;
        }
        Some(Follower::new(FollowerOptions {
            address,
            shards: shards.to_vec(),
            interest: Arc::clone(&market.interest),
            role: self.role.clone(),
            shutdown: self.stages.stop_orders.clone(),
            metrics,
        }))
    }

    /// The other nodes, if this one has the secret that they share.
    fn know_peers(&self, map: PartitionMap, secret: Option<PeersSecret>) -> Option<Peers> {
        let metrics = PeerMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        Some(Peers::new(PeerOptions {
            node_id: self.arguments.node_id,
            map,
            secret: secret?,
            answer_timeout: self.arguments.order_reply_timeout() + PEER_PATIENCE,
            metrics,
        }))
    }

    fn publish_prices(
        &mut self,
        redis: &RedisAddress,
        (market, watch): (MarketReader, Arc<ShardWatch>),
        lines: Receiver<PublishedLine>,
    ) -> Result<(), ServeError> {
        let metrics = BridgeMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        let publisher = Publisher::new(PublisherOptions {
            address: redis.clone(),
            market,
            watch,
            role: self.role.clone(),
            lines: self.arguments.is_member().then_some(lines),
            metrics,
        });
        // While the streams drain, prices go on.
        let stop = self.stages.stop_orders.clone();
        let run = move || publisher.run(&stop);
        self.stages.rest.spawn("bridge", self.shutdown, run).map_err(ServeError::Thread)
    }

    fn serve_operators(&mut self, site: &Site, listeners: Vec<OwnedFd>) -> Result<(), ServeError> {
        let operators = Operators {
            listeners,
            http: HttpLimits::keeping(self.arguments.keep_alive()).for_operators(),
            site: site.clone(),
            metrics: HttpMetrics::default(),
            shutdown: self.shutdown.clone(),
            stop: self.stages.stop_operators.clone(),
        };
        self.metrics.register(|registry| operators.metrics.register(registry, "admin"));
        let run = move || operators.run();
        self.stages.operators.spawn("admin", self.shutdown, run).map_err(ServeError::Thread)
    }

    fn serve_clients(
        &mut self,
        site: &Site,
        plan: &Plan,
        sides: impl Iterator<Item = ShardSide>,
    ) -> Result<(), ServeError> {
        for ((number, &core), side) in (0..).zip(&plan.placement.shards).zip(sides) {
            let ShardSide { watch, listeners, peer_listener, inbox, orders } = side;
            let shard = Shard {
                number,
                core,
                spin: self.arguments.spin(),
                site: site.clone(),
                watch,
                inbox,
                order_watch: orders,
                listeners,
                peer_listener,
                streams: self.arguments.streams.limits(),
                http: HttpLimits::keeping(self.arguments.keep_alive()),
                stream_metrics: StreamMetrics::default(),
                http_metrics: HttpMetrics::default(),
                peer_http_metrics: HttpMetrics::default(),
                shutdown: self.shutdown.clone(),
            };
            shard.register_metrics();
            let name = format!("shard-{number}");
            self.stages
                .shards
                .spawn(&name, self.shutdown, move || shard.run())
                .map_err(ServeError::Thread)?;
        }
        Ok(())
    }
}

/// What reads orders that memory lacks back from Postgres.
fn read_orders(servers: &PostgresServers) -> (PostgresReads, PostgresReader) {
    PostgresReads::new(servers.of_nodes())
}

/// An address that this machine reaches a listener at, which may listen at all that it has.
fn from_here(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
