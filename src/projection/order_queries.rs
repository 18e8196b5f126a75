//! The queries of [`PostgresReads`](super::PostgresReads), prepared on a connection.
//!
//! Orders, executions and the position of their user partition are read by one statement, so at the
//! same moment.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use futures_util::future::try_join_all;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Row, Statement};
use uuid::Uuid;

use super::connection::{Connection, in_time};
use super::read::{
    self, EXECUTION_ARRAYS, LISTED_ARRAYS, ORDER_COLUMN_COUNT, ORDER_COLUMNS, RowError,
    SELECT_LISTED, select_aggregated,
};
use super::read_accounts::{self, ACCOUNT_COLUMN_COUNT, ACCOUNT_COLUMNS, WITH_POSITIONS};
use super::values::{Text, Timestamp, uuid};
use super::{PostgresServer, ProjectionError, cell, migrations, preflight};
use crate::money::Account;
use crate::order::{ListedExecution, PageRequest, Sequence, TrackedOrder};
use crate::types::{ClientOrderId, ExternalOrderId, OrderId, Symbol, TimestampMicros, UserId};
use crate::wal::{LogId, Lsn};

/// Longest that the server works on a query, below the deadline of its answer: a query that nobody
/// waits for any more must not hold up those behind it.
///
/// A plan for any user looks into all partitions of a table, one for a given user into one.
const SESSION: &str = "\
    SET statement_timeout = '1500ms'; \
    SET plan_cache_mode = force_custom_plan";
/// Orders of a user looked at in one query for changes. Without a limit, one for a user with a
/// million orders would take seconds.
const SCANNED_ORDERS: i64 = 5_000;
/// How far the time of an order's first event may be from the time in its id, in microseconds: the
/// event is written while the order is taken. Rows are kept by day, so less would spare nothing.
const CREATED_WITHIN_MICROS: u64 = 24 * 60 * 60 * 1_000_000;

/// Where the log id and the LSN of the position are, after the order.
const POSITION_COLUMNS: std::ops::Range<usize> = ORDER_COLUMN_COUNT..ORDER_COLUMN_COUNT + 2;

/// Any schema version but that of an empty database, in which other names are looked for.
const HAS_TABLES: u32 = 1;

/// What is asked.
#[derive(Debug)]
pub(super) enum Query {
    Order { user: UserId, order_id: OrderId },
    Executions { user: UserId, order_id: OrderId },
    Account(UserId),
    ByOrderId(OrderId),
    ByExternalId(ExternalOrderId),
    ByKey { user: UserId, key: ClientOrderId },
    Ended { user: UserId, request: PageRequest },
    ChangedSince { user: UserId, since: TimestampMicros, after: Option<OrderId>, most: usize },
}

/// How far the tables have followed which log, of the user partition of a query.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogPosition {
    pub log_id: LogId,
    pub lsn: Lsn,
}

/// The answer to a query.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// `None` if no order was asked for by a user and none was found, or the partition has no owner.
    pub(super) position: Option<LogPosition>,
    /// `None` for an order that cannot be read.
    pub(super) orders: Vec<(OrderId, Option<TrackedOrder>)>,
    /// The executions of the order, where they are asked for.
    pub(super) executions: Vec<ListedExecution>,
    /// The account, where it is asked for and the user has one.
    pub(super) account: Option<Account>,
    /// Where a scan stopped before its end.
    pub(super) edge: Option<OrderId>,
}

impl Query {
    /// Whether it reads many rows. Those that read a few do not wait behind it.
    pub(super) fn is_of_many(&self) -> bool {
        matches!(self, Self::Ended { .. } | Self::ChangedSince { .. })
    }

    /// Whether its rows tell where the scan stopped.
    fn has_edge(&self) -> bool {
        match self {
            Self::Ended { request, .. } => !is_plain(request),
            Self::ChangedSince { .. } => true,
            Self::Order { .. }
            | Self::Executions { .. }
            | Self::Account(_)
            | Self::ByOrderId(_)
            | Self::ByExternalId(_)
            | Self::ByKey { .. } => false,
        }
    }

    /// The place of its first statement among [`statements`].
    fn statement(&self) -> usize {
        match self {
            Self::Order { .. } => 0,
            Self::ByKey { .. } => 1,
            Self::Ended { request, .. } if is_plain(request) => 2,
            Self::Ended { request, .. } => match request.sequence {
                Sequence::NewestFirst => 3,
                Sequence::OldestFirst => 4,
            },
            Self::ChangedSince { .. } => 5,
            Self::ByOrderId(_) => 6,
            Self::ByExternalId(_) => 7,
            Self::Executions { .. } => 8,
            Self::Account(_) => 9,
        }
    }
}

