//! The nodes that Postgres knows, for `longbow nodes`.

use super::{NodeId, host_of};
use crate::projection::{Connection, PostgresServer, ProjectionError, block_on, check_schema};

const NODES: &str = "\
    SELECT node_id, epoch, home, version, lease_until > clock_timestamp(), \
        to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
    FROM nodes ORDER BY node_id";

/// A node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedNode {
    pub node_id: NodeId,
    pub host: String,
    /// Whether it has renewed its lease lately.
    pub is_running: bool,
    pub epoch: i64,
    pub version: String,
    /// When its process joined, RFC 3339.
    pub started_at: String,
}

/// The nodes that Postgres knows, by number.
///
/// # Errors
/// Postgres cannot be reached, or has the tables of another version.
pub fn nodes(server: &PostgresServer) -> Result<Vec<ListedNode>, ProjectionError> {
    let rows = block_on(async {
        let connection = Connection::open(server).await?;
        check_schema(&connection.client, server).await?;
        let rows = connection.client.query(NODES, &[]).await;
        rows.map_err(ProjectionError::of(server, "list its nodes"))
    })?;
    let node = |row: &tokio_postgres::Row| {
        let home: String = row.get(2);
        ListedNode {
            node_id: row.get(0),
            epoch: row.get(1),
            host: host_of(&home),
            version: row.get(3),
            is_running: row.get(4),
            started_at: row.get(5),
        }
    };
    Ok(rows.iter().map(node).collect())
}
