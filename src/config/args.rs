use std::net::SocketAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use super::exchange_link::ExchangeLinkArgs;
use super::listen::ListenAddress;
use super::number::whole;
use super::offline::{CopyArgs, RestoreArgs, VerifyArgs};
use super::operator::{CloseOrderArgs, QuarantineCommand};
use super::postgres::{MigrateArgs, PostgresArgs};
use super::streams::StreamArgs;
use crate::exchange::ExchangeAddress;
use crate::order::event_names;
use crate::sim_exchange::faults::FaultSettings;
use crate::sim_exchange::{SessionTime, SimOptions, Speed};
use crate::types::{InvalidValue, OrderId, UserId};
use crate::wal::DEFAULT_RESERVE_BYTES;

/// Most shards; a host with more cores than this has never been measured.
const MAX_SHARDS: u64 = 1_024;
/// Most symbols that are added from the universe file.
const MAX_UNIVERSE: u64 = 7_000;
const MIB: u64 = 1024 * 1024;
const DEFAULT_DISK_RESERVE_MIB: u64 = DEFAULT_RESERVE_BYTES / MIB;

/// A brokerage engine: live prices over Server-Sent Events, durable orders to an exchange.
#[derive(Debug, Parser)]
#[command(name = "longbow", version, about, args_override_self = true)]
pub struct Cli {
    /// What to do.
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
    /// Print a development token for a user, with the key of a server that has been started.
    Token(TokenArgs),
    /// Look at the write-ahead log.
    #[command(subcommand)]
    Wal(WalCommand),
    /// Make the tables in Postgres, or bring them up to date.
    Migrate(MigrateArgs),
    /// Compare the log, the index and Postgres of a stopped server, order by order. Prints each
    /// difference and nothing else, and changes nothing; exit code 1 where there is any.
    Verify(VerifyArgs),
    /// Make the data directory of a server that has lost it from Postgres. Another process that still
    /// writes there is shut out.
    Restore(RestoreArgs),
    /// Copy all orders of a stopped server into a Postgres that comes later than the beginning of the
    /// log. May be interrupted and run again.
    Backfill(CopyArgs),
    /// Decide what becomes of what was heard of orders and does not fit them, at a running server.
    #[command(subcommand)]
    Quarantine(QuarantineCommand),
    /// End an order by hand that is stuck, at a running server. The exchange is not told.
    CloseOrder(CloseOrderArgs),
}

