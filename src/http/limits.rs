use std::time::Duration;

/// What bounds the HTTP connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once, streams not counted: they have left.
    pub connections: u64,
    /// How long a connection may be without a request in progress. Longer than a load balancer in
    /// front keeps it, which would otherwise send a request into a connection that ends.
    pub idle: Duration,
    /// How long the head of a request may take from its first byte on.
    pub head: Duration,
}

impl HttpLimits {
    /// Keeps idle connections for so long.
    pub fn keeping(idle: Duration) -> Self {
        Self { connections: 10_000, idle, head: Duration::from_secs(30) }
    }
}
