//! Differences, a line each.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;

use super::OfflineError;
use super::fields::FieldDifference;
use crate::types::OrderId;

/// Most orders that differ and are kept by their ids: some megabytes.
const MAX_ORDERS: usize = 100_000;

/// Writes differences and counts them.
pub(super) struct DifferenceReport<'a> {
    out: &'a mut dyn Write,
    found: Differences,
}

/// What a comparison has found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// How many differences there are.
    pub count: u64,
    /// The orders that they are of, as far as they are orders' and not too many.
    pub orders: BTreeSet<OrderId>,
}

/// One of the records and what it says. Two of them make a difference.
pub(super) type Says<'a> = (&'a str, &'a str);

impl<'a> DifferenceReport<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, found: Differences::default() }
    }

    /// What there was.
    pub(super) fn found(self) -> Differences {
        self.found
    }

    /// Writes a difference that is no single order's.
    pub(super) fn say(&mut self, difference: &dyn Display) -> Result<(), OfflineError> {
        self.found.count += 1;
        writeln!(self.out, "{difference}").map_err(OfflineError::Output)
    }

    /// Writes what two records say of a field of an order.
    pub(super) fn field(
        &mut self,
        (order_id, user): (OrderId, &str),
        field: &str,
        one: Says<'_>,
        other: Says<'_>,
    ) -> Result<(), OfflineError> {
        let ((one, one_says), (other, other_says)) = (one, other);
        self.note(order_id);
        self.say(&format_args!(
            "order {order_id} of user {user}: {field}: {one} has {one_says}, {other} has {other_says}"
        ))
    }

    /// Takes note that an order differs.
    pub(super) fn note(&mut self, order_id: OrderId) {
        if self.found.orders.len() < MAX_ORDERS {
            self.found.orders.insert(order_id);
        }
    }

    /// Writes all fields of an order that differ.
    pub(super) fn fields(
        &mut self,
        order: (OrderId, &str),
        (one, other): (&str, &str),
        fields: &[FieldDifference],
    ) -> Result<(), OfflineError> {
        fields.iter().try_for_each(|(field, one_says, other_says)| {
            self.field(order, field, (one, one_says), (other, other_says))
        })
    }
}
