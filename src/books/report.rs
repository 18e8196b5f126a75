//! Differences, a line each.

use std::fmt::Display;
use std::io::Write;

use super::BooksError;
use super::fields::FieldDifference;
use crate::types::OrderId;

/// Writes differences and counts them.
pub(super) struct Report<'a> {
    out: &'a mut dyn Write,
    count: u64,
}

/// A book and what it says. Two of them make a difference.
pub(super) type Says<'a> = (&'a str, &'a str);

impl<'a> Report<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, count: 0 }
    }

    /// How many differences there were.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Writes a difference that is no single order's.
    pub(super) fn say(&mut self, difference: &dyn Display) -> Result<(), BooksError> {
        self.count += 1;
        writeln!(self.out, "{difference}").map_err(BooksError::Output)
    }

    /// Writes what two books say of a field of an order.
    pub(super) fn field(
        &mut self,
        (order_id, user): (OrderId, &str),
        field: &str,
        one: Says<'_>,
        other: Says<'_>,
    ) -> Result<(), BooksError> {
        let ((one, one_says), (other, other_says)) = (one, other);
        self.say(&format_args!(
            "order {order_id} of user {user}: {field}: {one} has {one_says}, {other} has {other_says}"
        ))
    }

    /// Writes all fields of an order that differ.
    pub(super) fn fields(
        &mut self,
        order: (OrderId, &str),
        (one, other): (&str, &str),
        fields: &[FieldDifference],
    ) -> Result<(), BooksError> {
        fields.iter().try_for_each(|(field, one_says, other_says)| {
            self.field(order, field, (one, one_says), (other, other_says))
        })
    }
}
