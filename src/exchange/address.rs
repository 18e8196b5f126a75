//! The exchange's address, `http://host:port`, and its resolution.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::types::InvalidValue;

const ALLOWED: &str = "an address such as http://127.0.0.1:7070, without a path";

/// The exchange's base URL: `http://host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExchangeAddress {
    host: String,
    port: u16,
}

impl ExchangeAddress {
    /// `host:port`, for the `Host` header.
    pub fn authority(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }

    /// Resolves the host and returns its first address. Blocks for as long as the system's
    /// resolver.
    ///
    /// # Errors
    /// The name is unknown or the resolver does not answer.
    pub fn resolve(&self) -> io::Result<SocketAddr> {
        self.resolve_all()?.into_iter().next().ok_or_else(|| self.no_address())
    }

    /// Resolves the host and returns all its addresses, at least one. Blocks for as long as the
    /// system's resolver.
    ///
    /// # Errors
    /// The name is unknown or the resolver does not answer.
    pub fn resolve_all(&self) -> io::Result<Vec<SocketAddr>> {
        let addresses: Vec<_> = (self.bare_host(), self.port).to_socket_addrs()?.collect();
        if addresses.is_empty() { Err(self.no_address()) } else { Ok(addresses) }
    }

    /// The socket address, when the host is an IP address and needs no lookup.
    pub(super) fn literal(&self) -> Option<SocketAddr> {
        self.bare_host().parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, self.port))
    }

    fn bare_host(&self) -> &str {
        self.host.trim_start_matches('[').trim_end_matches(']')
    }

    fn no_address(&self) -> io::Error {
        io::Error::new(io::ErrorKind::NotFound, format!("{} has no address", self.host))
    }
}

impl From<SocketAddr> for ExchangeAddress {
    fn from(address: SocketAddr) -> Self {
        let host = match address {
            SocketAddr::V4(v4) => v4.ip().to_string(),
            SocketAddr::V6(v6) => format!("[{}]", v6.ip()),
        };
        Self { host, port: address.port() }
    }
}

impl FromStr for ExchangeAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        let invalid = || InvalidValue::new(text, ALLOWED);
        let url = url::Url::parse(text).map_err(|_| invalid())?;
        let plain = url.scheme() == "http"
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        let host = url.host_str().filter(|_| plain).ok_or_else(invalid)?.to_owned();
        Ok(Self { host, port: url.port().unwrap_or(80) })
    }
}

impl fmt::Display for ExchangeAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "http://{}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_print_as_they_were_parsed() {
        for text in ["http://127.0.0.1:7070", "http://exchange.example:80", "http://[::1]:9"] {
            let address: ExchangeAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), text);
        }
        let local: ExchangeAddress = "http://[::1]:9".parse().unwrap();
        assert_eq!(local.resolve().unwrap().to_string(), "[::1]:9");
        assert_eq!(local.literal(), local.resolve().ok());
        let named: ExchangeAddress = "http://exchange.example:80".parse().unwrap();
        assert_eq!(named.literal(), None);
    }

    #[test]
    fn other_urls_are_rejected() {
        for text in [
            "",
            "sim2",
            "https://a:1",
            "http://a:1/path",
            "http://a:1/?query",
            "http://a:1/#fragment",
            "http://u@a:1",
            "http://:password@a:1",
            "ftp://a",
        ] {
            assert!(text.parse::<ExchangeAddress>().is_err(), "{text}");
        }
    }
}
