use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the comparisons at the ends of days.
#[derive(Debug, Clone, Default)]
pub struct DayEndMetrics {
    pub(super) differences: Gauge,
    pub(super) compared: Counter,
    pub(super) failures: Counter,
}

impl DayEndMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "day_end_differences",
            "Differences and unreadable elements that the last comparison of a day found",
            self.differences.clone(),
        );
        let counters = [
            ("day_end_compared", "Days compared with the exchange's list", &self.compared),
            ("day_end_failures", "Comparisons of a day that could not be done", &self.failures),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