/// Whether a list is of all ended orders, newest first: then none that it reads is skipped.
fn is_plain(request: &PageRequest) -> bool {
    request.filter.is_of_all() && request.sequence == Sequence::NewestFirst
}

/// Finds the user of an order. The tables are partitioned by user: without one, a query would have to
/// look into all partitions, which takes Postgres longer to plan than to do. An order's first event
/// names its user; neither row ever changes.
const USER_OF_EVENT: &str = "\
    SELECT user_id, order_id FROM order_events \
    WHERE order_id = $1 AND at >= $2 AND at < $3 LIMIT 1";
const USER_OF_EXTERNAL: &str =
    "SELECT user_id, order_id FROM external_orders WHERE external_order_id = $1";

/// Selects the ended orders of a user with these symbols and statuses, of the ids from $5, up to but without
/// $2: at most as many as are looked at in one query. The edge is the last of these, where there are more.
fn filtered(columns: &str, position: &str, sequence: Sequence) -> String {
    let (direction, narrower) = match sequence {
        Sequence::NewestFirst => ("DESC", "order_id >= coalesce(s.edge, $5)"),
        Sequence::OldestFirst => {
            ("ASC", "order_id <= coalesce(s.edge, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid)")
        }
    };
    let range = "user_id = $1 AND order_id >= $5 AND order_id < $2";
    format!(
        "{columns}, s.edge FROM projection p \
         LEFT JOIN (SELECT order_id AS edge FROM orders WHERE {range} \
            ORDER BY order_id {direction} OFFSET {SCANNED_ORDERS} LIMIT 1) s ON true \
         LEFT JOIN LATERAL (SELECT * FROM orders WHERE {range} AND {narrower} \
                AND NOT is_open \
                AND ($6::text[] IS NULL OR symbol = ANY ($6)) AND status = ANY ($7::text[]) \
            ORDER BY order_id {direction} LIMIT $4) o ON true \
         WHERE {position} ORDER BY o.order_id {direction}"
    )
}

/// The statements that find orders of a user, in the order of [`Query::statement`]. The first three
/// parameters are the user, what narrows the orders down, and the user's partition. Columns: those of
/// [`ORDER_COLUMNS`], log id and LSN of the position, then executions or the edge. The last one has an account
/// instead of orders.
fn statements() -> [String; 10] {
    let columns = format!("SELECT {ORDER_COLUMNS}, p.log_id, p.lsn");
    let position = "p.is_current AND p.user_partition = $3";
    let executions = select_aggregated("e.user_id = $1 AND e.order_id = $2");
    [
        format!(
            "{columns}, {EXECUTION_ARRAYS} FROM projection p \
             LEFT JOIN orders o ON o.user_id = $1 AND o.order_id = $2 \
             LEFT JOIN ({executions}) x ON true \
             WHERE {position}"
        ),
        format!(
            "{columns} FROM projection p \
             LEFT JOIN orders o ON o.user_id = $1 AND o.client_order_id = $2 \
             WHERE {position}"
        ),
        format!(
            "{columns} FROM projection p LEFT JOIN (SELECT * FROM orders \
                WHERE user_id = $1 AND order_id < $2 \
                    AND NOT is_open \
                ORDER BY order_id DESC LIMIT $4) o ON true \
             WHERE {position} ORDER BY o.order_id DESC"
        ),
        filtered(&columns, position, Sequence::NewestFirst),
        filtered(&columns, position, Sequence::OldestFirst),
        format!(
            "{columns}, s.edge FROM projection p \
             LEFT JOIN (SELECT order_id AS edge FROM orders WHERE user_id = $1 AND order_id > $2 \
                ORDER BY order_id OFFSET {SCANNED_ORDERS} LIMIT 1) s ON true \
             LEFT JOIN LATERAL (SELECT * FROM orders WHERE user_id = $1 AND order_id > $2 \
                    AND order_id <= coalesce(s.edge, 'ffffffff-ffff-ffff-ffff-ffffffffffff'::uuid) \
                    AND updated_at >= $5 \
                ORDER BY order_id LIMIT $4) o ON true \
             WHERE {position} ORDER BY o.order_id"
        ),
        USER_OF_EVENT.to_owned(),
        USER_OF_EXTERNAL.to_owned(),
        format!(
            "{columns}, {LISTED_ARRAYS} FROM projection p \
             LEFT JOIN orders o ON o.user_id = $1 AND o.order_id = $2 \
             LEFT JOIN ({SELECT_LISTED}) x ON true \
             WHERE {position}"
        ),
        format!(
            "SELECT {ACCOUNT_COLUMNS}, j.log_id, j.lsn FROM projection j \
             LEFT JOIN accounts a ON a.user_id = $1 {WITH_POSITIONS} \
             WHERE j.is_current AND j.user_partition = $2"
        ),
    ]
}

