//! Handles the lines of a session: prices go to the market and order lines to the orders thread.
//! Unreadable and missing lines make the orders concerned be reconciled.

use crate::exchange::feed_line::{FeedMessage, SkipCause, SkippedLine, read_line};
use crate::exchange::feed_types::{MAX_RAW_BYTES, OrderFeedMessage, UnreadableLine};
use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::market::{Bust, Print, execution_number};
use crate::sync::Refused;
use crate::types::SymbolIndex;

use super::{Ended, Feed, MAX_BEYOND_IN_ROW, numbering};

/// Heartbeats between two reconciliations of all orders caused by skipped lines: an exchange that
/// sends nothing else must not keep all orders reconciling.
pub(super) const BEATS_BETWEEN_RECONCILIATIONS: u32 = 10;
/// Placeholder index for a symbol that is not listed.
const UNLISTED: SymbolIndex = SymbolIndex::FIRST;

impl Feed {
    pub(super) fn take_line(&mut self, bytes: &[u8]) -> Result<(), Ended> {
        self.metrics.lines.inc();
        match read_line(bytes) {
            Ok(FeedMessage::Line(line)) => self.take_readable(line),
            Ok(FeedMessage::Session(session)) => self.take_session(None, session),
            Err(unreadable) => self.skip(unreadable, bytes),
        }
    }

    fn take_readable(&mut self, line: FeedLine) -> Result<(), Ended> {
        self.beyond_in_row = 0;
        self.symbols.note_time(line.timestamp, &self.market);
        if line.line_type == FeedLineType::Heartbeat {
            self.beats.heard(line.timestamp, self.received);
            self.orders.note_heard(line.timestamp);
            self.take_beat(line.sequence)?;
            if let Some(candles) = &mut self.candles {
                candles.seen(line.sequence, line.timestamp);
            }
            return Ok(());
        }
        let is_old = self.advance(line.sequence, numbering::contents(&line))?;
        // A line read again changes no price: newer lines already have.
        if line.sequence > self.last_sequence {
            self.last_sequence = line.sequence;
            self.take_print(&line);
        } else {
            self.tell_candles_again(&line);
        }
        if line.order_id.is_some() {
            self.hand_over(line.sequence, OrderFeedMessage::Line(line), is_old)?;
        }
        Ok(())
    }

    fn take_beat(&mut self, sequence: u64) -> Result<(), Ended> {
        if self.numbering.beat_contradicts(sequence)
            && let Some(session) = self.session.clone()
        {
            return self.renumber(session, sequence);
        }
        if sequence > self.last_read {
            self.note_gap(sequence);
            self.last_read = sequence;
            self.last_sequence = self.last_sequence.max(sequence);
        }
        self.unnumbered = 0;
        // Try this first, where the queue may have room for one message only: it carries the
        // position too.
        let is_position_sent = self.reconcile_all_if_due();
        let may_send = self.reread_from.is_none() && self.last_read >= self.orders_from;
        if may_send && !is_position_sent {
            // If the queue is full, the next heartbeat sends it.
            let _sent_later =
                self.orders.try_send(OrderFeedMessage::Position { sequence: self.last_read });
        }
        Ok(())
    }

    /// Has all orders reconciled after a skipped line that may have belonged to any of them.
    /// Returns `false` if none is pending, or not yet.
    fn reconcile_all_if_due(&mut self) -> bool {
        self.beats_since_reconciliation = self.beats_since_reconciliation.saturating_add(1);
        if !self.must_reconcile_all
            || self.beats_since_reconciliation < BEATS_BETWEEN_RECONCILIATIONS
        {
            return false;
        }
        // Lines to be read again include this one, so wait for them.
        let Some(session) = self.session.clone().filter(|_| self.reread_from.is_none()) else {
            return false;
        };
        let message = OrderFeedMessage::Session { session, sequence: self.last_read };
        let is_sent = self.orders.try_send(message).is_ok();
        if is_sent {
            (self.must_reconcile_all, self.beats_since_reconciliation) = (false, 0);
        }
        is_sent
    }

    /// Advances past a line. Returns `true` for a repeated or late line.
    fn advance(&mut self, sequence: u64, contents: u64) -> Result<bool, Ended> {
        if sequence <= self.last_read
            && self.numbering.contradicts(sequence, contents)
            && let Some(session) = self.session.clone()
        {
            self.renumber(session, sequence.saturating_sub(1))?;
        }
        let is_old = sequence <= self.last_read;
        if !is_old {
            if sequence > self.last_read + 1 {
                self.note_gap(sequence - 1);
            }
            self.unnumbered = 0;
            self.last_read = sequence;
        }
        self.numbering.note(sequence, contents);
        Ok(is_old)
    }

