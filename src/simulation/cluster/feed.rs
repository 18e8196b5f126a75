//! The thread `feed` of a member: reads the exchange's feed while it has the lease, and otherwise takes
//! the lines that the holder has read. Its ways of lines are the real ones ([`OrderLines`],
//! [`LineReader`]).

use std::collections::VecDeque;
use std::time::Duration;

use super::around::Around;
use super::feed_lease::FeedLease;
use super::publisher::Publisher;
use super::redis::RedisLink;
use crate::bridge::follower::{HEARD_FOR, LINES_SILENCE};
use crate::bridge::line_queue::LineQueue;
use crate::bridge::line_reader::{LineReader, Told};
use crate::bridge::stream_id::Entry;
use crate::cluster::NodeId;
use crate::exchange::feed::order_lines::OrderLines;
use crate::exchange::{FeedRole, OrderFeedMessage};
use crate::sync::{Sender, mailbox};
use crate::types::MonotonicMicros;

/// Lines on their way to Redis. Few, so that some find no room.
const PUBLISHED_LINES: usize = 16;
/// How often the exchange sends a heartbeat.
const BEAT_INTERVAL: Duration = Duration::from_millis(250);
/// Entries of one answer.
const READ_AT_ONCE: usize = 4;

pub(super) struct FeedThread {
    role: FeedRole,
    lease: FeedLease,
    publisher: Publisher,
    orders: OrderLines,
    /// The epoch of the lease in which it reads the feed.
    reads_in: Option<u64>,
    /// The last line that it has read; `None` where it would begin with what comes next.
    last_read: Option<u64>,
    /// The first line that our orders thread does not have.
    orders_from: u64,
    must_announce: bool,
    beats_at: MonotonicMicros,
    lines: LineReader,
    /// Messages for which the orders thread had no room, each with the numbering of its session.
    waiting: VecDeque<(OrderFeedMessage, u32)>,
    /// The last epoch in which it has read the feed; 0 before the first.
    led: u64,
    link: Option<RedisLink>,
    /// When there were lines last.
    lines_at: MonotonicMicros,
}

impl FeedThread {
    pub(super) fn new(id: (NodeId, i64), to_orders: Sender<OrderFeedMessage>) -> Self {
        let (published, to_publish) = mailbox(PUBLISHED_LINES);
        let mut orders = OrderLines::new(to_orders);
        orders.publish(published);
        let role = FeedRole::follower();
        let writer = id.1.unsigned_abs();
        Self {
            lease: FeedLease::new(id, role.clone()),
            publisher: Publisher::new(LineQueue::new(to_publish, writer), role.clone()),
            role,
            orders,
            reads_in: None,
            last_read: None,
            orders_from: 0,
            must_announce: false,
            beats_at: MonotonicMicros::new(0),
            lines: LineReader::default(),
            waiting: VecDeque::new(),
            led: 0,
            link: None,
            lines_at: MonotonicMicros::new(0),
        }
    }

    /// Takes the next step.
    pub(super) fn step(&mut self, around: &mut Around<'_>) {
        self.lease.step(around);
        let leading = self.role.leading_epoch_at(around.now.monotonic);
        if let Some(epoch) = leading {
            if self.reads_in != Some(epoch) {
                self.take_over(epoch, around);
            }
            self.read(around);
        } else {
            if self.reads_in.take().is_some() {
                (self.lines, self.link) = (LineReader::after_leading(self.led), None);
            }
            self.follow(around);
        }
    }

    /// The thread `bridge` takes its next step.
    pub(super) fn publish(&mut self, around: &mut Around<'_>) {
        let leading = self.role.leading_epoch_at(around.now.monotonic);
        match leading.filter(|epoch| self.reads_in == Some(*epoch)) {
            Some(epoch) => self.publisher.step(epoch, self.last_read, around),
            None => {
                self.publisher.disconnect();
                self.role.redis_takes();
            }
        }
    }

    pub(super) fn leads(&self, now: MonotonicMicros) -> bool {
        self.role.leading_epoch_at(now).is_some()
    }

