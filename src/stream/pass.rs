//! Serving the ready queue: what one connection is sent, and what happens when the kernel takes
//! only a part of it.

use std::time::Instant;

use crate::runtime::SendOutcome;

use super::deadlines::ConnectionId;
use super::frame::{
    FEED_DOWN, FEED_UP, ID_SEPARATOR, RESET, begin_stream, end_event, open_last_event, write_gap,
    write_point,
};
use super::hub::Hub;
use super::limits::{ID_INTERVAL_MS, MAX_SEND_BYTES, SENDS_PER_CLOCK_LOOK};
use super::segment::{Composed, Content, Segment, Taken, take_back};

impl Hub {
    /// Serves ready connections in turn until none is left or the slice is over.
    pub(super) fn send_ready(&mut self) {
        let began = Instant::now();
        let mut until_look = SENDS_PER_CLOCK_LOOK;
        while let Some(key) = self.ready.pop_front() {
            self.serve(key);
            until_look -= 1;
            if until_look == 0 {
                until_look = SENDS_PER_CLOCK_LOOK;
                if began.elapsed() >= self.limits.slice {
                    break;
                }
            }
        }
    }

    fn serve(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        connection.queued = false;
        if connection.blocked || !connection.has_news() {
            return;
        }
        if let Some(outcome) = self.send_single(key) {
            self.conclude(key, outcome, false);
            return;
        }
        self.compose(key);
        let Some(connection) = self.connections.get(key as usize) else { return };
        if self.scratch.is_empty() {
            return;
        }
        let outcome = connection.socket.send(&self.scratch);
        self.conclude(key, outcome, true);
    }

    /// The common case, one price and nothing else: sends the shared frame without a copy.
    fn send_single(&mut self, key: u32) -> Option<SendOutcome> {
        let connection = self.connections.get_mut(key as usize)?;
        let id_is_due = self.session.is_some() && self.now_ms >= connection.id_due_ms;
        let owes_more = connection.tell_feed
            || connection.owes_heartbeat
            || connection.every.is_some()
            || connection.paced
            || connection.has_order_news()
            || !connection.unsent.is_empty();
        if id_is_due || owes_more {
            return None;
        }
        let slot = connection.dirty.only()?;
        let symbol = connection.subscriptions.get(usize::from(slot))?.symbol;
        let (frame, encoded) = self.frames.get(symbol, &self.market.table, &self.directory);
        if let (Some(price_cents), Some(known)) = (encoded, self.known_cents.get_mut(symbol.get()))
        {
            *known = price_cents;
        }
        connection.dirty.clear();
        connection.last_prices_ms = self.now_ms;
        let outcome = connection.socket.send(frame);
        match outcome {
            SendOutcome::Sent(sent) if sent < frame.len() => {
                connection.unsent = frame.get(sent..).unwrap_or_default().to_vec();
                self.metrics.prices.inc();
            }
            SendOutcome::Blocked => {
                connection.dirty.insert(slot);
            }
            SendOutcome::Sent(_) => {
                self.metrics.prices.inc();
            }
            SendOutcome::Closed => {}
        }
        Some(outcome)
    }

