//! The exchange's records of orders: what was answered, what was executed, what is open. Bounded:
//! beyond a limit, the orders that finished first are forgotten.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;

use compact_str::CompactString;

use super::book::{OrderSlot, Resting};
use super::line::Key;
use crate::exchange::wire::{ExchangeStatus, Refusal};
use crate::types::{
    OrderId, OrderType, PriceCents, Shares, Side, Symbol, TimeInForce, TimestampMicros,
};

/// Most open orders, at about 450 bytes each: at most 450 MB.
pub(super) const MAX_OPEN_ORDERS: usize = 1_000_000;
/// Most finished orders remembered, at about 400 bytes each.
pub(super) const MAX_FINISHED_ORDERS: usize = 1_000_000;

/// A client's order id. Longbow's are UUIDs, which take 16 bytes and no heap block.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ClientKey {
    Uuid(OrderId),
    Text(Box<str>),
}

impl ClientKey {
    pub(super) fn new(text: &str) -> Self {
        text.parse().map_or_else(|_| Self::Text(Box::from(text)), Self::Uuid)
    }

    pub(super) fn to_text(&self) -> CompactString {
        match self {
            Self::Uuid(id) => compact_str::format_compact!("{id}"),
            Self::Text(text) => CompactString::new(text),
        }
    }
}

/// One execution of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Execution {
    pub(super) key: Key,
    pub(super) price: PriceCents,
    pub(super) shares: Shares,
    pub(super) at: TimestampMicros,
}

/// The terms of an accepted order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    pub(super) symbol: Symbol,
    pub(super) side: Side,
    pub(super) order_type: OrderType,
    pub(super) limit: Option<PriceCents>,
    pub(super) time_in_force: TimeInForce,
    pub(super) shares: Shares,
}

/// An accepted order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) client: ClientKey,
    pub(super) key: Key,
    pub(super) terms: Terms,
    /// `Open`, `Filled`, `Cancelled` or `Expired`.
    pub(super) status: ExchangeStatus,
    pub(super) filled: Shares,
    pub(super) executions: Vec<Execution>,
    pub(super) accepted_at: TimestampMicros,
    /// When it ended; for an open order, when it last changed.
    pub(super) at: TimestampMicros,
}

impl Order {
    pub(super) const fn left(&self) -> Shares {
        self.terms.shares.saturating_sub(self.filled)
    }

    pub(super) const fn resting(&self) -> Resting {
        Resting { side: self.terms.side, limit: self.terms.limit, key: self.key }
    }
}

/// A refused order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Rejection {
    pub(super) client: ClientKey,
    pub(super) refusal: Refusal,
    pub(super) at: TimestampMicros,
}

/// The outcome of a submitted order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Record {
    Accepted(Order),
    Rejected(Rejection),
}

/// All orders by their ids. Uses trees: a growing hash table moves all its entries at once, which
/// with half a million orders takes 100 ms. Ids of both kinds grow with time, so new ones are
/// neighbours in the tree.
#[derive(Debug)]
pub(super) struct Orders {
    records: BTreeMap<OrderSlot, Box<Record>>,
    next_slot: OrderSlot,
    by_client: BTreeMap<ClientKey, OrderSlot>,
    by_key: BTreeMap<Key, OrderSlot>,
    /// Finished orders, the first finished first.
    finished: VecDeque<OrderSlot>,
    max_finished: usize,
    /// The last time at which one that is forgotten changed.
    pub(super) forgotten_until: Option<TimestampMicros>,
}

impl Orders {
    /// No orders; remembers at most `max_finished` finished ones.
    pub(super) fn new(max_finished: usize) -> Self {
        Self {
            records: BTreeMap::new(),
            next_slot: 0,
            by_client: BTreeMap::new(),
            by_key: BTreeMap::new(),
            finished: VecDeque::new(),
            max_finished,
            forgotten_until: None,
        }
    }

    pub(super) fn open_count(&self) -> usize {
        self.records.len().saturating_sub(self.finished.len())
    }

    pub(super) fn known(&self, client: &ClientKey) -> Option<&Record> {
        self.by_client.get(client).and_then(|slot| self.record(*slot))
    }

    fn record(&self, slot: OrderSlot) -> Option<&Record> {
        self.records.get(&slot).map(Box::as_ref)
    }

    fn record_mut(&mut self, slot: OrderSlot) -> Option<&mut Record> {
        self.records.get_mut(&slot).map(Box::as_mut)
    }

    fn insert(&mut self, record: Record) -> OrderSlot {
        let slot = self.next_slot;
        self.next_slot += 1;
        self.records.insert(slot, Box::new(record));
        slot
    }

    pub(super) fn slot(&self, key: Key) -> Option<OrderSlot> {
        self.by_key.get(&key).copied()
    }

    pub(super) fn get(&self, slot: OrderSlot) -> Option<&Order> {
        match self.record(slot)? {
            Record::Accepted(order) => Some(order),
            Record::Rejected(_) => None,
        }
    }

    /// Stores an order; `None` if its client id or its key is known already.
    pub(super) fn accept(&mut self, order: Order) -> Option<OrderSlot> {
        if self.by_client.contains_key(&order.client) || self.by_key.contains_key(&order.key) {
            return None;
        }
        let (client, key) = (order.client.clone(), order.key);
        let slot = self.insert(Record::Accepted(order));
        self.by_client.insert(client, slot);
        self.by_key.insert(key, slot);
        Some(slot)
    }

