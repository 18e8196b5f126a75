use std::time::Duration;

use crate::runtime::SocketLimits;

/// Most symbols of one stream: a large watchlist, and 128 bytes of dirty set.
pub const MAX_SYMBOLS_PER_STREAM: usize = 1_024;

/// Most bytes composed for one send: about 170 price frames. More goes with the next.
pub(super) const MAX_SEND_BYTES: usize = 16 * 1024;

/// How many sends go by between two looks at the clock: at 4-5 us a send, 8 overrun the slice by
/// less than a twentieth.
pub(super) const SENDS_PER_CLOCK_LOOK: u32 = 8;

/// Shortest time between two ids of one stream.
pub(super) const ID_INTERVAL_MS: u64 = 1_000;

/// Prints that a shard keeps by default for the streams that want every one: 1.3 s of 100,000 a
/// second, and 16 MiB when all are there.
pub const DEFAULT_KEPT_PRINTS: u32 = 131_072;

/// Range that each `retry:` is drawn from, of streams and of browsers that cannot be served now.
pub const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=5_000;

/// Least pace of the goodbyes of a stop, in streams a second: a server with few streams is gone at
/// once, one with many lets them go evenly.
pub(super) const LEAST_GOODBYES_A_SECOND: u64 = 2_000;

/// What bounds the streams of one shard.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Longest time that a shard under load lets changes merge before it takes them; zero for none.
    pub window: Duration,
    /// Prints that are kept for the streams that want every one.
    pub kept_prints: u32,
    /// Longest time over which a stop spreads its goodbyes.
    pub drain: Duration,
    /// Silence after which a heartbeat is sent.
    pub heartbeat: Duration,
    /// How long a socket may stay full before its stream is closed.
    pub stall: Duration,
    /// Longest run of sends before other work of the shard gets its turn.
    pub slice: Duration,
    /// Kernel buffers of each socket.
    pub socket: SocketLimits,
}

impl StreamLimits {
    pub(super) fn heartbeat_ms(&self) -> u64 {
        u64::try_from(self.heartbeat.as_millis()).unwrap_or(u64::MAX)
    }
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            kept_prints: DEFAULT_KEPT_PRINTS,
            drain: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            stall: Duration::from_secs(30),
            slice: Duration::from_millis(1),
            socket: SocketLimits {
                unsent_bytes: 4 * 1024,
                send_buffer_bytes: 64 * 1024,
                unacknowledged: Duration::from_secs(20),
            },
        }
    }
}