/// Settings of `serve`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct ServeArgs {
    /// Address that clients connect to, or a name, which may have several; port 0 takes a free one.
    #[arg(long, env = "LONGBOW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: ListenAddress,

    /// Address of the operators' listener: /healthz, /readyz, /metrics, /kill-switch, /mass-cancel,
    /// /quarantine, /orders/ID/close. Keep it private: it asks nobody who they are.
    #[arg(
        long,
        env = "LONGBOW_ADMIN_LISTEN",
        value_name = "ADDR",
        default_value = "127.0.0.1:9090"
    )]
    pub admin_listen: ListenAddress,

    /// Seconds that a connection without a request is kept. A load balancer in front must keep its
    /// own for less: most do for 60.
    #[arg(long, env = "LONGBOW_KEEP_ALIVE_SECONDS", value_name = "S", default_value_t = 75,
          value_parser = whole::<u64>(1..=86_400))]
    pub keep_alive_seconds: u64,

    /// Directory of the write-ahead log and of everything else that must survive a restart.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,

    /// The exchange: `sim` for the simulated one inside this process, or its address.
    #[arg(long, env = "LONGBOW_EXCHANGE", value_name = "sim|URL", default_value = "sim")]
    pub exchange: ExchangeChoice,

    /// Threads that serve clients, each with a core of its own; 0 leaves one core to the rest.
    #[arg(long, env = "LONGBOW_SHARDS", value_name = "N", default_value_t = 0,
          value_parser = whole::<u64>(0..=MAX_SHARDS))]
    pub shards: u64,

    /// Microseconds that shards and the orders thread look for work before they sleep. Saves 20 us
    /// each time that one wakes another, where each has a core of its own; takes time from others
    /// where not.
    #[arg(long, alias = "spin", env = "LONGBOW_SPIN_US", value_name = "US", default_value_t = 0,
          value_parser = whole::<u64>(0..=10_000))]
    pub spin_us: u64,

    /// Milliseconds that POST /order and DELETE /order wait for the exchange before they answer 202.
    #[arg(long, alias = "order-reply-timeout", env = "LONGBOW_ORDER_REPLY_TIMEOUT_MS", value_name = "MS", default_value_t = 150,
          value_parser = whole::<u64>(1..=60_000))]
    pub order_reply_timeout_ms: u64,

    /// Seconds that an order which has ended stays in memory. It is read from the disk after that.
    #[arg(long, env = "LONGBOW_KEEP_ENDED_SECONDS", value_name = "S", default_value_t = 60,
          value_parser = whole::<u64>(0..=86_400))]
    pub keep_ended_seconds: u64,

    /// Memory for reads of stored orders, in MiB.
    #[arg(long, env = "LONGBOW_INDEX_CACHE_MIB", value_name = "MIB", default_value_t = 256,
          value_parser = whole::<u64>(16..=1_048_576))]
    pub index_cache_mib: u64,

    /// Hours that changes of orders are kept for streams of orders which are resumed. A stream that
    /// was away for longer starts again.
    #[arg(long, env = "LONGBOW_KEEP_ORDER_CHANGES_HOURS", value_name = "H", default_value_t = 24,
          value_parser = whole::<u64>(1..=8_760))]
    pub keep_order_changes_hours: u64,

    /// Size of the newest part of the write-ahead log that is kept although the index has it, in
    /// MiB.
    #[arg(long, env = "LONGBOW_WAL_KEEP_MIB", value_name = "MIB", default_value_t = 1_024,
          value_parser = whole::<u64>(0..=1_073_741_824))]
    pub wal_keep_mib: u64,

    /// Size of the files of the write-ahead log that are made from now on, in MiB. The log is cut by
    /// whole files.
    #[arg(long, env = "LONGBOW_WAL_SEGMENT_MIB", value_name = "MIB", default_value_t = 64,
          value_parser = whole::<u64>(1..=1_024))]
    pub wal_segment_mib: u64,

    /// Room for bad times, in MiB: so much is allocated ahead for the log, for cancels and fills on a
    /// full disk, and new orders are refused while less than that is free beside it. 0 for none.
    #[arg(long, env = "LONGBOW_DISK_RESERVE_MIB", value_name = "MIB",
          default_value_t = DEFAULT_DISK_RESERVE_MIB,
          value_parser = whole::<u64>(0..=1_048_576))]
    pub disk_reserve_mib: u64,

    /// File with the key of the tokens (HS256, at least 32 bytes). Without it the engine makes one
    /// in the data directory, and anybody may log in by name: for development only.
    #[arg(long, env = "LONGBOW_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,

    /// TOML file with any of these settings, named as the flags are.
    #[arg(long, env = "LONGBOW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// The price streams.
    #[command(flatten)]
    pub streams: StreamArgs,

    /// Postgres behind the orders.
    #[command(flatten)]
    pub postgres: PostgresArgs,

    /// The way to the exchange and back.
    #[command(flatten)]
    pub link: ExchangeLinkArgs,

    /// The simulated exchange, with `--exchange sim`.
    #[command(flatten)]
    pub simulator: SimulatorArgs,
}

impl ServeArgs {
    /// How long a connection without a request is kept.
    pub fn keep_alive(&self) -> Duration {
        Duration::from_secs(self.keep_alive_seconds)
    }

    /// Memory for reads of stored orders.
    pub fn index_cache_bytes(&self) -> u64 {
        self.index_cache_mib * MIB
    }

    /// How long changes of orders are kept.
    pub fn order_changes_age_micros(&self) -> u64 {
        self.keep_order_changes_hours * 3_600 * 1_000_000
    }

    /// How much of the log is kept although the index has it.
    pub fn wal_keep_bytes(&self) -> u64 {
        self.wal_keep_mib * MIB
    }

    /// Size of a file of the log.
    pub fn wal_segment_bytes(&self) -> u64 {
        self.wal_segment_mib * MIB
    }

    /// What is kept ready on the disk for the time when nothing is free.
    pub fn disk_reserve_bytes(&self) -> u64 {
        self.disk_reserve_mib * MIB
    }

    /// How long shards and the orders thread look for work before they sleep.
    pub fn spin(&self) -> Duration {
        Duration::from_micros(self.spin_us)
    }

