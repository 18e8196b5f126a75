//! The registry behind `GET /metrics`. Each folder declares its counters and registers them here;
//! counting is one relaxed atomic add.

mod page;

use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use std::sync::{Mutex, PoisonError};

pub use page::PageFormat;
pub use prometheus_client::metrics::counter::Counter;
pub use prometheus_client::metrics::gauge::Gauge;
pub use prometheus_client::metrics::histogram::Histogram;

/// All metrics of the process, registered at start-up and printed at each scrape.
#[derive(Debug)]
pub struct Metrics(Mutex<Registry>);

impl Metrics {
    /// An empty registry that prefixes every name with `longbow_`.
    pub fn new() -> Self {
        Self(Mutex::new(Registry::with_prefix("longbow")))
    }

    /// Lets a folder register its metrics.
    pub fn register(&self, register: impl FnOnce(&mut Registry)) {
        register(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// All metrics as text.
    pub fn print(&self, format: PageFormat) -> String {
        let mut text = String::new();
        let registry = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Writing to a String cannot fail.
        if encode(&mut text, &registry).is_err() {
            text.clear();
        }
        drop(registry);
        format.page(&text)
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_registered_counter_is_printed_with_its_labels() {
        let metrics = Metrics::new();
        let counter: Counter = Counter::default();
        metrics.register(|registry| {
            registry.sub_registry_with_label(("shard".into(), "0".into())).register(
                "stream_sends",
                "Sends",
                counter.clone(),
            );
        });
        counter.inc_by(3);
        let page = metrics.print(PageFormat::OpenMetrics);
        assert!(page.contains("longbow_stream_sends_total{shard=\"0\"} 3\n"), "{page}");
    }
}