    /// Goes on from where the holder before stood, as far as Redis tells.
    fn take_over(&mut self, epoch: u64, around: &mut Around<'_>) {
        let mut told = None;
        if around.has_redis {
            // Nobody else writes what is read from now on.
            around.redis.connect(epoch);
            told = around.redis.sequence;
            self.begin_lines(around);
            loop {
                let entries = around.redis.after(self.lines.last(), READ_AT_ONCE);
                if entries.is_empty() {
                    break;
                }
                self.take_lines(entries);
            }
        }
        let handed = self.handed_lines();
        if let Some(last) = told.or(self.last_read) {
            self.last_read = Some(handed.map_or(last, |handed| handed.min(last)));
            self.orders_from = handed.map_or(0, |handed| handed + 1);
        }
        self.must_announce = true;
        self.orders.begin_epoch(epoch);
        (self.reads_in, self.led) = (Some(epoch), epoch);
    }

    /// Up to where our orders thread has the lines.
    fn handed_lines(&mut self) -> Option<u64> {
        if self.waiting.is_empty() {
            return self.lines.position().map(|(.., sequence)| *sequence);
        }
        // It reconciles its orders now in any case.
        self.waiting.clear();
        None
    }

    /// Reads the exchange's feed.
    fn read(&mut self, around: &Around<'_>) {
        if !around.has_exchange {
            // The connection is gone; it resumes from where it was.
            return;
        }
        let feed = around.exchange.feed();
        let mut last = *self.last_read.get_or_insert_with(|| feed.last());
        if self.must_announce {
            let sequence = last.max(self.orders_from.saturating_sub(1));
            let message = OrderFeedMessage::Session { session: feed.session(), sequence };
            if self.orders.try_send(message).is_err() {
                return;
            }
            self.must_announce = false;
        }
        for _ in 0..around.most {
            let next = last + 1;
            let Some(line) = feed.at(next) else { break };
            let is_for_orders = line.line.order_id.is_some() && next >= self.orders_from;
            if is_for_orders
                && self.orders.try_send(OrderFeedMessage::Line(line.line.clone())).is_err()
            {
                return;
            }
            last = next;
            self.last_read = Some(last);
        }
        let now = around.now.monotonic;
        if now >= self.beats_at && last == feed.last() && last >= self.orders_from {
            self.beats_at = now.saturating_add(BEAT_INTERVAL);
            // If there is no room the next one tells it.
            let _sent_later = self.orders.try_send(OrderFeedMessage::Position { sequence: last });
        }
    }

    /// Takes the lines of the holder.
    fn follow(&mut self, around: &Around<'_>) {
        self.hand_over();
        let now = around.now.monotonic;
        if !around.has_redis {
            self.link = None;
            self.role.hears_redis_no_more();
            return;
        }
        if self.link != Some(around.redis_link) {
            self.link = Some(around.redis_link);
            self.role.hears_redis_no_more();
            self.begin_lines(around);
            self.lines_at = now;
        }
        self.role.hears_redis(now, now.saturating_add(HEARD_FOR));
        if self.waiting.is_empty() {
            let entries = around.redis.after(self.lines.last(), around.most);
            if !entries.is_empty() {
                self.lines_at = now;
            } else if now.saturating_since(self.lines_at) >= LINES_SILENCE {
                self.lines_at = now;
                self.begin_lines(around);
            }
            self.take_lines(entries);
        }
        self.last_read = around.redis.sequence.or(self.last_read);
    }

    /// A connection begins.
    fn begin_lines(&mut self, around: &Around<'_>) {
        if let Some(told) = self.lines.connect(around.redis.newest().cloned()) {
            self.await_room(told);
        }
        self.hand_over();
    }

    fn take_lines(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            let told = self.lines.take(entry);
            self.await_room(told);
        }
        self.hand_over();
    }

    fn await_room(&mut self, Told { messages, numbering, .. }: Told) {
        self.waiting.extend(messages.into_iter().map(|message| (message, numbering)));
    }

    /// Hands lines on, as far as the orders thread has room for them.
    fn hand_over(&mut self) {
        while let Some((message, numbering)) = self.waiting.front() {
            if self.orders.try_send_followed(message.clone(), *numbering).is_err() {
                return;
            }
            self.waiting.pop_front();
        }
    }
}
