//! Settings of the commands around the keys that nodes share.

use std::path::PathBuf;

use clap::{Args, Subcommand};

/// The subcommands of `keys`.
#[derive(Debug, Clone, Subcommand)]
pub enum KeysCommand {
    /// Make a directory with new keys for the nodes of one deployment. Nothing is overwritten.
    Init(KeysInitArgs),
}

/// Arguments of `keys init`.
#[derive(Debug, Clone, Args)]
pub struct KeysInitArgs {
    /// The directory.
    #[arg(value_name = "DIR")]
    pub directory: PathBuf,
}