    /// How long an order that has ended stays in memory.
    pub fn keep_ended(&self) -> Duration {
        Duration::from_secs(self.keep_ended_seconds)
    }

    /// How long an order's answer may take.
    pub fn order_reply_timeout(&self) -> Duration {
        Duration::from_millis(self.order_reply_timeout_ms)
    }
}

/// Settings of the simulated exchange.
#[derive(Debug, Clone, Args)]
pub struct SimulatorArgs {
    /// Tape to replay; without it the one inside the program, recorded on 2013-10-08.
    #[arg(long, env = "LONGBOW_TAPE", value_name = "FILE")]
    pub tape: Option<PathBuf>,

    /// Speed of the replay: 1 is the recorded timing, 10 ten times as fast.
    #[arg(long, env = "LONGBOW_SPEED", value_name = "X", default_value_t)]
    pub speed: Speed,

    /// Time of the session at which the replay starts, and starts again, New York time.
    #[arg(long, env = "LONGBOW_FROM", value_name = "HH:MM[:SS]", default_value = "09:30")]
    pub from: SessionTime,

    /// Symbols added from the universe of 2014-03-24: real closing price and activity, a synthetic
    /// walk of the price.
    #[arg(long, env = "LONGBOW_UNIVERSE", value_name = "N", default_value_t = 500,
          value_parser = whole::<u64>(0..=MAX_UNIVERSE))]
    pub universe: u64,

    /// What the exchange does wrong, for tests: GROUP.KIND=CHANCE with a probability or next:N,
    /// such as submits.drop-reply=0.05,feed.skip=next:3,seed=7. The documentation of
    /// `sim_exchange::faults` has all kinds; PUT /admin/faults changes them while it runs.
    #[arg(long, env = "LONGBOW_FAULT", value_name = "KIND=VALUE,...")]
    pub fault: Option<FaultSettings>,
}

impl SimulatorArgs {
    /// The simulator that these settings describe.
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
    /// Address of the exchange, or a name, of which it takes the first; port 0 takes a free one.
    #[arg(long, env = "LONGBOW_LISTEN", value_name = "ADDR", default_value = "127.0.0.1:7070")]
    pub listen: ListenAddress,

    /// Directory that orders are kept in; without it a restart forgets them.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,

    /// What it replays.
    #[command(flatten)]
    pub simulator: SimulatorArgs,

    /// TOML file with any of these settings, named as the flags are.
    #[arg(long, env = "LONGBOW_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// Settings of `token`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct TokenArgs {
    /// Data directory of the server that shall accept the token.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,

    /// Who the token is for.
    #[arg(long, env = "LONGBOW_USER", value_name = "NAME", value_parser = UserId::new)]
    pub user: UserId,

    /// File with the key of the tokens, where the server has one configured.
    #[arg(long, env = "LONGBOW_JWT_SECRET_FILE", value_name = "FILE")]
    pub jwt_secret_file: Option<PathBuf>,
}

/// What can be done with the log.
#[derive(Debug, Clone, Subcommand)]
pub enum WalCommand {
    /// Read all of the log, past any damage, and say what is readable. Changes nothing; exit code 1
    /// where the server would refuse to start. Damage to what the store has is told, and is no reason.
    Verify(WalVerifyArgs),
    /// Print records of the log, a line each, oldest first. Changes nothing and works beside a running
    /// server.
    Inspect(WalInspectArgs),
}

/// Settings of `wal verify`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct WalVerifyArgs {
    /// Data directory of the server.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,
}

/// What `wal inspect` looks at and for.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct WalInspectArgs {
    /// Data directory of the server.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,

    /// First record to print; without it the oldest that there is.
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

    /// How a record is printed: `json`, an object a line, or `text`.
    #[arg(long, value_name = "FORMAT", default_value = "json")]
    pub format: LineFormat,
}

impl WalInspectArgs {
    /// Whether not every record is asked for.
    pub fn is_choosy(&self) -> bool {
        self.order.is_some() || self.user.is_some() || !self.kind.is_empty()
    }
}

/// How records are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LineFormat {
    /// A JSON object a line.
    Json,
    /// `name=value` words.
    Text,
}

/// Which exchange orders go to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExchangeChoice {
    /// The simulated one, inside this process.
    Simulated,
    /// One at an address.
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
