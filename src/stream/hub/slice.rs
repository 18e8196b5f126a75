use std::time::Instant;

use super::{Hub, Next};
use crate::stream::connection_id::ConnectionId;
use crate::stream::deadlines::heartbeat_due_ms;

impl Hub {
    /// Does what there is to do, for at most one slice.
    pub fn run_slice(&mut self) -> Next {
        let now = self.deadlines.read_clock();
        self.feed.load_directory();
        let has_more_events = self.handle_sockets();
        self.take_feed_state();
        self.take_order_changes();
        if self.window.is_open(now) {
            self.take_ticks();
            if self.mark_streams() {
                self.window.begin_pass(now);
            }
        }
        self.handle_deadlines();
        self.serve_ready();
        if has_more_events || !self.ready.is_empty() {
            return Next::Slice;
        }
        let now = Instant::now();
        self.window.end_pass(now);
        match self.window.rest(now) {
            Some(rest) => Next::Rest(rest),
            None if self.feed.has_ticks() => Next::Slice,
            None => Next::Sleep,
        }
    }

    /// Closes streams whose client has gone, and queues those whose socket has room again. True when
    /// the kernel may have more to say.
    fn handle_sockets(&mut self) -> bool {
        let (mut interests, has_more) = self.connections.look();
        for interest in interests.drain(..) {
            let id = ConnectionId::from_token(interest.token);
            // An event may come after its stream was closed.
            let Some(connection) = self.connections.find(id) else { continue };
            let has_spoken = interest.readable && !connection.socket.takes_only_line_ends();
            if interest.ended || has_spoken {
                self.metrics.closed_by_client.inc();
                self.close(id.key);
            } else if interest.writable && connection.schedule.unblock() {
                self.ready.enqueue(id, &mut connection.schedule, &mut self.deadlines);
            }
        }
        self.connections.keep(interests);
        has_more
    }

    /// Handles the deadlines that are due. Each may be of a stream that was closed since.
    fn handle_deadlines(&mut self) {
        while let Some(id) = self.deadlines.pop_pace() {
            let Some(connection) = self.connections.find(id) else { continue };
            connection.schedule.end_pace();
            if connection.has_news() {
                self.ready.enqueue(id, &mut connection.schedule, &mut self.deadlines);
            }
        }
        while let Some(id) = self.deadlines.pop_heartbeat() {
            self.check_silence(id);
        }
        while let Some(id) = self.deadlines.pop_stall() {
            self.check_stall(id);
        }
    }

    fn check_silence(&mut self, id: ConnectionId) {
        // It may have been closed since, here and below.
        let Some(connection) = self.connections.find(id) else { return };
        let (now_ms, heartbeat_ms) = (self.deadlines.now_ms(), self.limits.heartbeat_ms());
        let due_ms = heartbeat_due_ms(id, connection.schedule.last_send_ms(), heartbeat_ms);
        if now_ms < due_ms {
            self.deadlines.set_heartbeat(due_ms, id);
            return;
        }
        // A stream whose socket is full is silent because of its client.
        if !connection.schedule.is_blocked() {
            connection.notices.owe_heartbeat();
            self.ready.enqueue(id, &mut connection.schedule, &mut self.deadlines);
        }
        self.deadlines.set_heartbeat(now_ms + heartbeat_ms.max(1), id);
    }

    fn check_stall(&mut self, id: ConnectionId) {
        let Some(connection) = self.connections.find(id) else { return };
        if !connection.schedule.is_blocked() {
            connection.schedule.end_stall_deadline();
            return;
        }
        let due_ms = connection.schedule.last_send_ms() + self.limits.stall_ms();
        if self.deadlines.now_ms() < due_ms {
            self.deadlines.set_stall(due_ms, id);
        } else {
            self.metrics.closed_stalled.inc();
            self.close(id.key);
        }
    }
}
