//! The commands that compare, restore and copy the books of a stopped server.

use std::path::PathBuf;

use clap::Args;

/// Settings of `verify`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct VerifyArgs {
    /// Data directory of the server, which must not be running.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,

    /// The servers, as `serve` takes them. Without it only the log and the index are compared.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: Option<String>,
}

/// Settings of `restore` and of `backfill`.
#[derive(Clone, Args)]
#[command(args_override_self = true)]
pub struct CopyArgs {
    /// Data directory of the server, which must not be running.
    #[arg(long, env = "LONGBOW_DATA_DIR", value_name = "DIR", default_value = "longbow-data")]
    pub data_dir: PathBuf,

    /// The servers, as `serve` takes them.
    #[arg(long, env = "LONGBOW_POSTGRES", value_name = "URL|RANGES", hide_env_values = true)]
    pub postgres: String,
}

// An address may have a password in it.

impl std::fmt::Debug for VerifyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("VerifyArgs")
            .field("data_dir", &self.data_dir)
            .field("postgres", &self.postgres.is_some())
            .finish()
    }
}

impl std::fmt::Debug for CopyArgs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CopyArgs").field("data_dir", &self.data_dir).finish_non_exhaustive()
    }
}
