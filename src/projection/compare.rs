//! Reads the tables of Postgres, to compare them with the other records.

use std::collections::HashMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};
use tokio_postgres::Row;

use super::cell::{self, CellError};
use super::position::bounds;
use super::read::{self, EXECUTION_STATE, ORDER_COLUMN_COUNT, ORDER_COLUMNS, RowError};
use super::rows::EventRows;
use super::session::{Session, in_partitions};
use super::values::{LAST_TIMESTAMP_MICROS, Text, Timestamp, bigint};
use super::{PostgresServer, ProjectionError};
use crate::order::{Event, Execution, ExecutionPart, FeedPosition, OrderParts, TrackedOrder};
use crate::types::{OrderId, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Log events, and the rows of `order_events` that they should have become.
#[derive(Debug)]
pub struct ExpectedEvents {
    log_id: LogId,
    rows: EventRows,
}

/// One server's tables at one moment.
#[derive(Debug)]
pub struct PostgresRecords(pub(super) Session);

/// A row of `orders` with its executions.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresOrder {
    /// The order by its columns; its executions, ordered by id.
    pub parts: OrderParts,
    /// A column that follows from the others.
    pub status: String,
    /// As above.
    pub over_filled: bool,
    /// As above.
    pub user_partition: i16,
    /// Its rows of `executions`, ordered by id.
    pub executions: Vec<PostgresExecution>,
}

/// A row of `executions`.
#[derive(Debug, Clone, PartialEq)]
pub struct PostgresExecution {
    /// The exchange's execution id.
    pub id: String,
    /// Follows from the order id.
    pub user_partition: i16,
    /// When the exchange executed it.
    pub executed_at: Option<TimestampMicros>,
    /// When it was recorded here.
    pub recorded_at: TimestampMicros,
    /// When it was recorded as void.
    pub busted_at: Option<TimestampMicros>,
}

/// The position of a user partition in a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionPosition {
    pub partition: i16,
    /// The log that it follows.
    pub log_id: LogId,
    /// The last record applied.
    pub lsn: Lsn,
}

/// A row of `order_events` that differs from its event in the log, or is missing.
#[derive(Debug, Clone, PartialEq)]
pub struct EventDifference {
    /// The user.
    pub user: String,
    /// The order.
    pub order_id: OrderId,
    /// The version of the order.
    pub version: i64,
    /// Column, the log's value and the row's value; empty if the row is missing.
    pub fields: Vec<(String, String, String)>,
}

impl ExpectedEvents {
    /// No events yet.
    pub fn new(log_id: LogId) -> Self {
        Self { log_id, rows: EventRows::default() }
    }

    /// Adds an event and the order as the event left it.
    pub fn push(&mut self, lsn: Lsn, event: &Event, after: &TrackedOrder) {
        self.rows.push((self.log_id, lsn), event, after, None);
    }

