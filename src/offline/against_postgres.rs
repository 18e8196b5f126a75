//! Compares log and index with one Postgres server.

use std::ops::RangeInclusive;

use super::OfflineError;
use super::caught_up::Snapshot;
use super::fields::different_fields;
use super::open::OpenRecords;
use super::replay::{ExecutionTimes, Replay};
use super::report::DifferenceReport;
use crate::index::Index;
use crate::order::{Event, FeedPosition, OrderParts, TrackedOrder};
use crate::projection::{
    EventGap, ExpectedEvents, OrderRow, PostgresOrder, PostgresRecords, ProjectionError,
    as_storable, storable_time,
};
use crate::types::{ExecutionId, OrderId, TimestampMicros, UserId};
use crate::wal::Lsn;

/// Orders and events compared at a time.
const BATCH_ROWS: usize = 1_000;

/// The name of log and index together.
pub(super) const LOCAL_RECORDS: &str = "the index with the log";

/// The comparison with one server.
pub(super) struct ServerComparison {
    pub(super) server_rows: PostgresRecords,
    pub(super) name: String,
    /// The lowest position of the server: it should equal the log up to here.
    pub(super) reached: Lsn,
    events: ExpectedEvents,
}

/// An order and its execution times, as they should be.
struct Expected<'a> {
    order: &'a TrackedOrder,
    times: &'a [(ExecutionId, ExecutionTimes)],
}

impl ServerComparison {
    /// Begins to compare a server, and reports how far it lags. `None` if it follows another log:
    /// everything in it would differ.
    pub(super) fn new(
        Snapshot { server_rows, positions, behind }: Snapshot,
        records: &OpenRecords,
        report: &mut DifferenceReport<'_>,
    ) -> Result<Option<Self>, OfflineError> {
        let server = server_rows.server();
        let name = server.to_string();
        let (log_id, last) = (records.log_id, records.last);
        if let Some(other) = positions.iter().find(|position| position.log_id != log_id) {
            let found = other.log_id;
            report.line(&format_args!("{name} follows log {found}, and this is log {log_id}"))?;
            return Ok(None);
        }
        let (from, to) = server.partitions().into_inner();
        let is_whole = positions.len() == server.partitions().count();
        let least = positions.iter().map(|position| position.lsn).min();
        let reached = least.filter(|_| is_whole).unwrap_or(Lsn(0));
        if !is_whole {
            report.line(&format_args!(
                "{name} has not followed this log for all of user partitions {from} to {to}"
            ))?;
        } else if reached < last && !records.is_live() {
            let missing = last.0 - reached.0;
            report.line(&format_args!(
                "{name} is behind: it has everything up to record {reached}, the log ends with \
                 record {last}, {missing} records are missing"
            ))?;
        } else if !behind.is_empty() {
            for behind in behind {
                report.line(&format_args!("{name} {behind}"))?;
            }
        } else if let Some(ahead) = positions.iter().find(|position| position.lsn > last) {
            report.line(&format_args!(
                "{name} is ahead: it has everything up to record {}, and the log ends with record \
                 {last}",
                ahead.lsn
            ))?;
        }
        let events = ExpectedEvents::new(log_id);
        Ok(Some(Self { server_rows, name, reached, events }))
    }

    /// Reports orders on this server that another one should keep.
    pub(super) fn foreign_orders(
        &self,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let (from, to) = self.server_rows.server().partitions().into_inner();
        self.server_rows.each_foreign_order(|row: OrderRow| {
            report.line(&format_args!(
                "order {} of user {}: {}: {} has it, and keeps user partitions {from} to {to}; its \
                 partition is {}",
                row.order_id,
                row.user,
                row.table,
                self.name,
                row.order_id.partition().get()
            ))
        })
    }

