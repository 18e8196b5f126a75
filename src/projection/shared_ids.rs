//! Orders that share an id of the exchange, where several nodes have orders: the insert of an id that is
//! there already tells who writes the second one, and a table tells the others.

use std::collections::HashSet;
use std::time::Duration;

use tokio_postgres::{Client, Statement};

use super::connection::{in_time, within};
use super::rows::ExternalRows;
use super::{PostgresServer, ProjectionError, cell, read};
use crate::engine::ID_REUSE_MICROS;
use crate::types::{ExternalOrderId, OrderId, UserPartition};

/// Longest time to look for shared ids of all open orders of some partitions.
const OPEN_TIMEOUT: Duration = Duration::from_secs(120);

/// Whether the order `o` still counts: it is open, or ended so lately that its id is not free again.
const COUNTS: &str = "\
    ((o.ending IS NULL AND o.filled_shares < o.num_shares) \
        OR o.updated_at > clock_timestamp() - make_interval(secs => {reuse}))";

/// Notes orders whose ids are others' already, and those others.
fn note(orders: &str) -> String {
    let counts = counts();
    format!(
        "WITH sharing AS ( \
            SELECT s.external_order_id, s.user_id, s.order_id, \
                e.user_id AS other_user, e.order_id AS other_order \
            FROM ({orders}) AS s (external_order_id, user_id, order_id) \
            JOIN external_orders e ON e.external_order_id = s.external_order_id \
                AND e.order_id <> s.order_id \
            JOIN orders o ON o.user_id = e.user_id AND o.order_id = e.order_id AND {counts} \
        ) \
        INSERT INTO shared_external_orders (external_order_id, user_id, order_id) \
        SELECT external_order_id, user_id, order_id FROM sharing \
        UNION SELECT external_order_id, other_user, other_order FROM sharing \
        ON CONFLICT DO NOTHING"
    )
}

fn counts() -> String {
    COUNTS.replace("{reuse}", &(ID_REUSE_MICROS / 1_000_000).to_string())
}

const SENT: &str = "SELECT unnest($1::text[]), unnest($2::text[]), unnest($3::uuid[])";

const OPEN_ORDERS: &str = "\
    SELECT o.external_order_id, o.user_id, o.order_id FROM orders o \
    WHERE o.user_partition = ANY ($1) AND o.ending IS NULL AND o.filled_shares < o.num_shares \
        AND o.external_order_id IS NOT NULL";

/// An id that is free again names the new order from now on.
fn free_again() -> String {
    let counts = counts();
    format!(
        "UPDATE external_orders e SET user_id = s.user_id, order_id = s.order_id \
         FROM ({SENT}) AS s (external_order_id, user_id, order_id) \
         WHERE e.external_order_id = s.external_order_id AND e.order_id <> s.order_id \
            AND NOT EXISTS (SELECT FROM orders o WHERE o.user_id = e.user_id \
                AND o.order_id = e.order_id AND {counts})"
    )
}

/// What a connection that writes orders has prepared for shared ids.
#[derive(Debug)]
pub(super) struct SharedIdNotes([Statement; 2]);

impl SharedIdNotes {
    pub(super) async fn prepare(
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let [note, free] = [note(SENT), free_again()];
        let prepared = async { tokio::try_join!(client.prepare(&note), client.prepare(&free)) };
        let prepared = in_time(server, prepared).await?;
        let (note, free) = prepared.map_err(ProjectionError::of(server, "prepare a statement"))?;
        Ok(Self([note, free]))
    }

    /// Notes which of these orders came with the id of another one that counts still. An id whose order
    /// does not count any more is the new order's.
    pub(super) async fn write(
        &self,
        client: &Client,
        server: &PostgresServer,
        orders: &ExternalRows,
    ) -> Result<(), ProjectionError> {
        let parameters = orders.parameters();
        for statement in &self.0 {
            let written = in_time(server, client.execute(statement, &parameters)).await?;
            let refused = ProjectionError::of(server, "note which orders share an exchange id");
            written.map_err(refused)?;
        }
        Ok(())
    }
}

/// Notes which open orders of these partitions have the id of another one: whoever wrote them may have ended
/// before it noted that.
pub(crate) async fn note_shared_of(
    client: &Client,
    server: &PostgresServer,
    partitions: &[UserPartition],
) -> Result<(), ProjectionError> {
    let numbers: Vec<i16> = partitions.iter().map(|partition| partition.get().into()).collect();
    let statement = note(OPEN_ORDERS);
    let written = within(OPEN_TIMEOUT, server, client.execute(&statement, &[&numbers])).await?;
    written.map_err(ProjectionError::of(server, "look for shared exchange ids"))?;
    Ok(())
}

/// Orders that share an id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedId {
    pub id: ExternalOrderId,
    /// Two at least.
    pub orders: Vec<OrderId>,
}

/// Follows the table over one connection: each look finds the ids with new orders.
#[derive(Debug)]
pub(crate) struct SharedIds {
    look: Statement,
    /// The oldest transaction that was underway at the last look with news.
    since: String,
    known: HashSet<(ExternalOrderId, OrderId)>,
}

impl SharedIds {
    pub(crate) async fn prepare(
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let counts = counts();
        let look = format!(
            "SELECT s.external_order_id, s.order_id, \
                pg_snapshot_xmin(pg_current_snapshot())::text \
             FROM shared_external_orders s \
             WHERE s.external_order_id IN ( \
                SELECT n.external_order_id FROM shared_external_orders n \
                JOIN orders o USING (user_id, order_id) \
                WHERE n.written_by >= $1::text::xid8 AND {counts} \
             ) ORDER BY s.external_order_id"
        );
        let prepared = in_time(server, client.prepare(&look)).await?;
        let look = prepared.map_err(ProjectionError::of(server, "prepare a statement"))?;
        Ok(Self { look, since: "0".to_owned(), known: HashSet::new() })
    }

    /// The ids that have had another order since the last look.
    pub(crate) async fn news(
        &mut self,
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Vec<SharedId>, ProjectionError> {
        let rows = in_time(server, client.query(&self.look, &[&self.since])).await?;
        let rows = rows.map_err(ProjectionError::of(server, "say which orders share an id"))?;
        let mut shared: Vec<SharedId> = Vec::new();
        let mut has_news = HashSet::new();
        for row in &rows {
            let odd = |error: cell::CellError| error.within(server, "shared_external_orders");
            let id: &str = cell::value(row, 0).map_err(odd)?;
            self.since = cell::value(row, 2).map_err(odd)?;
            // Nobody else writes there.
            let Ok(id) = ExternalOrderId::new(id) else { continue };
            let order_id = read::order_id(row, 1);
            if self.known.insert((id.clone(), order_id)) {
                has_news.insert(id.clone());
            }
            match shared.last_mut().filter(|last| last.id == id) {
                Some(last) => last.orders.push(order_id),
                None => shared.push(SharedId { id, orders: vec![order_id] }),
            }
        }
        shared.retain(|shared| shared.orders.len() > 1 && has_news.contains(&shared.id));
        Ok(shared)
    }
}
