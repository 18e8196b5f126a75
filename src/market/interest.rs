//! Which symbols this process has current prices of, where that is not all of them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use super::last_value::{LastValue, LastValueTable};
use crate::sync::{InterestSet, Wakeup};
use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// A process that does not read the exchange's feed itself follows the prices of those symbols that
/// somebody watches or has asked about lately. The last-value table has no price of the others, so that
/// no stream begins with an old one; what is known of them is kept here.
#[derive(Debug)]
pub struct PriceInterest {
    has_all: AtomicBool,
    /// What is asked for comes soon, be the exchange's feed up or not.
    is_served: AtomicBool,
    followed: InterestSet,
    /// Prices that were current some time ago. Empty in a process that never follows.
    known: OnceLock<LastValueTable>,
    /// Symbols that requests wait for.
    asked: InterestSet,
    /// Wakes the feed thread when there are any.
    pub(crate) wakeup: Wakeup,
}

impl PriceInterest {
    /// Prices of all symbols are followed.
    pub(super) fn in_all() -> Self {
        Self {
            has_all: AtomicBool::new(true),
            is_served: AtomicBool::new(false),
            known: OnceLock::new(),
            followed: InterestSet::new(MAX_SYMBOLS),
            asked: InterestSet::new(MAX_SYMBOLS),
            wakeup: Wakeup::new(),
        }
    }

    /// Whether the price of this symbol is followed.
    pub fn has(&self, index: SymbolIndex) -> bool {
        self.has_all.load(Ordering::Acquire) || self.followed.has(index.get())
    }

    /// Asks for the price of a symbol: it is followed from soon on, for some seconds.
    pub fn ask(&self, index: SymbolIndex) {
        self.asked.set(index.get(), true);
        self.wakeup.wake();
    }

    /// Whether prices that are asked for come soon, although the feed may be down.
    pub fn is_served(&self) -> bool {
        self.is_served.load(Ordering::Acquire)
    }

    /// The last price of a symbol that is not followed, as it was some time ago.
    pub(super) fn known(&self, index: SymbolIndex) -> LastValue {
        self.known.get().map(|known| known.get(index)).unwrap_or_default()
    }

    /// Called by the feed thread: this was the price of a symbol that it does not follow, or no longer.
    pub(crate) fn note_known(&self, index: SymbolIndex, value: LastValue) {
        if value.has_price() {
            self.known.get_or_init(LastValueTable::new).set(index, value);
        }
    }

    /// Called by the feed thread: whether it can follow what is asked for.
    pub(crate) fn set_served(&self, is_served: bool) {
        self.is_served.store(is_served, Ordering::Release);
    }

    /// Called by the feed thread: whether it follows all symbols.
    pub(crate) fn set_all(&self, has_all: bool) {
        self.has_all.store(has_all, Ordering::Release);
    }

    /// Called by the feed thread: the table has the price of this symbol, or no longer has it.
    pub(crate) fn set_followed(&self, index: SymbolIndex, is_followed: bool) {
        self.followed.set(index.get(), is_followed);
    }

    /// Whether a request waits for a symbol.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.members().next().is_some()
    }

    /// Takes the symbols that requests wait for.
    pub(crate) fn take_asked(&self) -> Vec<SymbolIndex> {
        let asked: Vec<_> = self.asked.members().filter_map(SymbolIndex::new).collect();
        for index in &asked {
            self.asked.set(index.get(), false);
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_for_is_taken_once() {
        let interest = PriceInterest::in_all();
        let [first, last] = [0, MAX_SYMBOLS - 1].map(|index| SymbolIndex::new(index).unwrap());
        assert!(interest.has(last) && !interest.is_asked());
        interest.set_all(false);
        interest.ask(last);
        interest.ask(first);
        assert!(interest.is_asked() && !interest.has(last));
        assert_eq!(interest.take_asked(), [first, last]);
        assert_eq!(interest.take_asked(), []);
        interest.set_followed(last, true);
        assert!(interest.has(last) && !interest.has(first));
    }
}
