use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of this node's membership.
#[derive(Debug, Clone, Default)]
pub struct NodeMetrics {
    /// The epoch of this process; 0 before it has joined.
    pub(super) epoch: Gauge,
    /// Renewals of the lease that failed.
    pub(super) failed_renewals: Counter,
    /// Partitions whose users are served here; 64 without other nodes.
    pub(super) partitions: Gauge,
    /// Partitions taken over.
    pub(super) taken: Counter,
    /// Partitions handed over.
    pub(super) handed_over: Counter,
    /// Orders of partitions taken over that could not be read.
    pub(super) unreadable_orders: Counter,
    /// Microseconds that the clock of a member is ahead of Postgres' clock.
    pub(super) clock_ahead: Gauge,
    /// 1 while this node reads the exchange's feed for the others.
    pub(super) leads_feed: Gauge,
}

impl NodeMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "node_epoch",
            "The epoch of this process as its node; 0 before it has joined",
            self.epoch.clone(),
        );
        registry.register(
            "node_failed_renewals",
            "Renewals of the node's lease in Postgres that failed",
            self.failed_renewals.clone(),
        );
        registry.register(
            "node_partitions",
            "User partitions that this node serves as a member of a cluster, of 64",
            self.partitions.clone(),
        );
        registry.register(
            "node_partitions_taken",
            "User partitions that this node has taken over, at its start and from other nodes",
            self.taken.clone(),
        );
        registry.register(
            "node_partitions_handed_over",
            "User partitions that this node has handed over to others",
            self.handed_over.clone(),
        );
        registry.register(
            "node_unreadable_orders",
            "Open orders that were left out when their users were taken over: their rows in Postgres cannot be read",
            self.unreadable_orders.clone(),
        );
        registry.register(
            "node_clock_ahead_micros",
            "Microseconds that the clock of this member of a cluster is ahead of Postgres' clock",
            self.clock_ahead.clone(),
        );
        registry.register(
            "node_leads_feed",
            "1 while this node has the lease of the exchange's feed",
            self.leads_feed.clone(),
        );
    }
}
