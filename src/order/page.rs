//! Pages of a user's orders: which orders, in which sequence.

use strum::VariantArray;

use super::record::Order;
use super::status::Status;
use crate::types::{OrderId, Symbol, TimestampMicros};

/// A set of statuses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StatusSet(u8);

/// Selects orders of a user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OrderFilter {
    /// Only orders in one of these statuses.
    pub statuses: StatusSet,
    /// Only orders for one of these symbols; empty: for any.
    pub symbols: Vec<Symbol>,
    /// Only orders created at this time or later.
    pub from: Option<TimestampMicros>,
    /// Only orders created before this time.
    pub to: Option<TimestampMicros>,
}

/// The sequence of a list of orders, by creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Sequence {
    #[default]
    NewestFirst,
    OldestFirst,
}

/// Selects a page of a user's orders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PageRequest {
    pub filter: OrderFilter,
    pub sequence: Sequence,
    /// Only orders that follow this one in the sequence.
    pub after: Option<OrderId>,
    /// Most orders of the page.
    pub limit: usize,
}

impl StatusSet {
    const EMPTY: Self = Self(0);

    /// Every status.
    pub fn all() -> Self {
        Status::VARIANTS.iter().copied().collect()
    }

    /// The statuses of orders that are not in a terminal state.
    pub fn open() -> Self {
        Status::VARIANTS.iter().copied().filter(|status| !status.is_terminal()).collect()
    }

    pub const fn contains(self, status: Status) -> bool {
        self.0 & Self::bit(status) != 0
    }

    /// The statuses of both sets.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Its statuses, always in the same order.
    pub fn iter(self) -> impl Iterator<Item = Status> {
        Status::VARIANTS.iter().copied().filter(move |status| self.contains(*status))
    }

    const fn bit(status: Status) -> u8 {
        1 << status as u8
    }
}

impl FromIterator<Status> for StatusSet {
    fn from_iter<I: IntoIterator<Item = Status>>(statuses: I) -> Self {
        statuses.into_iter().fold(Self::EMPTY, |set, status| Self(set.0 | Self::bit(status)))
    }
}

/// Every status.
impl Default for StatusSet {
    fn default() -> Self {
        Self::all()
    }
}

impl OrderFilter {
    /// Whether it selects every order.
    pub fn is_of_all(&self) -> bool {
        *self == Self::default()
    }

    /// Whether it selects no order in a terminal state.
    pub fn is_of_open_orders(&self) -> bool {
        self.statuses.iter().all(|status| !status.is_terminal())
    }

    pub fn wants(&self, order: &Order) -> bool {
        self.wants_terms(order.status, order.symbol)
            && self.from.is_none_or(|from| order.created_at >= from)
            && self.to.is_none_or(|to| order.created_at < to)
    }

    /// Whether it may select an order of this status and symbol.
    pub fn wants_terms(&self, status: Status, symbol: Symbol) -> bool {
        self.statuses.contains(status)
            && (self.symbols.is_empty() || self.symbols.contains(&symbol))
    }
}

impl Sequence {
    /// Whether `one` comes before `other`.
    pub fn is_before(self, one: OrderId, other: OrderId) -> bool {
        match self {
            Self::NewestFirst => one > other,
            Self::OldestFirst => one < other,
        }
    }
}

impl PageRequest {
    /// The range of ids that the page's orders are in: from the first, up to but without the second.
    /// An order is made with the time in its id, so the range follows from the times of the filter. It
    /// may hold orders of the same microsecond that the filter does not select.
    pub fn ids(&self) -> (Option<OrderId>, Option<OrderId>) {
        let from = self.filter.from.map(OrderId::first_at);
        let to = self.filter.to.map(|to| OrderId::first_at(to.saturating_add_micros(1)));
        match (self.sequence, self.after) {
            (_, None) => (from, to),
            (Sequence::NewestFirst, Some(after)) => {
                (from, Some(to.map_or(after, |to| to.min(after))))
            }
            (Sequence::OldestFirst, Some(after)) => {
                let next = OrderId::from_u128(after.as_u128().saturating_add(1));
                (Some(from.map_or(next, |from| from.max(next))), to)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserPartition;

    #[test]
    fn sets_of_statuses() {
        let open: Vec<Status> = StatusSet::open().iter().collect();
        assert!(open.iter().all(|status| !status.is_terminal()) && open.len() == 4);
        let ended = StatusSet::from_iter([Status::Failed, Status::Filled, Status::Cancelled]);
        assert_eq!(ended.with(StatusSet::open()), StatusSet::all());
        assert!(!ended.contains(Status::Pending) && ended.contains(Status::Filled));
    }

    #[test]
    fn the_range_of_ids_has_all_orders_of_the_times() {
        let at = |micros| TimestampMicros::new(micros);
        let last = UserPartition::all().last().unwrap();
        for micros in [1_732_400_000_123_456, 1_732_400_000_123_000, 1_732_400_000_122_999] {
            // The nanoseconds of the first and the last order of that microsecond.
            let first =
                OrderId::new(u128::from(micros) * 1_000, 0, UserPartition::from_low_bits(0));
            let newest = OrderId::new(u128::from(micros) * 1_000 + 999, u64::MAX, last);
            let filter = |from, to| OrderFilter { from, to, ..OrderFilter::default() };
            let of = |filter| PageRequest { filter, ..PageRequest::default() };
            let (from, to) = of(filter(Some(at(micros)), Some(at(micros + 1)))).ids();
            assert!(from.unwrap() <= first && newest < to.unwrap(), "{micros}");
            let (from, _) = of(filter(Some(at(micros + 1)), None)).ids();
            let (_, to) = of(filter(None, Some(at(micros - 1)))).ids();
            // Within a fraction of a microsecond.
            assert!(from.unwrap() > first && to.unwrap() <= first, "{micros}");
        }
    }

    #[test]
    fn a_cursor_narrows_the_range() {
        let id = |number: u128| OrderId::from_u128(number << 80 | 7 << 76 | 1 << 63);
        let request = |sequence, after| PageRequest {
            sequence,
            after,
            filter: OrderFilter {
                from: Some(TimestampMicros::new(5_000)),
                to: Some(TimestampMicros::new(9_000)),
                ..OrderFilter::default()
            },
            limit: 1,
        };
        let (from, to) = request(Sequence::NewestFirst, Some(id(7))).ids();
        assert_eq!((from, to), (Some(id(5)), Some(id(7))));
        let (from, _) = request(Sequence::OldestFirst, Some(id(7))).ids();
        assert!(from > Some(id(7)) && from < Some(id(8)));
        let (from, _) = request(Sequence::OldestFirst, Some(id(3))).ids();
        assert_eq!(from, Some(id(5)));
        let (_, to) = request(Sequence::NewestFirst, Some(id(20))).ids();
        assert!(to > Some(id(9)) && to < Some(id(10)));
    }
}
