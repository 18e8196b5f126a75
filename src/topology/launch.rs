//! Starts a server's threads, one after the other.

use std::error::Error;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use crate::bridge::{
    BridgeMetrics, Follower, FollowerMetrics, FollowerOptions, Publisher, PublisherOptions,
    RedisHealth,
};
use crate::cluster::{MemberClock, Membership, PartitionMap, Stops};
use crate::config::ServeArgs;
use crate::data_dir::DataHome;
use crate::day_end::DayEnds;
use crate::exchange::feed::{Feed, FeedMetrics, FeedOptions};
use crate::exchange::{ExchangeAddress, FeedRole, OrderFeedMessage, PublishedLine};
use crate::http::{HttpLimits, HttpMetrics, PeerMetrics, PeerOptions, Peers, PeersSecret, Site};
use crate::index::{CandleReads, Index};
use crate::market::{MarketReader, MarketWriter, ShardWatch, SharedDirectory};
use crate::metrics::Metrics;
use crate::oms::{self, OrderCommands, OrderStore, OrderWatch, OrdersThread, PostgresSide};
use crate::projection::{Ownership, PostgresReader, PostgresReads, PostgresServers};
use crate::runtime::{self, ExecutorOptions};
use crate::shutdown::Shutdown;
use crate::stream::{ChangeInbox, StreamMetrics};
use crate::sync::{Receiver, Sender};
use crate::wal::{self, LogHandle, WalAppender, WalOptions};

use super::ServeError;
use super::candles::{self, CandleFeed};
use super::day_end;
use super::feed;
use super::host::OrdersHost;
use super::index::{show_records, start_index, start_readers};
use super::log_check::check_old_records;
use super::node;
use super::operators::Operators;
use super::plan::Plan;
use super::postgres::{self, ProjectionSetup};
use super::shard::Shard;
use super::stages::Stages;

/// How much longer than the exchange's answer another node's is waited for. With it less than the 10 s for which
/// proxies are told to wait.
const PEER_PATIENCE: Duration = Duration::from_secs(8);

/// What a member of a cluster needs beside the log.
pub(super) struct Sharing {
    pub(super) peer_address: SocketAddr,
    pub(super) map: PartitionMap,
    pub(super) clock: MemberClock,
    pub(super) ownership: Ownership,
    pub(super) host: OrdersHost,
    pub(super) ended_window: Duration,
    pub(super) halts_changed: Receiver<()>,
}

impl Sharing {
    fn membership(self, log: LogHandle) -> (Membership<OrdersHost>, Receiver<()>) {
        let Self { map, clock, ownership, host, ended_window, halts_changed, .. } = self;
        (Membership { map, clock, ownership, log, host, ended_window }, halts_changed)
    }
}

/// Where the records of orders are, and what follows the log.
pub(super) struct Records {
    pub(super) appender: WalAppender,
    pub(super) log: LogHandle,
    pub(super) store: OrderStore,
    pub(super) postgres: Option<PostgresSide>,
}

/// What belongs to one shard alone.
pub(super) struct ShardSide {
    pub(super) watch: Arc<ShardWatch>,
    /// One for each address that clients connect to.
    pub(super) listeners: Vec<OwnedFd>,
    /// For other nodes, if there may be any.
    pub(super) peer_listener: Option<OwnedFd>,
    pub(super) inbox: ChangeInbox,
    pub(super) orders: OrderWatch,
}

/// What one of several nodes has to do with the feed of another.
pub(super) struct Followed<'a> {
    pub(super) market: &'a MarketReader,
    pub(super) shards: &'a [Arc<ShardWatch>],
    /// The lines for other nodes, while this one reads the feed.
    pub(super) lines: Sender<PublishedLine>,
    /// Is told how Redis does, if there is one.
    pub(super) redis: Option<RedisHealth>,
}

/// Starts thread after thread.
pub(super) struct Launch<'a> {
    pub(super) arguments: &'a ServeArgs,
    pub(super) metrics: Arc<Metrics>,
    pub(super) shutdown: &'a Shutdown,
    /// Whether this process reads the exchange's feed.
    pub(super) role: FeedRole,
    pub(super) stages: Stages,
}