    /// Composes everything that a connection is owed, bounded, into the scratch buffer.
    fn compose(&mut self, key: u32) {
        self.scratch.clear();
        self.segments.clear();
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if !connection.unsent.is_empty() {
            self.scratch.append(&mut connection.unsent);
            connection.unsent = Vec::new();
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Begun });
        }
        if std::mem::take(&mut connection.tell_feed) {
            self.scratch.extend_from_slice(if self.feed_up { FEED_UP } else { FEED_DOWN });
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Feed });
        }
        let (is_every, may_have_prices) = (connection.every.is_some(), !connection.paced);
        self.compose_orders(key);
        // One that waits for its `maxRate` is here for its orders alone.
        if may_have_prices {
            if is_every {
                self.compose_losses(key);
            }
            self.compose_newest(key);
            if is_every {
                self.compose_prints(key);
            }
        }
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        if may_have_prices {
            connection.last_prices_ms = self.now_ms;
        }
        connection.owes_heartbeat &= self.scratch.is_empty();
        if std::mem::take(&mut connection.owes_heartbeat) {
            self.scratch.extend_from_slice(connection.heartbeat.frame());
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Heartbeat });
        }
        self.compose_id(key);
    }

    /// Lets the last event say how far the client is, where nothing is held back from it. The id has no
    /// block of its own: some clients make an empty message of one without data.
    fn compose_id(&mut self, key: u32) {
        self.has_id = false;
        let Some(connection) = self.connections.get(key as usize) else { return };
        let is_only_orders = connection.orders.as_ref().is_some_and(|orders| orders.is_alone());
        if is_only_orders || connection.has_news() || self.now_ms < connection.id_due_ms {
            return;
        }
        let Some(session) = &self.session else { return };
        let before = self.segments.iter().rev().nth(1).map_or(0, |segment| segment.end);
        let Some(last) = self.segments.last_mut().filter(|last| last.end > before) else { return };
        let may_have_id = match last.content {
            Content::Feed
            | Content::Reset
            | Content::Gap(_)
            | Content::Price(_)
            | Content::Prints { .. } => true,
            // The rest of another event may have an id already, as the opening of orders has.
            Content::Begun => connection.orders.is_none() && begin_stream(&self.scratch),
            // Each order has its own; a comment has none.
            Content::Orders | Content::Heartbeat => false,
        };
        if !may_have_id || !open_last_event(&mut self.scratch) {
            return;
        }
        let point = self.scratch.len();
        write_point(&mut self.scratch, session, self.sequence);
        if let Some(orders) = &connection.orders {
            self.scratch.push(ID_SEPARATOR);
            self.id_prefix.clear();
            self.id_prefix.extend_from_slice(self.scratch.get(point..).unwrap_or_default());
            self.orders.write_cursor(orders.cursor().unwrap_or_default(), &mut self.scratch);
        }
        end_event(&mut self.scratch);
        last.end = self.scratch.len();
        self.has_id = true;
    }

    /// Tells what a stream that wants every print has lost. Where the history is gone the newest
    /// price is owed instead.
    fn compose_losses(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Some(every) = &mut connection.every else { return };
        let mut lost: Vec<u16> = Vec::new();
        for slot in every.prints.iter() {
            let Some(subscription) = connection.subscriptions.get(usize::from(slot)) else {
                continue;
            };
            if !self.history.reaches_back_to(subscription.symbol, every.next(slot)) {
                lost.push(slot);
            }
        }
        for &slot in &lost {
            connection.dirty.insert(slot);
            every.lose_up_to(self.sequence);
        }
        if std::mem::take(&mut every.reset) {
            self.metrics.resets.inc();
            self.scratch.extend_from_slice(RESET);
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Reset });
        }
        if let Some(gap) = every.gap.take() {
            write_gap(&mut self.scratch, gap);
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Gap(gap) });
        }
    }

    /// The newest price of each symbol that has changed.
    fn compose_newest(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        while self.scratch.len() < MAX_SEND_BYTES {
            let Some(slot) = connection.dirty.pop(connection.turn) else { break };
            connection.turn = slot.wrapping_add(1);
            let Some(subscription) = connection.subscriptions.get(usize::from(slot)) else {
                continue;
            };
            let symbol = subscription.symbol;
            let (frame, encoded) = self.frames.get(symbol, &self.market.table, &self.directory);
            self.scratch.extend_from_slice(frame);
            self.segments.push(Segment { end: self.scratch.len(), content: Content::Price(slot) });
            if let (Some(price_cents), Some(known)) =
                (encoded, self.known_cents.get_mut(symbol.get()))
            {
                *known = price_cents;
            }
            if let Some(every) = &mut connection.every {
                // It begins, or begins again, with the newest price: older prints are behind it.
                every.prints.remove(slot);
                every.stand_at(slot, self.history.next(symbol));
            }
        }
    }

    /// Every print that the stream has not been sent, symbol by symbol.
    fn compose_prints(&mut self, key: u32) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let Some(every) = &mut connection.every else { return };
        while self.scratch.len() < MAX_SEND_BYTES {
            let Some(slot) = every.prints.pop(connection.turn) else { break };
            connection.turn = slot.wrapping_add(1);
            let Some(subscription) = connection.subscriptions.get(usize::from(slot)) else {
                continue;
            };
            let first = every.next(slot);
            let mut number = first;
            let mut has_more = false;
            while let Some(frame) = self.history.frame(subscription.symbol, number) {
                if self.scratch.len() >= MAX_SEND_BYTES {
                    has_more = true;
                    break;
                }
                self.scratch.extend_from_slice(frame);
                number = number.wrapping_add(1);
            }
            every.stand_at(slot, number);
            if has_more {
                every.prints.insert(slot);
            }
            // At most as many as fit into one send.
            let count = u16::try_from(number.wrapping_sub(first)).unwrap_or(u16::MAX);
            let content = Content::Prints { slot, count, first };
            self.segments.push(Segment { end: self.scratch.len(), content });
        }
    }

    /// Books what became of a send; `composed` tells whether it came from the scratch buffer.
    fn conclude(&mut self, key: u32, outcome: SendOutcome, composed: bool) {
        let Some(connection) = self.connections.get_mut(key as usize) else { return };
        let sent = match outcome {
            SendOutcome::Closed => {
                self.metrics.closed_by_client.inc();
                self.close(key as usize);
                return;
            }
            SendOutcome::Blocked => 0,
            SendOutcome::Sent(sent) => {
                self.metrics.sends.inc();
                self.metrics.sent_bytes.inc_by(sent as u64);
                connection.last_send_ms = self.now_ms;
                sent
            }
        };
        if composed {
            let composed = Composed {
                bytes: &self.scratch,
                segments: &self.segments,
                orders_before: self.orders_before,
                has_id: self.has_id,
            };
            let taken = take_back(connection, &self.history, composed, sent);
            let Taken { prices, gaps, heartbeats, id } = taken;
            if id {
                connection.id_due_ms = self.now_ms + ID_INTERVAL_MS;
                if let Some(orders) = &mut connection.orders {
                    orders.id_prefix.clone_from(&self.id_prefix);
                }
            }
            self.metrics.prices.inc_by(prices);
            if gaps + heartbeats > 0 {
                self.metrics.gaps.inc_by(gaps);
                self.metrics.heartbeats.inc_by(heartbeats);
            }
            if let Some(every) = &mut connection.every
                && !every.has_news()
                && connection.unsent.is_empty()
                && connection.dirty.is_empty()
            {
                every.clear_sequence = self.sequence;
            }
        }
        if outcome == SendOutcome::Blocked {
            connection.blocked = true;
            self.metrics.blocked.inc();
            // One deadline however often a slow socket fills: it is looked at and set again.
            if !std::mem::replace(&mut connection.stall_watched, true) {
                let id = ConnectionId { key, generation: connection.generation };
                let stall_ms = u64::try_from(self.limits.stall.as_millis()).unwrap_or(u64::MAX);
                self.stalls.set(connection.last_send_ms + stall_ms, id);
            }
        } else if connection.has_news() {
            // After a part was taken the next send finds the socket full, which is what arms its
            // writability event.
            self.enqueue(key);
        }
    }
}
