//! Reads what a node needs to take over partitions: their open orders, and which ones ended lately.

use std::time::Duration;

use tokio_postgres::{Client, Row};

use super::connection::{in_time, within};
use super::read::{self, ORDER_COLUMNS};
use super::values::Timestamp;
use super::{PostgresServer, ProjectionError, cell};
use crate::engine::EndedOrder;
use crate::order::{OrderParts, TrackedOrder};
use crate::types::{ExternalOrderId, OrderId, UserId, UserPartition};

/// Longest time to read which orders ended lately: every event of that time is looked at.
const ENDED_TIMEOUT: Duration = Duration::from_secs(120);

/// An order that is open.
const OPEN: &str = "o.ending IS NULL AND o.filled_shares < o.num_shares";
/// An order that needs to be looked at although it has ended: a failed one that the exchange may have,
/// for a day, or one with open cases. The first line is the predicate of an index.
const ATTENDED: &str = "\
    (o.ending IN ('rejected', 'not_accepted', 'failed_by_operator') OR o.open_cases IS NOT NULL) \
    AND (o.open_cases IS NOT NULL OR (o.external_order_id IS NOT NULL AND NOT o.taken_back) \
        OR (o.ending <> 'rejected' AND o.updated_at > clock_timestamp() - interval '1 day'))";

const ENDED: &str = "\
    SELECT told.order_id, told.at, o.external_order_id FROM ( \
        SELECT user_id, order_id, max(at) AS at FROM order_events \
        WHERE at > clock_timestamp() - make_interval(secs => $2) AND user_partition = ANY ($1) \
            AND status IN ('filled', 'cancelled', 'failed') \
        GROUP BY user_id, order_id \
    ) AS told JOIN orders o USING (user_id, order_id)";

fn numbers(partitions: &[UserPartition]) -> Vec<i16> {
    partitions.iter().map(|partition| partition.get().into()).collect()
}

/// Orders read from Postgres, and why others could not be read.
#[derive(Debug, Default)]
pub(crate) struct ReadOrders {
    pub(crate) orders: Vec<TrackedOrder>,
    pub(crate) unreadable: Vec<ProjectionError>,
}

/// The open orders of these partitions, and those that need to be looked at. A row that cannot be read
/// takes no other with it.
pub(crate) async fn open_orders(
    client: &Client,
    server: &PostgresServer,
    partitions: &[UserPartition],
) -> Result<ReadOrders, ProjectionError> {
    let select = format!(
        "SELECT {ORDER_COLUMNS} FROM orders o WHERE o.user_partition = ANY ($1) AND {OPEN} \
         UNION ALL \
         SELECT {ORDER_COLUMNS} FROM orders o \
         WHERE o.user_partition = ANY ($1) AND {ATTENDED} AND ({OPEN}) IS NOT TRUE"
    );
    let rows = in_time(server, client.query(&select, &[&numbers(partitions)])).await?;
    let rows = rows.map_err(ProjectionError::of(server, "read open orders"))?;
    let mut read = ReadOrders::default();
    let mut readable: Vec<(&Row, OrderId)> = Vec::with_capacity(rows.len());
    let mut with_executions: Vec<(UserId, OrderId)> = Vec::new();
    for row in &rows {
        let order_id = read::order_id(row, 1);
        match read::parts(row, Vec::new()) {
            Ok(parts) => {
                readable.push((row, order_id));
                if !is_without_executions(&parts) {
                    with_executions.push((parts.user, order_id));
                }
            }
            Err(source) => read.unreadable.push(read::unusable(server, order_id, source)),
        }
    }
    let executions = read::executions(client, server, &with_executions);
    let mut executions = in_time(server, executions).await??;
    for (row, order_id) in readable {
        let executions = executions.remove(&order_id).unwrap_or_default();
        match read::tracked(server, row, executions) {
            Ok(order) => read.orders.push(order),
            Err(error) => read.unreadable.push(error),
        }
    }
    Ok(read)
}

/// Whether an order's version shows that it has no executions: each change makes one version, and all
/// that has happened to this one, if anything, is that the exchange accepted it.
fn is_without_executions(order: &OrderParts) -> bool {
    let is_accepted = order.version == 2 && order.external_order_id.is_some();
    order.filled_shares == 0 && (order.version == 1 || is_accepted)
}

/// The orders of these partitions that ended within this time.
pub(crate) async fn ended_orders(
    client: &Client,
    server: &PostgresServer,
    partitions: &[UserPartition],
    window: Duration,
) -> Result<Vec<EndedOrder>, ProjectionError> {
    let (numbers, seconds) = (numbers(partitions), window.as_secs_f64());
    let rows = async { client.query(ENDED, &[&numbers, &seconds]).await };
    let rows = within(ENDED_TIMEOUT, server, rows).await?;
    let rows = rows.map_err(ProjectionError::of(server, "read which orders ended lately"))?;
    let mut ended = Vec::with_capacity(rows.len());
    for row in &rows {
        let order_id = read::order_id(row, 0);
        let odd = |error: cell::CellError| error.within(server, "order_events");
        let Timestamp(at) = cell::value(row, 1).map_err(odd)?;
        let id: Option<&str> = cell::value(row, 2).map_err(odd)?;
        let external_order_id = id.and_then(|id| ExternalOrderId::new(id).ok());
        let order = EndedOrder { at, order_id, external_order_id };
        ended.push(order);
    }
    Ok(ended)
}