/// A connection with the queries prepared.
#[derive(Debug)]
pub(super) struct OrderQueries {
    connection: Connection,
    server: PostgresServer,
    prepared: Vec<Statement>,
    answered_at: Mutex<Instant>,
}

impl OrderQueries {
    /// Connects to a primary that has the schema of this version.
    pub(super) async fn open(server: &PostgresServer) -> Result<Self, ProjectionError> {
        let connection = Connection::open(server).await?;
        let client = &connection.client;
        let prepared = in_time(server, async {
            preflight::check(client, server, HAS_TABLES).await?;
            migrations::check(client, server).await?;
            let refused = |error| ProjectionError::of(server, "prepare reads of orders")(error);
            client.batch_execute(SESSION).await.map_err(refused)?;
            let texts = statements();
            let prepared = try_join_all(texts.iter().map(|text| client.prepare(text)));
            prepared.await.map_err(refused)
        })
        .await??;
        let answered_at = Mutex::new(Instant::now());
        Ok(Self { connection, server: server.clone(), prepared, answered_at })
    }

    /// When the server last answered a query.
    pub(super) fn answered_at(&self) -> Instant {
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.connection.client.is_closed()
    }

    /// Runs a query.
    pub(super) async fn run(&self, query: &Query) -> Result<Found, ProjectionError> {
        let rows = match query {
            Query::Account(user) => {
                let partition = i16::from(user.partition().get());
                let rows = self.rows(query, &[&text(user), &partition]).await?;
                return self.found_account(rows.first());
            }
            Query::Order { user, order_id } | Query::Executions { user, order_id } => {
                self.order_rows(query, user, *order_id).await?
            }
            Query::ByOrderId(order_id) => {
                let created = created_micros(*order_id);
                let [from, to] = [
                    created.saturating_sub(CREATED_WITHIN_MICROS),
                    created.saturating_add(CREATED_WITHIN_MICROS),
                ]
                .map(|micros| Timestamp(TimestampMicros::new(micros)));
                let rows = self.rows(query, &[&uuid(*order_id), &from, &to]).await?;
                return self.of_its_user(&rows).await;
            }
            Query::ByExternalId(id) => {
                let rows = self.rows(query, &[&Text::new(id.as_str())]).await?;
                return self.of_its_user(&rows).await;
            }
            Query::ByKey { user, key } => {
                let partition = i16::from(user.partition().get());
                self.rows(query, &[&text(user), &Text::new(key.as_str()), &partition]).await?
            }
            Query::Ended { user, request } => self.ended_rows(query, user, request).await?,
            Query::ChangedSince { user, since, after, most } => {
                let partition = i16::from(user.partition().get());
                let after = after.map_or(Uuid::nil(), uuid);
                let parameters: [&(dyn ToSql + Sync); 5] =
                    [&text(user), &after, &partition, &limit(*most), &Timestamp(*since)];
                self.rows(query, &parameters).await?
            }
        };
        self.found(query, &rows)
    }

    /// The order in a row with its user and id, if there is one.
    async fn of_its_user(&self, rows: &[Row]) -> Result<Found, ProjectionError> {
        let Some(row) = rows.first() else {
            return Ok(Found::default());
        };
        let order_id = read::order_id(row, 1);
        let user = row.try_get(0).map_err(RowError::from).and_then(|name| Ok(UserId::new(name)?));
        match user {
            Ok(user) => {
                let query = Query::Order { user: user.clone(), order_id };
                let rows = self.order_rows(&query, &user, order_id).await?;
                self.found(&query, &rows)
            }
            Err(error) => {
                tracing::error!(%order_id, %error, "the user of an order in Postgres cannot be read");
                Ok(Found { orders: vec![(order_id, None)], ..Found::default() })
            }
        }
    }

    async fn order_rows(
        &self,
        query: &Query,
        user: &UserId,
        order_id: OrderId,
    ) -> Result<Vec<Row>, ProjectionError> {
        let partition = i16::from(user.partition().get());
        self.rows(query, &[&text(user), &uuid(order_id), &partition]).await
    }

