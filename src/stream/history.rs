use std::collections::VecDeque;

use crate::market::{SessionOrdinal, SymbolMap};
use crate::types::SymbolIndex;

use super::feed::FeedPosition;
use super::frame::PriceFrame;

/// Number of a print among those of its symbol that this shard has kept. It wraps.
pub(super) type PrintNumber = u32;

/// One print, encoded once for all streams that want every print.
#[derive(Debug)]
struct Slot {
    sequence: u64,
    ordinal: SessionOrdinal,
    symbol: SymbolIndex,
    frame: PriceFrame,
}

/// The kept prints of one symbol.
#[derive(Debug, Default)]
struct SymbolPrints {
    /// Number of the oldest one.
    first: PrintNumber,
    /// The slot of each of them, oldest first.
    slots: VecDeque<u32>,
}

impl SymbolPrints {
    #[expect(clippy::cast_possible_truncation, reason = "at most the capacity, which is a u32")]
    fn next(&self) -> PrintNumber {
        self.first.wrapping_add(self.slots.len() as u32)
    }
}

/// The newest prints of the symbols that some stream wants every print of, shared by all streams of
/// the shard: a stream holds numbers, never prints. When the history is full the oldest print goes,
/// and a stream that has not been sent it finds that it is missing.
#[derive(Debug)]
pub(super) struct History {
    slots: Vec<Slot>,
    capacity: u32,
    /// Once all slots are in use: the slot of the oldest print, where the next one goes.
    oldest: u32,
    by_symbol: SymbolMap<SymbolPrints>,
}

impl History {
    /// Room for `capacity` prints, at least one. Memory is allocated as they come.
    pub(super) fn new(capacity: u32) -> Self {
        let by_symbol = SymbolMap::filled_with(SymbolPrints::default);
        Self { slots: Vec::new(), capacity: capacity.max(1), oldest: 0, by_symbol }
    }

    /// Keeps the encoded frame of a print, which stands at this position in the feed.
    #[expect(clippy::cast_possible_truncation, reason = "below the capacity, which is a u32")]
    pub(super) fn push(&mut self, symbol: SymbolIndex, position: FeedPosition, frame: &[u8]) {
        let FeedPosition { ordinal, sequence } = position;
        let slot = Slot { sequence, ordinal, symbol, frame: PriceFrame::new(frame) };
        let place = if self.slots.len() < self.capacity as usize {
            self.slots.push(slot);
            self.slots.len() as u32 - 1
        } else {
            let place = self.oldest;
            self.oldest = if place + 1 == self.capacity { 0 } else { place + 1 };
            let Some(oldest) = self.slots.get_mut(place as usize) else {
                unreachable!("the oldest print has a slot below the capacity")
            };
            let old = std::mem::replace(oldest, slot);
            self.lose(old.symbol, place);
            place
        };
        assert!(place < self.capacity, "a print has a slot below the capacity");
        self.by_symbol[symbol].slots.push_back(place);
    }

    fn lose(&mut self, symbol: SymbolIndex, place: u32) {
        let prints = &mut self.by_symbol[symbol];
        if prints.slots.front() == Some(&place) {
            prints.slots.pop_front();
            prints.first = prints.first.wrapping_add(1);
        } else {
            // The symbol has been forgotten since.
            debug_assert!(!prints.slots.contains(&place), "a symbol's oldest print is its first");
        }
    }

    /// No stream wants every print of the symbol any longer.
    pub(super) fn forget(&mut self, symbol: SymbolIndex) {
        let prints = &mut self.by_symbol[symbol];
        let next = prints.next();
        *prints = SymbolPrints { first: next, ..SymbolPrints::default() };
        assert!(prints.next() == next, "the number of a print never stands for another one");
    }

    /// The number of the symbol's next print. A stream that has been sent everything stands there.
    pub(super) fn next(&self, symbol: SymbolIndex) -> PrintNumber {
        self.by_symbol[symbol].next()
    }

    /// Whether a stream that stands at `number` can go on from there without a loss.
    pub(super) fn reaches_back_to(&self, symbol: SymbolIndex, number: PrintNumber) -> bool {
        let prints = &self.by_symbol[symbol];
        // A number that is not older than the first is at most the length past it, wrapped or not.
        number.wrapping_sub(prints.first) as usize <= prints.slots.len()
    }

