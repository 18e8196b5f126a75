//! The lines of a session, one by one: prices to the market, orders' lines to the orders thread, and what
//! cannot be read, or is missing, to whoever makes up for it.

use crate::exchange::feed_line::{FeedMessage, SkipCause, SkippedLine, read_line};
use crate::exchange::feed_types::{MAX_RAW_BYTES, OrderFeedMessage, UnreadableLine};
use crate::exchange::wire::{FeedLine, FeedLineType};
use crate::market::{Bust, Print, execution_number};
use crate::sync::Refused;
use crate::types::SymbolIndex;

use super::{Ended, Feed, numbering};

/// Heartbeats between two comparisons of all orders because of lines that may have named any: an
/// exchange that sends nothing else must not keep everybody comparing.
pub(super) const BEATS_BETWEEN_COMPARISONS: u32 = 10;
/// Stands for the place of a symbol that is not listed.
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
        self.symbols.note_time(line.timestamp, &self.market);
        if line.line_type == FeedLineType::Heartbeat {
            self.beats.heard(line.timestamp, self.received);
            return self.take_beat(line.sequence);
        }
        let has_come_before = self.pass(line.sequence, numbering::contents(&line))?;
        // A line that was read again changes no price: newer ones have.
        if line.sequence > self.last_sequence {
            self.last_sequence = line.sequence;
            self.take_print(&line);
        }
        if line.order_id.is_some() {
            self.hand_over(line.sequence, OrderFeedMessage::Line(line), has_come_before)?;
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
        // First, where there is room for one message only: it tells the position as well.
        let is_told = self.compare_doubted();
        let may_tell = self.orders_behind_from.is_none() && self.last_read >= self.orders_from;
        if may_tell && !is_told {
            // Told again with the next beat if there is no room now.
            let _told_later =
                self.orders.try_send(OrderFeedMessage::Position { sequence: self.last_read });
        }
        Ok(())
    }

    /// Has all orders compared where a skipped line may have named any of them. False where that is
    /// not so, or not yet.
    fn compare_doubted(&mut self) -> bool {
        self.beats_since_comparison = self.beats_since_comparison.saturating_add(1);
        if !self.is_order_doubted || self.beats_since_comparison < BEATS_BETWEEN_COMPARISONS {
            return false;
        }
        // Lines that are owed are read again, and this one with them.
        let Some(session) = self.session.clone().filter(|_| self.orders_behind_from.is_none())
        else {
            return false;
        };
        let message = OrderFeedMessage::Session { session, sequence: self.last_read };
        let is_told = self.orders.try_send(message).is_ok();
        if is_told {
            (self.is_order_doubted, self.beats_since_comparison) = (false, 0);
        }
        is_told
    }

    /// Moves past a line. True for one that has come before.
    fn pass(&mut self, sequence: u64, contents: u64) -> Result<bool, Ended> {
        if sequence <= self.last_read
            && self.numbering.contradicts(sequence, contents)
            && let Some(session) = self.session.clone()
        {
            self.renumber(session, sequence.saturating_sub(1))?;
        }
        let has_come_before = sequence <= self.last_read;
        if !has_come_before {
            if sequence > self.last_read + 1 {
                self.note_gap(sequence - 1);
            }
            self.unnumbered = 0;
            self.last_read = sequence;
        }
        self.numbering.note(sequence, contents);
        Ok(has_come_before)
    }

    /// Moves past a line that is not the contract's, and has the order asked about that it names.
    fn skip(&mut self, unreadable: SkippedLine, bytes: &[u8]) -> Result<(), Ended> {
        let cause = unreadable.cause;
        self.count_skipped(cause, bytes);
        let mut has_come_before = false;
        let sequence = unreadable.credible_sequence(self.last_read);
        match sequence {
            Some(sequence) if unreadable.is_heartbeat => self.take_beat(sequence)?,
            Some(sequence) => {
                has_come_before = self.pass(sequence, numbering::UNKNOWN)?;
                self.last_sequence = self.last_sequence.max(sequence);
            }
            None => self.unnumbered += u64::from(unreadable.may_have_number()),
        }
        self.is_order_doubted |= unreadable.may_name_order;
        let Some(order_id) = unreadable.order_id else { return Ok(()) };
        let raw = bytes.get(..MAX_RAW_BYTES).unwrap_or(bytes).into();
        let place = sequence.unwrap_or(self.last_read);
        let after = sequence.map_or(self.last_read, |sequence| sequence.saturating_sub(1));
        let line = UnreadableLine { sequence: place, after, order_id, cause, raw };
        // Without a place of its own it stands before the next one.
        let again_from = sequence.unwrap_or(self.last_read + 1);
        self.hand_over(again_from, OrderFeedMessage::Unreadable(line), has_come_before)
    }

    pub(super) fn count_skipped(&mut self, cause: SkipCause, line: &[u8]) {
        self.metrics.count_skipped(cause);
        self.spells.note(cause, line);
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
        } else if line.line_type == FeedLineType::Bust {
            self.market.bust(&Bust {
                symbol: index,
                execution: execution_of(line),
                price: line.price_in_cents,
                num_shares: line.num_shares,
                counts_volume: line.volume,
                sequence: line.sequence,
            });
        }
    }

    /// Hands something over that can be read again from `sequence` on.
    fn hand_over(
        &mut self,
        sequence: u64,
        message: OrderFeedMessage,
        has_come_before: bool,
    ) -> Result<(), Ended> {
        if self.orders_behind_from.is_some() || sequence < self.orders_from {
            return Ok(());
        }
        match self.orders.try_send(message) {
            Ok(()) => {
                self.metrics.order_lines.inc();
                Ok(())
            }
            // It was handed over then, or is part of a gap that was told. To go back for it could be
            // to go back behind what the exchange keeps.
            Err(Refused::Full(_)) if has_come_before => Ok(()),
            Err(Refused::Full(_)) => {
                self.orders_behind_from = Some(sequence);
                Ok(())
            }
            Err(Refused::Closed(_)) => Err(Ended::Stop),
        }
    }

    /// Lines are missing up to `last_missing`: orders are compared with the exchange.
    fn note_gap(&mut self, last_missing: u64) {
        let first_missing = self.last_read + 1;
        self.numbering.note_missing(first_missing, last_missing);
        if last_missing - self.last_read <= self.unnumbered {
            // They came, and could not be read; or something else did, and they are lost.
            self.is_order_doubted = true;
            return;
        }
        self.metrics.gaps.inc();
        if let Some(count) = self.gap_spell.note(self.received) {
            tracing::error!(first_missing, last_missing, count, "the feed has a gap");
        }
        if self.orders_behind_from.is_some() {
            // To say that all up to here is reconciled would pass lines that are still owed. They are
            // read again, and with them the gap if it is there then.
            return;
        }
        if let Some(session) = self.session.clone() {
            let sequence = last_missing.max(self.orders_from.saturating_sub(1));
            let message = OrderFeedMessage::Session { session, sequence };
            if self.orders.try_send(message).is_err() {
                self.orders_behind_from.get_or_insert(first_missing);
            }
        }
    }
}

/// The print that a line tells of; `None` for a line of another type.
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

fn execution_of(line: &FeedLine) -> u64 {
    line.execution_id.as_ref().map_or(0, |id| execution_number(id.as_str()))
}
