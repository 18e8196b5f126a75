//! Lists of a user's ended orders. What they have of each order without reading it: see [`Terms`].

use std::sync::Arc;

use super::IndexError;
use super::index_handle::Index;
use super::keys;
use super::store::{Bytes, ScanOrder, Space};
use crate::order::{Order, PageRequest, Sequence, Status, decode_stored};
use crate::types::{OrderId, Symbol, UserId};

/// What one part of a list may cost, in keys visited: some 10 ms of a reader's time, so that other reads
/// come between the parts of a long one.
const MAX_COST: usize = 20_000;
/// What it costs to read an order, as much as this many keys.
const READ_COST: usize = 10;

/// A part of a user's ended orders.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct EndedOrders {
    /// The selected orders, in the sequence of the request.
    pub orders: Vec<Arc<Order>>,
    /// The last order that was looked at: the list continues after it. `None` at its end.
    pub next: Option<OrderId>,
}

/// Status and symbol of an ended order: its value in the list of its user, so that a list of few of them
/// does not read the others. Part of the format. Versions before wrote none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Terms {
    status: Status,
    symbol: Symbol,
}

impl Terms {
    pub(super) fn of(order: &Order) -> Self {
        Self { status: order.status, symbol: order.symbol }
    }

    pub(super) fn encode(self) -> Bytes {
        let status = match self.status {
            Status::Filled => 1,
            Status::Cancelled => 2,
            Status::Failed => 3,
            // Not listed.
            Status::Pending
            | Status::Submitted
            | Status::PartiallyFilled
            | Status::PendingCancel => 0,
        };
        [&[status], self.symbol.as_str().as_bytes()].concat().into()
    }

    /// `None`: the order itself says.
    fn decode(value: &[u8]) -> Option<Self> {
        let (status, symbol) = value.split_first()?;
        let status = match status {
            1 => Status::Filled,
            2 => Status::Cancelled,
            3 => Status::Failed,
            _ => return None,
        };
        let symbol = Symbol::new(std::str::from_utf8(symbol).ok()?).ok()?;
        Some(Self { status, symbol })
    }
}

impl Index {
    /// A part of the user's ended orders that a request selects. It may be short, or empty, although there
    /// are more: what one part reads is bounded.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn ended(&self, user: &UserId, request: &PageRequest) -> Result<EndedOrders, IndexError> {
        let mut found = EndedOrders::default();
        if request.limit == 0 {
            return Ok(found);
        }
        let view = self.view()?;
        let (from, to) = keys::history_range(user, request.ids());
        let scan_order = match request.sequence {
            Sequence::NewestFirst => ScanOrder::Descending,
            Sequence::OldestFirst => ScanOrder::Ascending,
        };
        let filter = &request.filter;
        let (mut cost, mut last, mut is_cut) = (0, None, false);
        if from < to {
            view.scan(Space::History, (&from, &to), scan_order, &mut |key, value| {
                if found.orders.len() == request.limit || cost >= MAX_COST {
                    is_cut = true;
                    return Ok(false);
                }
                let order_id = keys::order_id_at_end(key)?;
                last = Some(order_id);
                cost += 1;
                let terms = Terms::decode(value);
                if terms.is_some_and(|terms| !filter.wants_terms(terms.status, terms.symbol)) {
                    return Ok(true);
                }
                cost += READ_COST;
                let ended = view.get(Space::Ended, &keys::order_id_bytes(order_id))?;
                let ended = ended.ok_or(IndexError::Unreadable { what: "an ended order" })?;
                let order = Arc::clone(decode_stored(&ended)?.order());
                if filter.wants(&order) {
                    found.orders.push(order);
                }
                Ok(true)
            })?;
        }
        found.next = last.filter(|_| is_cut);
        assert!(found.orders.len() <= request.limit, "a list has at most its limit");
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_round_trip_and_anything_else_is_no_terms() {
        for status in [Status::Filled, Status::Cancelled, Status::Failed] {
            let terms = Terms { status, symbol: Symbol::new("BRK.A").unwrap() };
            assert_eq!(Terms::decode(&terms.encode()), Some(terms));
        }
        let open = Terms { status: Status::Pending, symbol: Symbol::new("A").unwrap() };
        for value in [&b""[..], &open.encode(), b"\x01", b"\x01a", b"\x01\xff", b"\x07A"] {
            assert_eq!(Terms::decode(value), None, "{value:?}");
        }
    }
}
