//! The command line: subcommands and the settings of each.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::accounts::AccountArgs;
use super::cash::AccountCommand;
use super::exchange_link::ExchangeLinkArgs;
use super::keys::KeysCommand;
use super::listen::ListenAddress;
use super::number::{data_dir, whole};
use super::offline::{CopyArgs, RestoreArgs, VerifyArgs};
use super::operator::{CloseOrderArgs, QuarantineCommand, ReconcileArgs};
use super::postgres::{CommitTo, MigrateArgs, NodesArgs, PostgresArgs};
use super::streams::StreamArgs;
use crate::bridge::RedisAddress;
use crate::cluster::NodeId;
use crate::data_dir::DataDir;
use crate::engine::AccountRules;
use crate::exchange::ExchangeAddress;
use crate::offline::{self, InspectOptions};
use crate::order::event_names;
use crate::sim_exchange::faults::FaultSettings;
use crate::sim_exchange::{SessionTime, SimOptions, Speed};
use crate::types::{InvalidValue, OrderId, UserId};
use crate::wal::DEFAULT_RESERVE_BYTES;

/// Most shards. Hosts with more cores were never measured.
const MAX_SHARDS: u64 = 1_024;
/// Most symbols from the universe file.
const MAX_UNIVERSE: u64 = 7_000;
const MIB: u64 = 1024 * 1024;
const DEFAULT_DISK_RESERVE_MIB: u64 = DEFAULT_RESERVE_BYTES / MIB;

/// A brokerage engine: live prices over Server-Sent Events, durable orders to an exchange.
#[derive(Debug, Parser)]
#[command(name = "longbow", version, about, args_override_self = true)]
pub struct Cli {
    /// The subcommand.
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serve clients: prices, orders and the web page.
    Serve(Box<ServeArgs>),
    /// Run the simulated exchange alone.
    Exchange(Box<ExchangeArgs>),
    /// Print a development token for a user, signed with the key of a server that was started
    /// before.
    Token(TokenArgs),
    /// Make the keys that the nodes of a deployment share.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Read the write-ahead log.
    #[command(subcommand)]
    Wal(WalCommand),
    /// Create the tables in Postgres, or migrate them.
    Migrate(MigrateArgs),
    /// List the nodes that share a Postgres.
    Nodes(NodesArgs),
    /// Compare the log, the index and Postgres of a server, order by order. Prints one line per
    /// difference and changes nothing; exit code 1 if there is any.
    Verify(VerifyArgs),
    /// Rebuild a lost data directory from Postgres. Any process that still writes there is fenced
    /// off.
    Restore(RestoreArgs),
    /// Copy all orders of a stopped server into a Postgres that was added after the log had been
    /// cut. May be interrupted and run again.
    Backfill(CopyArgs),
    /// Decide about quarantined executions and reports, at a running server.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// Close a stuck order by hand, at a running server. The exchange is not told.
    CloseOrder(CloseOrderArgs),
    /// Compare the executions of a day with the exchange's list, at a running server. Missing ones
    /// are booked. Prints the report; exit code 1 if there was any difference.
    Reconcile(ReconcileArgs),
    /// Move users' cash, or show an account, at a running server.
    #[command(subcommand)]
    Account(AccountCommand),
}

