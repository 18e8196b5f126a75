use std::time::Instant;

use crate::runtime::SendOutcome;

use super::Hub;
use crate::stream::composer::Sources;
use crate::stream::connection::Connection;
use crate::stream::feed::Feed;
use crate::stream::limits::SENDS_PER_CLOCK_LOOK;
use crate::stream::metrics::StreamMetrics;
use crate::stream::segment::Taken;

impl Hub {
    /// Serves queued streams until none is left or the slice is over.
    pub(super) fn serve_ready(&mut self) {
        let began = Instant::now();
        let mut until_look = SENDS_PER_CLOCK_LOOK;
        while let Some(key) = self.ready.pop() {
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

    /// Sends a stream what it is owed. The stream is looked up here, once, and handed on.
    fn serve(&mut self, key: u32) {
        let Self { connections, feed, prices, orders, composer, deadlines, metrics, .. } = self;
        // It may have been closed since it was queued.
        let Some(connection) = connections.get_mut(key) else { return };
        debug_assert!(connection.id.key == key, "a stream has the key in its id");
        connection.schedule.leave_queue();
        if connection.schedule.is_blocked() || !connection.has_news() {
            return;
        }
        let now_ms = deadlines.now_ms();
        let outcome = if let Some(slot) = only_price(connection, feed, now_ms) {
            connection.schedule.note_prices(now_ms);
            let symbol = connection.watchlist.symbol(slot);
            let frame = prices.newest(symbol, feed.table(), feed.directory());
            send_price(connection, slot, frame, metrics)
        } else {
            composer.compose(connection, &mut Sources { feed, prices, orders, now_ms });
            if composer.bytes().is_empty() {
                return;
            }
            metrics.count_resets(composer.resets());
            let outcome = connection.socket.send(composer.bytes());
            if outcome != SendOutcome::Closed {
                let taken = composer.take_back(connection, prices.history(), taken_bytes(outcome));
                note_taken(connection, taken, composer.id_prefix(), now_ms);
                metrics.count_taken(taken);
                note_all_sent(connection, feed.sequence());
            }
            outcome
        };
        match outcome {
            SendOutcome::Sent(sent) => {
                metrics.sends.inc();
                metrics.sent_bytes.inc_by(sent as u64);
                connection.schedule.note_send(now_ms);
                if connection.has_news() {
                    // After a send that was cut the next one finds the socket full, which is what
                    // arms its writability event.
                    self.ready.enqueue(connection.id, &mut connection.schedule, deadlines);
                }
            }
            SendOutcome::Blocked => {
                metrics.blocked.inc();
                if connection.schedule.block() {
                    let due_ms = connection.schedule.last_send_ms() + self.limits.stall_ms();
                    deadlines.set_stall(due_ms, connection.id);
                }
            }
            SendOutcome::Closed => {
                metrics.closed_by_client.inc();
                self.close(key);
            }
        }
    }
}

/// The common case, whose frame is sent without a copy: one price is all that the stream is owed.
/// Its slot.
#[inline]
fn only_price(connection: &Connection, feed: &Feed, now_ms: u64) -> Option<u16> {
    let is_id_due = feed.point().is_some() && connection.schedule.is_id_due(now_ms);
    let may_owe_more = connection.notices.owes_any()
        || connection.schedule.is_paced()
        || connection.has_order_news()
        || !connection.unsent.is_empty();
    if is_id_due || may_owe_more { None } else { connection.watchlist.only_news() }
}

/// Sends the newest price in a slot, the stream's only news.
#[inline]
fn send_price(
    connection: &mut Connection,
    slot: u16,
    frame: &[u8],
    metrics: &StreamMetrics,
) -> SendOutcome {
    connection.watchlist.clear();
    let outcome = connection.socket.send(frame);
    match outcome {
        SendOutcome::Sent(sent) => {
            metrics.prices.inc();
            let Some(rest) = frame.get(sent..) else {
                unreachable!("the kernel takes no more than it was offered")
            };
            if !rest.is_empty() {
                connection.unsent = rest.into();
            }
        }
        SendOutcome::Blocked => {
            let is_news = connection.watchlist.mark(slot);
            debug_assert!(is_news, "the stream's only news was taken for this send");
        }
        SendOutcome::Closed => {}
    }
    outcome
}

fn taken_bytes(outcome: SendOutcome) -> usize {
    match outcome {
        SendOutcome::Sent(sent) => sent,
        SendOutcome::Blocked | SendOutcome::Closed => 0,
    }
}

/// Notes the id that the client was told.
fn note_taken(connection: &mut Connection, taken: Taken, id_prefix: &[u8], now_ms: u64) {
    if taken.id {
        connection.schedule.note_id(now_ms);
        if let Some(orders) = &mut connection.orders {
            orders.set_id_prefix(id_prefix);
        }
    }
}

/// Notes up to which tick a stream that wants every print has received everything.
fn note_all_sent(connection: &mut Connection, sequence: u64) {
    if connection.unsent.is_empty()
        && !connection.watchlist.has_news()
        && let Some(every) = connection.watchlist.every_mut()
    {
        every.note_sent(sequence);
    }
}
