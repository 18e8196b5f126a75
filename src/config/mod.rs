//! The command line and the configuration file. Each setting is defined once: its flag, its
//! environment variable, its unit and its default. Flags override the environment, which overrides
//! the file, which overrides the defaults.

mod accounts;
mod args;
mod cash;
mod environment;
mod error;
mod exchange_link;
mod file;
mod keys;
mod listen;
mod number;
mod offline;
mod operator;
mod postgres;
mod streams;

pub use accounts::{AccountArgs, AccountModeChoice};
pub use args::{
    Cli, Command, ExchangeArgs, ExchangeChoice, LineFormat, ServeArgs, SimulatorArgs, TokenArgs,
    WalCommand, WalInspectArgs, WalVerifyArgs,
};
pub use cash::{AccountCommand, AmountArgs, MoveCashArgs, ShowAccountArgs};
pub use error::ConfigError;
pub use exchange_link::{ExchangeLinkArgs, WebhookUrl};
pub use file::parse_command_line;
pub use keys::{KeysCommand, KeysInitArgs};
pub use listen::ListenAddress;
pub use offline::{CopyArgs, RestoreArgs, VerifyArgs};
pub use operator::{
    ActArgs, AdminArgs, CaseArgs, CloseOrderArgs, QuarantineCommand, ReconcileArgs,
};
pub use postgres::{CommitTo, MigrateArgs, NodesAction, NodesArgs, PostgresArgs, SchemaArgs};
pub use streams::StreamArgs;
