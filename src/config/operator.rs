//! Command line of operators who decide about orders of a running server.

use std::fmt;
use std::str::FromStr;

use clap::{Args, Subcommand};

use super::number::{said, whole};
use crate::types::{InvalidValue, OrderId};

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
    pub admin_url: AdminUrl,
}

/// Where a server's operators' listener is reached, perhaps behind a proxy that gives it a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminUrl(String);

impl FromStr for AdminUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const ALLOWED: &str = "an address such as http://127.0.0.1:9090";
        let url = url::Url::parse(text).map_err(|_| InvalidValue::new(text, ALLOWED))?;
        let is_fine = url.scheme() == "http"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.query().is_none()
            && url.fragment().is_none();
        if !is_fine {
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

/// A decision about a case.
#[derive(Debug, Clone, Args)]
pub struct CaseArgs {
    /// The order.
    #[arg(value_name = "ORDER_ID")]
    pub order_id: OrderId,
    /// The number of its case, as `quarantine list` gives it.
    #[arg(value_name = "CASE", value_parser = whole::<u64>(0..=u64::MAX))]
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
    #[arg(long, value_name = "NAME", value_parser = said)]
    pub by: String,
    /// Why; it stands in the history of the order.
    #[arg(long, value_name = "TEXT", value_parser = said)]
    pub reason: String,
    /// Where the server listens.
    #[command(flatten)]
    pub admin: AdminArgs,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_a_server_have_a_scheme_and_a_host() {
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
