use std::time::Duration;

use crate::net::SocketLimits;

/// Most symbols of one stream: a large watchlist, and 128 bytes of dirty set.
pub const MAX_SYMBOLS_PER_STREAM: usize = 1_024;

/// Most bytes composed for one send: about 170 price frames. More goes with the next.
pub(super) const MAX_SEND_BYTES: usize = 16 * 1024;

/// How many sends go by between two looks at the clock: at 4-5 us a send, 8 overrun the slice by
/// less than a twentieth.
pub(super) const SENDS_PER_CLOCK_LOOK: u32 = 8;

/// Shortest time between two `id:` blocks of one stream.
pub(super) const ID_INTERVAL_MS: u64 = 1_000;

/// Range that the `retry:` of each stream is drawn from.
pub(super) const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=5_000;

/// What bounds the streams of one shard.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Streams of one shard.
    pub streams: usize,
    /// Silence after which a comment is sent.
    pub heartbeat: Duration,
    /// How long a socket may stay full before its stream is closed.
    pub stall: Duration,
    /// Longest run of sends before other work of the shard gets its turn.
    pub slice: Duration,
    /// Kernel buffers of each socket.
    pub socket: SocketLimits,
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            streams: 100_000,
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
