//! Settings of the commands with which operators decide about orders of a running server.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::number::{operator_text, whole};
use crate::types::{InvalidValue, OrderId, TradeDate};

/// The subcommands of `quarantine`.
#[derive(Debug, Subcommand)]
pub enum QuarantineCommand {
    /// List the open cases, as JSON.
    List(AdminArgs),
    /// Count the execution of a case.
    Book(CaseArgs),
    /// Discard the execution of a case, now and whenever the exchange sends it again.
    Discard(CaseArgs),
}

/// The address of the operators' listener.
#[derive(Debug, Clone, Args)]
pub struct AdminArgs {
    /// Address of the server's operators' listener; of several nodes, that of any one.
    #[arg(
        long,
        env = "LONGBOW_ADMIN_URL",
        value_name = "URL",
        default_value = "http://127.0.0.1:9090"
    )]
    pub admin_url: AdminUrl,
}

/// The address of an operators' listener, perhaps behind a proxy that adds a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUrl(String);

impl FromStr for AdminUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const ALLOWED: &str = "an address such as http://127.0.0.1:9090";
        let url = url::Url::parse(text).map_err(|_| InvalidValue::new(text, ALLOWED))?;
        let is_valid = url.scheme() == "http"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_valid {
            return Err(InvalidValue::new(text, ALLOWED));
        }
        Ok(Self(text.trim_end_matches('/').to_owned()))
    }
}

impl fmt::Display for AdminUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Arguments of a decision about a case.
#[derive(Debug, Clone, Args)]
pub struct CaseArgs {
    /// The order.
    #[arg(value_name = "ORDER_ID")]
    pub order_id: OrderId,
    /// The number of the case, from `quarantine list`.
    #[arg(value_name = "CASE", value_parser = whole::<u64>(0..=u64::MAX))]
    pub case: u64,
    #[command(flatten)]
    pub act: ActArgs,
}

/// Arguments of `close-order`.
#[derive(Debug, Clone, Args)]
pub struct CloseOrderArgs {
    /// The order.
    #[arg(value_name = "ORDER_ID")]
    pub order_id: OrderId,
    #[command(flatten)]
    pub act: ActArgs,
}

/// Arguments of `reconcile`.
#[derive(Debug, Clone, Args)]
pub struct ReconcileArgs {
    /// The trade date, in New York.
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub date: TradeDate,
    /// The exchange's list as a CSV file, where the exchange itself offers none. Columns: executionId,
    /// orderId, clientOrderId (may be empty), symbol, side, priceInCents, numShares, timestamp in
    /// microseconds since 1970.
    #[arg(long, value_name = "FILE.csv")]
    pub executions: Option<PathBuf>,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
    #[command(flatten)]
    pub admin: AdminArgs,
}

/// The operator and the reason of a decision, both recorded in the order's history.
#[derive(Debug, Clone, Args)]
pub struct ActArgs {
    /// Who decides.
    #[arg(long, value_name = "NAME", value_parser = operator_text)]
    pub by: String,
    /// Why; recorded in the order's history.
    #[arg(long, value_name = "TEXT", value_parser = operator_text)]
    pub reason: String,
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn admin_addresses_have_a_scheme_and_a_host() {
        for (given, shown) in [
            ("http://127.0.0.1:9090/", "http://127.0.0.1:9090"),
            ("http://proxy.example/longbow", "http://proxy.example/longbow"),
        ] {
            assert_eq!(given.parse::<AdminUrl>().unwrap().to_string(), shown);
        }
        for wrong in ["", "127.0.0.1:9090", "https://a/", "http://u:p@a/", "http://a/?x", "nowhere"]
        {
            let error = wrong.parse::<AdminUrl>().unwrap_err().to_string();
            assert!(error.contains("http://127.0.0.1:9090"), "{error}");
        }
    }
}