impl Launch<'_> {
    /// Starts the log and what follows it.
    pub(super) fn keep_records(
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
                    let (membership, halts_changed) = sharing.membership(log.clone());
                    let stops = Stops { hand_over: hand_over.clone(), shutdown: shutdown.clone() };
                    let run = move || member.run_as_member(membership, halts_changed, &stops);
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

    pub(super) fn start_orders(
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

    pub(super) fn read_feed(
        &mut self,
        options: FeedOptions,
        (market, orders): (MarketWriter, Sender<OrderFeedMessage>),
        followed: Followed<'_>,
    ) -> Result<Option<CandleReads>, ServeError> {
        let metrics = FeedMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        let candles = self.make_candles(followed.market, &options)?;
        // While the streams drain they go on showing prices.
        let stop = self.stages.stop_orders.clone();
        let mut feed = Feed::new(options, market, orders, stop, metrics);
        let follower = self.follower(&followed);
        if follower.is_some() {
            feed.share(self.role.clone(), followed.lines);
        }
        let (candles, reads) = candles.unzip();
        feed::start(
            (feed, follower, candles),
            &self.arguments.data_dir,
            (&mut self.stages.rest, self.shutdown),
        )
        .map_err(ServeError::Thread)?;
        Ok(reads)
    }

    /// Candles, where this process reads the whole feed. A member of a cluster may not.
    fn make_candles(
        &mut self,
        market: &MarketReader,
        feed: &FeedOptions,
    ) -> Result<Option<(CandleFeed, CandleReads)>, ServeError> {
        if self.arguments.is_member() {
            return Ok(None);
        }
        let Self { arguments, metrics, stages, shutdown, .. } = self;
        let Stages { rest, readers, stop_orders, .. } = stages;
        let directory = Arc::clone(&market.directory);
        let threads = (rest, readers, &*stop_orders);
        candles::start(arguments, (directory, feed), metrics, threads, shutdown).map(Some)
    }

    /// Compares days with the exchange, where this process has all orders.
    pub(super) fn compare_days(
        &mut self,
        records: (ExchangeAddress, Index),
        (commands, directory): (&OrderCommands, Arc<SharedDirectory>),
    ) -> Result<Option<DayEnds>, ServeError> {
        if self.arguments.is_member() {
            return Ok(None);
        }
        let Self { arguments, metrics, stages, shutdown, .. } = self;
        let Stages { rest, stop_orders, .. } = stages;
        let threads = (rest, &*stop_orders, &**shutdown);
        let sources = (commands.clone(), directory);
        day_end::start(arguments, records, sources, metrics, threads).map(Some)
    }

    /// The follower of one of several nodes.
    pub(super) fn follower(
        &self,
        Followed { market, shards, redis, .. }: &Followed<'_>,
    ) -> Option<Follower> {
        let health = redis.clone()?;
        let metrics = FollowerMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        if !self.arguments.is_member() {
            return None;
        }
        Some(Follower::new(FollowerOptions {
            shards: shards.to_vec(),
            interest: Arc::clone(&market.interest),
            role: self.role.clone(),
            shutdown: self.stages.stop_orders.clone(),
            health,
            metrics,
        }))
    }

    /// The other nodes, if this one has the secret that they share.
    pub(super) fn know_peers(
        &self,
        map: PartitionMap,
        secret: Option<PeersSecret>,
    ) -> Option<Peers> {
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

    pub(super) fn publish_prices(
        &mut self,
        redis: RedisHealth,
        (market, watch): (MarketReader, Arc<ShardWatch>),
        lines: Receiver<PublishedLine>,
    ) -> Result<(), ServeError> {
        let metrics = BridgeMetrics::default();
        self.metrics.register(|registry| metrics.register(registry));
        let publisher = Publisher::new(PublisherOptions {
            market,
            watch,
            role: self.role.clone(),
            lines: self.arguments.is_member().then_some(lines),
            health: redis,
            metrics,
        });
        // While the streams drain, prices go on.
        let stop = self.stages.stop_orders.clone();
        let run = move || publisher.run(&stop);
        self.stages.rest.spawn("bridge", self.shutdown, run).map_err(ServeError::Thread)
    }

    pub(super) fn serve_operators(
        &mut self,
        site: &Site,
        listeners: Vec<OwnedFd>,
    ) -> Result<(), ServeError> {
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

    pub(super) fn serve_clients(
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
