use std::collections::VecDeque;

use crate::types::{MAX_SYMBOLS, SymbolIndex};

use super::frame::MAX_FRAME_BYTES;

/// Number of a print among those of its symbol that this shard has kept, counted on and on.
pub(super) type PrintNumber = u32;

/// One print, encoded once and sent to everybody who wants each of them.
#[derive(Debug)]
struct Slot {
    symbol: SymbolIndex,
    length: u8,
    bytes: [u8; MAX_FRAME_BYTES],
}

/// The kept prints of one symbol.
#[derive(Debug, Default)]
struct SymbolPrints {
    /// Number of the oldest that is still kept.
    first: PrintNumber,
    /// Where each of them lies, oldest first.
    slots: VecDeque<u32>,
}

impl SymbolPrints {
    fn next(&self) -> PrintNumber {
        // Never more than the capacity, which is a `u32`.
        self.first.wrapping_add(u32::try_from(self.slots.len()).unwrap_or(u32::MAX))
    }
}

/// The newest prints of the symbols whose every print somebody wants, for all streams of a shard
/// together: a stream keeps numbers, never prints. When it is full the oldest print goes, and a
/// stream that had not been sent it finds it missing.
#[derive(Debug)]
pub(super) struct History {
    slots: Vec<Slot>,
    capacity: u32,
    /// Where the next print goes once all slots are taken: where the oldest is.
    oldest: u32,
    by_symbol: Vec<SymbolPrints>,
}

impl History {
    /// Room for `capacity` prints, at least one. Their memory is taken as they come.
    pub fn new(capacity: u32) -> Self {
        let by_symbol = std::iter::repeat_with(SymbolPrints::default).take(MAX_SYMBOLS).collect();
        Self { slots: Vec::new(), capacity: capacity.max(1), oldest: 0, by_symbol }
    }

    /// Keeps the frame of a print.
    pub fn push(&mut self, symbol: SymbolIndex, frame: &[u8]) {
        let mut bytes = [0; MAX_FRAME_BYTES];
        let Some(to) = bytes.get_mut(..frame.len()) else {
            debug_assert!(false, "the longest frame fits");
            return;
        };
        to.copy_from_slice(frame);
        let length = u8::try_from(frame.len()).unwrap_or(u8::MAX);
        let slot = Slot { symbol, length, bytes };
        let place = if self.slots.len() < self.capacity as usize {
            self.slots.push(slot);
            u32::try_from(self.slots.len() - 1).unwrap_or(u32::MAX)
        } else {
            let place = self.oldest;
            self.oldest = if place + 1 == self.capacity { 0 } else { place + 1 };
            let Some(old) = self.slots.get_mut(place as usize) else { return };
            let old = std::mem::replace(old, slot);
            self.lose(&old, place);
            place
        };
        if let Some(prints) = self.by_symbol.get_mut(symbol.get()) {
            prints.slots.push_back(place);
        }
    }

    fn lose(&mut self, old: &Slot, place: u32) {
        let Some(prints) = self.by_symbol.get_mut(old.symbol.get()) else { return };
        // Otherwise the symbol has been forgotten since.
        if prints.slots.front() == Some(&place) {
            prints.slots.pop_front();
            prints.first = prints.first.wrapping_add(1);
        }
    }

    /// Nobody wants each print of the symbol any longer.
    pub fn forget(&mut self, symbol: SymbolIndex) {
        if let Some(prints) = self.by_symbol.get_mut(symbol.get()) {
            *prints = SymbolPrints { first: prints.next(), ..SymbolPrints::default() };
        }
    }

    /// Number of the print that comes next: a stream that has all so far stands there.
    pub fn next(&self, symbol: SymbolIndex) -> PrintNumber {
        self.by_symbol.get(symbol.get()).map_or(0, SymbolPrints::next)
    }

    /// Whether a stream that stands at `number` can go on from there: whether nothing from there on
    /// is gone.
    pub fn reaches_back_to(&self, symbol: SymbolIndex, number: PrintNumber) -> bool {
        // A number that is not behind the oldest is at most the length ahead of it, also when it
        // has wrapped.
        self.by_symbol
            .get(symbol.get())
            .is_none_or(|prints| number.wrapping_sub(prints.first) as usize <= prints.slots.len())
    }

    /// The frame of a print; `None` when there is none of this number yet, or no longer.
    pub fn frame(&self, symbol: SymbolIndex, number: PrintNumber) -> Option<&[u8]> {
        let prints = self.by_symbol.get(symbol.get())?;
        let place = prints.slots.get(number.wrapping_sub(prints.first) as usize)?;
        let slot = self.slots.get(*place as usize)?;
        slot.bytes.get(..usize::from(slot.length))
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
        history.push(a, b"a10");
        history.push(b, b"b11");
        history.push(a, b"a12");
        assert_eq!(kept(&history, a, start), ["a10", "a12"]);
        assert!(history.reaches_back_to(a, start));
        history.push(b, b"b13");
        assert!(!history.reaches_back_to(a, start));
        assert_eq!(kept(&history, a, start + 1), ["a12"]);
        assert_eq!(kept(&history, b, 0), ["b11", "b13"]);
        history.push(b, b"b14");
        history.push(b, b"b15");
        assert!(history.reaches_back_to(a, start + 2), "it has had all there was");
        assert_eq!(kept(&history, b, 0), [""; 0], "the first is gone");
        assert_eq!(kept(&history, b, 1), ["b13", "b14", "b15"]);
    }

    #[test]
    fn a_forgotten_symbol_starts_again_and_its_old_slots_do_no_harm() {
        let mut history = History::new(4);
        let a = symbol(7);
        history.push(a, b"1");
        history.push(a, b"2");
        history.forget(a);
        let start = history.next(a);
        assert_eq!(kept(&history, a, start), [""; 0]);
        for frame in ["3", "4", "5", "6"] {
            history.push(a, frame.as_bytes());
        }
        assert_eq!(kept(&history, a, start), ["3", "4", "5", "6"]);
        history.push(a, b"7");
        assert!(!history.reaches_back_to(a, start));
        assert_eq!(kept(&history, a, start + 1), ["4", "5", "6", "7"]);
    }

    #[test]
    fn numbers_wrap() {
        let mut history = History::new(2);
        let a = symbol(0);
        history.by_symbol[0].first = u32::MAX;
        history.push(a, b"1");
        history.push(a, b"2");
        assert_eq!(kept(&history, a, u32::MAX), ["1", "2"]);
        history.push(a, b"3");
        assert!(!history.reaches_back_to(a, u32::MAX));
        assert_eq!(kept(&history, a, 0), ["2", "3"]);
    }
}
