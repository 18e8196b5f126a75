use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// Metrics of the candles.
#[derive(Debug, Clone, Default)]
pub struct CandleMetrics {
    pub(super) healthy: Gauge,
    pub(super) lost_events: Counter,
    pub(super) unknown_busts: Counter,
    pub(super) odd_times: Counter,
    pub(super) written: Counter,
}

impl CandleMetrics {
    pub fn register(&self, registry: &mut Registry) {
        registry.register(
            "candles_healthy",
            "1 while candles are stored, 0 after a failure",
            self.healthy.clone(),
        );
        let counters = [
            (
                "candles_lost_events",
                "Prints, busts and heartbeats that the candles missed, as they came too fast",
                &self.lost_events,
            ),
            (
                "candles_unknown_busts",
                "Busts of prints that are not remembered; a day of their symbol is marked",
                &self.unknown_busts,
            ),
            ("candles_odd_times", "Prints too old or too far ahead for candles", &self.odd_times),
            ("candles_written", "Candles of minutes written to the store", &self.written),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
    }
}