    /// Removes all events.
    pub fn clear(&mut self) {
        self.rows = EventRows::default();
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// A time as Postgres can store it.
pub fn storable_time(at: TimestampMicros) -> TimestampMicros {
    if at.micros() > LAST_TIMESTAMP_MICROS { TimestampMicros::new(u64::MAX) } else { at }
}

/// The parts of an order as Postgres can store them.
pub fn as_storable(mut parts: OrderParts) -> OrderParts {
    for at in [&mut parts.created_at, &mut parts.updated_at, &mut parts.submit_before] {
        *at = storable_time(*at);
    }
    parts.reason = parts.reason.map(|reason| Text::new(&reason).into());
    for shares in [&mut parts.num_shares, &mut parts.filled_shares] {
        *shares = bigint(*shares).unsigned_abs();
    }
    for ExecutionPart { execution, .. } in &mut parts.executions {
        // Only the log knows by which source an execution counts.
        if let Some((num_shares, price)) = execution.counted() {
            let num_shares = bigint(num_shares).unsigned_abs();
            *execution = Execution::Counted { num_shares, price };
        }
    }
    parts
}

impl PostgresRecords {
    /// Begins to read a server. Later writes are not seen.
    ///
    /// # Errors
    /// The server cannot be reached, or has another schema.
    pub fn open(server: &PostgresServer) -> Result<Self, ProjectionError> {
        let session = Session::open(server)?;
        session.begin("READ ONLY")?;
        Ok(Self(session))
    }

    /// Ends the transaction.
    ///
    /// # Errors
    /// The server cannot be reached any more.
    pub fn end(self) -> Result<(), ProjectionError> {
        self.0.run("COMMIT", "end a transaction")
    }

    /// Begins anew: writes up to now are seen.
    ///
    /// # Errors
    /// The server cannot be reached any more.
    pub fn renew(&self) -> Result<(), ProjectionError> {
        self.0.run("COMMIT", "end a transaction")?;
        self.0.begin("READ ONLY")
    }

    pub fn server(&self) -> &PostgresServer {
        &self.0.server
    }

    /// The position of each user partition.
    ///
    /// # Errors
    /// The server refuses; [`ProjectionError::Value`].
    pub fn positions(&self) -> Result<Vec<PartitionPosition>, ProjectionError> {
        let (first, last) = bounds(&self.0.server);
        let rows = self.0.rows(
            "SELECT user_partition, log_id, lsn FROM projection \
             WHERE is_current AND user_partition BETWEEN $1 AND $2 ORDER BY user_partition",
            &[&first, &last],
        )?;
        let position = |row: &Row| -> Result<PartitionPosition, CellError> {
            Ok(PartitionPosition {
                partition: cell::value(row, 0)?,
                log_id: LogId(cell::value::<i64>(row, 1)?.cast_unsigned()),
                lsn: Lsn(cell::number(row, 2)?),
            })
        };
        let positions: Result<_, CellError> = rows.iter().map(position).collect();
        positions.map_err(|error| error.within(&self.0.server, "projection"))
    }

    /// The position in the exchange's feed, and the LSN of its record.
    ///
    /// # Errors
    /// The server refuses; [`ProjectionError::Value`].
    pub fn feed_position(&self) -> Result<Option<(Lsn, FeedPosition)>, ProjectionError> {
        feed_position(&self.0)
    }

    /// These orders, each valid or with the reason why its row is not. Missing ones are left out.
    ///
    /// # Errors
    /// The server refuses.
    pub fn orders(
        &self,
        wanted: &[(UserId, OrderId)],
    ) -> Result<HashMap<OrderId, Result<PostgresOrder, String>>, ProjectionError> {
        let (users, ids) = read::columns(wanted);
        let orders = self.0.rows(
            &format!(
                "SELECT {ORDER_COLUMNS}, o.status, o.over_filled, o.user_partition \
                 FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, order_id) \
                 JOIN orders o USING (user_id, order_id)"
            ),
            &[&users, &ids],
        )?;
        let mut executions: HashMap<OrderId, Vec<Row>> = HashMap::new();
        for row in self.0.rows(
            &format!(
                "SELECT e.order_id, e.execution_id, e.num_shares, e.price_cents, \
                    {EXECUTION_STATE}, e.profit_cents, e.user_partition, e.executed_at, e.recorded_at, \
                    e.busted_at \
                 FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, order_id) \
                 JOIN executions e USING (user_id, order_id) ORDER BY e.execution_id"
            ),
            &[&users, &ids],
        )? {
            executions.entry(read::order_id(&row, 0)).or_default().push(row);
        }
        let order = |row: &Row| {
            let order_id = read::order_id(row, 1);
            let executions = executions.get(&order_id).map(Vec::as_slice).unwrap_or_default();
            (order_id, order(row, executions).map_err(|error| error.to_string()))
        };
        Ok(orders.iter().map(order).collect())
    }

    /// Number of orders of users in these partitions.
    ///
    /// # Errors
    /// The server refuses.
    pub fn count_orders(&self, partitions: &RangeInclusive<u8>) -> Result<u64, ProjectionError> {
        let query = format!(
            "SELECT count(*) FROM orders o WHERE {}",
            in_partitions("o.order_id", partitions)
        );
        let rows = self.0.rows(&query, &[])?;
        Ok(rows.first().map_or(0, |row| row.get::<_, i64>(0).unsigned_abs()))
    }

    /// The expected events whose row in `order_events` differs or is missing, except for days that
    /// are not kept.
    ///
    /// # Errors
    /// The server refuses.
    pub fn wrong_events(
        &self,
        expected: &ExpectedEvents,
    ) -> Result<Vec<EventDifference>, ProjectionError> {
        // The log does not say what a void execution was of; terms are not in rows of before they were kept.
        const QUERY: &str = "\
            SELECT w.user_id, w.order_id, w.version, \
                (to_jsonb(w) - untold)::text, (to_jsonb(e) - untold)::text \
            FROM unnest($1::timestamptz[], $2::uuid[], $3::bigint[], $4::text[], $5::bigint[], \
                $6::text[], $7::smallint[], $8::text[], $9::text[], $10::text[], $11::bigint[], \
                $12::bigint[], $13::timestamptz[], $14::text[], $15::bigint[], $16::bigint[], \
                $17::text[], $18::text[], $19::text[], $20::text[], $21::bigint[], $22::bigint[]) \
                AS w (at, order_id, version, status, filled_shares, user_id, user_partition, \
                    event, external_order_id, execution_id, execution_shares, \
                    execution_price_cents, executed_at, reason, log_id, lsn, client_order_id, \
                    symbol, side, time_in_force, limit_price_cents, num_shares) \
            LEFT JOIN order_events e \
                ON e.order_id = w.order_id AND e.version = w.version AND e.at = w.at, \
            LATERAL (SELECT CASE \
                WHEN w.event IN ('busted', 'taken_back') \
                    THEN '{execution_shares, execution_price_cents}' \
                WHEN w.event = 'created' AND e.symbol IS NULL \
                    THEN '{client_order_id, symbol, side, time_in_force, limit_price_cents, num_shares}' \
                ELSE '{}' \
            END::text[] AS untold) AS u \
            WHERE (e.order_id IS NULL OR to_jsonb(e) - untold <> to_jsonb(w) - untold) \
                AND w.at >= coalesce((SELECT kept_from FROM order_events_kept), '-infinity') \
            ORDER BY w.lsn";
        let rows = self.0.rows(QUERY, &expected.rows.parameters())?;
        let difference = |row: &Row| EventDifference {
            user: row.get(0),
            order_id: read::order_id(row, 1),
            version: row.get(2),
            fields: row
                .get::<_, Option<&str>>(4)
                .map_or_else(Vec::new, |found| different_members(row.get::<_, &str>(3), found)),
        };
        Ok(rows.iter().map(difference).collect())
    }
}

fn order(row: &Row, executions: &[Row]) -> Result<PostgresOrder, RowError> {
    let parts = executions.iter().map(read::execution).collect::<Result<_, _>>()?;
    let moment = |row: &Row, column: usize| -> Result<Option<TimestampMicros>, RowError> {
        Ok(cell::value::<Option<Timestamp>>(row, column)?.map(|at| at.0))
    };
    let execution = |row: &Row| -> Result<PostgresExecution, RowError> {
        Ok(PostgresExecution {
            id: row.try_get(1)?,
            user_partition: row.try_get(6)?,
            executed_at: moment(row, 7)?,
            recorded_at: cell::value::<Timestamp>(row, 8)?.0,
            busted_at: moment(row, 9)?,
        })
    };
    Ok(PostgresOrder {
        parts: read::parts(row, parts)?,
        status: row.try_get(ORDER_COLUMN_COUNT)?,
        over_filled: row.try_get(ORDER_COLUMN_COUNT + 1)?,
        user_partition: row.try_get(ORDER_COLUMN_COUNT + 2)?,
        executions: executions.iter().map(execution).collect::<Result<_, _>>()?,
    })
}

/// The position in the exchange's feed.
pub(super) fn feed_position(
    session: &Session,
) -> Result<Option<(Lsn, FeedPosition)>, ProjectionError> {
    let rows = session.rows("SELECT session, sequence::text, at, lsn FROM feed_position", &[])?;
    let position = |row: &Row| -> Result<(Lsn, FeedPosition), CellError> {
        let position = FeedPosition {
            session: cell::value::<&str>(row, 0)?.into(),
            sequence: cell::parsed(row, 1)?,
            at: cell::value::<Timestamp>(row, 2)?.0,
            past: Vec::new(),
        };
        Ok((Lsn(cell::number(row, 3)?), position))
    };
    let position = rows.first().map(position).transpose();
    position.map_err(|error| error.within(&session.server, "feed_position"))
}

/// The members of two JSON objects that differ: name and both values. Where one cannot be parsed,
/// the rows as a whole.
fn different_members(expected: &str, found: &str) -> Vec<(String, String, String)> {
    let members = |text| serde_json::from_str::<Map<String, Value>>(text);
    let (Ok(of_expected), Ok(of_found)) = (members(expected), members(found)) else {
        return vec![("row".to_owned(), expected.to_owned(), found.to_owned())];
    };
    let value = |of: &Map<String, Value>, name: &str| match of.get(name) {
        None | Some(Value::Null) => "none".to_owned(),
        Some(value) => value.to_string(),
    };
    let extra = of_found.keys().filter(|name| !of_expected.contains_key(*name));
    let names = of_expected.keys().chain(extra);
    let names = names.filter(|name| of_expected.get(*name) != of_found.get(*name));
    names.map(|name| (name.clone(), value(&of_expected, name), value(&of_found, name))).collect()
}

#[cfg(test)]
#[path = "compare_tests.rs"]
mod tests;
