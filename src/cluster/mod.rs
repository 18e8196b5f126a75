//! The nodes of a deployment, as Postgres knows them. Each node is one process at a time: it joins
//! under its number with a lease that it renews, and stops when another process has become that node.
//!
//! Only the clock of Postgres decides whether a lease is over. A member's own must be near it, since nodes check
//! when a request was signed.
//!
//! A member of a cluster shares the users with other nodes. Its epoch owns user partitions in the table
//! `projection`, which fences every write of an earlier owner. It takes those that nobody has, and hands
//! over those that are too many, until shares are even ([`PartitionMap`] says who has whom). What operators
//! have halted is one row that all members look at.

pub(crate) mod claim;
mod clock;
mod ended_lately;
mod error;
mod failures;
pub(crate) mod feed_lease;
mod halts;
mod host;
mod identity;
mod join;
mod list;
mod member;
pub(crate) mod membership;
mod metrics;
pub(crate) mod ownership;
mod partition_map;
pub(crate) mod plan;
mod session;
mod shared_ids;

pub use clock::{CLOCK_LIMIT, ClockReading, MemberClock};
pub use error::NodeError;
pub use feed_lease::FeedLease;
pub use host::{HaltsHost, Membership, PartitionHost};
pub use identity::{Common, NodeIdentity};
pub use list::{Drained, ListedNode, Shares, drain, nodes};
pub use member::Member;
pub use membership::Stops;
pub use metrics::NodeMetrics;
pub use partition_map::{Members, PartitionMap, Peer, Route};

use std::time::Duration;

use crate::types::MonotonicMicros;

/// Number of a node, as `--node-id` sets it: from 0 to 1,023. `smallint` in Postgres.
pub type NodeId = i16;

/// How long a node counts as running after its last word.
const LEASE: Duration = Duration::from_secs(5);
/// How often a node renews its lease.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
/// The same of a member of a cluster: others take over its users when the lease is over. Longer than the
/// exchange may take to accept an order, so that one that wakes up late submits nothing that counts.
pub(crate) const MEMBER_LEASE: Duration = Duration::from_secs(2);
/// Its first lease: a start on a busy machine takes its time, and it has no users yet.
pub(crate) const FIRST_MEMBER_LEASE: Duration = Duration::from_secs(10);
pub(crate) const MEMBER_RENEWAL_INTERVAL: Duration = Duration::from_millis(300);
/// How much sooner a member stops to serve than its lease ends: its clock may run faster than Postgres'.
const LEASE_MARGIN: Duration = Duration::from_millis(100);
/// How often a member looks at what the others do.
pub(crate) const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// The same while users are on their way from one member to another: they wait for it.
const MOVING_LOOK_INTERVAL: Duration = Duration::from_millis(20);

/// Pause after a failure of Postgres.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);

/// Until when a member may serve whose lease was renewed by a statement that was sent then.
pub(crate) fn serves_until(asked: MonotonicMicros) -> MonotonicMicros {
    asked.saturating_add(MEMBER_LEASE.saturating_sub(LEASE_MARGIN))
}

/// The host in the place of a data directory, as Postgres has it.
fn host_of(home: &str) -> String {
    home.rsplit(' ').next().unwrap_or_default().to_owned()
}
