use crate::types::SymbolIndex;

use super::every::EveryPrint;
use super::feed::FeedPosition;
use super::history::History;
use super::limits::MAX_SYMBOLS_PER_STREAM;
use super::slot_set::SlotSet;

/// One symbol that a stream watches.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscription {
    pub symbol: SymbolIndex,
    /// Where the stream stands among the symbol's subscribers.
    pub place: u32,
}

/// What a stream watches, and which of it is news to the client. A subscription is known by its
/// slot, its position in the list.
#[derive(Debug)]
pub(super) struct Watchlist {
    subscriptions: Vec<Subscription>,
    /// Slots whose newest price is news.
    changed: SlotSet,
    /// Set on a stream that wants every print.
    every: Option<Box<EveryPrint>>,
    /// The slot that is served first.
    turn: u16,
}

impl Watchlist {
    /// An empty list with room for so many symbols.
    pub(super) fn new(symbols: usize, every: Option<Box<EveryPrint>>) -> Self {
        let subscriptions = Vec::with_capacity(symbols);
        Self { subscriptions, changed: SlotSet::new(symbols), every, turn: 0 }
    }

    /// Whether the stream wants every print.
    pub(super) fn wants_every(&self) -> bool {
        self.every.is_some()
    }

    /// The state of a stream that wants every print.
    pub(super) fn every_mut(&mut self) -> Option<&mut EveryPrint> {
        self.every.as_deref_mut()
    }

    /// Whether there is anything to send.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        !self.changed.is_empty() || self.every.as_ref().is_some_and(|every| every.has_news())
    }

    /// What is watched, by slot.
    pub(super) fn subscriptions(&self) -> &[Subscription] {
        &self.subscriptions
    }

    /// The symbol in a slot.
    #[inline]
    pub(super) fn symbol(&self, slot: u16) -> SymbolIndex {
        symbol_in(&self.subscriptions, slot)
    }

    /// The slot of the next subscription that is added.
    pub(super) fn next_slot(&self) -> u16 {
        let Ok(slot) = u16::try_from(self.subscriptions.len()) else {
            unreachable!("a stream has at most MAX_SYMBOLS_PER_STREAM subscriptions")
        };
        slot
    }

    /// Adds a subscription, in [`next_slot`](Self::next_slot).
    pub(super) fn push(&mut self, subscription: Subscription, history: &History) {
        self.subscriptions.push(subscription);
        assert!(
            self.subscriptions.len() <= MAX_SYMBOLS_PER_STREAM,
            "requests and changes with more symbols are refused"
        );
        self.changed.grow(self.subscriptions.len());
        if let Some(every) = &mut self.every {
            every.subscribe(subscription.symbol, history);
        }
    }

    /// The client knows nothing of a slot that was just added: prints before its first price are none
    /// that it has lost.
    pub(super) fn begin_with_next(&mut self, slot: u16) {
        // A stream of the newest prices loses nothing in any case.
        if let Some(every) = &mut self.every {
            every.begin_with_next(slot);
        }
    }

    /// Removes the subscription in a slot. The last one moves there, and is returned if there is one.
    pub(super) fn remove(&mut self, slot: u16) -> (Subscription, Option<Subscription>) {
        assert!(slot < self.next_slot(), "a slot that is removed has a subscription");
        let last = self.next_slot() - 1;
        let removed = self.subscriptions.swap_remove(usize::from(slot));
        self.changed.swap_remove(slot, last);
        if let Some(every) = &mut self.every {
            every.unsubscribe(slot, last);
        }
        debug_assert!(
            self.changed.iter().all(|slot| slot < self.next_slot()),
            "only subscriptions have news"
        );
        let moved = self.subscriptions.get(usize::from(slot)).copied();
        assert!(moved.is_some() == (slot < last), "the last subscription moves to the free slot");
        (removed, moved)
    }

    /// The stream has moved among the subscribers of a symbol, who know it by the symbol's slot.
    pub(super) fn set_place(&mut self, slot: u16, symbol: SymbolIndex, place: u32) {
        let subscription = self.subscriptions.get_mut(usize::from(slot));
        let Some(subscription) = subscription.filter(|known| known.symbol == symbol) else {
            unreachable!("a symbol knows its subscribers by their slots")
        };
        subscription.place = place;
    }

    /// Takes all subscriptions, of a stream that ends.
    pub(super) fn take_subscriptions(&mut self) -> Vec<Subscription> {
        std::mem::take(&mut self.subscriptions)
    }

    /// The newest price of a slot is news. False when it was already.
    #[inline]
    pub(super) fn mark(&mut self, slot: u16) -> bool {
        debug_assert!(slot < self.next_slot(), "only a subscription has news");
        self.changed.insert(slot)
    }

    /// The slot, where one newest price is the only news there may be.
    #[inline]
    pub(super) fn only_news(&self) -> Option<u16> {
        if self.wants_every() { None } else { self.changed.only() }
    }

    /// Takes the only news.
    #[inline]
    pub(super) fn clear(&mut self) {
        self.changed.clear();
    }

    /// Takes a slot whose newest price is news; each has its turn.
    pub(super) fn pop_changed(&mut self) -> Option<u16> {
        let slot = self.changed.pop(self.turn)?;
        self.turn = slot + 1;
        Some(slot)
    }

    /// The symbols whose newest price is news, in place of lost prints that have not been told.
    pub(super) fn newest_for_lost(&self) -> impl Iterator<Item = SymbolIndex> {
        let has_lost = self.every.as_ref().is_some_and(|every| every.has_lost());
        let slots = has_lost.then(|| self.changed.iter());
        slots.into_iter().flatten().map(|slot| self.symbol(slot))
    }

    /// Whether the stream has nothing newer than this position: an id that
    /// tells it takes nothing back.
    pub(super) fn is_level_at(&self, position: FeedPosition) -> bool {
        self.every.as_ref().is_none_or(|every| every.is_level_at(position))
    }

    /// Takes a slot with prints to send; each has its turn.
    pub(super) fn pop_printed(&mut self) -> Option<u16> {
        let slot = self.every.as_mut()?.pop_marked(self.turn)?;
        self.turn = slot + 1;
        Some(slot)
    }

    /// Finds the slots whose next print is gone from the history. They lose everything up to this
    /// feed sequence and go on with the newest price.
    pub(super) fn find_losses(&mut self, history: &History, sequence: u64) {
        // A stream of the newest prices loses nothing.
        let Some(every) = &mut self.every else { return };
        let mut is_any_lost = false;
        for slot in every.marked() {
            let symbol = symbol_in(&self.subscriptions, slot);
            if !history.reaches_back_to(symbol, every.next(slot)) {
                self.changed.insert(slot);
                is_any_lost = true;
            }
        }
        if is_any_lost {
            every.lose_up_to(sequence);
        }
    }
}

#[inline]
#[expect(clippy::indexing_slicing, reason = "a slot with news has a subscription")]
fn symbol_in(subscriptions: &[Subscription], slot: u16) -> SymbolIndex {
    subscriptions[usize::from(slot)].symbol
}
