use std::time::Duration;

/// What bounds the HTTP connections of one listener.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// Connections at once, streams not counted: they have left.
    pub connections: u64,
    /// How long a connection may be without a request in progress.
    pub idle: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self { connections: 10_000, idle: Duration::from_secs(30) }
    }
}
