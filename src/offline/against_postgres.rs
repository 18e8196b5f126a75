//! What log and index say against what one Postgres server says.

use std::ops::RangeInclusive;

use super::OfflineError;
use super::fields::different_fields;
use super::open::OpenRecords;
use super::replay::{ExecutionTimes, Replay};
use super::report::DifferenceReport;
use crate::index::Index;
use crate::order::{Event, FeedPosition, OrderParts, TrackedOrder};
use crate::projection::{
    EventGap, ExpectedEvents, OrderRow, PartitionPosition, PostgresOrder, PostgresRecords, as_kept,
    moment_as_kept,
};
use crate::types::{ExecutionId, OrderId, TimestampMicros, UserId};
use crate::wal::Lsn;

/// Orders and events that are looked up at once.
const BATCH_ROWS: usize = 1_000;

/// What log and index say together.
const LOCAL_RECORDS: &str = "the index with the log";

/// A server whose orders are compared.
pub(super) struct ServerComparison {
    server_rows: PostgresRecords,
    name: String,
    /// It should be where the log was at this record.
    pub(super) reached: Lsn,
    events: ExpectedEvents,
}

/// An order as it should be.
struct Expected<'a> {
    order: &'a TrackedOrder,
    times: &'a [(ExecutionId, ExecutionTimes)],
}

impl ServerComparison {
    /// Looks at a server, and says how far it is behind. `None` where it follows another log: then
    /// everything in it would be different.
    pub(super) fn new(
        (server_rows, positions): (PostgresRecords, Vec<PartitionPosition>),
        records: &OpenRecords,
        report: &mut DifferenceReport<'_>,
    ) -> Result<Option<Self>, OfflineError> {
        let server = server_rows.server();
        let name = server.to_string();
        let (log_id, last) = (records.log_id, records.last);
        if let Some(other) = positions.iter().find(|position| position.log_id != log_id) {
            let found = other.log_id;
            report.say(&format_args!("{name} follows log {found}, and this is log {log_id}"))?;
            return Ok(None);
        }
        let (from, to) = server.partitions().into_inner();
        let is_whole = positions.len() == server.partitions().count();
        let least = positions.iter().map(|position| position.lsn).min();
        let reached = least.filter(|_| is_whole).unwrap_or(Lsn(0));
        if !is_whole {
            report.say(&format_args!(
                "{name} has not followed this log for all of user partitions {from} to {to}"
            ))?;
        } else if reached < last && !records.is_live() {
            let missing = last.0 - reached.0;
            report.say(&format_args!(
                "{name} is behind: it has everything up to record {reached}, the log ends with \
                 record {last}, {missing} records are missing"
            ))?;
        } else if let Some(ahead) = positions.iter().find(|position| position.lsn > last) {
            report.say(&format_args!(
                "{name} is ahead: it has everything up to record {}, and the log ends with record \
                 {last}",
                ahead.lsn
            ))?;
        }
        let events = ExpectedEvents::new(log_id);
        Ok(Some(Self { server_rows, name, reached, events }))
    }

