//! What the threads `feed` and `bridge` know of Redis, for `/readyz`.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::RedisAddress;
use super::links::LinkError;
use crate::exchange::FeedRole;

/// What a node of several knows of its Redis. Clones share it: the threads `feed` and `bridge` write,
/// anybody reads.
#[derive(Debug, Clone)]
pub struct RedisHealth(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    address: RedisAddress,
    role: FeedRole,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// What came of the last connection as the one that reads the feed, and as one that follows.
    publisher: LinkState,
    follower: LinkState,
    heard: Heard,
}

/// How a connection stands.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
enum LinkState {
    /// None was made yet.
    #[default]
    Unknown,
    Up,
    /// Redis does not answer.
    Away(String),
    /// Redis answers, and refuses what this node needs.
    Refused(String),
    /// It is another deployment's.
    Foreign(String),
}

/// What a follower hears through Redis from the node that reads the feed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Heard {
    /// Nothing since it has connected, which was a moment ago.
    #[default]
    NothingYet,
    /// Nothing for longer than that node is ever silent.
    Nothing,
    /// That the exchange's feed is down.
    FeedDown,
    /// Prices.
    Prices,
    /// Prices, and no lines about orders, which are in the database that `--redis` names.
    NoLines,
}

/// What readiness says of Redis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RedisReport {
    /// Why this node does not get from Redis what it needs.
    pub trouble: Option<String>,
    /// What others suffer from although this node is ready.
    pub warning: Option<String>,
    /// Why this node's prices are not current, in case they are not.
    pub feed: String,
}

/// What is said while the feed is down and this process reads it.
pub const FEED_IS_DOWN: &str =
    "the exchange's feed is down: prices are frozen and fills arrive late";

impl RedisHealth {
    /// Of the Redis at this address. `role` says who reads the feed.
    pub fn new(address: &RedisAddress, role: FeedRole) -> Self {
        let (address, known) = (address.clone(), Mutex::default());
        Self(Arc::new(Shared { address, role, known }))
    }

    /// The address of Redis.
    pub fn address(&self) -> &RedisAddress {
        &self.0.address
    }

    /// Called by the publisher: Redis takes what it has.
    pub(super) fn takes(&self) {
        self.known().publisher = LinkState::Up;
    }

    /// Called by the publisher.
    pub(super) fn takes_nothing(&self, error: &LinkError) {
        self.known().publisher = LinkState::of(error);
    }

    /// Called by the follower: it is connected.
    pub(super) fn answers(&self) {
        let mut known = self.known();
        (known.follower, known.heard) = (LinkState::Up, Heard::NothingYet);
    }

    /// Called by the follower.
    pub(super) fn gives_nothing(&self, error: &LinkError) {
        self.known().follower = LinkState::of(error);
    }

    /// Called by the follower. Returns whether it has heard something else before.
    pub(super) fn hears(&self, heard: Heard) -> bool {
        std::mem::replace(&mut self.known().heard, heard) != heard
    }

    /// Why nothing comes, for the log.
    pub(super) fn silence(&self) -> String {
        let Shared { address, role, .. } = &*self.0;
        silence(address, role.holder())
    }

