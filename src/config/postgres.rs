//! Settings of the projection into Postgres.

use clap::{Args, Subcommand, ValueEnum};

use super::number::whole;
use crate::cluster::NodeId;

const MIB: u64 = 1024 * 1024;

/// Settings of the projection into Postgres.
#[derive(Clone, Args)]
pub struct PostgresArgs {
    /// Postgres servers that follow the orders: an address such as
    /// postgres://user:password@host:5432/database, or ranges of the 64 user partitions with an
    /// address each, 0-31=URL,32-63=URL. Without it there is no Postgres.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: Option<String>,

    #[command(flatten)]
    pub schema: SchemaArgs,

    /// Migrate the tables in Postgres before the start, or when a server is reached later.
    #[arg(long, env = "LONGBOW_MIGRATE", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub migrate: bool,

    /// What must have an order before it is answered: `wal`, the write-ahead log; `postgres`,
    /// Postgres as well. With `postgres`, new orders are refused while Postgres is away; cancels
    /// still work, but not on a member of a cluster.
    #[arg(long, env = "LONGBOW_COMMIT", value_name = "wal|postgres", default_value = "wal")]
    pub commit: CommitTo,

    /// Most of the time, in percent over some seconds, that Postgres is kept busy while orders come
    /// in. Postgres shares cores and disks with the server, or with its own readers.
    #[arg(long, alias = "postgres-share", env = "LONGBOW_POSTGRES_SHARE_PERCENT", value_name = "PERCENT", default_value_t = 50,
          value_parser = whole::<u8>(1..=100))]
    pub postgres_share_percent: u8,

    /// Growth of the write-ahead log, in MiB, while Postgres is away or lags; beyond it new orders
    /// are refused. About 2,500 orders take one MiB.
    #[arg(long, env = "LONGBOW_POSTGRES_BACKLOG_MIB", value_name = "MIB", default_value_t = 16_384,
          value_parser = whole::<u64>(1..=1_073_741_824))]
    pub postgres_backlog_mib: u64,
}

impl PostgresArgs {
    /// Most bytes of the log beyond what is kept anyway.
    pub fn backlog_bytes(&self) -> u64 {
        self.postgres_backlog_mib * MIB
    }
}

/// An address may contain a password.
impl std::fmt::Debug for PostgresArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PostgresArgs")
            .field("postgres", &self.postgres.is_some())
            .field("schema", &self.schema)
            .field("migrate", &self.migrate)
            .field("commit", &self.commit)
            .field("postgres_share", &self.postgres_share_percent)
            .field("postgres_backlog_mib", &self.postgres_backlog_mib)
            .finish()
    }
}

/// What must have an order before it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CommitTo {
    /// The write-ahead log.
    Wal,
    /// The write-ahead log and Postgres.
    Postgres,
}

/// Settings of `migrate`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct MigrateArgs {
    /// The Postgres servers, as given to `serve`.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: String,

    #[command(flatten)]
    pub schema: SchemaArgs,
}

/// Settings of `nodes`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct NodesArgs {
    #[command(subcommand)]
    pub action: Option<NodesAction>,

    /// The Postgres servers, as given to `serve`.
    #[arg(
        long,
        env = "LONGBOW_POSTGRES",
        value_name = "URL|RANGES",
        hide_env_values = true,
        global = true
    )]
    pub postgres: Option<String>,

    #[command(flatten)]
    pub schema: SchemaArgs,
}

/// What to do with a node.
#[derive(Debug, Clone, Copy, Subcommand)]
pub enum NodesAction {
    /// Has a node hand over its users and the feed to the others. It goes on running, without users,
    /// until it is stopped.
    Drain {
        /// The number of the node, as `longbow nodes` lists it.
        #[arg(value_name = "NODE", value_parser = whole::<NodeId>(0..=1023))]
        node_id: NodeId,
    },
}

/// The schema of the tables.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// The schema of the tables in Postgres; `migrate` creates it if it is missing. The views for
    /// analysts are in the schema `analysis` beside `public`, and in NAME_analysis beside others.
    #[arg(
        long = "postgres-schema",
        env = "LONGBOW_POSTGRES_SCHEMA",
        value_name = "NAME",
        default_value = "public"
    )]
    pub postgres_schema: String,
}

impl std::fmt::Debug for NodesArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NodesArgs").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for MigrateArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrateArgs").finish_non_exhaustive()
    }
}
