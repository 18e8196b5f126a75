//! The Postgres servers, and the user partitions that each keeps.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;

use tokio_postgres::Config;
use tokio_postgres::config::SslMode;

use super::hosts::Hosts;
use super::schema::Schema;
use crate::types::{USER_PARTITIONS, UserPartition};

#[derive(Debug, Clone)]
pub struct PostgresServer {
    first: u8,
    last: u8,
    /// Its name, without a user or password.
    database: String,
    hosts: Hosts,
    schema: Schema,
}

/// All servers. Each user partition is kept by exactly one.
#[derive(Debug, Clone)]
pub struct PostgresServers(Vec<PostgresServer>);

/// Why `--postgres` or `--postgres-schema` is invalid.
#[derive(Debug, thiserror::Error)]
pub enum ServersError {
    /// Not an address of Postgres.
    #[error("{place} is not an address such as postgres://user:password@host:5432/database")]
    Address {
        /// The part of the text, without a password that may be in it.
        place: String,
        /// The parse error.
        source: tokio_postgres::Error,
    },
    /// An address without a host.
    #[error("{place} names no host: expected postgres://user:password@host:5432/database")]
    NoHost {
        /// The part of the text.
        place: String,
    },
    /// The address asks for encryption.
    #[error(
        "{place} asks for sslmode=require, which Longbow does not support: connect through a private network or a local tunnel, with sslmode=disable"
    )]
    Encryption {
        /// The part of the text.
        place: String,
    },
    /// Neither one address nor ranges with addresses.
    #[error("{given:?} is not a range of user partitions with an address, such as 0-31=URL")]
    Range {
        /// The text.
        given: String,
    },
    /// An invalid schema name.
    #[error(
        "--postgres-schema: {given:?} is not a usable schema name: expected 1 to {most} bytes without `$`, not starting with `pg_`, and not `information_schema`"
    )]
    Schema {
        /// The name.
        given: String,
        /// The longest name, in bytes.
        most: usize,
    },
    /// A partition that no server keeps, or more than one.
    #[error(
        "user partition {partition} has {count} servers: the ranges must cover each of 0 to 63 exactly once"
    )]
    Cover {
        /// The partition.
        partition: usize,
        /// How many servers keep it.
        count: usize,
    },
}

impl PostgresServer {
    pub fn partitions(&self) -> RangeInclusive<u8> {
        self.first..=self.last
    }

    /// Whether it keeps the orders of this partition.
    pub fn keeps(&self, partition: UserPartition) -> bool {
        self.partitions().contains(&partition.get())
    }

    pub(super) fn hosts(&self) -> &Hosts {
        &self.hosts
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.schema
    }

    fn parse(
        partitions: RangeInclusive<u8>,
        address: &str,
        place: &str,
    ) -> Result<Self, ServersError> {
        let place = || place.to_owned();
        let config: Config =
            address.parse().map_err(|source| ServersError::Address { place: place(), source })?;
        if config.get_hosts().is_empty() {
            return Err(ServersError::NoHost { place: place() });
        }
        if config.get_ssl_mode() == SslMode::Require {
            return Err(ServersError::Encryption { place: place() });
        }
        let (first, last) = partitions.into_inner();
        let database = config.get_dbname().or(config.get_user()).unwrap_or_default().to_owned();
        let hosts = Hosts::of(&config);
        Ok(Self { first, last, database, hosts, schema: Schema::default() })
    }
}

impl PostgresServers {
    /// The same servers, with the tables in this schema.
    ///
    /// # Errors
    /// [`ServersError::Schema`].
    pub fn in_schema(mut self, name: &str) -> Result<Self, ServersError> {
        let schema = Schema::new(name)?;
        for server in &mut self.0 {
            server.schema = schema.clone();
        }
        Ok(self)
    }

    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PostgresServer> {
        self.0.iter()
    }

    /// The server that knows the nodes: the one of the first user partition.
    pub fn of_nodes(&self) -> &PostgresServer {
        let first = self.0.iter().find(|server| server.first == 0);
        let Some(first) = first else { unreachable!("the servers keep every user partition") };
        first
    }

    pub fn of(&self, partition: UserPartition) -> Option<&PostgresServer> {
        self.0.iter().find(|server| server.keeps(partition))
    }

    fn check_cover(&self) -> Result<(), ServersError> {
        for partition in 0..USER_PARTITIONS {
            let keeps = |server: &&PostgresServer| {
                server.partitions().any(|kept| usize::from(kept) == partition)
            };
            let count = self.0.iter().filter(keeps).count();
            if count != 1 {
                return Err(ServersError::Cover { partition, count });
            }
        }
        Ok(())
    }
}

