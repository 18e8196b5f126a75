//! Composes what one stream is sent: everything that it is owed, in one send of bounded size.

use crate::market::{Directory, LastValueTable};

use super::connection::Connection;
use super::feed::Feed;
use super::frame::{
    FEED_DOWN, FEED_UP, ID_SEPARATOR, RESET, end_event, is_beginning, open_last_event, write_gap,
    write_point,
};
use super::history::History;
use super::limits::MAX_SEND_BYTES;
use super::order_events::OrderProgress;
use super::order_streams::OrderStreams;
use super::prices::Prices;
use super::segment::{Composed, Content, Prints, Segment, Taken, take_back};
use super::watchlist::Watchlist;

/// The buffers of one send at a time, shared by all streams of a shard.
#[derive(Debug, Default)]
pub(super) struct Composer {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    /// The last event carries an id.
    has_id: bool,
    /// That id, but for the cursor with which it ends on a stream of both prices and orders.
    id_prefix: Vec<u8>,
    /// How far the stream was before its order events.
    orders_before: Option<OrderProgress>,
    /// Resets among the composed events.
    resets: u64,
}

/// What a send is composed from.
pub(super) struct Sources<'a> {
    pub feed: &'a Feed,
    pub prices: &'a mut Prices,
    pub orders: &'a mut OrderStreams,
    pub now_ms: u64,
}

impl Composer {
    /// Composes what a stream is owed. Nothing is left to send when [`bytes`](Self::bytes) is empty.
    pub(super) fn compose(&mut self, connection: &mut Connection, sources: &mut Sources<'_>) {
        debug_assert!(connection.has_news(), "only a stream with news is composed for");
        debug_assert!(!connection.schedule.is_blocked(), "nothing is composed for a full socket");
        self.begin(connection, sources.feed);
        self.compose_orders(connection, sources.orders);
        // Prices that wait for `maxRate` do not leave with order events either.
        if !connection.schedule.is_paced() {
            self.compose_losses(&mut connection.watchlist, sources.prices, sources.feed);
            let (table, directory) = (sources.feed.table(), sources.feed.directory());
            self.compose_newest(&mut connection.watchlist, sources.prices, table, directory);
            self.compose_prints(&mut connection.watchlist, sources.prices.history());
            connection.schedule.note_prices(sources.now_ms);
        }
        if let Some(heartbeat) = connection.notices.take_heartbeat(self.bytes.is_empty()) {
            self.bytes.extend_from_slice(heartbeat);
            self.end_segment(Content::Heartbeat);
        }
        self.compose_id(connection, sources);
        debug_assert_eq!(
            self.segments.last().map_or(0, |last| last.end),
            self.bytes.len(),
            "the segments make up the send"
        );
    }

    /// The composed bytes.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many resets are among them.
    pub(super) fn resets(&self) -> u64 {
        self.resets
    }

    /// The id in the last event, without the cursor that follows on a stream of prices and orders.
    pub(super) fn id_prefix(&self) -> &[u8] {
        &self.id_prefix
    }

    /// Owes the stream again what the kernel did not take.
    pub(super) fn take_back(
        &self,
        connection: &mut Connection,
        history: &History,
        sent: usize,
    ) -> Taken {
        debug_assert!(!self.bytes.is_empty(), "what was sent was composed");
        let composed = Composed {
            bytes: &self.bytes,
            segments: &self.segments,
            orders_before: self.orders_before.as_ref(),
            has_id: self.has_id,
        };
        take_back(connection, history, composed, sent)
    }

    fn end_segment(&mut self, content: Content) {
        let end = self.bytes.len();
        debug_assert!(
            self.segments.last().is_none_or(|last| last.end <= end),
            "segments follow each other"
        );
        self.segments.push(Segment { end, content });
    }

    /// The rest of the send before, and the state of the feed.
    fn begin(&mut self, connection: &mut Connection, feed: &Feed) {
        self.bytes.clear();
        self.segments.clear();
        self.orders_before = None;
        self.resets = 0;
        if !connection.unsent.is_empty() {
            self.bytes.extend_from_slice(&std::mem::take(&mut connection.unsent));
            self.end_segment(Content::Begun);
        }
        if connection.notices.take_feed_state() {
            self.bytes.extend_from_slice(if feed.is_up() { FEED_UP } else { FEED_DOWN });
            self.end_segment(Content::FeedState);
        }
    }

    fn compose_orders(&mut self, connection: &mut Connection, streams: &mut OrderStreams) {
        let Some(events) = connection.orders.as_mut().filter(|events| events.has_news()) else {
            return;
        };
        self.orders_before = Some(events.progress());
        let mut begin = self.bytes.len();
        let written = streams.write(connection.id, events, &mut self.bytes);
        self.resets += written.resets;
        debug_assert!(
            written.earlier_event_end.is_none_or(|end| (begin..=self.bytes.len()).contains(&end)),
            "an id lengthens the event that it goes into"
        );
        // Without an earlier event all that was written is of orders.
        if let (Some(end), Some(earlier)) = (written.earlier_event_end, self.segments.last_mut()) {
            earlier.end = end;
            begin = end;
        }
        if self.bytes.len() > begin {
            self.end_segment(Content::Orders);
        }
    }

