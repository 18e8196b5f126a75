//! Writes differences, one per line.

use std::collections::BTreeSet;
use std::fmt::Display;
use std::io::Write;

use super::OfflineError;
use super::fields::FieldDifference;
use crate::types::{OrderId, UserId};

/// Most differing orders whose ids are kept: some megabytes.
const MAX_ORDERS: usize = 100_000;

/// Writes and counts differences.
pub(super) struct DifferenceReport<'a> {
    out: &'a mut dyn Write,
    found: Differences,
}

/// The result of a comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Differences {
    /// Number of differences.
    pub count: u64,
    /// The differing orders, unless there are too many.
    pub orders: BTreeSet<OrderId>,
    /// The users whose accounts differ, unless there are too many.
    pub accounts: BTreeSet<UserId>,
}

/// One of the records, and its value.
pub(super) type RecordValue<'a> = (&'a str, &'a str);

impl<'a> DifferenceReport<'a> {
    pub(super) fn new(out: &'a mut dyn Write) -> Self {
        Self { out, found: Differences::default() }
    }

    /// The result.
    pub(super) fn found(self) -> Differences {
        self.found
    }

    /// Writes a difference.
    pub(super) fn line(&mut self, difference: &dyn Display) -> Result<(), OfflineError> {
        self.found.count += 1;
        writeln!(self.out, "{difference}").map_err(OfflineError::Output)
    }

    /// Writes the values of a field of an order in two records.
    pub(super) fn field(
        &mut self,
        (order_id, user): (OrderId, &str),
        field: &str,
        one: RecordValue<'_>,
        other: RecordValue<'_>,
    ) -> Result<(), OfflineError> {
        let ((one, one_says), (other, other_says)) = (one, other);
        self.add_order(order_id);
        self.line(&format_args!(
            "order {order_id} of user {user}: {field}: {one} has {one_says}, {other} has {other_says}"
        ))
    }

    /// Adds an order to the differing ones.
    pub(super) fn add_order(&mut self, order_id: OrderId) {
        if self.found.orders.len() < MAX_ORDERS {
            self.found.orders.insert(order_id);
        }
    }

    /// Adds a user to those whose accounts differ.
    pub(super) fn add_account(&mut self, user: &UserId) {
        if self.found.accounts.len() < MAX_ORDERS {
            self.found.accounts.insert(user.clone());
        }
    }

    /// Writes all differing fields of an order.
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
