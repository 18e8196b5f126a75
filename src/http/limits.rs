//! Limits of the HTTP connections of one listener.

use std::time::Duration;

/// Most connections of operators at each of their addresses: dashboards, probes and people.
pub const OPERATOR_CONNECTIONS: u64 = 64;

/// Limits of the HTTP connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once; streams do not count, as they have left hyper.
    pub connections: u64,
    /// How long a connection may be idle. Longer than a load balancer keeps it open, which would
    /// otherwise send a request into a closing connection.
    pub idle: Duration,
    /// How long a request head may take from its first byte.
    pub head: Duration,
}

impl HttpLimits {
    /// The limits of the listener for other nodes. They close idle connections sooner.
    pub(super) fn of_peers() -> Self {
        Self { connections: 10_000, idle: Duration::from_secs(75), head: Duration::from_secs(5) }
    }

    /// The default limits with this idle timeout.
    pub fn keeping(idle: Duration) -> Self {
        Self { connections: 10_000, idle, head: Duration::from_secs(30) }
    }

    /// The same for few connections: those of operators are served whatever clients do.
    pub fn for_operators(self) -> Self {
        Self { connections: OPERATOR_CONNECTIONS, ..self }
    }
}
