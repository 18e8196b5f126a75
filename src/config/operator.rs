//! Command line of operators who decide about orders of a running server.

use clap::{Args, Subcommand};

use crate::types::OrderId;

/// What `quarantine` does.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List what waits for a decision, as JSON.
    List(AdminArgs),
    /// Let the execution of a case count.
    Book(CaseArgs),
    /// Let it not count, now and whenever the exchange shows it again.
    Discard(CaseArgs),
}

/// Where the running server listens for operators.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Address of the server's operators' listener.
    #[arg(
        long,
        env = "LONGBOW_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090"
    )]
    pub admin_url: String,
}

/// A decision about a case.
#[derive(Debug, Clone, Args)]
pub struct CaseArgs {
    /// The order.
    #[arg(value_name = "ORDER_ID")]
    pub order_id: OrderId,
    /// The number of its case, as `quarantine list` gives it.
    #[arg(value_name = "CASE")]
    pub case: u64,
    /// Who decides, and why.
    #[command(flatten)]
    pub act: ActArgs,
}

/// An order to end by hand.
#[derive(Debug, Clone, Args)]
pub struct CloseOrderArgs {
    /// The order.
    #[arg(value_name = "ORDER_ID")]
    pub order_id: OrderId,
    /// Who decides, and why.
    #[command(flatten)]
    pub act: ActArgs,
}

/// What an operator says with every act; it stands in the order's history.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    /// Who decides.
    #[arg(long, value_name = "NAME")]
    pub by: String,
    /// Why.
    #[arg(long, value_name = "TEXT")]
    pub reason: String,
    /// Where the server listens.
    #[command(flatten)]
    pub admin: AdminArgs,
}