    /// The frame of a print; `None` when there is no such print yet, or no longer.
    pub(super) fn frame(&self, symbol: SymbolIndex, number: PrintNumber) -> Option<&[u8]> {
        self.slot(symbol, number).map(|slot| slot.frame.bytes())
    }

    /// The first print, from `number` on, that stands after a position in the feed.
    pub(super) fn first_after(
        &self,
        symbol: SymbolIndex,
        mut number: PrintNumber,
        position: FeedPosition,
    ) -> PrintNumber {
        while let Some(&Slot { ordinal, sequence, .. }) = self.slot(symbol, number)
            && (FeedPosition { ordinal, sequence }) <= position
        {
            number = number.wrapping_add(1);
        }
        number
    }

    fn slot(&self, symbol: SymbolIndex, number: PrintNumber) -> Option<&Slot> {
        let prints = &self.by_symbol[symbol];
        let place = prints.slots.get(number.wrapping_sub(prints.first) as usize)?;
        let Some(slot) = self.slots.get(*place as usize) else {
            unreachable!("a symbol's prints lie in slots of the history")
        };
        debug_assert!(slot.symbol == symbol, "a kept print is of the symbol that lists it");
        Some(slot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn symbol(index: usize) -> SymbolIndex {
        SymbolIndex::new(index).unwrap()
    }

    fn kept(history: &History, of: SymbolIndex, mut from: PrintNumber) -> Vec<String> {
        let mut frames = Vec::new();
        while let Some(frame) = history.frame(of, from) {
            frames.push(String::from_utf8(frame.to_vec()).unwrap());
            from = from.wrapping_add(1);
        }
        frames
    }

    #[test]
    fn prints_come_in_order_and_the_oldest_goes_first() {
        let mut history = History::new(3);
        let (a, b) = (symbol(1), symbol(2));
        let start = history.next(a);
        history.push(a, FeedPosition::default(), b"a10");
        history.push(b, FeedPosition::default(), b"b11");
        history.push(a, FeedPosition::default(), b"a12");
        assert_eq!(kept(&history, a, start), ["a10", "a12"]);
        assert!(history.reaches_back_to(a, start));
        history.push(b, FeedPosition::default(), b"b13");
        assert!(!history.reaches_back_to(a, start));
        assert_eq!(kept(&history, a, start + 1), ["a12"]);
        assert_eq!(kept(&history, b, 0), ["b11", "b13"]);
        history.push(b, FeedPosition::default(), b"b14");
        history.push(b, FeedPosition::default(), b"b15");
        assert!(history.reaches_back_to(a, start + 2), "it has had all there was");
        assert_eq!(kept(&history, b, 0), [""; 0], "the first is gone");
        assert_eq!(kept(&history, b, 1), ["b13", "b14", "b15"]);
    }

    #[test]
    fn a_forgotten_symbol_starts_again_and_its_old_slots_do_no_harm() {
        let mut history = History::new(4);
        let a = symbol(7);
        history.push(a, FeedPosition::default(), b"1");
        history.push(a, FeedPosition::default(), b"2");
        history.forget(a);
        let start = history.next(a);
        assert_eq!(kept(&history, a, start), [""; 0]);
        for frame in ["3", "4", "5", "6"] {
            history.push(a, FeedPosition::default(), frame.as_bytes());
        }
        assert_eq!(kept(&history, a, start), ["3", "4", "5", "6"]);
        history.push(a, FeedPosition::default(), b"7");
        assert!(!history.reaches_back_to(a, start));
        assert_eq!(kept(&history, a, start + 1), ["4", "5", "6", "7"]);
    }

    #[test]
    fn print_numbers_wrap() {
        let mut history = History::new(2);
        let a = symbol(0);
        history.by_symbol[a].first = u32::MAX;
        history.push(a, FeedPosition::default(), b"1");
        history.push(a, FeedPosition::default(), b"2");
        assert_eq!(kept(&history, a, u32::MAX), ["1", "2"]);
        history.push(a, FeedPosition::default(), b"3");
        assert!(!history.reaches_back_to(a, u32::MAX));
        assert_eq!(kept(&history, a, 0), ["2", "3"]);
    }
}
