//! A shard's clock and its deadlines: the next send of a paced stream, heartbeats, stalls.

use std::time::Instant;

use super::connection_id::ConnectionId;
use super::limits::millis;
use super::wheel::Wheel;

/// Streams that opened together must not send their heartbeats together: each one's come early by
/// up to this fraction of the interval.
const HEARTBEAT_SPREAD: u64 = 8;

/// `maxRate` is at least one send a second.
const LONGEST_PACE_MS: u64 = 1_000;
/// A horizon of 2 s.
const PACE_SLOTS: usize = 2_048;
const _: () = assert!(PACE_SLOTS as u64 > LONGEST_PACE_MS, "the wheel holds every pace");

/// The deadlines of all streams of a shard, one wheel per kind. Times are milliseconds since the
/// shard began.
#[derive(Debug)]
pub(super) struct Deadlines {
    began: Instant,
    now_ms: u64,
    paces: Wheel,
    heartbeats: Wheel,
    stalls: Wheel,
}

impl Deadlines {
    /// No deadlines; time begins now.
    pub(super) fn new() -> Self {
        Self {
            began: Instant::now(),
            now_ms: 0,
            paces: Wheel::new(1, PACE_SLOTS),
            // Horizons of 65 s. A deadline beyond is looked at early and set again.
            heartbeats: Wheel::new(256, 256),
            stalls: Wheel::new(256, 256),
        }
    }

    /// Reads the clock. Everything until the next reading happens at this time.
    pub(super) fn read_clock(&mut self) -> Instant {
        let now = Instant::now();
        let now_ms = millis(now.duration_since(self.began));
        assert!(now_ms >= self.now_ms, "the clock is monotonic");
        self.now_ms = now_ms;
        now
    }

    /// The time of the last reading.
    pub(super) fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// `maxRate` allows this stream's next prices at `due_ms`.
    pub(super) fn set_pace(&mut self, due_ms: u64, id: ConnectionId) {
        debug_assert!(due_ms > self.now_ms, "a stream waits for a pace that lies ahead");
        debug_assert!(due_ms - self.now_ms <= LONGEST_PACE_MS, "`maxRate` allows a send a second");
        self.paces.set(due_ms, id);
    }

    /// A stream whose pace allows a send.
    pub(super) fn pop_pace(&mut self) -> Option<ConnectionId> {
        self.paces.pop_due(self.now_ms)
    }

    /// This stream's silence is to be checked at `due_ms`.
    pub(super) fn set_heartbeat(&mut self, due_ms: u64, id: ConnectionId) {
        assert!(due_ms >= self.now_ms, "a silence that is due is handled at once");
        self.heartbeats.set(due_ms, id);
    }

    /// A stream whose silence is to be checked.
    pub(super) fn pop_heartbeat(&mut self) -> Option<ConnectionId> {
        self.heartbeats.pop_due(self.now_ms)
    }

    /// This blocked stream is to be checked at `due_ms`: at once, if its last send is that long ago.
    pub(super) fn set_stall(&mut self, due_ms: u64, id: ConnectionId) {
        self.stalls.set(due_ms, id);
    }

    /// A stream that was blocked when its deadline was set.
    pub(super) fn pop_stall(&mut self) -> Option<ConnectionId> {
        self.stalls.pop_due(self.now_ms)
    }
}

/// When a heartbeat breaks the silence that began with the stream's last send.
pub(super) fn heartbeat_due_ms(id: ConnectionId, last_send_ms: u64, heartbeat_ms: u64) -> u64 {
    // Fibonacci hashing: consecutive generations lie far apart.
    let hash = u64::from(id.generation.wrapping_mul(0x9E37_79B9) >> 16);
    let early_ms = hash % (heartbeat_ms / HEARTBEAT_SPREAD + 1);
    assert!(early_ms <= heartbeat_ms, "a heartbeat is not due before the last send");
    last_send_ms + heartbeat_ms - early_ms
}
