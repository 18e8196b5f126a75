//! The simulated exchange without a thread, as the simulation drives it.

use super::entry::{Entry, FRAME_HEADER_BYTES, checksum};
use super::line::Key;
use super::replay::Print;
use super::venue::Venue;
use crate::exchange::wire::{CancelResult, FeedLine, QueryResult, SubmitOrder, SubmitResult};
use crate::types::{ExecutionId, ExternalOrderId, PriceCents, Symbol, TimestampMicros};

/// The rules of the exchange without sockets, files and clock. The caller decides what happens
/// next.
pub struct ManualExchange {
    symbols: Vec<Symbol>,
    venue: Venue,
}

impl ManualExchange {
    /// An exchange without orders, in its first feed session.
    pub fn new(symbols: Vec<Symbol>) -> Self {
        let mut venue = Venue::new(&symbols);
        venue.begin_session(1);
        Self { symbols, venue }
    }

    /// Accepts or refuses an order.
    pub fn submit(&mut self, order: &SubmitOrder, now: TimestampMicros) -> SubmitResult {
        self.venue.submit(order, now)
    }

    /// Cancels an open order, or says why not.
    pub fn cancel(&mut self, id: &ExternalOrderId, now: TimestampMicros) -> CancelResult {
        self.venue.cancel(id, now)
    }

    /// The record of an order.
    pub fn query(&self, client_order_id: &str) -> QueryResult {
        self.venue.query(client_order_id)
    }

    /// A trade in the symbol at this index, with the fills that it causes.
    pub fn print(&mut self, (symbol, price, shares): (u16, PriceCents, u32), now: TimestampMicros) {
        self.venue.print(Print { symbol, price, shares }, now);
    }

    /// Ends the day: day orders expire.
    pub fn expire_day_orders(&mut self, now: TimestampMicros) {
        let keys = self.venue.open_day_orders();
        self.venue.expire(&keys, now);
    }

    /// Cancels or expires an open order unasked.
    pub fn end_unasked(
        &mut self,
        id: &ExternalOrderId,
        expired: bool,
        now: TimestampMicros,
    ) -> bool {
        self.venue.key_of(id).is_some_and(|key| self.venue.end_unasked(key, expired, now))
    }

    /// Busts an execution; its shares may be filled again unless the order has ended.
    pub fn bust(
        &mut self,
        id: &ExternalOrderId,
        execution: &ExecutionId,
        now: TimestampMicros,
    ) -> bool {
        let (order, execution) = (self.venue.key_of(id), execution_key(execution));
        order.zip(execution).is_some_and(|(order, key)| self.venue.bust(order, key, now))
    }

    /// Restarts from the journal and begins another feed session.
    pub fn restart(&mut self) {
        let journal = self.venue.snapshot(TimestampMicros::default());
        let session = self.venue.session() + 1;
        let mut venue = Venue::new(&self.symbols);
        let mut frames = journal.as_slice();
        while let Some((header, rest)) = frames.split_first_chunk::<FRAME_HEADER_BYTES>() {
            let [a, b, c, d, sum @ ..] = *header;
            let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
            let Some((payload, rest)) = rest.split_at_checked(length) else { break };
            debug_assert_eq!(
                checksum(payload),
                u32::from_le_bytes(sum),
                "a snapshot consists of whole frames"
            );
            if let Some(entry) = Entry::read(payload) {
                venue.restore(&entry);
            }
            frames = rest;
        }
        venue.begin_session(session);
        self.venue = venue;
    }

    /// The feed lines since the last call, numbered by the session.
    pub fn take_lines(&mut self) -> Vec<FeedLine> {
        self.venue.journal.clear();
        self.venue.fills.clear();
        self.venue.lines.marks.clear();
        let bytes = std::mem::take(&mut self.venue.lines.bytes);
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// The key from which an execution's id is made.
fn execution_key(id: &ExecutionId) -> Option<Key> {
    let (session, number) = id.as_str().strip_prefix('e')?.split_once('-')?;
    Some(Key { session: session.parse().ok()?, number: number.parse().ok()? })
}