/// Settings of `serve`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct ServeArgs {
    /// Address for clients: IP address or host name, with port. All addresses of a name are used;
    /// port 0 picks a free port.
    #[arg(long, env = "LONGBOW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: ListenAddress,

    /// Address of the operators' listener: /healthz, /readyz, /metrics, /kill-switch, /mass-cancel,
    /// /quarantine, /orders/ID/close, /day-ends/DATE. Keep it private: it has no authentication.
    #[arg(
        long,
        env = "LONGBOW_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090"
    )]
    pub admin_listen: ListenAddress,

    /// Address for the other nodes, with --redis, --postgres and --commit postgres: one that they
    /// reach this host at. By default a free port on the first address of --listen. Keep it private.
    #[arg(long, env = "LONGBOW_PEER_LISTEN", value_name = "ADDR")]
    pub peer_listen: Option<ListenAddress>,

    /// Seconds that an idle client connection is kept. A load balancer in front must close its own
    /// idle connections sooner; most do after 60.
    #[arg(long, env = "LONGBOW_KEEP_ALIVE_SECONDS", value_name = "S", default_value_t = 75,
          value_parser = whole::<u64>(1..=86_400))]
    pub keep_alive_seconds: u64,

    /// Directory of the write-ahead log and all other durable state.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,

    /// Number of this node among those that share a Postgres.
    #[arg(long, env = "LONGBOW_NODE_ID", value_name = "N", default_value_t = 0,
          value_parser = whole::<NodeId>(0..=1_023))]
    pub node_id: NodeId,

    /// The exchange: `sim` for the simulated one inside this process, or its address.
    #[arg(long, env = "LONGBOW_EXCHANGE", value_name = "sim|URL", default_value = "sim")]
    pub exchange: ExchangeChoice,

    /// Threads that serve clients, each on its own core; 0 leaves one core to the other threads.
    #[arg(long, env = "LONGBOW_SHARDS", value_name = "N", default_value_t = 0,
          value_parser = whole::<u64>(0..=MAX_SHARDS))]
    pub shards: u64,

    /// Microseconds that shards and the orders thread spin before they sleep. Saves 20 us per
    /// wake-up if each has its own core; takes time from other threads if not.
    #[arg(long, alias = "spin", env = "LONGBOW_SPIN_US", value_name = "US", default_value_t = 0,
          value_parser = whole::<u64>(0..=10_000))]
    pub spin_us: u64,

    /// Milliseconds that POST /order and DELETE /order wait for the exchange before they answer
    /// 202.
    #[arg(long, alias = "order-reply-timeout", env = "LONGBOW_ORDER_REPLY_TIMEOUT_MS", value_name = "MS", default_value_t = 150,
          value_parser = whole::<u64>(1..=60_000))]
    pub order_reply_timeout_ms: u64,

    /// Seconds that an ended order stays in memory. After that it is read from the disk.
    #[arg(long, env = "LONGBOW_KEEP_ENDED_SECONDS", value_name = "S", default_value_t = 60,
          value_parser = whole::<u64>(0..=86_400))]
    pub keep_ended_seconds: u64,

    /// Memory for reads of stored orders, in MiB.
    #[arg(long, env = "LONGBOW_INDEX_CACHE_MIB", value_name = "MIB", default_value_t = 256,
          value_parser = whole::<u64>(16..=1_048_576))]
    pub index_cache_mib: u64,

    /// Hours that changes of orders are kept for order streams that resume. A stream that was away
    /// for longer starts again.
    #[arg(long, env = "LONGBOW_KEEP_ORDER_CHANGES_HOURS", value_name = "H", default_value_t = 24,
          value_parser = whole::<u64>(1..=8_760))]
    pub keep_order_changes_hours: u64,

    /// Minutes after the close of the session at which the executions of the day are compared with the
    /// exchange's list.
    #[arg(long, env = "LONGBOW_DAY_END_DELAY_MINUTES", value_name = "M", default_value_t = 15,
          value_parser = whole::<u64>(0..=1_440))]
    pub day_end_delay_minutes: u64,

    /// Days that candles are kept.
    #[arg(long, env = "LONGBOW_KEEP_CANDLES_DAYS", value_name = "D", default_value_t = 400,
          value_parser = whole::<u16>(1..=3_650))]
    pub keep_candles_days: u16,

    /// Size of the newest part of the write-ahead log that is kept even though the index has it, in
    /// MiB.
    #[arg(long, env = "LONGBOW_WAL_KEEP_MIB", value_name = "MIB", default_value_t = 1_024,
          value_parser = whole::<u64>(0..=1_073_741_824))]
    pub wal_keep_mib: u64,

    /// Size of new segments of the write-ahead log, in MiB. The log is cut by whole segments.
    #[arg(long, env = "LONGBOW_WAL_SEGMENT_MIB", value_name = "MIB", default_value_t = 64,
          value_parser = whole::<u64>(1..=1_024))]
    pub wal_segment_mib: u64,

    /// Disk reserve, in MiB: so much is preallocated for cancels and fills on a full disk, and new
    /// orders are refused while less than that is free besides. 0 for none.
    #[arg(long, env = "LONGBOW_DISK_RESERVE_MIB", value_name = "MIB",
          default_value_t = DEFAULT_DISK_RESERVE_MIB,
          value_parser = whole::<u64>(0..=1_048_576))]
    pub disk_reserve_mib: u64,

    /// File with the key of the tokens (HS256, at least 32 bytes). Without it the server creates a
    /// key in the data directory, and anybody may log in by name: for development only.
    #[arg(long, env = "LONGBOW_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// Directory with the keys that nodes share, from `longbow keys init`: token.key, the key of the
    /// tokens, and peers.key, by which nodes know each other. Needed with --redis, --postgres and
    /// --commit postgres.
    #[arg(long, env = "LONGBOW_KEYS", value_name = "DIR", conflicts_with = "jwt_secret_file")]
    pub keys: Option<PathBuf>,

    /// TOML file with any of these settings, named like the flags.
    #[arg(long, env = "LONGBOW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    #[command(flatten)]
    pub streams: StreamArgs,

    #[command(flatten)]
    pub postgres: PostgresArgs,

    /// A Redis that gets each change of a price, for other programs and other nodes: an address such
    /// as redis://127.0.0.1:6379. With --postgres and --commit postgres it makes this process a
    /// member of a cluster, which shares users with the other nodes. Without it there is no Redis.
    #[arg(long, env = "LONGBOW_REDIS", value_name = "URL", hide_env_values = true)]
    pub redis: Option<RedisAddress>,

    #[command(flatten)]
    pub link: ExchangeLinkArgs,

    #[command(flatten)]
    pub accounts: AccountArgs,

    /// The simulated exchange, with `--exchange sim`.
    #[command(flatten)]
    pub simulator: SimulatorArgs,
}

