use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use clap::Args;

use crate::types::InvalidValue;

/// Longest address of a webhook, in bytes: what the simulated exchange takes.
const MAX_URL_BYTES: usize = 2_048;

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
    #[arg(long, env = "LONGBOW_WEBHOOK_WINDOW", value_name = "S", default_value_t = 300,
          value_parser = clap::value_parser!(u64).range(1..=86_400))]
    pub webhook_window: u64,
}

impl ExchangeLinkArgs {
    /// How far the time of a signature may be away from this clock.
    pub fn webhook_window(&self) -> Duration {
        Duration::from_secs(self.webhook_window)
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
