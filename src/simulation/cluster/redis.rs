//! Redis: the stream of lines about orders, and how far the holder of the feed has read. Keeps nothing
//! that cannot be lost.

use crate::bridge::stream_id::{Entry, EntryId};
use crate::simulation::dice::Dice;

/// A connection's end: changes whenever connections break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RedisLink {
    pub(super) run: u32,
    pub(super) cuts: u32,
}

/// A connection that writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Writer(u64);

pub(super) struct Redis {
    /// Counts the starts.
    pub(super) run: u32,
    /// The last sequence of the feed whose prices the keys have.
    pub(super) sequence: Option<u64>,
    entries: Vec<Entry>,
    /// The connections that write, each with the epoch of its lease.
    writers: Vec<(Writer, u64)>,
    last_writer: u64,
}

impl Redis {
    pub(super) const fn new() -> Self {
        Self { run: 1, sequence: None, entries: Vec::new(), writers: Vec::new(), last_writer: 0 }
    }

    /// Somebody connects to write in this epoch: the connections of others are closed.
    pub(super) fn connect(&mut self, epoch: u64) -> Writer {
        self.writers.retain(|(_, of)| *of == epoch);
        self.last_writer += 1;
        let writer = Writer(self.last_writer);
        self.writers.push((writer, epoch));
        writer
    }

    pub(super) fn has_closed(&self, writer: Writer) -> bool {
        !self.writers.iter().any(|(open, _)| *open == writer)
    }

    /// Starts again: with everything, without the newest entries, or without anything.
    pub(super) fn restart(&mut self, dice: &mut Dice) {
        self.run += 1;
        self.writers.clear();
        match dice.below(3) {
            0 => {}
            1 => self.entries.truncate(dice.below(self.entries.len() + 1)),
            _ => self.empty(),
        }
    }

    /// Keeps the newest entries only, as a stream of limited length does.
    pub(super) fn trim(&mut self, dice: &mut Dice) {
        self.entries.drain(..dice.below(self.entries.len() + 1));
    }

    pub(super) fn empty(&mut self) {
        self.entries.clear();
        self.sequence = None;
    }

    /// Adds an entry. False if its id is not above all before it.
    pub(super) fn add(&mut self, entry: Entry) -> bool {
        let is_next = self.newest().is_none_or(|(newest, _)| *newest < entry.0);
        if is_next {
            self.entries.push(entry);
        }
        is_next
    }

    pub(super) fn newest(&self) -> Option<&Entry> {
        self.entries.last()
    }

    /// The entries after one, at most so many.
    pub(super) fn after(&self, last: EntryId, most: usize) -> Vec<Entry> {
        let later = self.entries.iter().filter(|(id, _)| *id > last);
        later.take(most).cloned().collect()
    }
}