impl FromStr for PostgresServers {
    type Err = ServersError;

    /// Parses one address for all users, or ranges of user partitions, `FIRST-LAST=ADDRESS`,
    /// separated by commas.
    fn from_str(text: &str) -> Result<Self, ServersError> {
        #[expect(clippy::cast_possible_truncation, reason = "64 partitions")]
        const LAST: u8 = USER_PARTITIONS as u8 - 1;
        if !text.starts_with(|c: char| c.is_ascii_digit()) {
            return Ok(Self(vec![PostgresServer::parse(0..=LAST, text, "the address")?]));
        }
        let mut servers = Vec::new();
        for part in split_ranges(text) {
            let (range, address) = part.split_once('=').unwrap_or((part, ""));
            let invalid = || ServersError::Range { given: range.to_owned() };
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            let number = |text: &str| text.parse::<u8>().ok().filter(|&number| number <= LAST);
            let (first, last) =
                number(first).zip(number(last)).filter(|(f, l)| f <= l).ok_or_else(invalid)?;
            if address.is_empty() {
                return Err(invalid());
            }
            let place = format!("the address of partitions {range}");
            servers.push(PostgresServer::parse(first..=last, address, &place)?);
        }
        let servers = Self(servers);
        servers.check_cover()?;
        Ok(servers)
    }
}

/// Splits at the commas before a range: an address may contain commas as well.
fn split_ranges(text: &str) -> impl Iterator<Item = &str> {
    let starts_range = |rest: &str| {
        let range = rest.split_once('=').map_or("", |(range, _)| range);
        !range.is_empty() && range.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    };
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let text = rest?;
        let comma = text.match_indices(',').find(|(at, _)| starts_range(&text[at + 1..]));
        let (part, left) = match comma {
            Some((at, _)) => (&text[..at], Some(&text[at + 1..])),
            None => (text, None),
        };
        rest = left;
        Some(part)
    })
}

/// Hosts, ports and database, which logs may show.
impl fmt::Display for PostgresServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Postgres at {}/{}", self.hosts, self.database)?;
        if self.schema == Schema::default() {
            return Ok(());
        }
        write!(f, ", schema {}", self.schema.quoted())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn servers(text: &str) -> Result<PostgresServers, String> {
        text.parse().map_err(|error: ServersError| error.to_string())
    }

    #[test]
    fn one_address_keeps_all_partitions() {
        let one = servers("postgres://longbow:secret@db.local:6432/orders").unwrap();
        let all: Vec<_> = one.iter().collect();
        assert_eq!(all.len(), 1);
        assert_eq!(all[0].partitions(), 0..=63);
        assert_eq!(all[0].to_string(), "Postgres at db.local:6432/orders", "no password");
    }

    #[test]
    fn ranges_keep_their_partitions() {
        let two = servers("0-31=postgres://a@one/x,32-63=postgres://a@two,three/x").unwrap();
        let kept: Vec<_> = two.iter().map(PostgresServer::partitions).collect();
        assert_eq!(kept, [0..=31, 32..=63]);
        let of = |number| two.of(UserPartition::new(number).unwrap()).unwrap().to_string();
        assert_eq!(of(31), "Postgres at one:5432/x");
        assert_eq!(of(32), "Postgres at two:5432,three:5432/x");
        let hosts = two.iter().nth(1).unwrap().hosts().count();
        assert_eq!(hosts, 2, "an address may name a standby after a comma");
    }

    #[test]
    fn errors_name_the_wrong_part_without_the_password() {
        let url = "postgres://a:secret@one/x";
        for (text, expected) in [
            (format!("0-31={url}"), "user partition 32 has 0 servers"),
            (format!("0-32={url},32-63={url}"), "user partition 32 has 2 servers"),
            (format!("0-64={url}"), "\"0-64\" is not a range"),
            (format!("9-3={url}"), "\"9-3\" is not a range"),
            ("0-63".to_owned(), "\"0-63\" is not a range"),
            ("mysql://x".to_owned(), "the address is not an address"),
            ("postgres:///orders".to_owned(), "the address names no host"),
            (format!("{url}?sslmode=require"), "asks for sslmode=require"),
        ] {
            let error = servers(&text).unwrap_err();
            assert!(error.starts_with(expected) || error.contains(expected), "{text}: {error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