    /// Advances past an unreadable line, and has the order it names reconciled.
    fn skip(&mut self, unreadable: SkippedLine, bytes: &[u8]) -> Result<(), Ended> {
        let cause = unreadable.cause;
        self.count_skipped(cause, bytes);
        self.beyond_in_row += u32::from(unreadable.is_sequence_beyond);
        if self.beyond_in_row >= MAX_BEYOND_IN_ROW {
            return Err(Ended::Beyond(std::mem::take(&mut self.beyond_in_row)));
        }
        let mut is_old = false;
        let sequence = unreadable.credible_sequence(self.last_read);
        match sequence {
            Some(sequence) if unreadable.is_heartbeat => self.take_beat(sequence)?,
            Some(sequence) => {
                is_old = self.advance(sequence, numbering::UNKNOWN)?;
                if let Some(candles) = &mut self.candles {
                    candles.gap(sequence);
                }
                self.last_sequence = self.last_sequence.max(sequence);
            }
            None => self.unnumbered += u64::from(unreadable.may_have_number()),
        }
        self.must_reconcile_all |= unreadable.may_name_order;
        let Some(order_id) = unreadable.order_id else { return Ok(()) };
        let raw = bytes.get(..MAX_RAW_BYTES).unwrap_or(bytes).into();
        let place = sequence.unwrap_or(self.last_read);
        let after = sequence.map_or(self.last_read, |sequence| sequence.saturating_sub(1));
        let line = UnreadableLine { sequence: place, after, order_id, cause, raw };
        // An unnumbered line stands before the next numbered one.
        let reread_from = sequence.unwrap_or(self.last_read + 1);
        self.hand_over(reread_from, OrderFeedMessage::Unreadable(line), is_old)
    }

    pub(super) fn count_skipped(&mut self, cause: SkipCause, line: &[u8]) {
        self.metrics.count_skipped(cause);
        self.skip_log.note(cause, line);
    }

    fn take_print(&mut self, line: &FeedLine) {
        let Some(symbol) = line.symbol else { return };
        let Some(index) = self.market.index_of(&symbol) else {
            self.metrics.unknown_symbols.inc();
            if let Some(print) = print_of(line, UNLISTED) {
                self.symbols.note_unknown(symbol, print);
            }
            return;
        };
        if let Some(print) = print_of(line, index) {
            self.market.print(&print);
            if let Some(candles) = &mut self.candles {
                candles.print(&print);
            }
        } else if let Some(bust) = bust_of(line, index) {
            self.market.bust(&bust);
            if let Some(candles) = &mut self.candles {
                candles.bust(&bust, line.timestamp);
            }
        }
    }

    /// Prices have this line already, candles perhaps not: after a start.
    fn tell_candles_again(&mut self, line: &FeedLine) {
        let Some(candles) = self.candles.as_mut().filter(|candles| candles.lacks(line.sequence))
        else {
            return;
        };
        let index = line.symbol.and_then(|symbol| self.market.index_of(&symbol));
        let Some(index) = index else { return };
        if let Some(print) = print_of(line, index) {
            candles.print(&print);
        } else if let Some(bust) = bust_of(line, index) {
            candles.bust(&bust, line.timestamp);
        }
    }

    /// Sends a message to the orders thread. If the queue is full, the feed is read again from
    /// `sequence`.
    pub(super) fn hand_over(
        &mut self,
        sequence: u64,
        message: OrderFeedMessage,
        is_old: bool,
    ) -> Result<(), Ended> {
        if self.reread_from.is_some() || sequence < self.orders_from {
            return Ok(());
        }
        match self.orders.try_send(message) {
            Ok(()) => {
                self.metrics.order_lines.inc();
                Ok(())
            }
            // The line was sent when it first arrived, or is part of a reported gap. Going back for
            // it might go further back than the exchange keeps.
            Err(Refused::Full(_)) if is_old => Ok(()),
            Err(Refused::Full(_)) => {
                self.reread_from = Some(sequence);
                Ok(())
            }
            Err(Refused::Closed(_)) => Err(Ended::Stop),
        }
    }

    /// Reports lines missing up to `last_missing`, so that orders are reconciled.
    fn note_gap(&mut self, last_missing: u64) {
        let first_missing = self.last_read + 1;
        self.numbering.note_missing(first_missing, last_missing);
        if let Some(candles) = &mut self.candles {
            candles.gap(last_missing);
        }
        if last_missing - self.last_read <= self.unnumbered {
            // The missing lines may have arrived unreadable; if not, they are lost.
            self.must_reconcile_all = true;
            return;
        }
        self.metrics.gaps.inc();
        if let Some(count) = self.gap_log.note(self.received) {
            tracing::error!(first_missing, last_missing, count, "the feed has a gap");
        }
        if self.reread_from.is_some() {
            // Announcing reconciliation up to here would skip lines that are still to be read
            // again. They are read again, and so is the gap if it is still there.
            return;
        }
        if let Some(session) = self.session.clone() {
            let sequence = last_missing.max(self.orders_from.saturating_sub(1));
            let message = OrderFeedMessage::Session { session, sequence };
            if self.orders.try_send(message).is_err() {
                self.reread_from.get_or_insert(first_missing);
            }
        }
    }
}

/// The print that a trade line reports; `None` for a line of another type.
fn print_of(line: &FeedLine, symbol: SymbolIndex) -> Option<Print> {
    let price = line.price_in_cents.filter(|_| line.line_type == FeedLineType::Trade)?;
    Some(Print {
        symbol,
        price,
        num_shares: line.num_shares.unwrap_or(0),
        counts_volume: line.volume,
        timestamp: line.timestamp,
        sequence: line.sequence,
        execution: execution_of(line),
    })
}

/// The bust that a line reports; `None` for a line of another type.
fn bust_of(line: &FeedLine, symbol: SymbolIndex) -> Option<Bust> {
    (line.line_type == FeedLineType::Bust).then(|| Bust {
        symbol,
        execution: execution_of(line),
        price: line.price_in_cents,
        num_shares: line.num_shares,
        counts_volume: line.volume,
        sequence: line.sequence,
    })
}

fn execution_of(line: &FeedLine) -> u64 {
    line.execution_id.as_ref().map_or(0, |id| execution_number(id.as_str()))
}
