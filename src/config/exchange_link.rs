use std::net::IpAddr;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use super::number::{ip_address, whole};
use crate::engine::EngineOptions;
use crate::types::InvalidValue;

/// Longest address of a webhook, in bytes: what the simulated exchange takes.
const MAX_URL_BYTES: usize = 2_048;

/// Most connections that orders are sent over: each joins only while the others are busy, and more
/// than this have never been measured.
const MAX_CONNECTIONS: u64 = 16;

/// Largest distance of clocks that can be allowed: a hundred days, which is to say any.
const MAX_CLOCK_OFFSET_MS: u64 = 8_640_000_000;

/// How `serve` and the exchange reach each other.
#[derive(Debug, Clone, Args)]
pub struct ExchangeLinkArgs {
    /// File with the secrets that the exchange may sign its posts to /exchange/trades with, one a
    /// line, the first one in use; without it the exchange cannot post fills.
    #[arg(long, env = "LONGBOW_WEBHOOK_SECRET_FILE", value_name = "FILE")]
    pub webhook_secret_file: Option<PathBuf>,

    /// Address under which the exchange reaches /exchange/trades; with it the server registers
    /// itself there.
    #[arg(long, env = "LONGBOW_WEBHOOK_URL", value_name = "URL")]
    pub webhook_url: Option<WebhookUrl>,

    /// Seconds that the time of a signature may be away from this clock.
    #[arg(long, alias = "webhook-window", env = "LONGBOW_WEBHOOK_WINDOW_SECONDS", value_name = "S", default_value_t = 300,
          value_parser = whole::<u64>(1..=86_400))]
    pub webhook_window_seconds: u64,

    /// Local addresses that connections to the exchange are made from, in turn, separated by
    /// commas; without it the system chooses.
    #[arg(long, env = "LONGBOW_EXCHANGE_SOURCE_IP", value_name = "IP", value_delimiter = ',',
          value_parser = ip_address)]
    pub exchange_source_ip: Vec<IpAddr>,

    /// Connections that orders are sent over. Cancels and questions have one more.
    #[arg(long, env = "LONGBOW_EXCHANGE_CONNECTIONS", value_name = "N", default_value_t = 2,
          value_parser = whole::<u64>(1..=MAX_CONNECTIONS))]
    pub exchange_connections: u64,

    /// Milliseconds that the exchange may take to answer. After that the outcome of a request is
    /// unknown, and the exchange is asked about its orders.
    #[arg(long, alias = "exchange-timeout", env = "LONGBOW_EXCHANGE_TIMEOUT_MS", value_name = "MS", default_value_t = 1_000,
          value_parser = whole::<u64>(1..=60_000))]
    pub exchange_timeout_ms: u64,

    /// Seconds from one comparison of all open orders with the exchange's record to the next. The
    /// first is made at the start.
    #[arg(long, alias = "cleanup-interval", env = "LONGBOW_CLEANUP_INTERVAL_SECONDS", value_name = "S", default_value_t = 30,
          value_parser = whole::<u64>(1..=86_400))]
    pub cleanup_interval_seconds: u64,

    /// Milliseconds that an order may wait for the exchange's word before the exchange is asked
    /// about it, and again each time after so many more.
    #[arg(long, alias = "cleanup-grace", env = "LONGBOW_CLEANUP_GRACE_MS", value_name = "MS", default_value_t = 2_000,
          value_parser = whole::<u64>(100..=600_000))]
    pub cleanup_grace_ms: u64,

    /// Milliseconds that the exchange's clock may be away from ours before the log warns of it.
    /// Deadlines are told to the exchange in its own time, however far away that is.
    #[arg(long, alias = "exchange-clock-warning", env = "LONGBOW_EXCHANGE_CLOCK_WARNING_MS", value_name = "MS", default_value_t = 500,
          value_parser = whole::<u64>(1..=MAX_CLOCK_OFFSET_MS))]
    pub exchange_clock_warning_ms: u64,

    /// Milliseconds that the exchange's clock may be away from ours before /readyz turns red. Orders
    /// are taken all the same.
    #[arg(long, alias = "exchange-clock-limit", env = "LONGBOW_EXCHANGE_CLOCK_LIMIT_MS", value_name = "MS", default_value_t = 30_000,
          value_parser = whole::<u64>(1..=MAX_CLOCK_OFFSET_MS))]
    pub exchange_clock_limit_ms: u64,
}

impl ExchangeLinkArgs {
    /// How far the exchange's clock may be from ours before that is told.
    pub fn exchange_clock_warning(&self) -> Duration {
        Duration::from_millis(self.exchange_clock_warning_ms)
    }

    /// How far it may be before the server does not count as ready.
    pub fn exchange_clock_limit(&self) -> Duration {
        Duration::from_millis(self.exchange_clock_limit_ms)
    }

    /// How long the exchange may take to answer.
    pub fn exchange_timeout(&self) -> Duration {
        Duration::from_millis(self.exchange_timeout_ms)
    }

    /// How often all open orders are compared with the exchange's record.
    pub fn cleanup_interval(&self) -> Duration {
        Duration::from_secs(self.cleanup_interval_seconds)
    }

    /// The times that the order engines decide by.
    pub fn engine_options(&self) -> EngineOptions {
        EngineOptions { grace_micros: self.cleanup_grace_ms * 1_000, ..EngineOptions::default() }
    }

    /// How far the time of a signature may be away from this clock.
    pub fn webhook_window(&self) -> Duration {
        Duration::from_secs(self.webhook_window_seconds)
    }
}

/// Where an exchange posts fills to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WebhookUrl(String);

impl WebhookUrl {
    /// As it was given.
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
        let is_fine = matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.fragment().is_none()
            && text.len() <= MAX_URL_BYTES;
        if is_fine { Ok(Self(text.to_owned())) } else { Err(InvalidValue::new(text, ALLOWED)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhook_addresses_are_absolute_and_without_secrets() {
        for fine in ["http://10.0.0.7:8080/exchange/trades", "https://longbow.example/x?y=1"] {
            assert_eq!(fine.parse::<WebhookUrl>().unwrap().as_str(), fine);
        }
        for wrong in ["", "/exchange/trades", "ftp://a/", "http://u:p@a/", "http://a/#b"] {
            assert!(wrong.parse::<WebhookUrl>().is_err(), "{wrong}");
        }
    }
}