impl ServeArgs {
    /// Whether this process is one of several that share users, prices and one feed connection.
    pub fn is_member(&self) -> bool {
        self.redis.is_some()
            && self.postgres.postgres.is_some()
            && self.postgres.commit == CommitTo::Postgres
    }

    /// The rules of users' accounts.
    pub fn account_rules(&self) -> AccountRules {
        let is_simulated = self.exchange == ExchangeChoice::Simulated;
        self.accounts.rules(self.is_member(), is_simulated)
    }

    /// How long an idle client connection is kept.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_seconds)
    }

    /// Memory for reads of stored orders.
    pub fn index_cache_bytes(&self) -> u64 {
        self.index_cache_mib * MIB
    }

    pub fn order_changes_age_micros(&self) -> u64 {
        self.keep_order_changes_hours * 3_600 * 1_000_000
    }

    /// How much of the log is kept even though the index has it.
    pub fn wal_keep_bytes(&self) -> u64 {
        self.wal_keep_mib * MIB
    }

    pub fn wal_segment_bytes(&self) -> u64 {
        self.wal_segment_mib * MIB
    }

    pub fn disk_reserve_bytes(&self) -> u64 {
        self.disk_reserve_mib * MIB
    }

    /// How long shards and the orders thread spin before they sleep.
    pub fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    pub fn keep_ended(&self) -> Duration {
        Duration::from_secs(self.keep_ended_seconds)
    }

    /// How long an order waits for the exchange before it is answered.
    pub fn order_reply_timeout(&self) -> Duration {
        Duration::from_millis(self.order_reply_timeout_ms)
    }
}

/// Settings of the simulated exchange.
#[derive(Debug, Clone, Args)]
pub struct SimulatorArgs {
    /// Tape to replay; by default the built-in one, recorded on 2013-10-08.
    #[arg(long, env = "LONGBOW_TAPE", value_name = "FILE")]
    pub tape: Option<PathBuf>,

    /// Replay speed: 1 is the recorded timing, 10 is ten times as fast.
    #[arg(long, env = "LONGBOW_SPEED", value_name = "X", default_value_t)]
    pub speed: Speed,

    /// Time of day, New York time, at which the replay starts and restarts.
    #[arg(long, env = "LONGBOW_FROM", value_name = "HH:MM[:SS]", default_value = "09:30")]
    pub from: SessionTime,

    /// Symbols added from the universe of 2014-03-24, with real closing prices and activity and a
    /// synthetic random walk.
    #[arg(long, env = "LONGBOW_UNIVERSE", value_name = "N", default_value_t = 500,
          value_parser = whole::<u64>(0..=MAX_UNIVERSE))]
    pub universe: u64,

    /// Faults of the exchange, for tests: GROUP.KIND=CHANCE with a probability or next:N, such as
    /// submits.drop-reply=0.05,feed.skip=next:3,seed=7. The documentation of `sim_exchange::faults`
    /// lists all kinds; PUT /admin/faults changes them at run time.
    #[arg(long, env = "LONGBOW_FAULT", value_name = "KIND=VALUE,...")]
    pub fault: Option<FaultSettings>,
}

