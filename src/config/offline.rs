//! Settings of the commands that compare, restore and copy records.

use clap::Args;

use super::SchemaArgs;
use super::number::data_dir;
use crate::data_dir::DataDir;

/// Settings of `verify`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct VerifyArgs {
    /// Data directory of the server, which may be running.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,

    /// The Postgres servers, as given to `serve`. Without it only the log and the index are
    /// compared.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: Option<String>,

    #[command(flatten)]
    pub schema: SchemaArgs,

    /// Overwrite orders that differ in Postgres, and report what still differs. Refused beside a
    /// running server. Removes nothing.
    #[arg(long, requires = "postgres")]
    pub repair: bool,
}

/// Settings of `restore`.
#[derive(Debug, Clone, Args)]
#[command(args_override_self = true)]
pub struct RestoreArgs {
    #[command(flatten)]
    pub copy: CopyArgs,

    /// Restore even if the tables in Postgres refer to rows that are missing.
    #[arg(long)]
    pub force: bool,
}

/// Settings of `restore` and of `backfill`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct CopyArgs {
    /// Data directory of the server, which must be stopped.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data",
          value_parser = data_dir())]
    pub data_dir: DataDir,

    /// The Postgres servers, as given to `serve`.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: String,

    #[command(flatten)]
    pub schema: SchemaArgs,
}

// An address may contain a password.

impl std::fmt::Debug for VerifyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyArgs")
            .field("data_dir", &self.data_dir)
            .field("postgres", &self.postgres.is_some())
            .field("schema", &self.schema)
            .field("repair", &self.repair)
            .finish()
    }
}

impl std::fmt::Debug for CopyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyArgs").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}
