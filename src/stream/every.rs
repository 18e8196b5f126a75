use crate::types::SymbolIndex;

use super::connection::DirtySet;
use super::history::{History, PrintNumber};

/// Feed sequences, both included, between which prints may be missing from a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Gap {
    pub from: u64,
    pub to: u64,
}

/// What a stream has beside the rest when it wants every print: where it stands in the shard's
/// history, for each subscription.
///
/// A stream that falls behind what is kept is told of a gap and goes on with the newest price.
#[derive(Debug)]
pub(super) struct EveryPrint {
    /// By slot: the number of the print that it is sent next.
    next: Vec<PrintNumber>,
    /// Slots with prints that it has not been sent.
    pub prints: DirtySet,
    /// Lost and not told yet.
    pub gap: Option<Gap>,
    /// The feed's session is another than before, and the stream has not been told.
    pub reset: bool,
    /// Everything up to this feed sequence has been sent.
    pub clear_sequence: u64,
}

impl EveryPrint {
    /// A stream that has had everything up to a feed sequence.
    pub fn new(clear_sequence: u64) -> Self {
        Self { next: Vec::new(), prints: DirtySet::new(0), gap: None, reset: false, clear_sequence }
    }

    /// Whether there is anything to send.
    pub fn has_news(&self) -> bool {
        self.gap.is_some() || self.reset || !self.prints.is_empty()
    }

    /// What is not sent yet up to this feed sequence never will be.
    pub fn lose_up_to(&mut self, sequence: u64) {
        let from = self.gap.map_or(self.clear_sequence + 1, |before| before.from);
        if from <= sequence {
            self.gap = Some(Gap { from, to: sequence });
        }
    }

    /// Prints of another session follow; what is owed of the one before is lost.
    pub fn begin_session(&mut self, first_sequence: u64) {
        self.reset = true;
        self.gap = None;
        self.prints.clear();
        self.clear_sequence = first_sequence.saturating_sub(1);
    }

    /// A subscription more: it begins with the symbol's next print.
    pub fn subscribe(&mut self, symbol: SymbolIndex, history: &History) {
        self.next.push(history.next(symbol));
        self.prints.grow(self.next.len());
    }

    /// A subscription less; the last one takes its slot.
    pub fn unsubscribe(&mut self, slot: u16) {
        if usize::from(slot) < self.next.len() {
            self.next.swap_remove(usize::from(slot));
            self.prints.swap_remove(slot, self.next.len());
        }
    }

    /// Which print of a slot's symbol is sent next.
    pub fn next(&self, slot: u16) -> PrintNumber {
        self.next.get(usize::from(slot)).copied().unwrap_or(0)
    }

    /// The stream stands before this print of the slot's symbol now.
    pub fn stand_at(&mut self, slot: u16, number: PrintNumber) {
        if let Some(next) = self.next.get_mut(usize::from(slot)) {
            *next = number;
        }
    }
}
