//! Copies all orders of the index into Postgres, for a server that gets one later, when the log no
//! longer has its beginning.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::open::{OpenRecords, event_of};
use super::passes::{groups, order_counts};
use super::{Differences, OfflineError, OfflineOptions, check_no_member};
use crate::index::{Index, IndexFollower, IndexMetrics};
use crate::order::Event;
use crate::projection::{COPIED_ORDERS, CoveredOrders, PostgresBackfill, PostgresServers};
use crate::types::{Clock, OrderId, UserId, UserPartition};
use crate::wal::{self, Lsn, WalError};

/// Events in one transaction.
const BATCH_EVENTS: usize = 4_096;

/// The result of a backfill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfilled {
    /// Orders copied.
    pub orders: u64,
    /// Postgres follows the log from here.
    pub position: Lsn,
    /// Orders with versions that neither the log nor `order_events` has.
    pub without_history: u64,
}

/// Copies all orders into Postgres, with the events of those that were created in the kept part of
/// the log. Existing rows are overwritten. An interrupted copy can be repeated; only its last step
/// sets the position.
///
/// # Errors
/// The records are in use or unreadable; Postgres refuses, or follows another log.
pub fn backfill(
    options: &OfflineOptions,
    servers: &PostgresServers,
) -> Result<Backfilled, OfflineError> {
    check_no_member(&options.data_dir)?;
    let records = OpenRecords::open(options)?;
    let counts = order_counts(&records, records.last)?;
    let index = records.index.clone();
    let (log_id, last) = (records.log_id, records.last);
    let groups: Vec<_> = servers
        .iter()
        .map(|server| groups(&server.partitions(), &counts, options.max_orders_in_memory))
        .collect();
    let kept = KeptLog { directory: records.log.directory.clone(), last };
    // This makes the log durable and keeps it locked.
    let follower = follow_to_end(records)?;
    let (mut orders, mut without_history) = (0, 0);
    for (server, groups) in servers.iter().zip(groups) {
        let now = Clock.now();
        let mut postgres = PostgresBackfill::begin(server, (log_id, last), now)?;
        for group in groups {
            // Events first: they have the times of executions.
            kept.copy_events(&group, None, &mut postgres)?;
        }
        orders += copy_orders(&index, &server.partitions(), &mut postgres)?;
        copy_accounts(&index, &server.partitions(), None, &mut postgres)?;
        let feed = index.node_state()?.feed_position;
        without_history += postgres.finish(last, feed, index.keeps_accounts()?)?;
    }
    drop(follower);
    Ok(Backfilled { orders, position: last, without_history })
}

/// Overwrites the orders and accounts that differ in Postgres, with their events if the log has them from the first one.
/// Rows of orders that our records do not have stay, and so do differing rows of `order_events`,
/// which is append-only. Returns how many orders were written.
///
/// # Errors
/// The records are in use or unreadable; Postgres refuses, follows another log, or has not followed
/// this one to its end.
pub fn repair(
    options: &OfflineOptions,
    servers: &PostgresServers,
    differences: &Differences,
) -> Result<u64, OfflineError> {
    let Differences { orders: wanted, accounts, .. } = differences;
    let records = OpenRecords::open(options)?;
    let counts = order_counts(&records, records.last)?;
    let index = records.index.clone();
    let (log_id, last) = (records.log_id, records.last);
    let kept = KeptLog { directory: records.log.directory.clone(), last };
    let most = options.max_orders_in_memory;
    let follower = follow_to_end(records)?;
    let mut repaired = 0;
    for server in servers.iter() {
        let own = wanted.iter().filter(|id| server.keeps(id.partition()));
        let own: Vec<OrderId> = own.copied().collect();
        let has_account = |user: &UserId| server.keeps(user.partition());
        if own.is_empty() && !accounts.iter().any(has_account) {
            continue;
        }
        let mut postgres = PostgresBackfill::begin_repair(server, (log_id, last))?;
        for group in groups(&server.partitions(), &counts, most) {
            kept.copy_events(&group, Some(wanted), &mut postgres)?;
        }
        for ids in own.chunks(COPIED_ORDERS) {
            let mut orders = Vec::with_capacity(ids.len());
            for id in ids {
                orders.extend(index.by_order_id(*id)?);
            }
            repaired += orders.len() as u64;
            postgres.orders(&orders)?;
        }
        if accounts.iter().any(has_account) {
            copy_accounts(&index, &server.partitions(), Some(accounts), &mut postgres)?;
            postgres.bring_ledger_forward()?;
        }
    }
    drop(follower);
    Ok(repaired)
}

