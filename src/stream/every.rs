use crate::types::SymbolIndex;

use super::feed::FeedPosition;
use super::frame::Gap;
use super::history::{History, PrintNumber};
use super::slot_set::SlotSet;

/// Where a stream with `mode=every` stands in the shard's history, for each of its subscriptions.
///
/// A stream that falls out of the history is told of a gap and goes on with the newest price.
#[derive(Debug)]
pub(super) struct EveryPrint {
    /// By slot: the next print to send.
    next: Vec<PrintNumber>,
    /// By slot: prints up to here are not sent. The client has them, or a newer price.
    begins_after: Vec<FeedPosition>,
    /// Slots with prints that have not been sent.
    unsent: SlotSet,
    /// Slots whose first price is still to come: prints before it are from before the subscription.
    unbegun: SlotSet,
    /// Lost, and not told yet.
    gap: Option<Gap>,
    /// The feed began another session, which has not been told yet.
    owes_reset: bool,
    /// Everything up to this feed sequence has been sent, or told as lost.
    sent_sequence: u64,
    /// The newest prices that are owed stand for prints that the stream must be told as lost.
    has_lost: bool,
    /// Where the client stands from the beginning on.
    begins: FeedPosition,
    /// The newest that the client has. Shards follow the feed one behind the other.
    newest_sent: FeedPosition,
}

impl EveryPrint {
    /// A stream whose client begins to miss prints after a feed sequence, and wants none up to
    /// `begins`.
    pub(super) fn new(sent_sequence: u64, begins: FeedPosition) -> Self {
        Self {
            next: Vec::new(),
            begins_after: Vec::new(),
            unsent: SlotSet::new(0),
            unbegun: SlotSet::new(0),
            gap: None,
            owes_reset: false,
            sent_sequence,
            has_lost: false,
            begins,
            newest_sent: begins,
        }
    }

    /// Whether there is anything to send.
    pub(super) fn has_news(&self) -> bool {
        self.gap.is_some() || self.owes_reset || !self.unsent.is_empty()
    }

    /// What has not been sent up to this feed sequence never will be.
    pub(super) fn lose_up_to(&mut self, sequence: u64) {
        self.has_lost = true;
        let (from, to) = match self.gap {
            Some(before) => (before.from, sequence.max(before.to)),
            // Saturating: clients resume from any sequence.
            None => (self.sent_sequence.saturating_add(1), sequence),
        };
        // Otherwise everything up to there has been sent.
        if from <= to {
            self.gap = Some(Gap { from, to });
        }
        assert!(self.gap.is_none_or(|gap| gap.from <= gap.to), "a gap ends after it begins");
    }

    /// A subscription begins with the symbol's next price, whatever came before it.
    pub(super) fn begin_with_next(&mut self, slot: u16) {
        self.unbegun.insert(slot);
    }

    /// Whether the client may miss prints of a slot's symbol: it had one, or resumes from an id.
    pub(super) fn has_begun(&self, slot: u16) -> bool {
        !self.unbegun.contains(slot)
    }

    /// Whether the client may miss prints of any symbol.
    pub(super) fn has_begun_any(&self) -> bool {
        self.unbegun.iter().count() < self.next.len()
    }

    /// Whether the newest prices that are owed stand for prints that the stream must be told as lost.
    pub(super) fn has_lost(&self) -> bool {
        self.has_lost
    }

    /// Prints of another session follow. What the stream lacks of the one before is lost.
    pub(super) fn begin_session(&mut self, first_sequence: u64) {
        self.owes_reset = true;
        self.gap = None;
        self.has_lost = false;
        self.unsent.clear();
        // A session whose first sequence is 0 has nothing before it either.
        self.sent_sequence = first_sequence.saturating_sub(1);
    }

    /// Everything up to this feed sequence has been sent.
    pub(super) fn note_sent(&mut self, sequence: u64) {
        debug_assert!(!self.has_news(), "a stream that has been sent everything is owed nothing");
        // The shard may still be where it was before the stream began.
        self.sent_sequence = self.sent_sequence.max(sequence);
        self.has_lost = false;
    }

    /// Whether the client has nothing that stands after this position.
    pub(super) fn is_level_at(&self, position: FeedPosition) -> bool {
        self.newest_sent <= position
    }

