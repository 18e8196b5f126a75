//! Visits the rows of Postgres that name an order, and those among them that lack another row or
//! belong to no order.

use std::ops::RangeInclusive;

use super::ProjectionError;
use super::compare::PostgresRecords;
use super::gaps::{self, EventGap};
use super::read;
use super::session::in_partitions;
use crate::types::OrderId;

/// A row that names an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OrderRow {
    pub table: &'static str,
    /// The user it names.
    pub user: String,
    /// The order it names.
    pub order_id: OrderId,
    /// An exchange's order or execution id, or empty.
    pub id: String,
}

impl PostgresRecords {
    /// Visits the user and id of every order in these partitions.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_order<E: From<ProjectionError>>(
        &self,
        partitions: &RangeInclusive<u8>,
        visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = format!(
            "SELECT o.user_id, o.order_id, '' FROM orders o WHERE {}",
            in_partitions("o.order_id", partitions)
        );
        self.each("orders", &query, visit)
    }

    /// Visits executions of orders in these partitions that have no row in `orders`.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_orphan_execution<E: From<ProjectionError>>(
        &self,
        partitions: &RangeInclusive<u8>,
        visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = format!(
            "SELECT e.user_id, e.order_id, e.execution_id FROM executions e \
             LEFT JOIN orders o USING (user_id, order_id) WHERE o.order_id IS NULL AND {}",
            in_partitions("e.order_id", partitions)
        );
        self.each("executions", &query, visit)
    }

    /// Visits orders in these partitions whose exchange id has no row in `external_orders`.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_without_external<E: From<ProjectionError>>(
        &self,
        partitions: &RangeInclusive<u8>,
        visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = format!(
            "SELECT o.user_id, o.order_id, o.external_order_id FROM orders o \
             LEFT JOIN external_orders x USING (external_order_id) \
             WHERE o.external_order_id IS NOT NULL AND x.external_order_id IS NULL AND {}",
            in_partitions("o.order_id", partitions)
        );
        self.each("orders", &query, visit)
    }

    /// Visits rows of `external_orders` whose order, in these partitions, has another exchange id
    /// or no row in `orders`.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_orphan_external<E: From<ProjectionError>>(
        &self,
        partitions: &RangeInclusive<u8>,
        visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = format!(
            "SELECT x.user_id, x.order_id, x.external_order_id FROM external_orders x \
             LEFT JOIN orders o USING (user_id, order_id) \
             WHERE o.external_order_id IS DISTINCT FROM x.external_order_id AND {}",
            in_partitions("x.order_id", partitions)
        );
        self.each("external_orders", &query, visit)
    }

    /// Visits every order of a partition that the server does not keep, once for each table that
    /// names it.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_foreign_order<E: From<ProjectionError>>(
        &self,
        mut visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        let kept = self.0.server.partitions();
        for table in ["orders", "executions", "external_orders", "order_events"] {
            let query = format!(
                "SELECT DISTINCT user_id, order_id, '' FROM {table} WHERE NOT {}",
                in_partitions("order_id", &kept)
            );
            self.each(table, &query, &mut visit)?;
        }
        Ok(())
    }

    /// Visits the orders in these partitions that lack rows of `order_events` which must be there:
    /// one for each version.
    ///
    /// # Errors
    /// The server refuses; errors of `visit`.
    pub fn each_gap<E: From<ProjectionError>>(
        &self,
        partitions: &RangeInclusive<u8>,
        visit: impl FnMut(EventGap) -> Result<(), E>,
    ) -> Result<(), E> {
        gaps::each(&self.0, partitions, visit)
    }

    fn each<E: From<ProjectionError>>(
        &self,
        table: &'static str,
        query: &str,
        mut visit: impl FnMut(OrderRow) -> Result<(), E>,
    ) -> Result<(), E> {
        self.0.each_row(query, |row| {
            let (user, id) = (row.get(0), row.get(2));
            visit(OrderRow { table, user, order_id: read::order_id(row, 1), id })
        })
    }
}
