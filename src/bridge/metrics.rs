use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the bridge to Redis.
#[derive(Debug, Clone, Default)]
pub struct BridgeMetrics {
    /// 1 while Redis takes prices.
    pub(super) up: Gauge,
    /// Published changes of prices.
    pub(super) published: Counter,
    /// Requests to Redis, each with many changes.
    pub(super) batches: Counter,
    /// Connections that failed or were lost.
    pub(super) failures: Counter,
    /// Times that changes were lost to conflation, because Redis or this thread was slow.
    pub(super) laps: Counter,
}

impl BridgeMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("bridge_up", "1 while Redis takes prices", self.up.clone());
        registry.register(
            "bridge_published",
            "Changes of prices published to Redis",
            self.published.clone(),
        );
        registry.register(
            "bridge_batches",
            "Requests to Redis with changes of prices",
            self.batches.clone(),
        );
        registry.register(
            "bridge_failures",
            "Connections to Redis that failed or were lost",
            self.failures.clone(),
        );
        registry.register(
            "bridge_laps",
            "Times that changes of prices conflated because Redis was slow or away",
            self.laps.clone(),
        );
    }
}
