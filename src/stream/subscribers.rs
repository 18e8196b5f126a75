use crate::market::SymbolMap;
use crate::types::SymbolIndex;

/// One stream's interest in one symbol, as the symbol knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    /// The stream's key among the connections.
    pub key: u32,
    /// The symbol's slot in the stream's watchlist.
    pub slot: u16,
}

/// The subscribers of each symbol. Adding and removing cost the same however many there are.
#[derive(Debug)]
pub(super) struct Subscribers {
    by_symbol: SymbolMap<Vec<Subscriber>>,
}

impl Subscribers {
    /// No symbol has any.
    pub(super) fn new() -> Self {
        Self { by_symbol: SymbolMap::filled_with(Vec::new) }
    }

    /// The subscribers of a symbol.
    #[inline]
    pub(super) fn of(&self, symbol: SymbolIndex) -> &[Subscriber] {
        &self.by_symbol[symbol]
    }

    /// Adds a subscriber and returns its place, which its stream keeps for the removal.
    pub(super) fn add(&mut self, symbol: SymbolIndex, subscriber: Subscriber) -> u32 {
        let subscribers = &mut self.by_symbol[symbol];
        debug_assert!(
            subscribers.iter().all(|other| other.key != subscriber.key),
            "a stream watches a symbol once"
        );
        let Ok(place) = u32::try_from(subscribers.len()) else {
            unreachable!("a symbol has at most one subscriber per stream, whose keys are u32")
        };
        subscribers.push(subscriber);
        place
    }

    /// The stream at `place` has moved the symbol to another slot.
    pub(super) fn replace(&mut self, symbol: SymbolIndex, place: u32, by: Subscriber) {
        let subscriber = self.by_symbol[symbol].get_mut(place as usize);
        let Some(subscriber) = subscriber.filter(|subscriber| subscriber.key == by.key) else {
            unreachable!("a stream knows its place in each symbol's list")
        };
        assert!(by.slot < subscriber.slot, "the last slot of a watchlist moves to a removed one");
        *subscriber = by;
    }

    /// Removes the subscriber at `place`. The last one moves there, and is returned so that its
    /// stream learns the new place.
    pub(super) fn remove(&mut self, symbol: SymbolIndex, place: u32) -> Option<Subscriber> {
        let subscribers = &mut self.by_symbol[symbol];
        let place = place as usize;
        assert!(place < subscribers.len(), "a stream knows its place in each symbol's list");
        let removed = subscribers.swap_remove(place);
        assert!(
            subscribers.get(place).is_none_or(|moved| moved.key != removed.key),
            "a stream watches a symbol once"
        );
        // Frees the memory of a symbol that was popular once.
        if subscribers.len() < subscribers.capacity() / 4 {
            subscribers.shrink_to(subscribers.len() * 2);
        }
        subscribers.get(place).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_subscriber_takes_the_place_of_one_that_left() {
        let symbol = SymbolIndex::new(3).unwrap();
        let mut subscribers = Subscribers::new();
        let of = |key| Subscriber { key, slot: 0 };
        assert_eq!(
            (0..3).map(|key| subscribers.add(symbol, of(key))).collect::<Vec<_>>(),
            [0, 1, 2]
        );
        assert_eq!(subscribers.remove(symbol, 0), Some(of(2)), "2 now stands at place 0");
        assert_eq!(subscribers.remove(symbol, 1), None, "the last one: nobody moved");
        assert_eq!(subscribers.of(symbol), [of(2)]);
    }

    #[test]
    #[should_panic(expected = "a stream knows its place")]
    fn a_place_without_a_subscriber_is_a_bug() {
        Subscribers::new().remove(SymbolIndex::FIRST, 0);
    }
}
