use std::sync::atomic::AtomicU64;

use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the projection, over all servers.
#[derive(Debug, Clone)]
pub struct ProjectionMetrics {
    pub(super) position: Gauge,
    pub(super) lag_records: Gauge,
    pub(super) lag_seconds: Histogram,
    pub(super) connected: Gauge,
    pub(super) stopped: Gauge,
    pub(super) backlogged: Gauge,
    pub(super) held_partitions: Gauge,
    pub(super) batch_events: Gauge,
    pub(super) connects: Counter,
    pub(super) failures: Counter,
    pub(super) transactions: Counter,
    pub(super) rows: Counter,
    pub(super) events: Counter,
    pub(super) loaded_orders: Counter,
    pub(super) unchanged_rows: Counter,
    pub(super) halved_batches: Counter,
    pub(super) busy_seconds: Counter<f64, AtomicU64>,
}

/// Buckets from 1 ms, each a quarter wider than the one before, up to about five minutes.
const FIRST_LAG_SECONDS: f64 = 0.001;
const LAG_GROWTH: f64 = 1.25;
const LAG_BUCKETS: u16 = 57;

impl Default for ProjectionMetrics {
    fn default() -> Self {
        let lags = exponential_buckets(FIRST_LAG_SECONDS, LAG_GROWTH, LAG_BUCKETS);
        Self {
            lag_seconds: Histogram::new(lags),
            position: Gauge::default(),
            lag_records: Gauge::default(),
            connected: Gauge::default(),
            stopped: Gauge::default(),
            backlogged: Gauge::default(),
            held_partitions: Gauge::default(),
            batch_events: Gauge::default(),
            connects: Counter::default(),
            failures: Counter::default(),
            transactions: Counter::default(),
            rows: Counter::default(),
            events: Counter::default(),
            loaded_orders: Counter::default(),
            unchanged_rows: Counter::default(),
            halved_batches: Counter::default(),
            busy_seconds: Counter::default(),
        }
    }
}

impl ProjectionMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("projection_position", "Last record of the log in Postgres", &self.position),
            (
                "projection_lag_records",
                "Records that Postgres has still to apply",
                &self.lag_records,
            ),
            ("projection_connected", "Connected servers that answer", &self.connected),
            (
                "projection_stopped",
                "Servers that do not follow until an operator fixes them",
                &self.stopped,
            ),
            (
                "projection_backlogged",
                "1 while new orders are refused because Postgres lags too far",
                &self.backlogged,
            ),
            (
                "projection_held_partitions",
                "User partitions on hold until an operator fixes them",
                &self.held_partitions,
            ),
            ("projection_batch_events", "Most changes in one transaction", &self.batch_events),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        let counters = [
            ("projection_connects", "Connections made to Postgres", &self.connects),
            ("projection_failures", "Times that Postgres failed and was retried", &self.failures),
            ("projection_transactions", "Transactions committed", &self.transactions),
            ("projection_rows", "Rows written to all tables", &self.rows),
            ("projection_events", "Changes of orders written", &self.events),
            (
                "projection_loaded_orders",
                "Orders read back because they changed long after they were written",
                &self.loaded_orders,
            ),
            (
                "projection_unchanged_rows",
                "Rows that Postgres ignored, because another one is in their place",
                &self.unchanged_rows,
            ),
            (
                "projection_halved_batches",
                "Times that a transaction failed and half of it was retried",
                &self.halved_batches,
            ),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register(
            "projection_lag_seconds",
            "Age of changes when Postgres committed them",
            self.lag_seconds.clone(),
        );
        registry.register(
            "projection_busy_seconds",
            "Time spent in transactions",
            self.busy_seconds.clone(),
        );
    }
}