    /// Stores a refusal, so that the same order gets the same answer again.
    pub(super) fn reject(&mut self, rejection: Rejection) {
        if self.by_client.contains_key(&rejection.client) {
            return;
        }
        let client = rejection.client.clone();
        let slot = self.insert(Record::Rejected(rejection));
        self.by_client.insert(client, slot);
        self.finish(slot);
    }

    /// Adds an execution of at most the shares left; `true` if none are left after it.
    pub(super) fn execute(&mut self, slot: OrderSlot, execution: Execution) -> bool {
        let Some(Record::Accepted(order)) = self.record_mut(slot) else { return false };
        debug_assert!(execution.shares <= order.left(), "an order never fills beyond its size");
        order.filled = order.filled.saturating_add(execution.shares);
        order.executions.push(execution);
        order.at = execution.at;
        let filled = order.left() == 0;
        if filled {
            order.status = ExchangeStatus::Filled;
            self.finish(slot);
        }
        filled
    }

    /// Removes an execution. Returns it, and whether the order was filled and is open again; `None`
    /// if the order has no such execution.
    pub(super) fn bust(
        &mut self,
        slot: OrderSlot,
        execution: Key,
        at: TimestampMicros,
    ) -> Option<(Execution, bool)> {
        let Record::Accepted(order) = self.record_mut(slot)? else { return None };
        let place = order.executions.iter().position(|made| made.key == execution)?;
        let execution = order.executions.remove(place);
        order.filled = order.filled.saturating_sub(execution.shares);
        if !matches!(order.status, ExchangeStatus::Cancelled | ExchangeStatus::Expired) {
            order.at = at;
        }
        let reopened = order.status == ExchangeStatus::Filled;
        if reopened {
            order.status = ExchangeStatus::Open;
            self.finished.retain(|finished| *finished != slot);
        }
        Some((execution, reopened))
    }

    /// Ends an open order.
    pub(super) fn end(&mut self, slot: OrderSlot, status: ExchangeStatus, at: TimestampMicros) {
        let Some(Record::Accepted(order)) = self.record_mut(slot) else { return };
        if order.status == ExchangeStatus::Open {
            (order.status, order.at) = (status, at);
            self.finish(slot);
        }
    }

    /// Forgets finished orders older than `before`.
    pub(super) fn forget_finished_before(&mut self, before: TimestampMicros) {
        while let Some(record) = self.finished.front().and_then(|slot| self.record(*slot)) {
            let at = match record {
                Record::Accepted(order) => order.at,
                Record::Rejected(rejection) => rejection.at,
            };
            if at >= before {
                break;
            }
            self.forget_oldest();
        }
    }

    /// All records: finished orders in the order in which they finished, then open ones in the
    /// order of acceptance.
    pub(super) fn all(&self) -> Vec<&Record> {
        let is_open = |slot: &OrderSlot| {
            self.get(*slot).is_some_and(|order| order.status == ExchangeStatus::Open)
        };
        let open_slots = self.by_key.values().copied().filter(is_open);
        let slots = self.finished.iter().copied().chain(open_slots);
        slots.filter_map(|slot| self.record(slot)).collect()
    }

    /// Accepted orders with keys after `after`, at most `limit`.
    pub(super) fn accepted_after(&self, after: Option<Key>, limit: usize) -> Vec<&Order> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let orders = self.by_key.range((from, Bound::Unbounded)).take(limit);
        orders.filter_map(|(_, slot)| self.get(*slot)).collect()
    }

    fn finish(&mut self, slot: OrderSlot) {
        self.finished.push_back(slot);
        if self.finished.len() > self.max_finished {
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        let Some(slot) = self.finished.pop_front() else { return };
        match self.records.remove(&slot).map(|record| *record) {
            Some(Record::Accepted(order)) => {
                self.by_client.remove(&order.client);
                self.by_key.remove(&order.key);
                self.forgotten_until = self.forgotten_until.max(Some(order.at));
            }
            Some(Record::Rejected(rejection)) => {
                self.by_client.remove(&rejection.client);
            }
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_finished_are_forgotten_first() {
        let mut orders = Orders::new(100);
        for n in 0..=100 {
            orders.reject(Rejection {
                client: ClientKey::new(&format!("c{n}")),
                refusal: Refusal { code: "too_late".into(), message: String::new() },
                at: TimestampMicros::new(n),
            });
        }
        assert!(orders.known(&ClientKey::new("c0")).is_none());
        assert!(orders.known(&ClientKey::new("c1")).is_some());
        orders.forget_finished_before(TimestampMicros::new(50));
        assert!(orders.known(&ClientKey::new("c49")).is_none());
        assert!(orders.known(&ClientKey::new("c50")).is_some());
        assert_eq!(orders.open_count(), 0);
    }

    #[test]
    fn client_ids_keep_their_text() {
        for text in ["01932f1c-7b2a-7c11-8000-000000000001", "my order", "01932F1C"] {
            assert_eq!(ClientKey::new(text).to_text(), text);
        }
    }
}
