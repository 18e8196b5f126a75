//! What falls due: the next slot of a paced stream, a heartbeat, the end of patience.

use super::connection::Connection;
use super::deadlines::ConnectionId;
use super::hub::Hub;

/// Streams that opened together do not stay silent together: each one's heartbeats come up to this
/// part of the interval early.
const HEARTBEAT_SPREAD: u64 = 8;

impl Hub {
    pub(super) fn take_deadlines(&mut self) {
        while let Some(id) = self.paces.pop_due(self.now_ms) {
            if let Some(connection) = self.find(id) {
                connection.paced = false;
                if connection.has_news() {
                    self.enqueue(id.key);
                }
            }
        }
        while let Some(id) = self.heartbeats.pop_due(self.now_ms) {
            self.look_at_silence(id);
        }
        let stall_ms = u64::try_from(self.limits.stall.as_millis()).unwrap_or(u64::MAX);
        while let Some(id) = self.stalls.pop_due(self.now_ms) {
            let now_ms = self.now_ms;
            let Some(connection) = self.find(id) else { continue };
            if !connection.blocked {
                connection.stall_watched = false;
                continue;
            }
            let limit_ms = connection.last_send_ms + stall_ms;
            if now_ms >= limit_ms {
                self.metrics.closed_stalled.inc();
                self.close(id.key as usize);
            } else {
                self.stalls.set(limit_ms, id);
            }
        }
    }

    fn look_at_silence(&mut self, id: ConnectionId) {
        let (now_ms, heartbeat_ms) = (self.now_ms, self.limits.heartbeat_ms());
        let Some(connection) = self.find(id) else { return };
        let due_ms = heartbeat_due_ms(connection, heartbeat_ms);
        if now_ms < due_ms {
            self.heartbeats.set(due_ms, id);
            return;
        }
        // One that is full is not silent on our account.
        if !connection.blocked {
            connection.owes_heartbeat = true;
            self.enqueue(id.key);
        }
        self.heartbeats.set(now_ms + heartbeat_ms.max(1), id);
    }
}

/// When a stream's silence is to be broken.
pub(super) fn heartbeat_due_ms(connection: &Connection, heartbeat_ms: u64) -> u64 {
    // Fibonacci hashing: generations that follow each other lie far apart.
    let hash = u64::from(connection.generation.wrapping_mul(0x9E37_79B9) >> 16);
    connection.last_send_ms + heartbeat_ms - hash % (heartbeat_ms / HEARTBEAT_SPREAD + 1)
}
