//! Reads what a node needs to take over partitions: their open orders, and which ones ended lately.

use std::time::Duration;

use tokio_postgres::Client;

use super::read::{self, ORDER_COLUMNS};
use super::values::Timestamp;
use super::{PostgresServer, ProjectionError, cell};
use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::types::{ExternalOrderId, OrderId, UserId, UserPartition};

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

/// The open orders of these partitions, and those that need to be looked at.
pub(crate) async fn open_orders(
    client: &Client,
    server: &PostgresServer,
    partitions: &[UserPartition],
) -> Result<Vec<TrackedOrder>, ProjectionError> {
    let select = format!(
        "SELECT {ORDER_COLUMNS} FROM orders o WHERE o.user_partition = ANY ($1) AND {OPEN} \
         UNION ALL \
         SELECT {ORDER_COLUMNS} FROM orders o \
         WHERE o.user_partition = ANY ($1) AND {ATTENDED} AND ({OPEN}) IS NOT TRUE"
    );
    let rows = client.query(&select, &[&numbers(partitions)]).await;
    let rows = rows.map_err(ProjectionError::of(server, "read open orders"))?;
    let mut wanted: Vec<(UserId, OrderId)> = Vec::with_capacity(rows.len());
    for row in &rows {
        let order_id = read::order_id(row, 1);
        let parts = read::parts(row, Vec::new())
            .map_err(|source| read::unusable(server, order_id, source))?;
        wanted.push((parts.user, order_id));
    }
    let mut executions = read::executions(client, server, &wanted).await?;
    rows.iter()
        .map(|row| {
            let executions = executions.remove(&read::order_id(row, 1)).unwrap_or_default();
            read::tracked(server, row, executions)
        })
        .collect()
}

/// The orders of these partitions that ended within this time.
pub(crate) async fn ended_orders(
    client: &Client,
    server: &PostgresServer,
    partitions: &[UserPartition],
    window: Duration,
) -> Result<Vec<EndedOrder>, ProjectionError> {
    let rows = client.query(ENDED, &[&numbers(partitions), &window.as_secs_f64()]).await;
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