impl SimulatorArgs {
    /// The simulator with these settings.
    pub fn options(&self, listen: SocketAddr, data_dir: Option<PathBuf>) -> SimOptions {
        SimOptions {
            data_dir,
            tape: self.tape.clone(),
            speed: self.speed,
            from: Some(self.from),
            universe: usize::try_from(self.universe).unwrap_or(usize::MAX),
            faults: self.fault.clone().unwrap_or_default(),
            ..SimOptions::new(listen)
        }
    }
}

/// Settings of `exchange`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct ExchangeArgs {
    /// Address of the exchange: IP address or host name, with port. The first address of a name is
    /// used; port 0 picks a free port.
    #[arg(long, env = "LONGBOW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7070")]
    pub listen: ListenAddress,

    /// Directory for its orders; without it a restart forgets them.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    #[command(flatten)]
    pub simulator: SimulatorArgs,

    /// TOML file with any of these settings, named like the flags.
    #[arg(long, env = "LONGBOW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Settings of `token`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct TokenArgs {
    /// Data directory of the server that is to accept the token.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,

    /// The user.
    #[arg(long, env = "LONGBOW_USER", value_name = "NAME", value_parser = UserId::new)]
    pub user: UserId,

    /// File with the key of the tokens, if the server was given one.
    #[arg(long, env = "LONGBOW_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// Directory with the keys that nodes share, if the servers were given one.
    #[arg(long, env = "LONGBOW_KEYS", value_name = "DIR", conflicts_with = "jwt_secret_file")]
    pub keys: Option<PathBuf>,
}

/// The subcommands of `wal`.
#[derive(Debug, Clone, Subcommand)]
pub enum WalCommand {
    /// Read all of the log, past any damage, and report what is readable. Changes nothing; exit
    /// code 1 if the server would refuse to start. Damage to records that the store has is
    /// reported, but does not count.
    Verify(WalVerifyArgs),
    /// Print log records, one per line, oldest first. Changes nothing and works beside a running
    /// server.
    Inspect(WalInspectArgs),
}

/// Settings of `wal verify`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct WalVerifyArgs {
    /// Data directory of the server.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,
}

/// Settings of `wal inspect`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct WalInspectArgs {
    /// Data directory of the server.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,

    /// First record to print; by default the oldest.
    #[arg(long, value_name = "LSN", value_parser = whole::<u64>(1..=u64::MAX))]
    pub from: Option<u64>,

    /// Most records to print.
    #[arg(long, value_name = "N", value_parser = whole::<u64>(1..=u64::MAX))]
    pub count: Option<u64>,

    /// Only records of this order.
    #[arg(long, value_name = "ID")]
    pub order: Option<OrderId>,

    /// Only records of this user's orders, as far as their creation is still in the log.
    #[arg(long, value_name = "NAME", value_parser = UserId::new)]
    pub user: Option<UserId>,

    /// Only records of these kinds, separated by commas.
    #[arg(long, value_name = "KIND", value_delimiter = ',',
          value_parser = clap::builder::PossibleValuesParser::new(event_names()))]
    pub kind: Vec<String>,

    /// Output format: `json`, one object per line, or `text`.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub format: LineFormat,
}

impl WalInspectArgs {
    /// The options of the command.
    pub fn options(&self) -> InspectOptions {
        let Self { data_dir, from, count, order, user, kind, format } = self.clone();
        let format = match format {
            LineFormat::Json => offline::LineFormat::Json,
            LineFormat::Text => offline::LineFormat::Text,
        };
        InspectOptions { data_dir, from, count, order, user, kinds: kind, format }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LineFormat {
    /// One JSON object per line.
    Json,
    /// `name=value` pairs.
    Text,
}

/// The exchange that orders go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeChoice {
    /// The simulated exchange, inside this process.
    Simulated,
    /// The exchange at an address.
    At(ExchangeAddress),
}

impl FromStr for ExchangeChoice {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if text == "sim" {
            return Ok(Self::Simulated);
        }
        text.parse().map(Self::At).map_err(|_| {
            InvalidValue::new(text, "\"sim\" or an address such as http://127.0.0.1:7070")
        })
    }
}
