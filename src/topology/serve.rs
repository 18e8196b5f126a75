use std::error::Error;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::config::{ExchangeChoice, ListenAddress, ServeArgs};
use crate::exchange::ExchangeAddress;
use crate::exchange::feed::{Feed, FeedMetrics, FeedOptions};
use crate::exchange::webhook::WebhookSecretError;
use crate::http::{
    Authenticator, Health, HttpLimits, HttpMetrics, Secret, SecretError, Site, StreamService,
};
use crate::index::{Index, IndexError, IndexOptions};
use crate::market::{ShardWatch, Watchers, open_market};
use crate::metrics::Metrics;
use crate::offline::{self, OfflineError};
use crate::oms::{
    self, FEED_QUEUE_CAPACITY, KillSwitch, KillSwitchError, OmsError, OmsMetrics, OrderService,
    OrderWatchers, OrdersThread, Recovered, order_commands,
};
use crate::projection::{PostgresServers, ProjectionError, ServersError};
use crate::runtime::{self, ExecutorOptions, ListenError};
use crate::shutdown::{Shutdown, StopReason};
use crate::sim_exchange::{self, SimError, SimHandle};
use crate::stream::{StreamMetrics, StreamQuotas, stream_router};
use crate::sync::mailbox;
use crate::types::{SteadyClock, UserId};
use crate::wal::{self, WalError, WalOptions};

use super::feed;
use super::index::{show_records, start_index};
use super::link;
use super::listeners::Addresses;
use super::log_check::check_old_records;
use super::logging::Log;
use super::operators::Operators;
use super::placement::{Placement, allowed_cores, place};
use super::postgres::{self, ProjectionSetup};
use super::shard::Shard;
use super::signals::{SignalError, stop_on_signals};
use super::system::{self, RESERVED_FILES, SystemError};
use super::threads::Threads;
use super::webhook::{self, Webhook};

/// Silence of the feed that means a dead connection: three missed beats.
const FEED_SILENCE: Duration = Duration::from_secs(3);
/// Longest wait for a connection to the feed or the head of its answer.
const FEED_REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The user of the token that a development server prints.
const EXAMPLE_USER: &str = "demo";

