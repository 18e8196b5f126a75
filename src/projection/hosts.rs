//! The hosts of one server: a primary, and the standbys that may take its place.

use std::sync::Arc;

use tokio::sync::watch;
use tokio_postgres::Config;
use tokio_postgres::config::{Host, TargetSessionAttrs};

const DEFAULT_PORT: u16 = 5432;

/// The hosts of an address. Clones share which one is tried first.
///
/// They are tried one by one, each with its own share of the time: a driver that tries them all waits
/// for the first, if that one is frozen, until no time is left.
#[derive(Debug, Clone)]
pub(super) struct Hosts {
    /// The address, with one host each.
    each: Vec<Config>,
    /// The number of the host that was connected to last.
    preferred: Arc<watch::Sender<usize>>,
}

impl Hosts {
    /// The hosts of this address, which names at least one.
    pub(super) fn of(address: &Config) -> Self {
        let count = address.get_hosts().len();
        assert!(count > 0, "an address without hosts is refused");
        let each = if count == 1 {
            vec![address.clone()]
        } else {
            (0..count).map(|number| of_host(address, number)).collect()
        };
        Self { each, preferred: Arc::new(watch::Sender::new(0)) }
    }

    pub(super) fn count(&self) -> usize {
        self.each.len()
    }

    /// All hosts with their numbers, the one that was connected to last first.
    pub(super) fn in_turn(&self) -> impl Iterator<Item = (usize, &Config)> {
        let first = *self.preferred.borrow();
        assert!(first < self.each.len(), "only numbers of hosts are preferred");
        let (before, from_first) = self.each.split_at(first);
        let numbered = (first..).zip(from_first);
        numbered.chain((0..).zip(before))
    }

    /// The host that is tried first.
    pub(super) fn first(&self) -> &Config {
        let Some((_, first)) = self.in_turn().next() else { unreachable!("there is a host") };
        first
    }

    /// Tries this host first from now on. Only a primary is connected to, so another host is none any
    /// more.
    pub(super) fn prefer(&self, number: usize) {
        assert!(number < self.each.len(), "a number of a host");
        self.preferred.send_if_modified(|preferred| std::mem::replace(preferred, number) != number);
    }

    /// Waits until another host is preferred to this one.
    pub(super) fn left(&self, number: usize) -> impl Future<Output = ()> + use<> {
        let mut preferred = self.preferred.subscribe();
        async move {
            if preferred.wait_for(|preferred| *preferred != number).await.is_err() {
                // Nobody opens connections any more.
                std::future::pending().await
            }
        }
    }
}

/// `host:port` of each host, separated by commas.
impl std::fmt::Display for Hosts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (number, config) in self.each.iter().enumerate() {
            let host = match config.get_hosts().first() {
                Some(Host::Tcp(host)) => host.as_str().into(),
                Some(Host::Unix(path)) => path.to_string_lossy(),
                None => "".into(),
            };
            let port = config.get_ports().first().copied().unwrap_or(DEFAULT_PORT);
            write!(f, "{}{host}:{port}", if number == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

/// The address with one of its hosts, which must be a primary.
fn of_host(address: &Config, number: usize) -> Config {
    let mut config = Config::new();
    match address.get_hosts().get(number) {
        Some(Host::Tcp(host)) => config.host(host),
        Some(Host::Unix(path)) => config.host_path(path),
        None => unreachable!("the number of a host"),
    };
    if let Some(known) = address.get_hostaddrs().get(number) {
        config.hostaddr(*known);
    }
    let ports = address.get_ports();
    // One port is that of all hosts.
    config.port(ports.get(number).or(ports.first()).copied().unwrap_or(DEFAULT_PORT));
    if let Some(user) = address.get_user() {
        config.user(user);
    }
    if let Some(password) = address.get_password() {
        config.password(password);
    }
    if let Some(name) = address.get_dbname() {
        config.dbname(name);
    }
    if let Some(options) = address.get_options() {
        config.options(options);
    }
    if let Some(interval) = address.get_keepalives_interval() {
        config.keepalives_interval(interval);
    }
    if let Some(retries) = address.get_keepalives_retries() {
        config.keepalives_retries(retries);
    }
    config
        .ssl_mode(address.get_ssl_mode())
        .ssl_negotiation(address.get_ssl_negotiation())
        .channel_binding(address.get_channel_binding())
        .keepalives(address.get_keepalives())
        .target_session_attrs(TargetSessionAttrs::ReadWrite);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hosts(address: &str) -> Hosts {
        Hosts::of(&address.parse().unwrap())
    }

    fn numbers(hosts: &Hosts) -> Vec<usize> {
        hosts.in_turn().map(|(number, _)| number).collect()
    }

    #[test]
    fn each_host_has_the_settings_of_the_address_and_must_be_a_primary() {
        let hosts = hosts("postgres://me:secret@one:1,two:2,three:3/orders?options=-cx%3Dy");
        assert_eq!(hosts.to_string(), "one:1,two:2,three:3");
        for (number, config) in hosts.in_turn() {
            assert_eq!(config.get_ports(), [u16::try_from(number).unwrap() + 1]);
            assert_eq!(config.get_hosts().len(), 1);
            assert_eq!(config.get_user(), Some("me"));
            assert_eq!(config.get_password(), Some(&b"secret"[..]));
            assert_eq!(config.get_dbname(), Some("orders"));
            assert_eq!(config.get_options(), Some("-cx=y"));
            assert_eq!(config.get_target_session_attrs(), TargetSessionAttrs::ReadWrite);
        }
    }

    #[test]
    fn one_port_is_that_of_all_hosts_and_a_single_host_stays_as_it_is() {
        assert_eq!(hosts("host=one,two port=7").to_string(), "one:7,two:7");
        let single = hosts("postgres://one/x");
        assert_eq!((single.to_string(), single.count()), ("one:5432".to_owned(), 1));
        assert_eq!(single.first().get_target_session_attrs(), TargetSessionAttrs::Any);
    }

    #[tokio::test]
    async fn who_is_connected_to_a_host_hears_that_another_one_is_the_primary() {
        let hosts = hosts("postgres://one,two/x");
        let left = hosts.left(0);
        hosts.prefer(0);
        let mut left = std::pin::pin!(left);
        assert!(futures_lite::future::poll_once(&mut left).await.is_none());
        hosts.prefer(1);
        left.await;
        hosts.left(0).await;
    }

    #[test]
    fn the_host_that_was_connected_to_last_comes_first_for_everybody() {
        let hosts = hosts("postgres://one,two,three/x");
        let others = hosts.clone();
        assert_eq!(numbers(&others), [0, 1, 2]);
        hosts.prefer(1);
        assert_eq!(numbers(&others), [1, 2, 0]);
        assert_eq!(others.first().get_hosts(), [Host::Tcp("two".to_owned())]);
    }
}
