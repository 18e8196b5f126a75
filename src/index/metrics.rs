use std::sync::atomic::AtomicU64;

use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the index and of the log that it cuts.
#[derive(Debug, Clone, Default)]
pub struct IndexMetrics {
    pub(super) position: Gauge,
    pub(super) lag_records: Gauge,
    pub(super) healthy: Gauge,
    pub(super) log_bytes: Gauge,
    pub(super) reserve_bytes: Gauge,
    pub(super) free_bytes: Gauge,
    pub(super) disk_full: Gauge,
    pub(super) failures: Counter,
    pub(super) batches: Counter,
    pub(super) commit_seconds: Counter<f64, AtomicU64>,
    pub(super) cut_segments: Counter,
}

impl IndexMetrics {
    pub fn register(&self, registry: &mut Registry) {
        let gauges = [
            ("index_position", "Last record of the log in the index", &self.position),
            ("index_lag_records", "Records that the index has still to apply", &self.lag_records),
            (
                "index_healthy",
                "1 while the index follows the log, 0 after a failure",
                &self.healthy,
            ),
            ("log_bytes", "Bytes of the log's segments", &self.log_bytes),
            (
                "log_reserve_bytes",
                "Bytes of the log kept ready for a full disk",
                &self.reserve_bytes,
            ),
            ("disk_free_bytes", "Free bytes on the disk of the log", &self.free_bytes),
            (
                "disk_full",
                "1 while new orders are refused because the disk is full",
                &self.disk_full,
            ),
        ];
        for (name, help, gauge) in gauges {
            registry.register(name, help, gauge.clone());
        }
        registry.register(
            "index_failures",
            "Times that the index failed and was retried",
            self.failures.clone(),
        );
        registry.register("index_batches", "Batches written to the index", self.batches.clone());
        registry.register(
            "index_commit_seconds",
            "Time spent writing batches",
            self.commit_seconds.clone(),
        );
        registry.register(
            "log_cut_segments",
            "Segments removed from the log",
            self.cut_segments.clone(),
        );
    }
}