    /// Takes the news of another session.
    pub(super) fn take_reset(&mut self) -> bool {
        std::mem::take(&mut self.owes_reset)
    }

    /// Takes the news of a gap.
    pub(super) fn take_gap(&mut self) -> Option<Gap> {
        let gap = self.gap.take()?;
        assert!(gap.from <= gap.to, "a gap ends after it begins");
        self.sent_sequence = gap.to;
        Some(gap)
    }

    /// The news of another session was not sent.
    pub(super) fn owe_reset(&mut self) {
        assert!(!self.owes_reset, "the news was taken for the send that did not leave");
        self.owes_reset = true;
    }

    /// The news of a gap was not sent.
    pub(super) fn owe_gap(&mut self, gap: Gap) {
        assert!(self.gap.is_none(), "the gap was taken for the send that did not leave");
        self.gap = Some(gap);
    }

    /// Adds a subscription, which begins with the symbol's next print.
    pub(super) fn subscribe(&mut self, symbol: SymbolIndex, history: &History) {
        self.next.push(history.next(symbol));
        self.begins_after.push(self.begins);
        self.unsent.grow(self.next.len());
        self.unbegun.grow(self.next.len());
        self.check();
    }

    /// Removes a subscription. The last one, `last`, moves to its slot.
    pub(super) fn unsubscribe(&mut self, slot: u16, last: u16) {
        assert!(
            usize::from(last) + 1 == self.next.len() && slot <= last,
            "each subscription has a position in the history"
        );
        self.next.swap_remove(usize::from(slot));
        self.begins_after.swap_remove(usize::from(slot));
        self.unsent.swap_remove(slot, last);
        self.unbegun.swap_remove(slot, last);
        self.check();
    }

    fn check(&self) {
        assert!(
            self.next.len() == self.begins_after.len(),
            "each subscription has a position in the history and one in the feed"
        );
        debug_assert!(
            self.unsent.iter().all(|slot| usize::from(slot) < self.next.len()),
            "only subscriptions have prints to send"
        );
    }

    /// The next print of a slot's symbol to send, unless it is older than what the client has.
    #[expect(clippy::indexing_slicing, reason = "each subscription has a position in the history")]
    pub(super) fn next(&self, slot: u16) -> PrintNumber {
        self.next[usize::from(slot)]
    }

    /// The next print of a slot's symbol to send.
    #[expect(clippy::indexing_slicing, reason = "each subscription has a position in the history")]
    pub(super) fn next_after(
        &self,
        slot: u16,
        symbol: SymbolIndex,
        history: &History,
    ) -> PrintNumber {
        let slot = usize::from(slot);
        history.first_after(symbol, self.next[slot], self.begins_after[slot])
    }

    /// A slot goes on after the newest price, which stands at this position. The shard may still have
    /// to read ticks up to there.
    #[expect(clippy::indexing_slicing, reason = "each subscription has a position in the history")]
    pub(super) fn begin_after(&mut self, slot: u16, position: FeedPosition) {
        self.begins_after[usize::from(slot)] = position;
        self.unbegun.remove(slot);
        self.newest_sent = self.newest_sent.max(position);
    }

    /// Moves the stream to this print of the slot's symbol.
    #[expect(clippy::indexing_slicing, reason = "each subscription has a position in the history")]
    pub(super) fn stand_at(&mut self, slot: u16, number: PrintNumber) {
        self.next[usize::from(slot)] = number;
    }

    /// A slot has prints to send.
    #[inline]
    pub(super) fn mark(&mut self, slot: u16) {
        debug_assert!(
            usize::from(slot) < self.next.len(),
            "only a subscription has prints to send"
        );
        self.unsent.insert(slot);
        self.unbegun.remove(slot);
    }

    /// A slot has no prints to send.
    pub(super) fn unmark(&mut self, slot: u16) {
        self.unsent.remove(slot);
    }

    /// No slot has prints to send.
    pub(super) fn unmark_all(&mut self) {
        self.unsent.clear();
    }

    /// Takes out a slot with prints to send: the first at or after `turn`, wrapping around.
    pub(super) fn pop_marked(&mut self, turn: u16) -> Option<u16> {
        self.unsent.pop(turn)
    }

    /// All slots with prints to send.
    pub(super) fn marked(&self) -> impl Iterator<Item = u16> {
        self.unsent.iter()
    }
}
