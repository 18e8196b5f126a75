use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the bridge to Redis.
#[derive(Debug, Clone, Default)]
pub struct BridgeMetrics {
    /// 1 while Redis takes prices.
    pub(super) up: Gauge,
    /// Published changes of prices.
    pub(super) published: Counter,
    /// Published order lines.
    pub(super) lines: Counter,
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
        register_counters(
            registry,
            &[
                ("bridge_published", "Changes of prices published to Redis", &self.published),
                ("bridge_order_lines", "Order lines published to Redis", &self.lines),
                ("bridge_batches", "Requests to Redis with changes of prices", &self.batches),
                (
                    "bridge_failures",
                    "Connections to Redis that failed or were lost",
                    &self.failures,
                ),
                (
                    "bridge_laps",
                    "Times that changes of prices conflated because Redis was slow or away",
                    &self.laps,
                ),
            ],
        );
    }
}

/// Metrics of a node that follows another's prices through Redis.
#[derive(Debug, Clone, Default)]
pub struct FollowerMetrics {
    /// 1 while Redis has current prices.
    pub(super) up: Gauge,
    /// Symbols whose prices are followed.
    pub(super) symbols: Gauge,
    /// Received changes of prices.
    pub(super) prices: Counter,
    /// Received changes of symbols that are not followed any longer, or are not listed.
    pub(super) unwanted: Counter,
    /// Messages and keys that could not be read.
    pub(super) unreadable: Counter,
    pub(super) subscribed: Counter,
    pub(super) unsubscribed: Counter,
    /// Received order lines, and the news between them.
    pub(super) lines: Counter,
    /// Times that order lines may have been missed.
    pub(super) holes: Counter,
    /// Connections that failed or were lost.
    pub(super) failures: Counter,
}

impl FollowerMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "follower_up",
            "1 while this node has current prices from Redis",
            self.up.clone(),
        );
        registry.register(
            "follower_symbols",
            "Symbols whose prices this node follows through Redis",
            self.symbols.clone(),
        );
        register_counters(
            registry,
            &[
                ("follower_prices", "Changes of prices received from Redis", &self.prices),
                (
                    "follower_unwanted_prices",
                    "Changes of prices received from Redis that nobody here watches any longer",
                    &self.unwanted,
                ),
                (
                    "follower_unreadable",
                    "Messages, keys and entries from Redis that could not be read",
                    &self.unreadable,
                ),
                ("follower_subscribed", "Subscriptions to prices in Redis", &self.subscribed),
                ("follower_unsubscribed", "Subscriptions ended", &self.unsubscribed),
                ("follower_order_lines", "Order lines received from Redis", &self.lines),
                (
                    "follower_holes",
                    "Times that order lines may have been missed, so that all orders are reconciled",
                    &self.holes,
                ),
                (
                    "follower_failures",
                    "Connections to Redis that failed or were lost",
                    &self.failures,
                ),
            ],
        );
    }
}

fn register_counters(registry: &mut Registry, counters: &[(&str, &str, &Counter)]) {
    for (name, help, counter) in counters {
        registry.register(*name, *help, (*counter).clone());
    }
}
