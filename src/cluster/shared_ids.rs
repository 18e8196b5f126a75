//! Tells the orders thread which exchange ids several orders share, whichever nodes have them. It has a
//! connection of its own: an orders thread without room keeps nobody from renewing the lease.

use tokio::time::sleep;

use super::failures::Failures;
use super::host::PartitionHost;
use super::ownership::in_parts;
use super::partition_map::PartitionMap;
use super::{FAILURE_PAUSE, LOOK_INTERVAL, MEMBER_LEASE, NodeError};
use crate::projection::{Connection, PostgresServer, SharedIds};
use crate::shutdown::Shutdown;

/// Ids handed to the orders thread at a time.
const TOLD_AT_ONCE: usize = 256;

/// Tells it of each until a stop, or until it has ended. Failures of Postgres are retried.
pub(super) async fn tell_shared_ids<H: PartitionHost>(
    server: &PostgresServer,
    (map, host): (&PartitionMap, &H),
    shutdown: &Shutdown,
) {
    let mut failures = Failures::default();
    while !shutdown.is_requested() {
        match tell_over_one_connection(server, host, shutdown, &mut failures).await {
            Ok(()) | Err(NodeError::Ending) => return,
            Err(error) => {
                if failures.note_beside_lease(&error, map) {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "which orders share an exchange id cannot be read yet");
                }
                sleep(FAILURE_PAUSE).await;
            }
        }
    }
}

async fn tell_over_one_connection<H: PartitionHost>(
    server: &PostgresServer,
    host: &H,
    shutdown: &Shutdown,
    failures: &mut Failures,
) -> Result<(), NodeError> {
    let connection = Connection::open_within(MEMBER_LEASE, server).await?;
    let client = &connection.client;
    let mut shared_ids = SharedIds::prepare(client, server).await?;
    while !shutdown.is_requested() {
        let news = shared_ids.news(client, server).await?;
        failures.end();
        in_parts(TOLD_AT_ONCE, news, |some| host.note_shared(some)).await?;
        sleep(LOOK_INTERVAL).await;
    }
    Ok(())
}
