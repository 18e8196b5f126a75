//! The connection by which a member takes and hands over partitions.

use std::time::Instant;

use tokio_postgres::Statement;

use super::claim::Claims;
use super::{MEMBER_LEASE, NodeError};
use crate::projection::{
    Connection, MEMBER_SESSION, OpenOrders, PostgresServer, ProjectionError, in_time,
};

const MEMBERS: &str = "\
    SELECT node_id, epoch, peer_address, lease_until > clock_timestamp(), is_draining, has_exchange, \
        started_at < clock_timestamp() - interval '10 s' \
    FROM nodes WHERE is_member ORDER BY node_id";

const OWNERS: &str = "SELECT user_partition, epoch, handed_to FROM projection WHERE is_current";

/// A connection with what is asked over it, prepared.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) connection: Connection,
    pub(super) since: Instant,
    pub(super) members: Statement,
    pub(super) owners: Statement,
    pub(super) claims: Claims,
    pub(super) open_orders: OpenOrders,
}

impl Session {
    pub(super) async fn open(server: &PostgresServer) -> Result<Self, NodeError> {
        let connection = Connection::open_within(MEMBER_LEASE, server).await?;
        let client = &connection.client;
        let prepared = in_time(server, async {
            client.batch_execute(MEMBER_SESSION).await?;
            tokio::try_join!(client.prepare(MEMBERS), client.prepare(OWNERS))
        });
        let refused = ProjectionError::of(server, "set up the session");
        let (members, owners) = prepared.await?.map_err(refused)?;
        let claims = Claims::prepare(client, server).await?;
        let open_orders = OpenOrders::prepare(client, server).await?;
        Ok(Self { connection, since: Instant::now(), members, owners, claims, open_orders })
    }
}