    /// Ends the transaction on the server.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        Ok(self.server_rows.end()?)
    }

    /// Compares the position in the feed with the log's at the record that the server has it from,
    /// which may be past the server's lowest position.
    pub(super) fn feed(
        &self,
        expected: impl FnOnce(Lsn) -> Result<Option<FeedPosition>, OfflineError>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let text = |feed: &FeedPosition| format!("{} of session {}", feed.sequence, feed.session);
        let found = match self.server_rows.feed_position() {
            Err(error @ ProjectionError::Value { .. }) => {
                return report.line(&format_args!("feed_position: {error}"));
            }
            found => found?,
        };
        let reached = found.as_ref().map_or(self.reached, |(lsn, _)| self.reached.max(*lsn));
        let Some(expected) = expected(reached)? else { return Ok(()) };
        let found = found.map_or("none".to_owned(), |(_, found)| text(&found));
        let expected = text(&expected);
        if found != expected {
            report.line(&format_args!(
                "feed_position: the log has {expected}, {} has {found}",
                self.name
            ))?;
        }
        Ok(())
    }

    /// Takes a log event, with the order as the event left it.
    pub(super) fn event(
        &mut self,
        (lsn, event): (Lsn, &Event),
        after: &TrackedOrder,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        if lsn <= self.reached {
            self.events.push(lsn, event, after);
        }
        if self.events.len() >= BATCH_ROWS { self.compare_events(report) } else { Ok(()) }
    }

    /// Compares the events taken so far.
    pub(super) fn compare_events(
        &mut self,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        for wrong in self.server_rows.wrong_events(&self.events)? {
            let name = (wrong.order_id, wrong.user.as_str());
            let row = format!("order_events of version {}", wrong.version);
            if wrong.fields.is_empty() {
                report.field(name, &row, ("the log", "it"), (&self.name, "none"))?;
            }
            for (column, expected, found) in &wrong.fields {
                let column = format!("{row}: {column}");
                report.field(name, &column, ("the log", expected), (&self.name, found))?;
            }
        }
        self.events.clear();
        Ok(())
    }

    /// Compares all orders of a group of partitions. The log has been replayed to its end.
    pub(super) fn orders(
        &self,
        index: &Index,
        (group, replay): (&RangeInclusive<u8>, &mut Replay<'_>),
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let mut found = 0;
        let mut scan = index.scan_orders()?;
        loop {
            let is_wanted = |id: OrderId| group.contains(&id.partition().get());
            let stored = scan.next_orders(BATCH_ROWS, is_wanted)?;
            if stored.is_empty() {
                break;
            }
            for order in &stored {
                if let Some(known) = replay.orders.get_mut(&order.order().order_id) {
                    known.is_compared = true;
                }
            }
            let expected = stored.iter().map(|order| {
                let known = replay.orders.get(&order.order().order_id);
                known.map_or(Expected { order, times: &[] }, |known| Expected {
                    order: &known.order,
                    times: &known.times,
                })
            });
            found += self.compare(&expected.collect::<Vec<_>>(), replay, report)?;
        }
        // The orders that only the log has.
        let mut rest: Vec<OrderId> = replay.orders.keys().copied().collect();
        rest.retain(|id| replay.orders.get(id).is_some_and(|known| !known.is_compared));
        rest.sort_unstable();
        for ids in rest.chunks(BATCH_ROWS) {
            let known = ids.iter().filter_map(|id| replay.orders.get(id));
            let expected = known.map(|known| Expected { order: &known.order, times: &known.times });
            found += self.compare(&expected.collect::<Vec<_>>(), replay, report)?;
        }
        let known = Known { index, replay };
        if self.server_rows.count_orders(group)? != found {
            self.extra_orders(group, &known, report)?;
        }
        self.other_tables(group, &known, report)
    }

    /// Compares some orders. Returns how many of them have rows.
    fn compare(
        &self,
        expected: &[Expected<'_>],
        replay: &Replay<'_>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<u64, OfflineError> {
        let name = |expected: &Expected<'_>| {
            let order = expected.order.order();
            (order.user.clone(), order.order_id)
        };
        let wanted: Vec<(UserId, OrderId)> = expected.iter().map(name).collect();
        let found = self.server_rows.orders(&wanted)?;
        for expected in expected {
            let order = expected.order.order();
            let name = (order.order_id, order.user.as_str());
            // The missing records were reported once.
            let is_ahead = replay.ahead.contains(&order.order_id);
            match found.get(&order.order_id) {
                None if is_ahead => {}
                None => report.field(name, "order", (LOCAL_RECORDS, "it"), (&self.name, "none"))?,
                Some(Err(why)) => {
                    report.add_order(order.order_id);
                    report.line(&format_args!(
                        "order {} of user {}: its row in {} is invalid: {why}",
                        order.order_id, order.user, self.name
                    ))?;
                }
                Some(Ok(row)) if is_ahead && row.parts.version < order.version => {}
                Some(Ok(row)) => self.compare_row(expected, row, report)?,
            }
        }
        Ok(found.len() as u64)
    }

    fn compare_row(
        &self,
        expected: &Expected<'_>,
        row: &PostgresOrder,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let order = expected.order.order();
        let name = (order.order_id, order.user.as_str());
        let parts = as_storable(OrderParts::of_tracked(expected.order));
        let mut fields = different_fields(&parts, &row.parts);
        let mut compare = |field: String, one: String, other: String| {
            if one != other {
                fields.push((field, one, other));
            }
        };
        compare("status".into(), order.status.to_string(), row.status.clone());
        let over_filled = order.filled_shares > order.num_shares;
        compare("over_filled".into(), over_filled.to_string(), row.over_filled.to_string());
        let partition = order.order_id.partition().get().to_string();
        compare("user_partition".into(), partition.clone(), row.user_partition.to_string());
        for execution in &row.executions {
            let column = |column: &str| format!("execution {}: {column}", execution.id);
            let found = execution.user_partition.to_string();
            compare(column("user_partition"), partition.clone(), found);
            let mut times = expected.times.iter();
            let Some((_, times)) = times.find(|(id, _)| id.as_str() == execution.id) else {
                continue;
            };
            let text = |at: Option<TimestampMicros>| {
                let kept = at.map(|at| storable_time(at).micros().to_string());
                kept.unwrap_or_else(|| "none".to_owned())
            };
            let recorded_at = times.recorded_at.or(Some(execution.recorded_at));
            for (name, one, other) in [
                ("executed_at", times.executed_at, execution.executed_at),
                ("recorded_at", recorded_at, Some(execution.recorded_at)),
                ("busted_at", times.busted_at, execution.busted_at),
            ] {
                compare(column(name), text(one), text(other));
            }
        }
        report.fields(name, (LOCAL_RECORDS, &self.name), &fields)
    }

    /// Reports orders that log and index do not have.
    fn extra_orders(
        &self,
        group: &RangeInclusive<u8>,
        known: &Known<'_>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        self.server_rows.each_order(group, |row: OrderRow| {
            if known.order(&row)?.is_some() {
                return Ok(());
            }
            let name = (row.order_id, row.user.as_str());
            report.field(name, "order", (LOCAL_RECORDS, "none"), (&self.name, "it"))
        })
    }

    /// Compares the other tables with the orders.
    fn other_tables(
        &self,
        group: &RangeInclusive<u8>,
        known: &Known<'_>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        self.server_rows.each_orphan_execution(group, |row: OrderRow| {
            // Executions of an order that lacks only its own row were compared with the order.
            if known.order(&row)?.is_some() {
                return Ok(());
            }
            let (name, field) =
                ((row.order_id, row.user.as_str()), format!("execution {}", row.id));
            report.field(name, &field, (LOCAL_RECORDS, "no such order"), (&self.name, "it"))
        })?;
        self.server_rows.each_without_external(group, |row: OrderRow| {
            // An id that differs is reported as a difference of the order.
            if known.external_id(&row)?.is_none_or(|id| id != row.id) {
                return Ok(());
            }
            let name = (row.order_id, row.user.as_str());
            report.field(name, "external_orders", (LOCAL_RECORDS, &row.id), (&self.name, "none"))
        })?;
        self.server_rows.each_orphan_external(group, |row: OrderRow| {
            let id = known.external_id(&row)?;
            if id.as_ref() == Some(&row.id) {
                return Ok(());
            }
            let name = (row.order_id, row.user.as_str());
            let id = id.unwrap_or_else(|| "none".to_owned());
            report.field(name, "external_orders", (LOCAL_RECORDS, &id), (&self.name, &row.id))
        })?;
        self.server_rows.each_gap(group, |gap| self.gap(&gap, known, report))
    }

    fn gap(
        &self,
        gap: &EventGap,
        known: &Known<'_>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let row = OrderRow {
            table: "order_events",
            user: gap.user.clone(),
            order_id: gap.order_id,
            id: String::new(),
        };
        let is_known = known.order(&row)?.is_some();
        let versions = &gap.versions;
        let (expected, found) = match (gap.order, versions.as_slice()) {
            // A missing order, or an extra one, was reported already.
            (None, _) if is_known => return Ok(()),
            (Some(_), []) if !is_known => return Ok(()),
            (None, []) => return Ok(()),
            (None, rows) => ("no such order".to_owned(), format!("{} rows", rows.len())),
            (Some(order), []) => (format!("version {}", order.version), "no row".to_owned()),
            (Some(order), [first, ..]) => {
                let last = versions.last().unwrap_or(first);
                let mut different = versions.clone();
                different.dedup();
                let (different, rows) = (different.len(), versions.len());
                (
                    format!("version {}", order.version),
                    format!("versions {first} to {last}, {different} different in {rows} rows"),
                )
            }
        };
        let name = (gap.order_id, gap.user.as_str());
        report.field(name, "order_events", (LOCAL_RECORDS, &expected), (&self.name, &found))
    }
}

/// Orders of log and index together.
struct Known<'a> {
    index: &'a Index,
    replay: &'a Replay<'a>,
}

impl Known<'_> {
    /// The order that a row names, if it belongs to the row's user.
    fn order(&self, row: &OrderRow) -> Result<Option<TrackedOrder>, OfflineError> {
        let order = match self.replay.orders.get(&row.order_id) {
            Some(known) => Some(known.order.clone()),
            None => self.index.by_order_id(row.order_id)?,
        };
        Ok(order.filter(|order| order.order().user.as_str() == row.user))
    }

    /// The exchange id of that order.
    fn external_id(&self, row: &OrderRow) -> Result<Option<String>, OfflineError> {
        let order = self.order(row)?;
        let id = order.as_ref().and_then(|order| order.order().external_order_id.as_ref());
        Ok(id.map(|id| id.as_str().to_owned()))
    }
}