/// Makes the log durable as a start does, and moves the index to its end.
fn follow_to_end(records: OpenRecords) -> Result<impl Sized, OfflineError> {
    let last = records.last;
    let in_use = OfflineError::InUse { data_dir: records.log.directory.clone() };
    let (index, log, recovery) = records.into_locked().ok_or(in_use)?;
    let (appender, writer) = wal::open(log, recovery)?;
    let handle = writer.handle();
    let mut follower = IndexFollower::new(index.clone(), handle, IndexMetrics::default())?;
    while index.position() < last {
        let before = index.position();
        follower.apply_batch(last)?;
        if index.position() == before {
            return Err(OfflineError::Stuck { position: before, last });
        }
    }
    follower.persist()?;
    Ok((appender, writer, follower))
}

/// The kept part of the log.
struct KeptLog {
    directory: std::path::PathBuf,
    last: Lsn,
}

impl KeptLog {
    /// Copies the events of orders that were created in the log: of all, or of the wanted ones.
    fn copy_events(
        &self,
        group: &RangeInclusive<u8>,
        wanted: Option<&BTreeSet<OrderId>>,
        postgres: &mut PostgresBackfill,
    ) -> Result<(), OfflineError> {
        let mut orders = CoveredOrders::default();
        let mut events: Vec<(Lsn, Event)> = Vec::with_capacity(BATCH_EVENTS);
        let read = wal::inspect(&self.directory, None, &mut |record| {
            if record.lsn > self.last || !group.contains(&record.partition) {
                return Ok(());
            }
            let event = event_of(&record)?;
            let is_wanted = |id| wanted.is_none_or(|wanted| wanted.contains(&id));
            if event.order_id().is_some_and(is_wanted) && orders.covers(&event) {
                orders.note_created(record.lsn, &event);
                events.push((record.lsn, event));
            }
            if events.len() == BATCH_EVENTS {
                postgres.events(&events, &mut orders).map_err(OfflineError::from)?;
                events.clear();
            }
            Ok(())
        });
        read.map_err(|error: WalError| OfflineError::from(error))?;
        Ok(postgres.events(&events, &mut orders)?)
    }
}

/// Copies all orders of these partitions from the index.
fn copy_orders(
    index: &Index,
    partitions: &RangeInclusive<u8>,
    postgres: &mut PostgresBackfill,
) -> Result<u64, OfflineError> {
    let mut copied = 0;
    let mut scan = index.scan_orders()?;
    loop {
        let is_wanted = |id: OrderId| partitions.contains(&id.partition().get());
        let orders = scan.next_orders(COPIED_ORDERS, is_wanted)?;
        if orders.is_empty() {
            return Ok(copied);
        }
        postgres.orders(&orders)?;
        copied += orders.len() as u64;
    }
}

/// Copies the accounts of these partitions from the index: of all users, or of the wanted ones.
fn copy_accounts(
    index: &Index,
    partitions: &RangeInclusive<u8>,
    wanted: Option<&BTreeSet<UserId>>,
    postgres: &mut PostgresBackfill,
) -> Result<(), OfflineError> {
    for partition in partitions.clone().filter_map(UserPartition::new) {
        let mut accounts = Vec::new();
        index.load_accounts(partition, &mut |user, account| {
            if wanted.is_none_or(|wanted| wanted.contains(&user)) {
                accounts.push((user, account));
            }
        })?;
        for accounts in accounts.chunks(COPIED_ORDERS) {
            postgres.accounts(accounts)?;
        }
    }
    Ok(())
}