/// Why the server did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The machine does not allow what is needed.
    #[error(transparent)]
    System(#[from] SystemError),
    /// More shards than cores.
    #[error(
        "--shards {wanted} needs as many cores, but this process may use {cores}: allow 0 to {cores}"
    )]
    Shards {
        /// What was asked for.
        wanted: u64,
        /// What there is.
        cores: usize,
    },
    /// More streams than open files.
    #[error(
        "--max-streams {wanted} does not fit the limit of {files} open files, {RESERVED_FILES} of which are needed otherwise: raise it with `ulimit -n`, or allow fewer"
    )]
    Streams {
        /// What was asked for.
        wanted: u64,
        /// What there is.
        files: u64,
    },
    /// Both listeners on one address.
    #[error("--listen and --admin-listen are both {address}; they need addresses of their own")]
    SameAddress {
        /// The address.
        address: SocketAddr,
    },
    /// A name to listen on has no address.
    #[error("{setting} {address} is not found")]
    UnknownName {
        /// Which setting.
        setting: &'static str,
        /// What was given.
        address: ListenAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// The data directory cannot be made.
    #[error("--data-dir {path} cannot be used", path = path.display())]
    DataDirectory {
        /// Which directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What `longbow restore` has left.
    #[error(transparent)]
    Records(#[from] OfflineError),
    /// The token key.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The webhook's secrets.
    #[error(transparent)]
    WebhookSecret(#[from] WebhookSecretError),
    /// The exchange cannot sign what it posts.
    #[error("--webhook-url {url} needs --webhook-secret-file: the exchange signs with its secret")]
    WebhookWithoutSecret {
        /// The address.
        url: String,
    },
    /// The exchange's name is not known.
    #[error("--exchange {exchange} is not found")]
    Exchange {
        /// Its address.
        exchange: ExchangeAddress,
        /// What the resolver said.
        source: io::Error,
    },
    /// Connections cannot come from there.
    #[error("--exchange-source-ip {address} is not an address of this machine")]
    SourceAddress {
        /// What was given.
        address: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// One is IPv4, the other IPv6.
    #[error(
        "--exchange-source-ip {address} cannot reach the exchange at {exchange}: both must be IPv4 or IPv6"
    )]
    SourceFamily {
        /// What was given.
        address: IpAddr,
        /// The exchange.
        exchange: IpAddr,
    },
    /// Something is set that the exchange does not hear of.
    #[error(
        "{setting} is for the simulated exchange inside this process, and --exchange is {exchange}: take it away, or give it to `longbow exchange`"
    )]
    NotSimulated {
        /// Which setting.
        setting: &'static str,
        /// The exchange.
        exchange: ExchangeAddress,
    },
    /// The simulated exchange.
    #[error("the simulated exchange cannot run")]
    Simulator(#[from] SimError),
    /// The write-ahead log.
    #[error("the write-ahead log cannot be opened")]
    Log(#[from] WalError),
    /// The index.
    #[error("the index of orders cannot be opened")]
    Index(#[from] IndexError),
    /// What the log says.
    #[error("the orders cannot be recovered")]
    Orders(#[from] OmsError),
    /// What `--postgres` says.
    #[error("--postgres cannot be used")]
    PostgresServers(#[from] ServersError),
    /// `--commit postgres` without Postgres.
    #[error("--commit postgres needs --postgres with the address of a server")]
    CommitWithoutPostgres,
    /// Postgres.
    #[error(transparent)]
    Postgres(#[from] ProjectionError),
    /// The kill switch.
    #[error(transparent)]
    KillSwitch(#[from] KillSwitchError),
    /// An address is taken.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Signals.
    #[error(transparent)]
    Signals(#[from] SignalError),
    /// No room for another thread.
    #[error("cannot start a thread")]
    Thread(#[source] io::Error),
    /// A thread ended that never should; the process is not of use without it.
    #[error("the thread `{thread}` ended: {error}")]
    ThreadEnded {
        /// Its name.
        thread: String,
        /// What it said.
        error: String,
    },
}

/// Sizes that follow from settings and machine.
struct Plan {
    placement: Placement,
    addresses: Addresses,
    streams: usize,
}

fn plan(arguments: &ServeArgs) -> Result<Plan, ServeError> {
    let files = system::prepare()?;
    let cores = allowed_cores();
    let wanted = usize::try_from(arguments.shards).unwrap_or(usize::MAX);
    let placement = place(&cores, wanted)
        .map_err(|cores| ServeError::Shards { wanted: arguments.shards, cores })?;
    let room = files - RESERVED_FILES;
    let streams = match arguments.streams.max_streams {
        0 => room,
        wanted if wanted <= room => wanted,
        wanted => return Err(ServeError::Streams { wanted, files }),
    };
    link::check(arguments)?;
    let addresses = Addresses::of(arguments)?;
    addresses.probe()?;
    Ok(Plan { placement, addresses, streams: usize::try_from(streams).unwrap_or(usize::MAX) })
}

/// Serves until a signal asks for a stop.
///
/// # Errors
/// Something is not usable at the start, or a thread ended.
pub fn serve(arguments: &ServeArgs, logging: &Log) -> Result<(), ServeError> {
    // All that can be wrong with the settings first: a server that does not start leaves no trace.
    let plan = plan(arguments)?;
    let secret = arguments.jwt_secret_file.as_deref().map(Secret::read).transpose()?;
    let webhook = webhook::prepare(&arguments.link)?;
    let postgres = postgres::prepare(&arguments.postgres)?;
    offline::check_restored(&arguments.data_dir)?;
    let data_dir = arguments.data_dir.path();
    fs::create_dir_all(data_dir)
        .map_err(|source| ServeError::DataDirectory { path: data_dir.to_path_buf(), source })?;
    let secret = match secret {
        Some(secret) => secret,
        None => Secret::of_data_directory(&arguments.data_dir)?,
    };
    let shutdown = Shutdown::new();
    let signals = stop_on_signals(&shutdown)?;
    // The log first: its lock is what a second process in the same directory meets.
    let log = WalOptions {
        segment_bytes: arguments.wal_segment_bytes(),
        keep_bytes: arguments.wal_keep_bytes(),
        reserve_bytes: arguments.disk_reserve_bytes(),
        ..WalOptions::new(arguments.data_dir.wal())
    };
    let index = Index::open(IndexOptions {
        cache_bytes: arguments.index_cache_bytes(),
        changes_age_micros: arguments.order_changes_age_micros(),
        ..IndexOptions::new(arguments.data_dir.index(), wal::log_start(&log)?)
    })?;
    let recovered = oms::recover(&log, &index, arguments.link.engine_options())?;
    let (exchange, simulator) = find_exchange(arguments, &shutdown)?;
    let running = Running::start(Start {
        arguments,
        plan: &plan,
        authenticator: Arc::new(Authenticator::new(&secret)),
        log,
        index,
        recovered,
        exchange,
        webhook,
        postgres,
        shutdown: &shutdown,
        logging,
    })?;
    running.announce(arguments.data_dir.path(), logging);
    let reason = shutdown.wait();
    running.join();
    if let Some(simulator) = simulator {
        simulator.stop()?;
    }
    signals.join();
    match reason {
        StopReason::Asked => Ok(()),
        StopReason::ThreadEnded { thread, error } => Err(ServeError::ThreadEnded { thread, error }),
    }
}

fn find_exchange(
    arguments: &ServeArgs,
    shutdown: &Shutdown,
) -> Result<(ExchangeAddress, Option<SimHandle>), ServeError> {
    match &arguments.exchange {
        ExchangeChoice::At(address) => Ok((address.clone(), None)),
        ExchangeChoice::Simulated => {
            let data_dir = Some(arguments.data_dir.exchange());
            let options = arguments.simulator.options(link::simulator_address(), data_dir);
            let simulator = sim_exchange::start_with(options, ended_unasked(shutdown))?;
            Ok((simulator.address().into(), Some(simulator)))
        }
    }
}

/// The simulator's last word: without it there are no prices, so the process stops.
pub(super) fn ended_unasked(shutdown: &Shutdown) -> impl FnOnce() + Send + 'static {
    let shutdown = shutdown.clone();
    move || {
        shutdown.request(StopReason::ThreadEnded {
            thread: sim_exchange::THREAD_NAME.to_owned(),
            error: "it ended without being asked to".to_owned(),
        });
    }
}

/// What the threads are started with.
struct Start<'a> {
    arguments: &'a ServeArgs,
    plan: &'a Plan,
    authenticator: Arc<Authenticator>,
    log: WalOptions,
    index: Index,
    recovered: Recovered,
    exchange: ExchangeAddress,
    webhook: Webhook,
    postgres: Option<PostgresServers>,
    shutdown: &'a Shutdown,
    logging: &'a Log,
}

/// The threads of a server, in the order in which they end.
struct Running {
    shards: Threads,
    /// Goes on until every shard has ended: their requests want answers.
    orders: Threads,
    stop_orders: Shutdown,
    rest: Threads,
    operators: Threads,
    stop_operators: Shutdown,
    readers: Threads,
    addresses: Vec<SocketAddr>,
    admin_addresses: Vec<SocketAddr>,
    authenticator: Arc<Authenticator>,
}

impl Running {
    fn start(start: Start<'_>) -> Result<Self, ServeError> {
        let Start {
            arguments,
            plan,
            authenticator,
            log,
            index,
            recovered,
            exchange,
            webhook,
            postgres,
            shutdown,
            logging,
        } = start;
        let listeners = plan.addresses.listen(plan.placement.shards.len())?;

        let metrics = Arc::new(Metrics::new());
        metrics.register(|registry| logging.register(registry));
        let watches: Vec<Arc<ShardWatch>> =
            plan.placement.shards.iter().map(|_| Arc::new(ShardWatch::new())).collect();
        let (watchers, order_watches) = OrderWatchers::new(&watches);
        let (market_writer, market) = open_market(Watchers::new(watches.clone()));
        let (feed_sender, feed_receiver) = mailbox(FEED_QUEUE_CAPACITY);
        let kill_switch = KillSwitch::open(arguments.data_dir.kill_switch())?;
        let clock = SteadyClock::start(recovered.last_time);
        let (commands, receivers) = order_commands(recovered.views.clone(), kill_switch, clock);
        let (keep_bytes, segment_bytes) = (log.keep_bytes, log.segment_bytes);
        let log_directory = log.directory.clone();
        let (appender, writer) = wal::open(log, recovered.wal)?;

        let (mut shards, mut orders, mut rest) = (Threads::new(), Threads::new(), Threads::new());
        let (mut operators, mut readers) = (Threads::new(), Threads::new());
        let stop_operators = Shutdown::new();
        let stop_orders = Shutdown::new();
        let followed = writer.handle();
        rest.spawn("wal", shutdown, move || writer.run()).map_err(ServeError::Thread)?;
        let (checked, stop, stored) = (metrics.clone(), shutdown.clone(), index.position());
        rest.spawn("log-check", shutdown, move || {
            check_old_records(&log_directory, stored, &checked, &stop);
            Ok::<(), String>(())
        })
        .map_err(ServeError::Thread)?;
        let health_log = followed.clone();
        let store =
            start_index(&index, followed.clone(), &metrics, (&mut rest, &mut readers, shutdown))?;
        show_records(&arguments.data_dir, (&index, followed.clone()), (&mut rest, shutdown))?;
        let postgres = postgres.map(|servers| {
            let place = ProjectionSetup {
                arguments: &arguments.postgres,
                keep_bytes,
                segment_bytes,
                log: followed,
                index: index.clone(),
                metrics: &metrics,
            };
            postgres::start(servers, place, (&mut rest, shutdown))
        });
        let postgres = postgres.transpose()?;
        if postgres.as_ref().is_some_and(|side| side.is_awaited) {
            // Shards may be asked before the orders thread has looked how far Postgres is.
            recovered.views.hide();
        }

        let health = Health {
            log: health_log,
            postgres: postgres.as_ref().map(|side| side.progress.clone()),
            exchange_clock_limit: arguments.link.exchange_clock_limit(),
        };
        let options = link::execution_options(arguments, &exchange, webhook.registration);
        let execution_metrics = OmsMetrics::default();
        metrics.register(|registry| execution_metrics.register(registry));
        metrics.register(|registry| commands.stages().register(registry));
        let orders_thread = OrdersThread {
            engines: recovered.engines,
            views: recovered.views,
            watchers,
            store: store.clone(),
            postgres,
            wal: appender,
            receivers,
            feed: feed_receiver,
            options,
            metrics: execution_metrics,
            shutdown: stop_orders.clone(),
        };
        let (core, spin) = (plan.placement.orders, arguments.spin());
        orders
            .spawn("orders", shutdown, move || run_orders(orders_thread, core, spin))
            .map_err(ServeError::Thread)?;

        let feed_metrics = FeedMetrics::default();
        metrics.register(|registry| feed_metrics.register(registry));
        let feed = Feed::new(
            FeedOptions {
                exchange,
                source: arguments.link.exchange_source_ip.last().copied(),
                request_timeout: FEED_REQUEST_TIMEOUT,
                silence_timeout: FEED_SILENCE,
                resume: recovered.feed_position.map(|(session, last)| (session, last + 1)),
                exchange_clock: commands.exchange_clock().clone(),
            },
            market_writer,
            feed_sender,
            // While the streams drain they go on showing prices.
            stop_orders.clone(),
            feed_metrics,
        );
        feed::start(feed, &arguments.data_dir, (&mut rest, shutdown))
            .map_err(ServeError::Thread)?;

        let per_user = usize::try_from(arguments.streams.max_streams_per_user);
        let quotas = Arc::new(StreamQuotas::new(plan.streams, per_user.unwrap_or(usize::MAX)));
        metrics.register(|registry| quotas.register(registry));
        let (router, inboxes) = stream_router(plan.placement.shards.len());
        let site = Site {
            market,
            orders: OrderService::new(commands, store),
            authenticator: authenticator.clone(),
            webhook: webhook.verifier,
            metrics,
            streams: StreamService {
                quotas,
                router,
                default_rate: arguments.streams.default_rate(),
            },
            health,
        };
        let admin = Operators {
            listeners: listeners.operators,
            http: HttpLimits::keeping(arguments.keep_alive()),
            site: site.clone(),
            metrics: HttpMetrics::default(),
            shutdown: shutdown.clone(),
            stop: stop_operators.clone(),
        };
        admin.site.metrics.register(|registry| admin.metrics.register(registry, "admin"));
        operators.spawn("admin", shutdown, move || admin.run()).map_err(ServeError::Thread)?;
        let streams = arguments.streams.limits();
        let sides = watches.into_iter().zip(listeners.shards).zip(inboxes).zip(order_watches);
        for (number, (&core, sides)) in (0..).zip(plan.placement.shards.iter().zip(sides)) {
            let (((watch, listeners), inbox), order_watch) = sides;
            let shard = Shard {
                number,
                core,
                spin: arguments.spin(),
                site: site.clone(),
                watch,
                inbox,
                order_watch,
                listeners,
                streams,
                http: HttpLimits::keeping(arguments.keep_alive()),
                stream_metrics: StreamMetrics::default(),
                http_metrics: HttpMetrics::default(),
                shutdown: shutdown.clone(),
            };
            shard.register_metrics();
            shards
                .spawn(&format!("shard-{number}"), shutdown, move || shard.run())
                .map_err(ServeError::Thread)?;
        }
        Ok(Self {
            shards,
            orders,
            stop_orders,
            rest,
            operators,
            stop_operators,
            readers,
            addresses: listeners.addresses,
            admin_addresses: listeners.operator_addresses,
            authenticator,
        })
    }

    /// Says where it listens and, for development, what to try.
    fn announce(&self, data_dir: &Path, log: &Log) {
        for address in &self.addresses {
            log.announce(format_args!("listening on http://{address}"));
            if self.authenticator.is_development() && !address.ip().is_loopback() {
                tracing::warn!(
                    %address,
                    "whoever reaches this address may log in by any name: set --jwt-secret-file, or \
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

    fn join(self) {
        self.shards.join();
        self.stop_orders.request(StopReason::Asked);
        self.orders.join();
        self.rest.join();
        self.stop_operators.request(StopReason::Asked);
        self.operators.join();
        self.readers.join();
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

fn run_orders(
    thread: OrdersThread,
    core: Option<usize>,
    spin: Duration,
) -> Result<(), Box<dyn Error>> {
    let options = ExecutorOptions { core, spin: Some(spin), ..ExecutorOptions::default() };
    Ok(runtime::run(options, oms::run(thread))??)
}
