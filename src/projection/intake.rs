//! Reads the log for a connection's next batch.

use std::collections::BTreeSet;
use std::time::Instant;

use tokio::task::yield_now;

use super::account_rows::{Accounts, KeptAccounts};
use super::batch::{self, Batch, UnknownOrder};
use super::outcomes::Outcomes;
use super::position::Positions;
use super::working_set::WorkingOrders;
use super::{PostgresServer, ProjectionError};
use crate::order::{Event, NODE_PARTITION, decode};
use crate::types::UserPartition;
use crate::wal::{LogHandle, LogReader, Lsn};

/// Most events in one transaction. About 50 ms of work for Postgres: many events share the cost of
/// a commit, and none waits long for it.
pub(super) const BATCH_EVENTS: usize = 4_096;
/// Most records read for one batch; those of other servers' users are skipped.
const BATCH_RECORDS: usize = 65_536;
/// Records decoded between two yields to the connection.
const RECORDS_PER_SLICE: usize = 256;

/// Reads the log for one server.
pub(super) struct Intake {
    reader: LogReader,
    /// Events that were read and held back, and when each was read.
    carried: Vec<(Lsn, Event)>,
    carried_since: Vec<Instant>,
    /// The positions when the connection began.
    positions: Positions,
    /// Records up to here may have been written even beyond the positions. Later ones were not
    /// committed yet when this connection claimed the right to write.
    written: Lsn,
    /// Partitions on hold: their records are skipped.
    held: BTreeSet<UserPartition>,
    pub(super) working: WorkingOrders,
    pub(super) accounts: Accounts,
    outcomes: Outcomes,
}

/// Events for a batch, and the last record that they cover.
pub(super) struct Taken {
    pub(super) events: Vec<(Lsn, Event)>,
    pub(super) last: Lsn,
}

impl Intake {
    pub(super) fn new(
        reader: LogReader,
        (positions, kept): (Positions, KeptAccounts),
        written: Lsn,
        held: BTreeSet<UserPartition>,
    ) -> Self {
        Self {
            held,
            reader,
            carried: Vec::new(),
            carried_since: Vec::new(),
            positions,
            written,
            working: WorkingOrders::default(),
            accounts: Accounts { kept, ..Accounts::default() },
            outcomes: Outcomes::default(),
        }
    }

    /// Other partitions are this node's than before.
    pub(super) fn own(&mut self, owned: &Positions) {
        self.positions.own(owned);
    }

    /// The last record read.
    pub(super) fn position(&self) -> Lsn {
        self.reader.position()
    }

    /// Later records cannot have been in the tables when this connection began.
    pub(super) fn written(&self) -> Lsn {
        self.written
    }

    /// Whether any event is held back.
    pub(super) fn holds_back(&self) -> bool {
        !self.carried.is_empty()
    }

    /// Takes committed records, at most `most` events. At the end of the log it may hold orders
    /// back whose outcome is about to come.
    pub(super) async fn take(
        &mut self,
        server: &PostgresServer,
        most: usize,
        may_hold_back: bool,
    ) -> Result<Taken, ProjectionError> {
        let mut events = std::mem::take(&mut self.carried);
        let mut read_at = std::mem::take(&mut self.carried_since);
        let mut read = 0;
        let mut is_at_end = false;
        while events.len() < most && read < BATCH_RECORDS {
            if read % RECORDS_PER_SLICE == 0 {
                // Lets the previous batch be sent meanwhile.
                yield_now().await;
            }
            let Some(record) = self.reader.next_record()? else {
                is_at_end = true;
                break;
            };
            read += 1;
            let (lsn, partition) = (record.lsn, record.partition);
            let is_wanted = partition == NODE_PARTITION
                || UserPartition::new(partition).is_some_and(|of| {
                    server.keeps(of) && !self.positions.have(of, lsn) && !self.held.contains(&of)
                });
            if is_wanted {
                let event = decode(record.kind, record.format_version, record.payload)
                    .map_err(|source| ProjectionError::Record { lsn, source })?;
                events.push((lsn, event));
            }
        }
        let mut last = self.reader.position();
        if may_hold_back && is_at_end {
            let now = Instant::now();
            read_at.resize(events.len(), now);
            let count = self.outcomes.cut(&events, &read_at, now);
            self.carried = events.split_off(count);
            self.carried_since = read_at.split_off(count);
            if let Some((first, _)) = self.carried.first() {
                last = Lsn(first.0 - 1);
            }
        }
        Ok(Taken { events, last })
    }

    /// Builds the batch.
    pub(super) fn build(&mut self, log: &LogHandle, taken: &Taken) -> Result<Batch, UnknownOrder> {
        let Taken { events, last } = taken;
        let working = (&mut self.working, &mut self.accounts);
        let mut batch = batch::build(log.log_id(), events, working, self.written)?;
        batch.last = *last;
        for age_micros in batch.outcome_ages_micros.drain(..) {
            self.outcomes.observe(age_micros);
        }
        Ok(batch)
    }
}
