//! The cursor of a list of orders: a place in it, and which list it is.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};
use xxhash_rust::xxh3::Xxh3;

use crate::order::{OrderFilter, Sequence};
use crate::types::{ClientOrderId, OrderId};

/// Where the next page begins. The list of all orders, newest first, writes only the order's id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OrderCursor {
    /// The last order that was looked at.
    pub after: OrderId,
    /// Tells the list from others; `None` for all orders, newest first.
    pub of: Option<u64>,
}

/// A text that no page had as its cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotACursor;

impl OrderCursor {
    /// Tells lists with different parameters apart, the same on every node.
    pub(super) fn fingerprint(
        filter: &OrderFilter,
        sequence: Sequence,
        key: Option<&ClientOrderId>,
    ) -> Option<u64> {
        if filter.is_of_all() && sequence == Sequence::NewestFirst && key.is_none() {
            return None;
        }
        let mut hash = Xxh3::new();
        let mut part = |text: &str| {
            hash.update(text.as_bytes());
            hash.update(b"\n");
        };
        filter.statuses.iter().for_each(|status| part(status.into_str()));
        part("");
        filter.symbols.iter().for_each(|symbol| part(symbol.as_str()));
        for time in [filter.from, filter.to] {
            part(&time.map(|time| time.micros().to_string()).unwrap_or_default());
        }
        part(match sequence {
            Sequence::NewestFirst => "desc",
            Sequence::OldestFirst => "asc",
        });
        part(key.map_or("", ClientOrderId::as_str));
        Some(hash.digest())
    }
}

impl fmt::Display for OrderCursor {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.after)?;
        self.of.map_or(Ok(()), |of| write!(formatter, "-{of:016x}"))
    }
}

impl FromStr for OrderCursor {
    type Err = NotACursor;

    fn from_str(text: &str) -> Result<Self, NotACursor> {
        if let Ok(after) = text.parse() {
            return Ok(Self { after, of: None });
        }
        let (after, of) = text.rsplit_once('-').ok_or(NotACursor)?;
        let after = after.parse().map_err(|_| NotACursor)?;
        let is_written_so = of.len() == 16 && of.bytes().all(|byte| byte.is_ascii_hexdigit());
        let of = u64::from_str_radix(of, 16).ok().filter(|_| is_written_so).ok_or(NotACursor)?;
        Ok(Self { after, of: Some(of) })
    }
}

impl Serialize for OrderCursor {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::order::{Status, StatusSet};
    use crate::types::{Symbol, TimestampMicros};

    #[test]
    fn a_cursor_round_trips() {
        let after = OrderId::from_u128(0x0123_4567_89ab_7def_8123_4567_89ab_cdef);
        for of in [None, Some(0), Some(7), Some(u64::MAX)] {
            let cursor = OrderCursor { after, of };
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
        let plain = OrderCursor { after, of: None }.to_string();
        assert_eq!(plain, after.to_string(), "as it was before there were filters");
        for text in [
            "",
            "1",
            "-",
            &format!("{plain}-"),
            &format!("{plain}-7"),
            &format!("{plain}-+00000000000000f"),
        ] {
            assert_eq!(text.parse::<OrderCursor>(), Err(NotACursor), "{text}");
        }
    }

    #[test]
    fn lists_with_other_parameters_have_other_fingerprints() {
        let all = OrderFilter::default;
        let symbols = |names: &[&str]| OrderFilter {
            symbols: names.iter().map(|name| Symbol::new(name).unwrap()).collect(),
            ..all()
        };
        let statuses = |status| OrderFilter { statuses: StatusSet::from_iter([status]), ..all() };
        let time = Some(TimestampMicros::new(5));
        let filters = [
            all(),
            symbols(&["A"]),
            symbols(&["A", "B"]),
            symbols(&["AB"]),
            statuses(Status::Filled),
            statuses(Status::Failed),
            OrderFilter { from: time, ..all() },
            OrderFilter { to: time, ..all() },
        ];
        let key = ClientOrderId::new("A").unwrap();
        let mut seen = Vec::new();
        for filter in &filters {
            for sequence in [Sequence::NewestFirst, Sequence::OldestFirst] {
                for key in [None, Some(&key)] {
                    seen.push(OrderCursor::fingerprint(filter, sequence, key));
                }
            }
        }
        assert_eq!(seen[0], None);
        let count = seen.len();
        seen.sort_unstable();
        seen.dedup();
        assert_eq!(seen.len(), count);
    }
}
