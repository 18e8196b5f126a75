use prometheus_client::registry::Registry;

use crate::metrics::{Counter, Gauge};

/// What a node counts of the requests between nodes.
#[derive(Debug, Clone, Default)]
pub struct PeerMetrics {
    /// Requests of clients passed on to another node.
    pub(in crate::http) passed_on: Counter,
    /// Requests passed on again, since their first answer was lost.
    pub(in crate::http) repeated: Counter,
    /// Requests passed on that got no answer.
    pub(in crate::http) unanswered: Counter,
    /// Requests from other nodes that were refused for their signature.
    pub(in crate::http) refused: Counter,
    /// Streams of other nodes that this one relays now.
    pub(in crate::http) relays: Gauge,
}

impl PeerMetrics {
    /// Adds them to a registry.
    pub fn register(&self, registry: &mut Registry) {
        let counters = [
            ("peer_passed_on", "Requests passed on to another node", &self.passed_on),
            ("peer_repeated", "Requests passed on again after a lost answer", &self.repeated),
            ("peer_unanswered", "Requests passed on without an answer", &self.unanswered),
            ("peer_refused", "Requests of other nodes with a bad signature", &self.refused),
        ];
        for (name, help, counter) in counters {
            registry.register(name, help, counter.clone());
        }
        registry.register("peer_relays", "Streams of other nodes relayed", self.relays.clone());
    }
}
