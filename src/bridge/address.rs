use std::fmt;
use std::str::FromStr;

use redis::{Client, IntoConnectionInfo};

use crate::types::InvalidValue;

/// The address of a Redis. Shown without its password.
#[derive(Clone)]
pub struct RedisAddress(Client);

impl RedisAddress {
    /// A client, which has not connected yet.
    pub(super) fn client(&self) -> &Client {
        &self.0
    }
}

impl FromStr for RedisAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let expected = "an address such as redis://:password@127.0.0.1:6379 (without TLS)";
        let invalid = || InvalidValue::new(&without_password(text), expected);
        let information = text.into_connection_info().map_err(|_| invalid())?;
        Client::open(information).map(Self).map_err(|_| invalid())
    }
}

impl fmt::Display for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.get_connection_info().addr().fmt(f)
    }
}

impl fmt::Debug for RedisAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// An address as it may be shown.
fn without_password(address: &str) -> String {
    match address.rsplit_once('@') {
        Some((before, after)) => {
            let scheme = before.split_once("://").map_or("", |(scheme, _)| scheme);
            format!("{scheme}://...@{after}")
        }
        None => address.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_is_shown() {
        let address: RedisAddress = "redis://:secret@127.0.0.1:6379".parse().unwrap();
        assert_eq!(address.to_string(), "127.0.0.1:6379");
        let error = "http://:secret@a:1".parse::<RedisAddress>().unwrap_err().to_string();
        assert!(error.contains("http://...@a:1") && !error.contains("secret"), "{error}");
        assert!("nonsense".parse::<RedisAddress>().is_err());
    }
}
