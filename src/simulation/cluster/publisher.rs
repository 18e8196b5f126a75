//! The thread `bridge` of the member that holds the feed: its lines on their way to Redis. Which of them
//! are sent is decided by the real [`LineQueue`].

use super::around::Around;
use super::redis::{RedisLink, Writer};
use crate::bridge::line_queue::{Found, LineQueue};
use crate::bridge::publisher::{FEED_INTERVAL, KEPT_LEADING};
use crate::exchange::FeedRole;
use crate::types::MonotonicMicros;

pub(super) struct Publisher {
    queue: LineQueue,
    role: FeedRole,
    connected: Option<(RedisLink, Writer)>,
    /// When it says again how far the feed was read.
    tells_at: MonotonicMicros,
}

impl Publisher {
    pub(super) const fn new(queue: LineQueue, role: FeedRole) -> Self {
        Self { queue, role, connected: None, tells_at: MonotonicMicros::new(0) }
    }

    /// Connects, or sends what there is. `last_read`: how far the feed was read.
    pub(super) fn step(&mut self, epoch: u64, last_read: Option<u64>, around: &mut Around<'_>) {
        let is_gone = self.connected.is_none_or(|(link, writer)| {
            !around.has_redis || link != around.redis_link || around.redis.has_closed(writer)
        });
        if !is_gone {
            self.send(epoch, last_read, around);
            return;
        }
        self.disconnect();
        if !around.has_redis {
            self.role.redis_fails(around.now.monotonic);
            return;
        }
        let writer = around.redis.connect(epoch);
        self.queue.keep_epoch(epoch);
        let newest = around.redis.newest().map(|(id, _)| *id);
        match self.queue.find(epoch, newest, around.now.monotonic) {
            Found::Ours => {}
            Found::Later => {
                self.role.redis_takes();
                return;
            }
            Found::Abandoned => around.redis.empty(),
        }
        self.connected = Some((around.redis_link, writer));
    }

    /// The connection is gone, or this process leads no more.
    pub(super) fn disconnect(&mut self) {
        self.connected = None;
        self.tells_at = MonotonicMicros::new(0);
        self.role.publishes_no_more();
    }

    fn send(&mut self, epoch: u64, last_read: Option<u64>, around: &mut Around<'_>) {
        let now = around.now.monotonic;
        self.queue.keep_epoch(epoch);
        if self.queue.is_empty() && now < self.tells_at {
            self.role.redis_takes();
            return;
        }
        self.tells_at = now.saturating_add(FEED_INTERVAL);
        let mut sent = 0;
        for entry in self.queue.entries() {
            if sent == around.redis_fails_after || !around.redis.add(entry) {
                break;
            }
            sent += 1;
        }
        if sent == around.redis_fails_after || sent < self.queue.entries().count() {
            // Redis has some of the lines, or all: the next connection finds which.
            self.disconnect();
            self.role.redis_fails(now);
            return;
        }
        around.redis.sequence = last_read;
        self.queue.sent();
        self.role.redis_takes();
        self.role.publishes(epoch, now.saturating_add(KEPT_LEADING));
    }
}
