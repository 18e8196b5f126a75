//! The running server: starts its threads, the log first, and joins them in stages.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::bridge::RedisHealth;
use crate::cluster::{MemberClock, PartitionMap};
use crate::config::ServeArgs;
use crate::data_dir::DataHome;
use crate::exchange::feed::FeedOptions;
use crate::exchange::{ExchangeAddress, FeedRole};
use crate::http::{
    AccountSettings, Authenticator, ClientRoom, Health, PeersSecret, Site, StreamService,
};
use crate::index::Index;
use crate::market::{MarketLimits, ShardWatch, Watchers, open_market};
use crate::metrics::Metrics;
use crate::oms::{
    FEED_QUEUE_CAPACITY, KillSwitch, OmsMetrics, OrderService, OrderWatchers, OrdersThread,
    Recovered, order_commands,
};
use crate::projection::{Ownership, PostgresServers};
use crate::shutdown::Shutdown;
use crate::stream::{StreamQuotas, stream_router};
use crate::sync::mailbox;
use crate::types::{SteadyClock, UserId};
use crate::wal::WalOptions;

use super::ServeError;
use super::host::OrdersHost;
use super::launch::{Followed, Launch, ShardSide, Sharing};
use super::link;
use super::logging::Log;
use super::plan::Plan;
use super::stages::Stages;
use super::webhook::Webhook;

/// Silence of the feed that means a dead connection: three missed beats.
const FEED_SILENCE: Duration = Duration::from_secs(3);
/// Longest wait for a connection to the feed or the head of its answer.
const FEED_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
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
        let file = arguments.data_dir.kill_switch();
        let (kill_switch, halts_changed) = if arguments.is_member() {
            let (kill_switch, changed) = KillSwitch::shared(file)?;
            (kill_switch, Some(changed))
        } else {
            (KillSwitch::open(file)?, None)
        };
        let clock = SteadyClock::start(recovered.last_time);
        let (commands, receivers) = order_commands(recovered.views.clone(), kill_switch, clock);
        let feed_position = recovered.feed_position.clone();

        let partitions =
            if arguments.is_member() { PartitionMap::unknown() } else { PartitionMap::alone() };
        let node_clock = MemberClock::default();
        let sharing = listeners.peer_address.zip(halts_changed);
        let sharing = sharing.map(|(peer_address, halts_changed)| Sharing {
            halts_changed,
            peer_address,
            map: partitions.clone(),
            clock: node_clock.clone(),
            ownership: Ownership::default(),
            host: OrdersHost {
                commands: commands.clone(),
                directory: Arc::clone(&market.directory),
            },
            ended_window: Duration::from_micros(
                link::engine_options(arguments).ended_window_micros,
            ),
        });
        let role = if arguments.is_member() { FeedRole::follower() } else { FeedRole::alone() };
        let redis = arguments.redis.as_ref();
        let redis = redis.map(|address| RedisHealth::new(address, role.clone()));
        let mut launch = Launch { arguments, metrics, shutdown, role, stages: Stages::new() };
        let index = start.index.clone();
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
            role: launch.role.clone(),
            redis: redis.clone().filter(|_| arguments.is_member()),
            node_clock,
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
        let followed = Followed { market: &market, shards: &watches, lines, redis: redis.clone() };
        let exchange = feed_options.exchange.clone();
        let candles = launch.read_feed(feed_options, (market_writer, feed_sender), followed)?;

        if let (Some(redis), Some(watch)) = (redis, bridge_watch) {
            launch.publish_prices(redis, (market.clone(), watch), published)?;
        }

        let per_user = usize::try_from(arguments.streams.max_streams_per_user);
        let quotas = Arc::new(StreamQuotas::new(plan.streams, per_user.unwrap_or(usize::MAX)));
        launch.metrics.register(|registry| quotas.register(registry));
        let (router, inboxes) = stream_router(plan.placement.shards.len());
        let room = Arc::new(ClientRoom::new(plan.client_connections, Arc::clone(&quotas)));
        let directory = Arc::clone(&market.directory);
        let day_ends = launch.compare_days((exchange, index), (&commands, directory))?;
        let site = Site {
            day_ends,
            market,
            candles,
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
            accounts: AccountSettings {
                rules: arguments.account_rules(),
                market_price_age: arguments.accounts.market_price_age(),
            },
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
