//! Tells the orders thread which orders of partitions that came have ended lately. It has a connection
//! of its own, since no user waits for it.

use std::collections::BTreeSet;

use tokio::sync::mpsc;
use tokio::time::sleep;

use super::failures::Failures;
use super::host::{Membership, PartitionHost};
use super::ownership::in_parts;
use super::{FAILURE_PAUSE, MEMBER_LEASE, NodeError};
use crate::projection::{Connection, PostgresServer, ended_orders, note_shared_of};
use crate::types::UserPartition;

/// Orders handed to the orders thread at a time, which merges them into a long list.
const TOLD_AT_ONCE: usize = 4_096;

/// What has to be told of the partitions that came.
pub(super) struct EndedLately<'a, H> {
    membership: &'a Membership<H>,
    server: PostgresServer,
    comes: mpsc::UnboundedReceiver<UserPartition>,
    /// What ended in these is still to be told.
    untold: BTreeSet<UserPartition>,
}

impl<'a, H: PartitionHost> EndedLately<'a, H> {
    pub(super) fn new(
        membership: &'a Membership<H>,
        server: PostgresServer,
        comes: mpsc::UnboundedReceiver<UserPartition>,
    ) -> Self {
        Self { membership, server, comes, untold: BTreeSet::new() }
    }

    /// Tells it of each partition that comes, until no more can come or the orders thread has ended.
    /// Failures of Postgres are retried.
    pub(super) async fn keep(mut self) {
        let mut failures = Failures::default();
        while let Some(partition) = self.comes.recv().await {
            self.untold.insert(partition);
            while !self.untold.is_empty() {
                match self.tell().await {
                    Err(NodeError::Ending) => return,
                    Err(error) => {
                        if failures.note_beside_lease(&error, &self.membership.map) {
                            let error: &dyn std::error::Error = &error;
                            tracing::warn!(error, "which orders ended lately cannot be read yet");
                        }
                        sleep(FAILURE_PAUSE).await;
                    }
                    Ok(()) => failures.end(),
                }
            }
        }
    }

    /// Tells it of all partitions that have come by now: reading those of one takes about as long.
    async fn tell(&mut self) -> Result<(), NodeError> {
        let connection = Connection::open_within(MEMBER_LEASE, &self.server).await?;
        while let Ok(partition) = self.comes.try_recv() {
            self.untold.insert(partition);
        }
        let untold: Vec<_> = self.untold.iter().copied().collect();
        let Membership { host, ended_window, .. } = self.membership;
        let client = &connection.client;
        let mut ended = ended_orders(client, &self.server, &untold, *ended_window).await?;
        ended.sort_unstable_by_key(|ended| ended.at);
        in_parts(TOLD_AT_ONCE, ended, |some| host.note_ended(some)).await?;
        note_shared_of(client, &self.server, &untold).await?;
        self.untold.clear();
        Ok(())
    }
}
