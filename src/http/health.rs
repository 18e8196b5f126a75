use std::time::Duration;

use crate::bridge::RedisHealth;
use crate::cluster::MemberClock;
use crate::exchange::FeedRole;
use crate::projection::Progress;
use crate::wal::LogHandle;

/// Further inputs of readiness, beside the site.
#[derive(Debug, Clone)]
pub struct Health {
    /// The write-ahead log.
    pub log: LogHandle,
    /// Postgres, if it follows the log.
    pub postgres: Option<Progress>,
    /// Whether operators drain this node, where it shares users with others.
    pub role: FeedRole,
    /// Redis, where this node shares users with others.
    pub redis: Option<RedisHealth>,
    /// How far this machine's clock is from Postgres' clock, where this node shares users with others.
    pub node_clock: MemberClock,
    /// Allowed difference between the exchange's clock and ours.
    pub exchange_clock_limit: Duration,
}