    /// What readiness says now.
    pub fn report(&self) -> RedisReport {
        let Shared { address, role, .. } = &*self.0;
        let known = self.known();
        if role.leading_epoch().is_some() {
            let effect = "the other nodes get no prices from this node, which reads the exchange's \
                          feed, and fills reach them late";
            let warning = known.publisher.trouble(address, effect);
            return RedisReport { trouble: None, warning, feed: FEED_IS_DOWN.to_owned() };
        }
        let effect = "prices stand still on this node, and fills come late";
        let trouble = known.follower.trouble(address, effect);
        let holder = role.holder();
        let of_holder = holder.map_or_else(
            || "the node that reads the exchange's feed".to_owned(),
            |node| format!("node {node}, which reads the exchange's feed"),
        );
        let feed = match (&trouble, known.heard) {
            (Some(_), _) => format!(
                "prices are frozen and fills arrive late: they come through Redis, from {of_holder}"
            ),
            (None, Heard::NothingYet) => {
                format!("nothing has come through Redis at {address} yet from {of_holder}")
            }
            (None, Heard::Nothing) => silence(address, holder),
            (None, Heard::FeedDown) => format!("{FEED_IS_DOWN}, says {of_holder}"),
            (None, Heard::Prices | Heard::NoLines) => {
                format!("the last prices are being read from Redis at {address}")
            }
        };
        let lacks_lines = trouble.is_none() && known.heard == Heard::NoLines;
        let warning = lacks_lines.then(|| {
            format!(
                "Redis at {address} has no lines about orders from {of_holder}: do both use the same \
                 database number? Fills come late"
            )
        });
        RedisReport { trouble, warning, feed }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        // Each field is replaced whole.
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Redis answers a follower, and nothing comes.
fn silence(address: &RedisAddress, holder: Option<i16>) -> String {
    match holder {
        Some(node) => format!(
            "nothing comes through Redis at {address} from node {node}, which reads the exchange's \
             feed: do both use the same Redis, and does it answer node {node}?"
        ),
        None => {
            format!("nothing comes through Redis at {address}: no node reads the exchange's feed")
        }
    }
}

impl LinkState {
    fn of(error: &LinkError) -> Self {
        match error {
            LinkError::Foreign { .. } => Self::Foreign(error.to_string()),
            LinkError::Redis(error) if !error.is_io_error() => Self::Refused(error.to_string()),
            error => Self::Away(error.to_string()),
        }
    }

    fn trouble(&self, address: &RedisAddress, effect: impl Display) -> Option<String> {
        match self {
            Self::Unknown | Self::Up => None,
            Self::Away(error) => Some(format!(
                "Redis at {address} cannot be reached ({error}): {effect}; start it, or correct --redis"
            )),
            Self::Foreign(error) => {
                Some(format!("Redis at {address} is not used, as {error}. Until then {effect}"))
            }
            Self::Refused(error) => {
                Some(format!("Redis at {address} refuses this node ({error}): {effect}"))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::MonotonicMicros;
    use redis::{ErrorKind, RedisError};

    fn health() -> (RedisHealth, FeedRole) {
        let role = FeedRole::follower();
        let address = "redis://:secret@127.0.0.1:6379/3".parse().unwrap();
        (RedisHealth::new(&address, role.clone()), role)
    }

    fn refused() -> LinkError {
        let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
        LinkError::Redis(RedisError::from(refused))
    }

    #[test]
    fn a_follower_without_redis_says_so_and_does_not_blame_the_exchange() {
        let (health, role) = health();
        role.note_holder(Some(2));
        health.gives_nothing(&refused());
        let RedisReport { trouble, warning, feed } = health.report();
        let trouble = trouble.unwrap();
        assert!(trouble.starts_with("Redis at 127.0.0.1:6379 cannot be reached ("), "{trouble}");
        assert!(!trouble.contains("secret"), "{trouble}");
        assert!(feed.contains("through Redis, from node 2"), "{feed}");
        assert_eq!(warning, None);
        health.answers();
        assert_eq!(health.report().trouble, None);
    }

    #[test]
    fn what_comes_through_redis_tells_whose_fault_a_feed_that_is_down_is() {
        let (health, role) = health();
        health.answers();
        let feed = |heard| {
            health.hears(heard);
            health.report().feed
        };
        assert!(feed(Heard::Nothing).ends_with("no node reads the exchange's feed"));
        role.note_holder(Some(2));
        assert!(feed(Heard::NothingYet).contains("yet from node 2"));
        let silence = feed(Heard::Nothing);
        assert!(silence.contains("from node 2, which reads the exchange's feed: do both"));
        let down = feed(Heard::FeedDown);
        assert!(down.starts_with(FEED_IS_DOWN) && down.contains("says node 2"), "{down}");
        feed(Heard::Prices);
        assert_eq!(health.report().warning, None);
        feed(Heard::NoLines);
        assert!(health.report().warning.unwrap().contains("database number"));
    }

    #[test]
    fn the_holder_of_the_feed_is_ready_without_redis_and_warns() {
        let (health, role) = health();
        role.lead(7, MonotonicMicros::new(u64::MAX));
        health.takes_nothing(&refused());
        let RedisReport { trouble, warning, feed } = health.report();
        assert_eq!((trouble, feed.as_str()), (None, FEED_IS_DOWN));
        assert!(warning.unwrap().contains("the other nodes get no prices"));
        let error = RedisError::from((ErrorKind::AuthenticationFailed, "WRONGPASS"));
        health.takes_nothing(&error.into());
        assert!(health.report().warning.unwrap().contains("refuses this node"));
        let foreign = LinkError::Foreign { theirs: "one".to_owned(), ours: "two".to_owned() };
        health.takes_nothing(&foreign);
        let warning = health.report().warning.unwrap();
        assert!(warning.contains("another deployment (one; this one is two)"), "{warning}");
        health.takes();
        assert_eq!(health.report().warning, None);
    }

    #[test]
    fn a_change_of_what_is_heard_is_told_once() {
        let (health, _) = health();
        assert!(health.hears(Heard::Nothing) && !health.hears(Heard::Nothing));
    }
}
