use std::time::Duration;

use super::partition_map::PartitionMap;
use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::projection::Ownership;
use crate::sync::Refused;
use crate::types::UserPartition;
use crate::wal::LogHandle;

/// Whoever serves the users of partitions: the orders thread. Refused commands may be offered again, but
/// for those of a thread that has ended.
pub trait PartitionHost {
    /// Takes over orders of partitions that are not served yet.
    ///
    /// # Errors
    /// The orders.
    fn adopt(&self, orders: Vec<TrackedOrder>) -> Result<(), Refused<Vec<TrackedOrder>>>;

    /// All orders of a partition have come: serves it. The answer comes when it does.
    ///
    /// # Errors
    /// The partition.
    fn serve(
        &self,
        partition: UserPartition,
    ) -> Result<oneshot::Receiver<()>, Refused<UserPartition>>;

    /// Takes note of orders that ended lately, of partitions that are served now.
    ///
    /// # Errors
    /// The orders.
    fn note_ended(&self, ended: Vec<EndedOrder>) -> Result<(), Refused<Vec<EndedOrder>>>;

    /// Stops serving a partition. The answer comes when Postgres has all that happened to it and nothing
    /// more can happen.
    ///
    /// # Errors
    /// The partition.
    fn release(
        &self,
        partition: UserPartition,
    ) -> Result<oneshot::Receiver<()>, Refused<UserPartition>>;
}

/// What a member needs to share the users with others.
#[derive(Debug)]
pub struct Membership<H> {
    /// Is told who has which users.
    pub map: PartitionMap,
    /// Is told which partitions are this node's.
    pub ownership: Ownership,
    /// The log that Postgres follows.
    pub log: LogHandle,
    /// Serves the users.
    pub host: H,
    /// Orders that ended within this time are asked about after a move.
    pub ended_window: Duration,
}
