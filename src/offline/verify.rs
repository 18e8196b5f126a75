//! Compares the records order by order, and changes none of them.

use std::io::Write;
use std::ops::RangeInclusive;

use super::against_postgres::ServerComparison;
use super::caught_up::Snapshot;
use super::open::{OpenRecords, event_of};
use super::passes::{groups, order_counts};
use super::replay::Replay;
use super::report::{DifferenceReport, Differences};
use super::{OfflineError, OfflineOptions, against_index, check_no_member, check_restored};
use crate::order::{Event, FeedPosition, NODE_PARTITION};
use crate::projection::PostgresServers;
use crate::types::USER_PARTITIONS;
use crate::wal::Lsn;

#[expect(clippy::cast_possible_truncation, reason = "64 partitions")]
const ALL: RangeInclusive<u8> = 0..=USER_PARTITIONS as u8 - 1;

/// Writes each difference between the records as a line. Returns their number.
///
/// An order created in the kept part of the log must be in the index as the log says, up to the
/// position of the index. Every server must have, in all its tables, what the index and the rest of
/// the log say together. Orders that changed after the position of a server may be older there: how
/// many records it lacks is reported once. Two orders with the same exchange id on one server share
/// one row of `external_orders`; which of the two has it is not checked.
///
/// Beside a running server each of the records is read at one moment, Postgres first; what the
/// other records have beyond it is no difference, unless the log had it when the comparison began:
/// Postgres is waited for, as long as it moves.
///
/// # Errors
/// The records cannot be read, or a server has them open and does not show them. Lines written
/// before stay.
pub fn verify(
    options: &OfflineOptions,
    servers: Option<&PostgresServers>,
    out: &mut dyn Write,
) -> Result<u64, OfflineError> {
    Ok(differences(options, servers, out)?.count)
}

/// As [`verify`], but also returns the orders that differ.
pub fn differences(
    options: &OfflineOptions,
    servers: Option<&PostgresServers>,
    out: &mut dyn Write,
) -> Result<Differences, OfflineError> {
    check_restored(&options.data_dir)?;
    if servers.is_some() {
        check_no_member(&options.data_dir)?;
    }
    let (records, snapshots) = open(options, servers)?;
    let mut report = DifferenceReport::new(out);
    let most = options.max_orders_in_memory;
    if servers.is_none() {
        let counts = order_counts(&records, records.index.position())?;
        for group in groups(&ALL, &counts, most) {
            pass(&records, &group, None, &mut report)?;
        }
        records.end()?;
        return Ok(report.found());
    }
    for snapshot in snapshots {
        let partitions = snapshot.server_rows.server().partitions();
        let mut comparison = ServerComparison::new(snapshot, &records, &mut report)?;
        let reached = comparison.as_ref().map_or(records.last, |server| server.reached);
        let counts = order_counts(&records, reached.min(records.index.position()))?;
        for group in groups(&partitions, &counts, most) {
            pass(&records, &group, comparison.as_mut(), &mut report)?;
        }
        if let Some(comparison) = comparison {
            comparison.feed(|reached| feed_position(&records, reached), &mut report)?;
            comparison.foreign_orders(&mut report)?;
            comparison.trial_balance(&records.index, &mut report)?;
            comparison.end()?;
        }
    }
    records.end()?;
    Ok(report.found())
}

/// Opens all records. Nothing changes those of a stopped server meanwhile. Beside a running one
/// Postgres comes first: the other records then have everything that it has.
fn open(
    options: &OfflineOptions,
    servers: Option<&PostgresServers>,
) -> Result<(OpenRecords, Vec<Snapshot>), OfflineError> {
    let servers = || servers.into_iter().flat_map(PostgresServers::iter);
    match OpenRecords::open(options) {
        Err(OfflineError::InUse { .. }) if !options.must_be_stopped => {
            let caught_up = servers().map(|server| Snapshot::caught_up(options, server));
            let snapshots = caught_up.collect::<Result<_, _>>()?;
            Ok((OpenRecords::open_or_ask(options)?, snapshots))
        }
        records => Ok((records?, servers().map(Snapshot::now).collect::<Result<_, _>>()?)),
    }
}

/// Reads all of the log once, and compares the orders of a group of partitions.
fn pass(
    records: &OpenRecords,
    group: &RangeInclusive<u8>,
    mut server: Option<&mut ServerComparison>,
    report: &mut DifferenceReport<'_>,
) -> Result<(), OfflineError> {
    let position = records.index.position();
    let reached = server.as_ref().map_or(records.last, |server| server.reached);
    let mut replay = Replay::new(&records.index, position, reached)?;
    let mut is_compared = false;
    records.each_record(&mut |record| {
        if !is_compared && record.lsn > position {
            is_compared = true;
            against_index::compare(&mut replay, &records.index, report)?;
        }
        if !group.contains(&record.partition) {
            return Ok(());
        }
        let event = event_of(&record)?;
        let after = replay.take(record.lsn, &event)?;
        match (&mut server, after) {
            (Some(server), Some(after)) => server.event((record.lsn, &event), after, report),
            _ => Ok(()),
        }
    })?;
    if !is_compared {
        against_index::compare(&mut replay, &records.index, report)?;
    }
    if let Some(server) = server {
        server.compare_events(report)?;
        server.orders(&records.index, (group, &mut replay), report)?;
        server.accounts(group, &replay.accounts, report)?;
    }
    Ok(())
}

/// The last feed position in the log up to a record, if there is one.
fn feed_position(
    records: &OpenRecords,
    reached: Lsn,
) -> Result<Option<FeedPosition>, OfflineError> {
    let mut newest = None;
    records.each_record(&mut |record| {
        if record.partition == NODE_PARTITION
            && record.lsn <= reached
            && let Event::FeedPosition(position) = event_of(&record)?
        {
            newest = Some(position);
        }
        Ok(())
    })?;
    Ok(newest)
}