    /// Compares orders that no other server keeps, and that this one should not.
    pub(super) fn strangers(&self, report: &mut DifferenceReport<'_>) -> Result<(), OfflineError> {
        let (from, to) = self.server_rows.server().partitions().into_inner();
        self.server_rows.each_stranger(|row: OrderRow| {
            report.say(&format_args!(
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

    /// Ends the look at the server.
    pub(super) fn end(self) -> Result<(), OfflineError> {
        Ok(self.server_rows.end()?)
    }

    /// Compares how far the feed was taken, with what the log has at the record that the server has it
    /// from; that may be behind what all of its partitions have.
    pub(super) fn feed(
        &self,
        expected: impl FnOnce(Lsn) -> Result<Option<FeedPosition>, OfflineError>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        let words = |feed: &FeedPosition| format!("{} of session {}", feed.sequence, feed.session);
        let found = self.server_rows.feed_position()?;
        let reached = found.as_ref().map_or(self.reached, |(lsn, _)| self.reached.max(*lsn));
        let Some(expected) = expected(reached)? else { return Ok(()) };
        let found = found.map_or("none".to_owned(), |(_, found)| words(&found));
        let expected = words(&expected);
        if found != expected {
            report.say(&format_args!(
                "feed_position: the log has {expected}, {} has {found}",
                self.name
            ))?;
        }
        Ok(())
    }

    /// Takes an event of the log and the order as it has left it.
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

    /// Compares the events that were taken.
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
        // Those that only the log has.
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
            self.surplus(group, &known, report)?;
        }
        self.other_tables(group, &known, report)
    }

    /// Compares some orders; gives how many of them have rows.
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
            // What is missing of the log was said once.
            let is_ahead = replay.ahead.contains(&order.order_id);
            match found.get(&order.order_id) {
                None if is_ahead => {}
                None => report.field(name, "order", (LOCAL_RECORDS, "it"), (&self.name, "none"))?,
                Some(Err(why)) => {
                    report.note(order.order_id);
                    report.say(&format_args!(
                        "order {} of user {}: its row in {} cannot be used: {why}",
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
        let parts = as_kept(OrderParts::of_tracked(expected.order));
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
            let words = |at: Option<TimestampMicros>| {
                let kept = at.map(|at| moment_as_kept(at).micros().to_string());
                kept.unwrap_or_else(|| "none".to_owned())
            };
            let recorded_at = times.recorded_at.or(Some(execution.recorded_at));
            for (name, one, other) in [
                ("executed_at", times.executed_at, execution.executed_at),
                ("recorded_at", recorded_at, Some(execution.recorded_at)),
                ("busted_at", times.busted_at, execution.busted_at),
            ] {
                compare(column(name), words(one), words(other));
            }
        }
        report.fields(name, (LOCAL_RECORDS, &self.name), &fields)
    }

    /// Finds orders that the other records do not have.
    fn surplus(
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

    /// Compares what the other tables say with what the orders say.
    fn other_tables(
        &self,
        group: &RangeInclusive<u8>,
        known: &Known<'_>,
        report: &mut DifferenceReport<'_>,
    ) -> Result<(), OfflineError> {
        self.server_rows.each_lone_execution(group, |row: OrderRow| {
            // Those of an order that has only lost its row were compared with it.
            if known.order(&row)?.is_some() {
                return Ok(());
            }
            let (name, field) =
                ((row.order_id, row.user.as_str()), format!("execution {}", row.id));
            report.field(name, &field, (LOCAL_RECORDS, "no such order"), (&self.name, "it"))
        })?;
        self.server_rows.each_without_external(group, |row: OrderRow| {
            // Another id than the other records have is a difference of the order.
            if known.external_id(&row)?.is_none_or(|id| id != row.id) {
                return Ok(());
            }
            let name = (row.order_id, row.user.as_str());
            report.field(name, "external_orders", (LOCAL_RECORDS, &row.id), (&self.name, "none"))
        })?;
        self.server_rows.each_lone_external(group, |row: OrderRow| {
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
            // An order without its row, or a row without an order, was told of.
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

/// Orders as log and index have them together.
struct Known<'a> {
    index: &'a Index,
    replay: &'a Replay<'a>,
}

impl Known<'_> {
    /// The order that a row names, if it is that user's.
    fn order(&self, row: &OrderRow) -> Result<Option<TrackedOrder>, OfflineError> {
        let order = match self.replay.orders.get(&row.order_id) {
            Some(known) => Some(known.order.clone()),
            None => self.index.by_order_id(row.order_id)?,
        };
        Ok(order.filter(|order| order.order().user.as_str() == row.user))
    }

    /// The exchange's id of that order.
    fn external_id(&self, row: &OrderRow) -> Result<Option<String>, OfflineError> {
        let order = self.order(row)?;
        let id = order.as_ref().and_then(|order| order.order().external_order_id.as_ref());
        Ok(id.map(|id| id.as_str().to_owned()))
    }
}