    async fn ended_rows(
        &self,
        query: &Query,
        user: &UserId,
        request: &PageRequest,
    ) -> Result<Vec<Row>, ProjectionError> {
        let partition = i16::from(user.partition().get());
        let (from, to) = request.ids();
        let (from, to) = (from.map_or(Uuid::nil(), uuid), to.map_or(Uuid::max(), uuid));
        let most = limit(request.limit);
        let user = text(user);
        if is_plain(request) {
            return self.rows(query, &[&user, &to, &partition, &most]).await;
        }
        let filter = &request.filter;
        let symbols: Vec<&str> = filter.symbols.iter().map(Symbol::as_str).collect();
        let symbols = Some(symbols).filter(|symbols| !symbols.is_empty());
        let statuses: Vec<&str> = filter.statuses.iter().map(|status| status.into_str()).collect();
        let parameters: [&(dyn ToSql + Sync); 7] =
            [&user, &to, &partition, &most, &from, &symbols, &statuses];
        self.rows(query, &parameters).await
    }

    async fn rows(
        &self,
        query: &Query,
        parameters: &[&(dyn ToSql + Sync)],
    ) -> Result<Vec<Row>, ProjectionError> {
        let Some(statement) = self.prepared.get(query.statement()) else {
            unreachable!("every kind of query is prepared")
        };
        let rows = self.connection.client.query(statement, parameters).await;
        let rows = rows.map_err(ProjectionError::of(&self.server, "read orders"))?;
        *self.answered_at.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        Ok(rows)
    }

    fn found_account(&self, row: Option<&Row>) -> Result<Found, ProjectionError> {
        let Some(row) = row else { return Ok(Found::default()) };
        let position = position_in(row, ACCOUNT_COLUMN_COUNT);
        let position = position.map_err(|error| error.within(&self.server, "projection"))?;
        let has_one = row.try_get::<_, Option<&str>>(0).is_ok_and(|user| user.is_some());
        let account = has_one.then(|| read_accounts::account(&self.server, row)).transpose()?;
        let account = account.map(|(_, account)| account);
        Ok(Found { position: Some(position), account, ..Found::default() })
    }

    fn found(&self, query: &Query, rows: &[Row]) -> Result<Found, ProjectionError> {
        let (mut position, mut edge, mut executions) = (None, None, Vec::new());
        let mut orders = Vec::with_capacity(rows.len());
        for row in rows {
            let place = position_in(row, POSITION_COLUMNS.start);
            position = Some(place.map_err(|error| error.within(&self.server, "projection"))?);
            if query.has_edge() {
                let last: Option<Uuid> = row.get(POSITION_COLUMNS.end);
                edge = last.map(|last| OrderId::from_u128(last.as_u128()));
            }
            let Some(order_id) = row.get::<_, Option<Uuid>>(1) else { continue };
            let order_id = OrderId::from_u128(order_id.as_u128());
            let order = tracked(query, row).and_then(|order| {
                if matches!(query, Query::Executions { .. }) {
                    executions = read::listed_executions(row, POSITION_COLUMNS.end)?;
                }
                Ok(order)
            });
            let order = order.inspect_err(|error| {
                tracing::error!(%order_id, %error, "an order in Postgres cannot be read");
            });
            orders.push((order_id, order.ok()));
        }
        Ok(Found { position, orders, executions, edge, account: None })
    }
}

/// The log id and the LSN in this column and the next.
fn position_in(row: &Row, first: usize) -> Result<LogPosition, cell::CellError> {
    let log_id = LogId(cell::value::<i64>(row, first)?.cast_unsigned());
    Ok(LogPosition { log_id, lsn: Lsn(cell::number(row, first + 1)?) })
}

fn tracked(query: &Query, row: &Row) -> Result<TrackedOrder, RowError> {
    let executions = match query {
        Query::Order { .. } => read::aggregated_executions(row, POSITION_COLUMNS.end)?,
        // Only readers take them.
        _ => Vec::new(),
    };
    Ok(read::parts(row, executions)?.into_tracked()?)
}

fn text(user: &UserId) -> Text {
    Text::new(user.as_str())
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

/// The time in an order id.
fn created_micros(order_id: OrderId) -> u64 {
    let millis = u64::try_from(order_id.as_u128() >> 80).unwrap_or_default();
    millis.saturating_mul(1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::UserPartition;

    #[test]
    fn the_time_of_an_order_is_in_its_id() {
        let partition = UserPartition::new(3).unwrap();
        let order_id = OrderId::new(1_732_400_000_123_456_789, 9, partition);
        assert_eq!(created_micros(order_id), 1_732_400_000_123_000);
    }
}
