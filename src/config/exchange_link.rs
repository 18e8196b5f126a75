//! Settings of the connections to the exchange and of its webhook.

use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::number::{ip_address, whole};
use crate::engine::EngineOptions;
use crate::types::InvalidValue;

/// Longest webhook address, in bytes: the limit of the simulated exchange.
const MAX_URL_BYTES: usize = 2_048;

/// Most order connections. Each joins only while the others are busy; more were never measured.
const MAX_CONNECTIONS: u64 = 16;

/// Largest clock offset that can be allowed: a hundred days, that is, any.
const MAX_CLOCK_OFFSET_MS: u64 = 8_640_000_000;

/// How `serve` and the exchange reach each other.
#[derive(Debug, Clone, Args)]
pub struct ExchangeLinkArgs {
    /// File with the secrets that the exchange may sign its posts to /exchange/trades with, one per
    /// line, the first one in use. Without it the exchange cannot post fills.
    #[arg(long, env = "LONGBOW_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,

    /// Address at which the exchange reaches /exchange/trades; with it the server registers its
    /// webhook there.
    #[arg(long, env = "LONGBOW_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<WebhookUrl>,

    /// Seconds that a signature's time may differ from this clock.
    #[arg(long, alias = "webhook-window", env = "LONGBOW_WEBHOOK_WINDOW_SECONDS", value_name = "S", default_value_t = 300,
          value_parser = whole::<u64>(1..=86_400))]
    pub webhook_window_seconds: u64,

    /// Local addresses for connections to the exchange, used in turn, separated by commas. By
    /// default the system chooses.
    #[arg(long, env = "LONGBOW_EXCHANGE_SOURCE_IP", value_name = "IP", value_delimiter = ',',
          value_parser = ip_address)]
    pub exchange_source_ip: Vec<IpAddr>,

    /// Connections for new orders. Cancels and queries have one more.
    #[arg(long, env = "LONGBOW_EXCHANGE_CONNECTIONS", value_name = "N", default_value_t = 2,
          value_parser = whole::<u64>(1..=MAX_CONNECTIONS))]
    pub exchange_connections: u64,

    /// Milliseconds until a request to the exchange times out. Its outcome is then unknown, and the
    /// exchange is asked about its orders.
    #[arg(long, alias = "exchange-timeout", env = "LONGBOW_EXCHANGE_TIMEOUT_MS", value_name = "MS", default_value_t = 1_000,
          value_parser = whole::<u64>(1..=60_000))]
    pub exchange_timeout_ms: u64,

    /// Seconds between reconciliations of all open orders with the exchange's record. The first one
    /// is made at the start.
    #[arg(long, alias = "cleanup-interval", env = "LONGBOW_CLEANUP_INTERVAL_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = whole::<u64>(1..=86_400))]
    pub cleanup_interval_seconds: u64,

    /// Milliseconds that an order may wait for an answer of the exchange before the exchange is
    /// asked about it; also the interval of further attempts.
    #[arg(long, alias = "cleanup-grace", env = "LONGBOW_CLEANUP_GRACE_MS", value_name = "MS", default_value_t = 2_000,
          value_parser = whole::<u64>(100..=600_000))]
    pub cleanup_grace_ms: u64,

    /// Offset of the exchange's clock, in milliseconds, above which a warning is logged. Deadlines
    /// are sent in the exchange's own time, whatever the offset.
    #[arg(long, alias = "exchange-clock-warning", env = "LONGBOW_EXCHANGE_CLOCK_WARNING_MS", value_name = "MS", default_value_t = 500,
          value_parser = whole::<u64>(1..=MAX_CLOCK_OFFSET_MS))]
    pub exchange_clock_warning_ms: u64,

    /// Offset of the exchange's clock, in milliseconds, above which /readyz fails. Orders are still
    /// taken.
    #[arg(long, alias = "exchange-clock-limit", env = "LONGBOW_EXCHANGE_CLOCK_LIMIT_MS", value_name = "MS", default_value_t = 30_000,
          value_parser = whole::<u64>(1..=MAX_CLOCK_OFFSET_MS))]
    pub exchange_clock_limit_ms: u64,
}

impl ExchangeLinkArgs {
    /// Clock offset above which a warning is logged.
    pub fn exchange_clock_warning(&self) -> Duration {
        Duration::from_millis(self.exchange_clock_warning_ms)
    }

    /// Clock offset above which the server is not ready.
    pub fn exchange_clock_limit(&self) -> Duration {
        Duration::from_millis(self.exchange_clock_limit_ms)
    }

    /// Timeout of a request to the exchange.
    pub fn exchange_timeout(&self) -> Duration {
        Duration::from_millis(self.exchange_timeout_ms)
    }

    /// Interval between reconciliations of all open orders.
    pub fn cleanup_interval(&self) -> Duration {
        Duration::from_secs(self.cleanup_interval_seconds)
    }

    /// The timing rules of the order engines.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions { grace_micros: self.cleanup_grace_ms * 1_000, ..EngineOptions::default() }
    }

    /// Largest difference of a signature's time from this clock.
    pub fn webhook_window(&self) -> Duration {
        Duration::from_secs(self.webhook_window_seconds)
    }
}

/// The address that the exchange posts fills to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for WebhookUrl {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        const ALLOWED: &str =
            "an address such as http://10.0.0.7:8080/exchange/trades, without a user";
        let url = url::Url::parse(text).map_err(|_| InvalidValue::new(text, ALLOWED))?;
        let is_valid = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && text.len() <= MAX_URL_BYTES;
        if is_valid { Ok(Self(text.to_owned())) } else { Err(InvalidValue::new(text, ALLOWED)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_addresses_are_absolute_and_without_secrets() {
        for valid in ["http://10.0.0.7:8080/exchange/trades", "https://longbow.example/x?y=1"] {
            assert_eq!(valid.parse::<WebhookUrl>().unwrap().as_str(), valid);
        }
        for wrong in ["", "/exchange/trades", "ftp://a/", "http://u:p@a/", "http://a/#b"] {
            assert!(wrong.parse::<WebhookUrl>().is_err(), "{wrong}");
        }
    }
}
