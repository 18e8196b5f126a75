//! The resting orders of one symbol and their priority against a print.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use super::line::Key;
use crate::types::{PriceCents, Side};

/// Index of an order in [`Orders`](super::orders::Orders).
pub(super) type OrderSlot = usize;

/// What determines an order's priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Resting {
    pub(super) side: Side,
    /// `None` for a market order.
    pub(super) limit: Option<PriceCents>,
    /// Grows with the time of acceptance.
    pub(super) key: Key,
}

/// Open orders of one symbol.
#[derive(Debug, Default)]
pub(super) struct Book {
    market: BTreeMap<Key, OrderSlot>,
    buys: BTreeMap<(Reverse<PriceCents>, Key), OrderSlot>,
    sells: BTreeMap<(PriceCents, Key), OrderSlot>,
}

impl Book {
    pub(super) fn is_empty(&self) -> bool {
        self.market.is_empty() && self.buys.is_empty() && self.sells.is_empty()
    }

    pub(super) fn insert(&mut self, order: Resting, slot: OrderSlot) {
        match (order.limit, order.side) {
            (None, _) => self.market.insert(order.key, slot),
            (Some(limit), Side::Buy) => self.buys.insert((Reverse(limit), order.key), slot),
            (Some(limit), Side::Sell) => self.sells.insert((limit, order.key), slot),
        };
    }

    pub(super) fn remove(&mut self, order: Resting) {
        match (order.limit, order.side) {
            (None, _) => self.market.remove(&order.key),
            (Some(limit), Side::Buy) => self.buys.remove(&(Reverse(limit), order.key)),
            (Some(limit), Side::Sell) => self.sells.remove(&(limit, order.key)),
        };
    }

    /// The order that a print at `price` fills first: market orders by time, then limit orders, the
    /// limit furthest through the price first, by time among equals.
    pub(super) fn best(&self, price: PriceCents) -> Option<OrderSlot> {
        if let Some((_, &slot)) = self.market.first_key_value() {
            return Some(slot);
        }
        let buy = self
            .buys
            .first_key_value()
            .map(|(&(Reverse(limit), key), &slot)| (limit.cents() - price.cents(), key, slot));
        let sell = self
            .sells
            .first_key_value()
            .map(|(&(limit, key), &slot)| (price.cents() - limit.cents(), key, slot));
        [buy, sell]
            .into_iter()
            .flatten()
            .filter(|&(through, _, _)| through >= 0)
            .min_by_key(|&(through, key, _)| (Reverse(through), key))
            .map(|(_, _, slot)| slot)
    }

    /// All orders of the book.
    pub(super) fn slots(&self) -> impl Iterator<Item = OrderSlot> {
        self.market.values().chain(self.buys.values()).chain(self.sells.values()).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn price(cents: i64) -> PriceCents {
        PriceCents::new(cents).unwrap()
    }

    fn order(number: u64, side: Side, limit: Option<i64>) -> Resting {
        Resting { side, limit: limit.map(price), key: Key { session: 1, number } }
    }

    #[test]
    fn price_then_time_decides() {
        use Side::{Buy, Sell};
        let orders = [
            order(0, Buy, Some(100)),
            order(1, Buy, Some(101)),
            order(2, Buy, Some(101)),
            order(3, Sell, Some(98)),
            order(4, Sell, Some(103)),
            order(5, Sell, None),
        ];
        let mut book = Book::default();
        for (slot, &order) in orders.iter().enumerate() {
            book.insert(order, slot);
        }
        let mut served = Vec::new();
        while let Some(slot) = book.best(price(100)) {
            served.push(slot);
            book.remove(orders[slot]);
        }
        assert_eq!(served, [5, 3, 1, 2, 0], "market, 2 through, 1 through by time, at the limit");
        assert_eq!(book.best(price(102)), None);
        assert_eq!(book.best(price(103)), Some(4));
    }
}
