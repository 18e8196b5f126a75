use crate::types::{MAX_SYMBOLS, SymbolIndex};

/// One connection's interest in one symbol, as the symbol sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Subscriber {
    /// The connection's key in the slab.
    pub key: u32,
    /// Which of the connection's subscriptions this is.
    pub slot: u16,
}

/// Who watches each symbol on this shard. Adding and removing cost the same however many watch.
#[derive(Debug)]
pub(super) struct Subscribers {
    by_symbol: Vec<Vec<Subscriber>>,
}

impl Subscribers {
    pub fn new() -> Self {
        Self { by_symbol: std::iter::repeat_with(Vec::new).take(MAX_SYMBOLS).collect() }
    }

    /// Everybody who watches a symbol.
    pub fn of(&self, symbol: SymbolIndex) -> &[Subscriber] {
        self.by_symbol.get(symbol.get()).map_or(&[], Vec::as_slice)
    }

    /// Adds an interest and tells its place, which the connection keeps for the removal.
    pub fn add(&mut self, symbol: SymbolIndex, subscriber: Subscriber) -> u32 {
        let Some(subscribers) = self.by_symbol.get_mut(symbol.get()) else { return 0 };
        subscribers.push(subscriber);
        u32::try_from(subscribers.len() - 1).unwrap_or(u32::MAX)
    }

    /// The connection at `place` knows the symbol by another slot now.
    pub fn set_slot(&mut self, symbol: SymbolIndex, place: u32, slot: u16) {
        if let Some(subscriber) =
            self.by_symbol.get_mut(symbol.get()).and_then(|all| all.get_mut(place as usize))
        {
            subscriber.slot = slot;
        }
    }

    /// Removes the interest at `place`. The last one moves there: it is returned, so that its
    /// connection learns the new place.
    pub fn remove(&mut self, symbol: SymbolIndex, place: u32) -> Option<Subscriber> {
        let subscribers = self.by_symbol.get_mut(symbol.get())?;
        let place = place as usize;
        if place >= subscribers.len() {
            return None;
        }
        subscribers.swap_remove(place);
        // Memory of a symbol that was popular once goes back.
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
        assert_eq!(subscribers.remove(symbol, 9), None);
    }
}
