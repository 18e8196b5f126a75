//! Counters of one listener.

use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Counters of one listener.
#[derive(Debug, Clone, Default)]
pub struct HttpMetrics {
    pub(super) accepted: Counter,
    pub(super) accept_errors: Counter,
    pub(super) refused: Counter,
    pub(super) requests: Counter,
    pub(super) in_progress: Gauge,
    pub(super) broken_connections: Counter,
    pub(super) idle_closed: Counter,
    pub(super) graduated: Counter,
}

impl HttpMetrics {
    /// Requests not answered yet.
    pub fn in_progress(&self) -> i64 {
        self.in_progress.get()
    }

    /// Registers the metrics under the listener's name.
    pub fn register(&self, registry: &mut Registry, listener: &str) {
        let label = ("listener".into(), listener.to_owned().into());
        let registry = registry.sub_registry_with_label(label);
        let in_progress = self.in_progress.clone();
        registry.register("http_requests_in_progress", "Requests not answered yet", in_progress);
        let counters = [
            ("http_accepted", "Connections accepted", &self.accepted),
            ("http_accept_errors", "Connections that could not be accepted", &self.accept_errors),
            ("http_refused", "Connections closed at once for want of room", &self.refused),
            ("http_requests", "Requests", &self.requests),
            ("http_broken_connections", "Connections that broke", &self.broken_connections),
            ("http_idle_closed", "Connections closed as idle", &self.idle_closed),
            ("http_graduated", "Connections that became streams", &self.graduated),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
