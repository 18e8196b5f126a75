use clap::{Args, ValueEnum};

use super::number::whole;

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

    /// Bring the tables in Postgres up to date before the start, or when a server comes up later.
    #[arg(long, env = "LONGBOW_MIGRATE", value_name = "BOOL", num_args = 0..=1,
          require_equals = true, default_value_t = false, default_missing_value = "true",
          action = clap::ArgAction::Set)]
    pub migrate: bool,

    /// What has to have an order before its answer: `wal`, the write-ahead log; `postgres`, Postgres
    /// as well. With the second, new orders are refused while Postgres is away; cancels go on.
    #[arg(long, env = "LONGBOW_COMMIT", value_name = "wal|postgres", default_value = "wal")]
    pub commit: CommitTo,

    /// Most of the time, over some seconds, that Postgres is kept at work while orders come in, in percent. It has the
    /// same cores and disks here, or others that it shares with those who read.
    #[arg(long, alias = "postgres-share", env = "LONGBOW_POSTGRES_SHARE_PERCENT", value_name = "PERCENT", default_value_t = 50,
          value_parser = whole::<u8>(1..=100))]
    pub postgres_share_percent: u8,

    /// How far the write-ahead log may grow for a Postgres that is away or behind, in MiB. After that
    /// new orders are refused; about 2,500 orders take one.
    #[arg(long, env = "LONGBOW_POSTGRES_BACKLOG_MIB", value_name = "MIB", default_value_t = 16_384,
          value_parser = whole::<u64>(1..=1_073_741_824))]
    pub postgres_backlog_mib: u64,
}

impl PostgresArgs {
    /// How far the log may grow beyond what is kept of it anyway.
    pub fn backlog_bytes(&self) -> u64 {
        self.postgres_backlog_mib * MIB
    }
}

/// An address may have a password in it.
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

/// What makes an order count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CommitTo {
    /// The write-ahead log has it.
    Wal,
    /// The write-ahead log and Postgres have it.
    Postgres,
}

/// Settings of `migrate`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct MigrateArgs {
    /// The servers, as `serve` takes them.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: String,

    #[command(flatten)]
    pub schema: SchemaArgs,
}

/// Where in a database the tables are.
#[derive(Debug, Clone, Args)]
pub struct SchemaArgs {
    /// The schema in Postgres that the tables are in, and that `migrate` makes where it is missing. The
    /// views for analysts are in `analysis` beside `public`, and in NAME_analysis beside others.
    #[arg(
        long = "postgres-schema",
        env = "LONGBOW_POSTGRES_SCHEMA",
        value_name = "NAME",
        default_value = "public"
    )]
    pub postgres_schema: String,
}

impl std::fmt::Debug for MigrateArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MigrateArgs").finish_non_exhaustive()
    }
}
