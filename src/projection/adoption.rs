//! Reads what a node needs to take over partitions: their open orders, and which ones ended lately.

use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::connection::{in_time, within};
use super::read::{self, EXECUTION_ARRAYS, ORDER_COLUMN_COUNT, ORDER_COLUMNS, select_aggregated};
use super::values::Timestamp;
use super::{PostgresServer, ProjectionError, cell};
use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::types::{ExternalOrderId, UserPartition};

/// Longest time to read which orders ended lately: every event of that time is looked at.
const ENDED_TIMEOUT: Duration = Duration::from_secs(120);

/// An order that is open.
const OPEN: &str = "o.is_open";
/// An order that needs to be looked at although it has ended: a failed one that the exchange may have,
/// for a day, or one with open cases. The first line is the predicate of an index.
const ATTENDED: &str = "\
    (o.ending IN ('rejected', 'not_accepted', 'failed_by_operator') OR o.open_cases IS NOT NULL) \
    AND (o.open_cases IS NOT NULL OR (o.external_order_id IS NOT NULL AND NOT o.taken_back) \
        OR (o.ending <> 'rejected' AND o.updated_at > clock_timestamp() - interval '1 day'))";

/// An order whose version shows that it has no executions: each change makes one version, and all that
/// has happened to this one, if anything, is that the exchange accepted it.
const UNTOUCHED: &str = "\
    (o.filled_shares = 0 \
        AND (o.version = 1 OR (o.version = 2 AND o.external_order_id IS NOT NULL)))";

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

/// Reads the open orders of a partition. Prepared on a connection, which plans it once: it looks into
/// every table of orders.
#[derive(Debug)]
pub(crate) struct OpenOrders(Statement);

impl OpenOrders {
    pub(crate) async fn prepare(
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let executions = select_aggregated(&format!(
            "e.user_id = o.user_id AND e.order_id = o.order_id AND NOT {UNTOUCHED}"
        ));
        let text = format!(
            "SELECT {ORDER_COLUMNS}, {EXECUTION_ARRAYS} FROM ( \
                SELECT * FROM orders o WHERE o.user_partition = $1 AND {OPEN} \
                UNION ALL \
                SELECT * FROM orders o \
                WHERE o.user_partition = $1 AND {ATTENDED} AND ({OPEN}) IS NOT TRUE \
             ) o LEFT JOIN LATERAL ({executions}) x ON true"
        );
        let prepared = in_time(server, async {
            client.batch_execute("SET plan_cache_mode = force_generic_plan").await?;
            client.prepare(&text).await
        });
        let prepared = prepared.await?;
        prepared.map(Self).map_err(ProjectionError::of(server, "prepare a take-over"))
    }

    /// The open orders of a partition, and those that need to be looked at. A row that cannot be read
    /// takes no other with it.
    pub(crate) async fn read(
        &self,
        client: &Client,
        server: &PostgresServer,
        partition: UserPartition,
    ) -> Result<ReadOrders, ProjectionError> {
        let number = i16::from(partition.get());
        let rows = in_time(server, async { client.query(&self.0, &[&number]).await }).await?;
        let rows = rows.map_err(ProjectionError::of(server, "read open orders"))?;
        let mut read = ReadOrders::default();
        for row in &rows {
            let executions = read::aggregated_executions(row, ORDER_COLUMN_COUNT)
                .map_err(|source| read::unusable(server, read::order_id(row, 1), source));
            match executions.and_then(|executions| read::tracked(server, row, executions)) {
                Ok(order) => read.orders.push(order),
                Err(error) => read.unreadable.push(error),
            }
        }
        Ok(read)
    }
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
