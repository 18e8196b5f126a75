use std::time::Duration;

use crate::runtime::SocketLimits;

/// Most symbols of one stream: a large watchlist, and 128 bytes for the set of those with news.
pub const MAX_SYMBOLS_PER_STREAM: usize = 1_024;

// A stream numbers its subscriptions with 16 bits.
const _: () = assert!(MAX_SYMBOLS_PER_STREAM <= u16::MAX as usize);

/// One send is composed until it has this many bytes: about 170 price frames. The rest goes with
/// the next one.
pub(super) const MAX_SEND_BYTES: usize = 16 * 1024;

/// Sends between two looks at the clock: at 4-5 us each, 8 overrun the slice by less than 5 %.
pub(super) const SENDS_PER_CLOCK_LOOK: u32 = 8;

/// Shortest time between two ids of one stream.
pub(super) const ID_INTERVAL_MS: u64 = 1_000;

/// Prints that a shard keeps by default for its streams with `mode=every`: 1.3 s of 100,000 a
/// second, and 16 MiB when all are there.
pub const DEFAULT_KEPT_PRINTS: u32 = 131_072;

/// Each `retry:` is drawn from this range, for streams and for browsers that cannot be served now.
pub const RETRY_MS: std::ops::RangeInclusive<u32> = 1_000..=5_000;

/// A stopping server ends at least this many streams a second: with few streams it is gone at once,
/// with many it spreads them evenly.
pub(super) const LEAST_GOODBYES_A_SECOND: u64 = 2_000;

/// The limits of one shard's streams.
#[derive(Debug, Clone, Copy)]
pub struct StreamLimits {
    /// Longest rest of a shard under load, in which changes merge; zero for none.
    pub window: Duration,
    /// Prints kept for the streams with `mode=every`.
    pub kept_prints: u32,
    /// Longest time over which a stopping server spreads its goodbyes.
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
    /// The limits with another time that a socket may stay full.
    pub fn with_stall(self, stall: Duration) -> Self {
        let socket = SocketLimits { unacknowledged: unacknowledged(stall), ..self.socket };
        Self { stall, socket, ..self }
    }

    pub(super) fn heartbeat_ms(&self) -> u64 {
        millis(self.heartbeat)
    }

    pub(super) fn stall_ms(&self) -> u64 {
        millis(self.stall)
    }
}

/// A duration in milliseconds. One of more than 584 million years counts as the longest.
pub(super) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl Default for StreamLimits {
    fn default() -> Self {
        Self {
            window: Duration::ZERO,
            kept_prints: DEFAULT_KEPT_PRINTS,
            drain: Duration::from_secs(10),
            heartbeat: Duration::from_secs(15),
            stall: STALL,
            slice: Duration::from_millis(1),
            socket: SocketLimits {
                unsent_bytes: 4 * 1024,
                send_buffer_bytes: 64 * 1024,
                unacknowledged: unacknowledged(STALL),
            },
        }
    }
}

/// How long a client may take nothing, unless a setting says otherwise.
const STALL: Duration = Duration::from_secs(30);
/// How much later the kernel gives a client up than the hub, which counts and explains it.
const KERNEL_WAITS_LONGER: Duration = Duration::from_secs(10);

/// How long sent bytes may stay unacknowledged. The kernel also counts those that a client does not
/// read, so it must wait longer than a stall may take.
fn unacknowledged(stall: Duration) -> Duration {
    // Saturating: a setting may be any duration.
    stall.saturating_add(KERNEL_WAITS_LONGER)
}
