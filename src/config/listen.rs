//! Addresses to listen on.

use std::fmt;
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::str::FromStr;

use crate::types::InvalidValue;

/// Longest host name (RFC 1035, section 2.3.4).
const MAX_NAME_BYTES: usize = 253;
const ALLOWED: &str = "an address and a port, such as 127.0.0.1:8080, [::]:8080 or localhost:8080";

/// An address to listen on: an IP address, or a host name, which may have several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ListenAddress {
    Address(SocketAddr),
    /// All addresses of a host name.
    Name {
        host: String,
        /// The port on each address.
        port: u16,
    },
}

impl ListenAddress {
    /// The addresses, each once, IPv4 first.
    ///
    /// # Errors
    /// The name cannot be resolved.
    pub fn resolve(&self) -> io::Result<Vec<SocketAddr>> {
        let (host, port) = match self {
            Self::Address(address) => return Ok(vec![*address]),
            Self::Name { host, port } => (host.as_str(), *port),
        };
        let mut found: Vec<SocketAddr> = Vec::new();
        for address in (host, port).to_socket_addrs()? {
            if !found.contains(&address) {
                found.push(address);
            }
        }
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        found.sort_by_key(SocketAddr::is_ipv6);
        Ok(found)
    }
}

impl FromStr for ListenAddress {
    type Err = InvalidValue;

    fn from_str(text: &str) -> Result<Self, InvalidValue> {
        if let Ok(address) = text.parse() {
            return Ok(Self::Address(address));
        }
        let invalid = || InvalidValue::new(text, ALLOWED);
        let (host, port) = text.rsplit_once(':').ok_or_else(invalid)?;
        let is_of_names = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
        // A malformed IPv4 address is not a name either.
        let is_name = host.bytes().all(is_of_names)
            && host.bytes().any(|byte| byte.is_ascii_alphabetic())
            && host.len() <= MAX_NAME_BYTES;
        if !is_name || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(invalid());
        }
        let port = port.parse().map_err(|_| invalid())?;
        Ok(Self::Name { host: host.to_owned(), port })
    }
}

impl fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(formatter),
            Self::Name { host, port } => write!(formatter, "{host}:{port}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn valid_addresses_and_names_are_kept_as_given() {
        for valid in ["127.0.0.1:8080", "[::1]:0", "localhost:8080", "db-1.example.:1", "a_b:65535"]
        {
            assert_eq!(valid.parse::<ListenAddress>().unwrap().to_string(), valid);
        }
        for wrong in [
            "",
            "8080",
            ":8080",
            "localhost",
            "localhost:",
            "localhost:http",
            "localhost:65536",
            "localhost:+1",
            "::1:80",
            "*:80",
            "127.0.0:80",
            "127.0.0.1",
            "a b:1",
            "http://a:1",
        ] {
            let error = wrong.parse::<ListenAddress>().unwrap_err().to_string();
            assert!(error.contains("localhost:8080"), "{wrong}: {error}");
        }
    }

    #[test]
    fn a_name_resolves_to_all_of_its_addresses() {
        let found = "localhost:7".parse::<ListenAddress>().unwrap().resolve().unwrap();
        assert!(found.iter().all(|address| address.ip().is_loopback() && address.port() == 7));
        assert!(found.is_sorted_by_key(SocketAddr::is_ipv6), "{found:?}");
        // RFC 6761, section 6.4: never resolves.
        assert!("longbow.invalid:7".parse::<ListenAddress>().unwrap().resolve().is_err());
    }
}
