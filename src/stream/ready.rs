//! Which streams are served next, and which have to wait.

use std::collections::VecDeque;

use crate::metrics::Counter;

use super::connection_id::ConnectionId;
use super::deadlines::Deadlines;
use super::limits::ID_INTERVAL_MS;

/// When a stream may be served, and when it was.
#[derive(Debug)]
pub(super) struct Schedule {
    last_send_ms: u64,
    last_prices_ms: u64,
    id_due_ms: u64,
    /// Shortest time between two sends of prices, from the stream's `maxRate`.
    interval_ms: u16,
    /// In the ready queue.
    is_queued: bool,
    /// Waits until `maxRate` allows its prices.
    is_paced: bool,
    /// Waits for room in its socket.
    is_blocked: bool,
    /// A deadline for being blocked is set.
    has_stall_deadline: bool,
}

impl Schedule {
    /// The schedule of a stream that opens now.
    pub(super) fn new(now_ms: u64, max_rate: Option<u32>) -> Self {
        assert!(max_rate != Some(0), "a rate was validated: it is at least one send a second");
        let interval_ms = max_rate.map_or(0, |rate| 1_000 / rate);
        let Ok(interval_ms) = u16::try_from(interval_ms) else {
            unreachable!("the longest interval is that of one send a second")
        };
        Self {
            last_send_ms: now_ms,
            last_prices_ms: 0,
            id_due_ms: 0,
            interval_ms,
            is_queued: false,
            is_paced: false,
            is_blocked: false,
            has_stall_deadline: false,
        }
    }

    /// Whether the socket is full.
    pub(super) fn is_blocked(&self) -> bool {
        self.is_blocked
    }

    /// Whether prices have to wait for `maxRate`.
    pub(super) fn is_paced(&self) -> bool {
        self.is_paced
    }

    /// Whether the stream may be sent an `id:` again.
    pub(super) fn is_id_due(&self, now_ms: u64) -> bool {
        now_ms >= self.id_due_ms
    }

    /// When the kernel last took bytes.
    pub(super) fn last_send_ms(&self) -> u64 {
        self.last_send_ms
    }

    fn next_prices_ms(&self) -> u64 {
        self.last_prices_ms + u64::from(self.interval_ms)
    }

    /// The stream left the ready queue.
    pub(super) fn leave_queue(&mut self) {
        self.is_queued = false;
    }

    /// `maxRate` allows prices again.
    pub(super) fn end_pace(&mut self) {
        assert!(self.is_paced, "a stream that waits for `maxRate` has one deadline for that");
        self.is_paced = false;
    }

    /// Prices are about to be sent.
    pub(super) fn note_prices(&mut self, now_ms: u64) {
        debug_assert!(!self.is_paced, "prices that wait for `maxRate` are not sent");
        debug_assert!(self.last_prices_ms <= now_ms, "the clock is monotonic");
        self.last_prices_ms = now_ms;
    }

    /// The kernel took bytes.
    pub(super) fn note_send(&mut self, now_ms: u64) {
        debug_assert!(self.last_send_ms <= now_ms, "the clock is monotonic");
        self.last_send_ms = now_ms;
    }

    /// An `id:` was sent.
    pub(super) fn note_id(&mut self, now_ms: u64) {
        debug_assert!(self.is_id_due(now_ms), "an `id:` is sent when it is due");
        self.id_due_ms = now_ms + ID_INTERVAL_MS;
    }

    /// The socket is full. True when the stream needs a deadline for that: it has one however often
    /// its socket fills.
    pub(super) fn block(&mut self) -> bool {
        assert!(!self.is_blocked, "nothing is sent to a full socket");
        assert!(!self.is_queued, "a stream leaves the queue before it is served");
        self.is_blocked = true;
        !std::mem::replace(&mut self.has_stall_deadline, true)
    }

    /// The socket has room. True when it was full.
    pub(super) fn unblock(&mut self) -> bool {
        std::mem::take(&mut self.is_blocked)
    }

    /// The deadline for being blocked has passed, and the stream is not blocked.
    pub(super) fn end_stall_deadline(&mut self) {
        assert!(!self.is_blocked, "a blocked stream has a deadline");
        assert!(self.has_stall_deadline, "a deadline passes once");
        self.has_stall_deadline = false;
    }

    /// Lets the next send carry an `id:`.
    #[cfg(test)]
    pub(super) fn make_id_due(&mut self) {
        self.id_due_ms = 0;
    }
}

/// The streams with news that can be served, in the order in which they are.
#[derive(Debug)]
pub(super) struct ReadyQueue {
    queue: VecDeque<u32>,
    /// Counts the waits for `maxRate`.
    paced: Counter,
}

impl ReadyQueue {
    /// An empty queue that counts waits for `maxRate`.
    pub(super) fn new(paced: Counter) -> Self {
        Self { queue: VecDeque::new(), paced }
    }

    /// Whether no stream can be served.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// The key of the stream that is served next. The stream may have been closed since, and its key
    /// may have gone to another one: that is looked at once more than it needs.
    pub(super) fn pop(&mut self) -> Option<u32> {
        self.queue.pop_front()
    }

    /// Queues a stream with news, unless it waits for its socket or for `maxRate`.
    #[inline]
    pub(super) fn enqueue(
        &mut self,
        id: ConnectionId,
        schedule: &mut Schedule,
        deadlines: &mut Deadlines,
    ) {
        debug_assert!(
            !(schedule.is_queued && schedule.is_blocked),
            "a stream that waits for its socket is not served"
        );
        if schedule.is_queued || schedule.is_blocked || schedule.is_paced {
            return;
        }
        if schedule.interval_ms > 0 && schedule.next_prices_ms() > deadlines.now_ms() {
            schedule.is_paced = true;
            self.paced.inc();
            deadlines.set_pace(schedule.next_prices_ms(), id);
        } else {
            schedule.is_queued = true;
            self.queue.push_back(id.key);
        }
    }

    /// Queues a stream with news that do not wait for `maxRate`: its beginning, order events.
    pub(super) fn enqueue_at_once(&mut self, id: ConnectionId, schedule: &mut Schedule) {
        debug_assert!(
            !(schedule.is_queued && schedule.is_blocked),
            "a stream that waits for its socket is not served"
        );
        if !schedule.is_queued && !schedule.is_blocked {
            schedule.is_queued = true;
            self.queue.push_back(id.key);
        }
    }
}
