//! The nodes of a deployment, as Postgres knows them. Each node is one process at a time: it joins
//! under its number with a lease that it renews, and stops when another process has become that node.
//!
//! Only the clock of Postgres decides whether a lease is over.

mod error;
mod feed_lease;
mod identity;
mod join;
mod list;
mod member;
mod metrics;
mod partition_map;

pub use error::NodeError;
pub use feed_lease::FeedLease;
pub use identity::NodeIdentity;
pub use list::{ListedNode, nodes};
pub use member::Member;
pub use metrics::NodeMetrics;
pub use partition_map::{PartitionMap, Peer, Route};

use std::time::Duration;

/// Number of a node, as `--node-id` sets it: from 0 to 1,023. `smallint` in Postgres.
pub type NodeId = i16;

/// How long a node counts as running after its last word.
const LEASE: Duration = Duration::from_secs(5);
/// How often a node renews its lease.
const RENEWAL_INTERVAL: Duration = Duration::from_secs(1);
