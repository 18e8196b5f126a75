//! The nodes that Postgres knows, for `longbow nodes`.

use super::{NodeId, host_of};
use crate::projection::{Connection, PostgresServer, ProjectionError, block_on, check_schema};

/// A holder of the feed that offers it renews the lease ten times a second as one that is over: it reads on.
const NODES: &str = "\
    SELECT node_id, epoch, home, version, lease_until > clock_timestamp(), \
        to_char(started_at AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"'), \
        is_member, is_draining, peer_address, \
        (SELECT count(*) FROM projection WHERE is_current AND projection.epoch = nodes.epoch), \
        EXISTS (SELECT FROM leases WHERE name = 'feed' AND leases.node_id = nodes.node_id \
            AND leases.lease_until > clock_timestamp() - interval '1 second' \
            AND nodes.lease_until > clock_timestamp()), \
        greatest(extract(epoch FROM lease_until - clock_timestamp()), 0)::double precision \
    FROM nodes ORDER BY node_id";

/// Not the last one that takes users. Whether there is such a member, and whether it drains now.
const DRAIN: &str = "\
    WITH running AS ( \
        SELECT node_id, is_draining FROM nodes \
        WHERE is_member AND lease_until > clock_timestamp() FOR UPDATE \
    ), told AS ( \
        UPDATE nodes SET is_draining = true \
        WHERE node_id = $1 AND EXISTS (SELECT FROM running WHERE node_id = $1) \
            AND EXISTS (SELECT FROM running WHERE node_id <> $1 AND NOT is_draining) \
        RETURNING node_id \
    ) \
    SELECT EXISTS (SELECT FROM running WHERE node_id = $1), EXISTS (SELECT FROM told)";

/// What came of asking a member to drain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// It hands over what it has.
    Told,
    /// No such member runs.
    Unknown,
    /// No other member takes users.
    Last,
}

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
    /// What it shares with other nodes; `None` if it is alone.
    pub shares: Option<Shares>,
}

/// What a member of a cluster has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shares {
    /// User partitions that it owns, of 64.
    pub partitions: i64,
    /// Whether it reads the exchange's feed for all.
    pub reads_feed: bool,
    /// Whether it hands over what it has.
    pub is_draining: bool,
    /// Where the others reach it.
    pub peer_address: Option<String>,
    /// How long its lease runs on, in milliseconds.
    pub lease_left_ms: u64,
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
            shares: row.get::<_, bool>(6).then(|| Shares {
                is_draining: row.get(7),
                peer_address: row.get(8),
                partitions: row.get(9),
                reads_feed: row.get(10),
                lease_left_ms: millis(row.get(11)),
            }),
        }
    };
    Ok(rows.iter().map(node).collect())
}

fn millis(seconds: f64) -> u64 {
    let left = std::time::Duration::try_from_secs_f64(seconds).unwrap_or_default();
    u64::try_from(left.as_millis()).unwrap_or(u64::MAX)
}

/// Asks a member to hand over its users and the feed.
///
/// # Errors
/// Postgres cannot be reached, or has the tables of another version.
pub fn drain(server: &PostgresServer, node_id: NodeId) -> Result<Drained, ProjectionError> {
    block_on(async {
        let connection = Connection::open(server).await?;
        check_schema(&connection.client, server).await?;
        let told = connection.client.query_one(DRAIN, &[&node_id]).await;
        let told = told.map_err(ProjectionError::of(server, "note that a node drains"))?;
        Ok(match (told.get(0), told.get(1)) {
            (_, true) => Drained::Told,
            (true, false) => Drained::Last,
            (false, false) => Drained::Unknown,
        })
    })
}