    /// What a stream that wants every print has lost. Where its next print is gone from the history
    /// it is owed the newest price instead, which may be newer than what the shard has read of the
    /// feed, and than what it had read when the loss was found: what lies between is lost as well.
    fn compose_losses(&mut self, watchlist: &mut Watchlist, prices: &mut Prices, feed: &Feed) {
        watchlist.find_losses(prices.history(), feed.sequence());
        let mut newest_sequence = None;
        for symbol in watchlist.newest_for_lost() {
            prices.newest(symbol, feed.table(), feed.directory());
            let position = prices.newest_position(symbol);
            // Another session begins with a reset.
            if position.ordinal == feed.position().ordinal {
                newest_sequence = newest_sequence.max(Some(position.sequence));
            }
        }
        // A stream of the newest prices loses nothing.
        let Some(every) = watchlist.every_mut() else { return };
        if let Some(sequence) = newest_sequence {
            // Saturating: a session's first sequence may be 0.
            every.lose_up_to(sequence.saturating_sub(1));
        }
        if every.take_reset() {
            self.resets += 1;
            self.bytes.extend_from_slice(RESET);
            self.end_segment(Content::Reset);
        }
        if let Some(gap) = every.take_gap() {
            write_gap(&mut self.bytes, gap);
            self.end_segment(Content::Gap(gap));
        }
    }

    /// The newest price of each symbol that has changed.
    fn compose_newest(
        &mut self,
        watchlist: &mut Watchlist,
        prices: &mut Prices,
        table: &LastValueTable,
        directory: &Directory,
    ) {
        while self.bytes.len() < MAX_SEND_BYTES {
            let Some(slot) = watchlist.pop_changed() else { break };
            let symbol = watchlist.symbol(slot);
            self.bytes.extend_from_slice(prices.newest(symbol, table, directory));
            self.end_segment(Content::Price(slot));
            if let Some(every) = watchlist.every_mut() {
                // It begins, or begins again, with the newest price: earlier prints are older, also
                // those that the shard has yet to read.
                every.unmark(slot);
                every.begin_after(slot, prices.newest_position(symbol));
                every.stand_at(slot, prices.history().next(symbol));
            }
        }
    }

    /// Every print that a stream has not been sent, symbol by symbol.
    fn compose_prints(&mut self, watchlist: &mut Watchlist, history: &History) {
        while self.bytes.len() < MAX_SEND_BYTES {
            let Some(slot) = watchlist.pop_printed() else { break };
            let symbol = watchlist.symbol(slot);
            let Some(every) = watchlist.every_mut() else {
                unreachable!("only a stream that wants every print has prints to send")
            };
            let first = every.next_after(slot, symbol, history);
            let mut number = first;
            let mut has_more = false;
            while let Some(frame) = history.frame(symbol, number) {
                if self.bytes.len() >= MAX_SEND_BYTES {
                    has_more = true;
                    break;
                }
                self.bytes.extend_from_slice(frame);
                number = number.wrapping_add(1);
            }
            every.stand_at(slot, number);
            debug_assert!(
                has_more || number == history.next(symbol),
                "a stream that has been sent all prints stands at the next one"
            );
            if has_more {
                every.mark(slot);
            }
            let Ok(count) = u16::try_from(number.wrapping_sub(first)) else {
                unreachable!("a send has fewer prints than bytes")
            };
            if count == 0 {
                // The client has them, or a newer price.
                continue;
            }
            self.end_segment(Content::Prints(Prints { slot, count, first }));
        }
    }

    /// Lets the last event tell how far the client is, if nothing is held back from it. The id has
    /// no event of its own: some clients take one without data for an empty message.
    fn compose_id(&mut self, connection: &Connection, sources: &Sources<'_>) {
        self.has_id = false;
        if connection.has_only_orders()
            || connection.has_news()
            || !connection.watchlist.is_level_at(sources.feed.position())
            || !connection.schedule.is_id_due(sources.now_ms)
        {
            return;
        }
        // Before the first tick of a session there is no position to tell.
        let Some((session, sequence)) = sources.feed.point() else { return };
        if !self.last_event_takes_id(connection) || !open_last_event(&mut self.bytes) {
            return;
        }
        self.id_prefix.clear();
        write_point(&mut self.id_prefix, session, sequence);
        if connection.orders.is_some() {
            self.id_prefix.push(ID_SEPARATOR);
        }
        self.bytes.extend_from_slice(&self.id_prefix);
        if let Some(orders) = &connection.orders {
            let Some(cursor) = orders.cursor() else {
                unreachable!("a stream that still has open orders to send has news")
            };
            sources.orders.write_cursor(cursor, &mut self.bytes);
        }
        end_event(&mut self.bytes);
        if let Some(last) = self.segments.last_mut() {
            last.end = self.bytes.len();
        }
        self.has_id = true;
    }

    /// Whether the last segment has bytes and ends with an event that may carry an id.
    fn last_event_takes_id(&self, connection: &Connection) -> bool {
        let (last, before) = match self.segments.as_slice() {
            [.., before, last] => (last, before.end),
            [last] => (last, 0),
            [] => return false,
        };
        debug_assert!(last.end == self.bytes.len(), "the last segment ends the send");
        last.end > before
            && match last.content {
                Content::FeedState
                | Content::Reset
                | Content::Gap(_)
                | Content::Price(_)
                | Content::Prints(_) => true,
                // The rest of another event may have an id already, as the opening of orders does.
                Content::Begun => connection.orders.is_none() && is_beginning(&self.bytes),
                // Each order event has an id of its own; a comment has none.
                Content::Orders | Content::Heartbeat => false,
            }
    }
}
