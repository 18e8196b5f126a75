//! Compares the rows in Postgres with the answers to clients.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::sql::{Sql, refused};
use crate::error::{Error, Result};

/// Counts of `orders`, whose columns Longbow and the baseline name alike: all rows, distinct keys,
/// rows of this run, and accepted orders.
const ORDERS: &str = "\
    SELECT count(*), count(DISTINCT client_order_id), \
        count(*) FILTER (WHERE starts_with(client_order_id, $1)), \
        count(*) FILTER (WHERE external_order_id IS NOT NULL AND status = 'submitted') \
    FROM orders";
/// Counts of Longbow's other tables.
const REST: &str = "\
    SELECT count(*) FILTER (WHERE event = 'created'), \
        count(*) FILTER (WHERE event = 'accepted'), \
        (SELECT count(*) FROM external_orders) \
    FROM order_events";

/// The rows that must be there in the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Expected {
    /// Recorded orders.
    pub orders: i64,
    /// Fewest and most orders accepted by the exchange: an order whose answer came too late may or may
    /// not be accepted.
    pub accepted: (i64, i64),
}

impl Expected {
    /// Computed from the answers to all orders.
    ///
    /// # Errors
    /// [`Error::Answer`] for an answer that does not tell whether the order was recorded.
    pub(super) fn of_answers(answers: &BTreeMap<u16, u64>) -> Result<Self> {
        let (mut accepted, mut pending, mut rejected) = (0, 0, 0);
        for (status, count) in answers {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            match status {
                201 => accepted += count,
                202 => pending += count,
                422 => rejected += count,
                // Nothing was recorded.
                503 => {}
                _ => {
                    return Err(Error::Answer {
                        what: format!("{count} orders were answered with {status}"),
                        answer: "whether they were recorded is not known".to_owned(),
                    });
                }
            }
        }
        let orders = accepted + pending + rejected;
        Ok(Self { orders, accepted: (accepted, accepted + pending) })
    }
}

/// The rows of a contender in Postgres.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    orders: i64,
    keys: i64,
    of_this_run: i64,
    accepted: i64,
    /// For Longbow: created and accepted events, and external ids.
    rest: Option<(i64, i64, i64)>,
}

impl Found {
    /// Counts rows.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) fn read(session: &Sql, run_id: &str, is_longbow: bool) -> Result<Self> {
        let row = session.row(ORDERS, &[&run_id])?;
        let count = |at: usize| row.try_get(at).map_err(refused("count its orders"));
        let rest = is_longbow.then(|| {
            let row = session.row(REST, &[])?;
            let count = |at: usize| row.try_get(at).map_err(refused("count its events"));
            Ok::<_, Error>((count(0)?, count(1)?, count(2)?))
        });
        Ok(Self {
            orders: count(0)?,
            keys: count(1)?,
            of_this_run: count(2)?,
            accepted: count(3)?,
            rest: rest.transpose()?,
        })
    }

    /// Whether the rows are exactly the expected ones.
    pub(super) fn is(&self, expected: Expected) -> bool {
        let (least, most) = expected.accepted;
        let own = [self.orders, self.keys, self.of_this_run];
        let has_rest = self.rest.is_none_or(|(created, accepted, ids)| {
            created == self.orders && accepted == self.accepted && ids == self.accepted
        });
        own == [expected.orders; 3] && (least..=most).contains(&self.accepted) && has_rest
    }

    /// The same as JSON.
    pub(super) fn to_json(self) -> Value {
        json!({
            "orders": self.orders,
            "accepted": self.accepted,
            "createdEvents": self.rest.map(|(created, ..)| created),
            "acceptedEvents": self.rest.map(|(_, accepted, _)| accepted),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answers(answers: &[(u16, u64)]) -> Result<Expected> {
        Expected::of_answers(&answers.iter().copied().collect())
    }

    #[test]
    fn what_must_be_there_follows_from_the_answers() {
        let expected = answers(&[(201, 90), (202, 5), (422, 3), (503, 7)]).unwrap();
        assert_eq!(expected, Expected { orders: 98, accepted: (90, 95) });
        assert!(answers(&[(201, 1), (500, 1)]).is_err());
    }

    #[test]
    fn one_order_more_or_less_is_seen() {
        let expected = answers(&[(201, 10)]).unwrap();
        let exact =
            Found { orders: 10, keys: 10, of_this_run: 10, accepted: 10, rest: Some((10, 10, 10)) };
        assert!(exact.is(expected));
        assert!(Found { rest: None, ..exact }.is(expected));
        for wrong in [
            Found { orders: 9, ..exact },
            Found { orders: 11, ..exact },
            Found { keys: 9, ..exact },
            Found { of_this_run: 9, ..exact },
            Found { accepted: 9, ..exact },
            Found { rest: Some((9, 10, 10)), ..exact },
            Found { rest: Some((10, 9, 10)), ..exact },
            Found { rest: Some((10, 10, 9)), ..exact },
        ] {
            assert!(!wrong.is(expected), "{wrong:?}");
        }
    }
}
