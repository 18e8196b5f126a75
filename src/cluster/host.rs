use std::time::Duration;

use super::clock::MemberClock;
use super::partition_map::PartitionMap;
use crate::engine::EndedOrder;
use crate::order::TrackedOrder;
use crate::projection::{Ownership, SharedId};
use crate::sync::Refused;
use crate::types::UserPartition;
use crate::wal::LogHandle;

/// Whoever serves the users of partitions: the orders thread. Refused commands may be offered again, but
/// for those of a thread that has ended.
pub trait PartitionHost {
    /// Whether the exchange has been reached since the start.
    fn has_exchange(&self) -> bool;

    /// Whether a partition had open orders a moment ago.
    fn has_orders(&self, partition: UserPartition) -> bool;

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

    /// Takes note of exchange ids that several orders share, whoever has these.
    ///
    /// # Errors
    /// The ids.
    fn note_shared(&self, shared: Vec<SharedId>) -> Result<(), Refused<Vec<SharedId>>>;

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

/// Whoever refuses new orders while operators want so. All nodes share what is halted: Postgres has it, as
/// a text under a version.
pub trait HaltsHost: Clone {
    /// What is known here when a look at Postgres begins.
    type Look;
    /// Halts that Postgres does not have yet.
    type Draft;

    /// Whether this node knows what is halted. Before that it serves nobody.
    fn is_known(&self) -> bool;

    /// Begins a look. Gives the version that is known, if any is.
    fn begin_look(&self) -> (Option<i64>, Self::Look);

    /// Takes on what the look has found: the version, and the text unless the version is the known one.
    ///
    /// # Errors
    /// What is wrong with the text. What was known stays in force.
    fn found(&self, look: Self::Look, version: i64, text: Option<&str>) -> Result<(), String>;

    /// What is to be written: the version that it changes, and its text. None if nothing is.
    fn draft(&self) -> Option<(i64, String, Self::Draft)>;

    /// Postgres has it, under this version.
    fn written(&self, draft: Self::Draft, version: i64);

    /// Postgres does not take it, for this reason. It is tried again.
    fn not_written(&self, reason: String);
}

/// What a member needs to share the users with others.
#[derive(Debug)]
pub struct Membership<H> {
    /// Is told who has which users.
    pub map: PartitionMap,
    /// Is told how far this machine's clock is from Postgres' clock.
    pub clock: MemberClock,
    /// Is told which partitions are this node's.
    pub ownership: Ownership,
    /// The log that Postgres follows.
    pub log: LogHandle,
    /// Serves the users, and refuses what is halted.
    pub host: H,
    /// Orders that ended within this time are asked about after a move.
    pub ended_window: Duration,
}
