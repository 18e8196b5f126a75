//! Reads orders from Postgres.

use std::collections::HashMap;
use std::str::FromStr;

use compact_str::CompactString;
use tokio_postgres::{Client, Row};
use uuid::Uuid;

use super::rows::{RESERVES_CASH, RESERVES_SHARES};
use super::values::{Text, Timestamp, uuid};
use super::{PostgresServer, ProjectionError, cell};
use crate::money::Reservation;
use crate::order::{Ending, Execution, ExecutionPart, ListedExecution, OrderParts, TrackedOrder};
use crate::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce,
    UserId,
};

/// The columns that [`parts`] reads.
pub(super) const ORDER_COLUMNS: &str = "\
    o.user_id, o.order_id, o.client_order_id, o.external_order_id, o.symbol, o.position, \
    o.time_in_force, o.limit_price_cents, o.num_shares, o.filled_shares, o.filled_value_cents, \
    o.reason, o.created_at, o.updated_at, o.submit_before, o.version, o.ending, \
    o.cancel_requested, o.user_cancelled, o.taken_back, o.open_cases, \
    o.reserves, o.reserved_price_cents";
pub(super) const ORDER_COLUMN_COUNT: usize = 23;
/// The columns that [`aggregated_executions`] reads.
pub(super) const EXECUTION_ARRAYS: &str = "x.ids, x.shares, x.prices, x.states, x.profits";
/// Whether an execution counts (0), is void (1) or was taken back (2), as [`execution`] reads it.
pub(super) const EXECUTION_STATE: &str =
    "CASE WHEN e.taken_back THEN 2 WHEN e.busted_at IS NOT NULL THEN 1 ELSE 0 END";

/// Selects the executions `e` of the one order that the condition names, for [`EXECUTION_ARRAYS`].
pub(super) fn select_aggregated(condition: &str) -> String {
    format!(
        "SELECT array_agg(e.execution_id) AS ids, array_agg(e.num_shares) AS shares, \
            array_agg(e.price_cents) AS prices, array_agg({EXECUTION_STATE}) AS states, \
            array_agg(e.profit_cents) AS profits \
         FROM executions e WHERE {condition}"
    )
}

/// The columns that [`listed_executions`] reads.
pub(super) const LISTED_ARRAYS: &str = "x.ids, x.shares, x.prices, x.times, x.busted";
/// Selects the executions of one order for [`LISTED_ARRAYS`], as they were noted.
pub(super) const SELECT_LISTED: &str = "\
    SELECT array_agg(e.execution_id) AS ids, array_agg(e.num_shares) AS shares, \
        array_agg(e.price_cents) AS prices, array_agg(e.executed_at) AS times, \
        array_agg(e.taken_back OR e.busted_at IS NOT NULL) AS busted \
    FROM (SELECT * FROM executions WHERE user_id = $1 AND order_id = $2 \
        ORDER BY recorded_at, execution_id) e";

/// Why a row is invalid.
pub(super) type RowError = Box<dyn std::error::Error + Send + Sync>;

/// These orders with their executions, in any sequence. Missing ones are left out.
pub(super) async fn orders(
    client: &Client,
    server: &PostgresServer,
    wanted: &[(UserId, OrderId)],
) -> Result<Vec<TrackedOrder>, ProjectionError> {
    let (users, ids) = columns(wanted);
    let refused = |error| ProjectionError::of(server, "read orders")(error);
    let select = format!(
        "SELECT {ORDER_COLUMNS} FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, order_id) \
         JOIN orders o USING (user_id, order_id)"
    );
    let rows = client.query(&select, &[&users, &ids]).await.map_err(refused)?;
    let mut by_order = executions(client, server, wanted).await?;
    rows.iter()
        .map(|row| {
            let executions = by_order.remove(&order_id(row, 1)).unwrap_or_default();
            tracked(server, row, executions)
        })
        .collect()
}

/// Refuses an order with a higher version than it has in the log: its row was changed by others.
pub(super) fn check_version(
    server: &PostgresServer,
    order: &TrackedOrder,
    reached: u64,
) -> Result<(), ProjectionError> {
    let (order_id, found) = (order.order().order_id, order.order().version);
    if found <= reached {
        return Ok(());
    }
    let source = format!("its version is {found}, but the log's is {reached}");
    Err(unusable(server, order_id, source.into()))
}

/// The users and ids of these orders, as parameters.
pub(super) fn columns(wanted: &[(UserId, OrderId)]) -> (Vec<Text>, Vec<Uuid>) {
    let users = wanted.iter().map(|(user, _)| Text::new(user.as_str()));
    (users.collect(), wanted.iter().map(|(_, order_id)| uuid(*order_id)).collect())
}

/// The executions of these orders.
pub(super) async fn executions(
    client: &Client,
    server: &PostgresServer,
    wanted: &[(UserId, OrderId)],
) -> Result<HashMap<OrderId, Vec<ExecutionPart>>, ProjectionError> {
    let (users, ids) = columns(wanted);
    let executions = client
        .query(
            &format!(
                "SELECT e.order_id, e.execution_id, e.num_shares, e.price_cents, {EXECUTION_STATE}, \
                    e.profit_cents \
                 FROM unnest($1::text[], $2::uuid[]) AS wanted (user_id, order_id) \
                 JOIN executions e USING (user_id, order_id)"
            ),
            &[&users, &ids],
        )
        .await
        .map_err(ProjectionError::of(server, "read executions"))?;
    let mut by_order: HashMap<OrderId, Vec<ExecutionPart>> = HashMap::new();
    for row in &executions {
        let order_id = order_id(row, 0);
        let part = execution(row).map_err(|source| unusable(server, order_id, source))?;
        by_order.entry(order_id).or_default().push(part);
    }
    Ok(by_order)
}

/// The order in a row with [`ORDER_COLUMNS`], with its executions. Only they say what is filled: were some of
/// them lost, those that the exchange tells of again would count on top of totals that have them.
pub(super) fn tracked(
    server: &PostgresServer,
    row: &Row,
    executions: Vec<ExecutionPart>,
) -> Result<TrackedOrder, ProjectionError> {
    let totals = totals_of(&executions);
    let mut parts =
        parts(row, executions).map_err(|source| unusable(server, order_id(row, 1), source))?;
    if totals != (parts.filled_shares, parts.filled_value_cents) {
        let (order, shares) = (parts.order_id, parts.filled_shares);
        tracing::warn!(%order, shares, known = totals.0, "executions of an order are missing in Postgres");
        (parts.filled_shares, parts.filled_value_cents) = totals;
    }
    let server = || server.to_string();
    parts.into_tracked().map_err(|source| ProjectionError::Order { server: server(), source })
}

/// Filled shares and their value in cents.
fn totals_of(executions: &[ExecutionPart]) -> (u64, i64) {
    executions.iter().fold((0, 0), |(shares, value), part| match part.execution {
        Execution::Counted { num_shares, price } | Execution::Booked { num_shares, price } => {
            let cents = i64::try_from(num_shares).unwrap_or(i64::MAX).saturating_mul(price.cents());
            (num_shares.saturating_add(shares), cents.saturating_add(value))
        }
        Execution::Busted | Execution::TakenBack => (shares, value),
    })
}

pub(super) fn unusable(
    server: &PostgresServer,
    order_id: OrderId,
    source: RowError,
) -> ProjectionError {
    ProjectionError::Row { server: server.to_string(), order_id, source }
}

pub(super) fn order_id(row: &Row, column: usize) -> OrderId {
    OrderId::from_u128(row.get::<_, Uuid>(column).as_u128())
}

/// The parts of an order in a row with [`ORDER_COLUMNS`].
pub(super) fn parts(row: &Row, executions: Vec<ExecutionPart>) -> Result<OrderParts, RowError> {
    let cases = match row.try_get::<_, Option<&str>>(20)? {
        Some(json) => serde_json::from_str(json)?,
        None => Vec::new(),
    };
    let text = |column: usize| row.try_get::<_, Option<&str>>(column);
    let word = |column: usize| row.try_get::<_, &str>(column);
    let number = |column: usize| cell::number(row, column);
    let moment = |column: usize| cell::value::<Timestamp>(row, column).map(|at| at.0);
    let ending = match text(16)? {
        Some(word) => Some(Ending::from_str(word).map_err(|_| "its ending is unknown")?),
        None => None,
    };
    Ok(OrderParts {
        user: UserId::new(word(0)?)?,
        order_id: order_id(row, 1),
        client_order_id: text(2)?.map(ClientOrderId::new).transpose()?,
        external_order_id: text(3)?.map(ExternalOrderId::new).transpose()?,
        symbol: Symbol::new(word(4)?)?,
        side: Side::from_str(word(5)?).map_err(|_| "its position is unknown")?,
        time_in_force: TimeInForce::from_str(word(6)?)
            .map_err(|_| "its time in force is unknown")?,
        limit_price: row.try_get::<_, Option<i64>>(7)?.map(PriceCents::new).transpose()?,
        num_shares: number(8)?,
        filled_shares: number(9)?,
        filled_value_cents: row.try_get(10)?,
        reason: text(11)?.map(CompactString::from),
        created_at: moment(12)?,
        updated_at: moment(13)?,
        submit_before: moment(14)?,
        version: number(15)?,
        ending,
        cancel_requested: row.try_get(17)?,
        user_cancelled: row.try_get(18)?,
        taken_back: row.try_get(19)?,
        reservation: reservation(text(21)?, row.try_get(22)?)?,
        executions,
        cases,
    })
}

fn reservation(reserves: Option<&str>, price: Option<i64>) -> Result<Reservation, RowError> {
    Ok(match (reserves, price) {
        (None, None) => Reservation::Nothing,
        (Some(RESERVES_CASH), Some(price)) => Reservation::Cash(PriceCents::new(price)?),
        (Some(RESERVES_SHARES), None) => Reservation::Shares,
        (Some(_), _) | (None, Some(_)) => return Err("what it reserves is unknown".into()),
    })
}

/// The execution in a row of: order id, execution id, shares, price in cents, [`EXECUTION_STATE`], profit.
pub(super) fn execution(row: &Row) -> Result<ExecutionPart, RowError> {
    let id = ExecutionId::new(row.try_get(1)?)?;
    let execution = match row.try_get::<_, i32>(4)? {
        1 => Execution::Busted,
        2 => Execution::TakenBack,
        _ => Execution::Counted {
            num_shares: cell::number(row, 2)?,
            price: PriceCents::new(row.try_get(3)?)?,
        },
    };
    Ok(ExecutionPart { id, execution, profit_cents: row.try_get(5)? })
}

/// The executions in [`EXECUTION_ARRAYS`], the first of which is this column. All are null for an order
/// without any.
pub(super) fn aggregated_executions(
    row: &Row,
    first: usize,
) -> Result<Vec<ExecutionPart>, RowError> {
    let ids: Vec<&str> = row.try_get::<_, Option<_>>(first)?.unwrap_or_default();
    let shares: Vec<Option<i64>> = row.try_get::<_, Option<_>>(first + 1)?.unwrap_or_default();
    let prices: Vec<Option<i64>> = row.try_get::<_, Option<_>>(first + 2)?.unwrap_or_default();
    let states: Vec<i32> = row.try_get::<_, Option<_>>(first + 3)?.unwrap_or_default();
    let profits: Vec<Option<i64>> = row.try_get::<_, Option<_>>(first + 4)?.unwrap_or_default();
    let each = ids.into_iter().zip(shares).zip(prices).zip(states).zip(profits);
    each.map(|((((id, shares), price), state), profit_cents)| {
        let execution = match state {
            1 => Execution::Busted,
            2 => Execution::TakenBack,
            _ => Execution::Counted {
                num_shares: u64::try_from(shares.ok_or("an execution without shares")?)?,
                price: PriceCents::new(price.ok_or("an execution without a price")?)?,
            },
        };
        Ok(ExecutionPart { id: ExecutionId::new(id)?, execution, profit_cents })
    })
    .collect()
}

/// The executions in [`LISTED_ARRAYS`], the first of which is this column.
pub(super) fn listed_executions(row: &Row, first: usize) -> Result<Vec<ListedExecution>, RowError> {
    let ids: Vec<&str> = row.try_get::<_, Option<_>>(first)?.unwrap_or_default();
    let shares: Vec<Option<i64>> = row.try_get::<_, Option<_>>(first + 1)?.unwrap_or_default();
    let prices: Vec<Option<i64>> = row.try_get::<_, Option<_>>(first + 2)?.unwrap_or_default();
    let times: Vec<Option<Timestamp>> = row.try_get::<_, Option<_>>(first + 3)?.unwrap_or_default();
    let busted: Vec<bool> = row.try_get::<_, Option<_>>(first + 4)?.unwrap_or_default();
    let each = ids.into_iter().zip(shares).zip(prices).zip(times).zip(busted);
    each.map(|((((id, shares), price), time), busted)| {
        Ok(ListedExecution {
            execution_id: ExecutionId::new(id)?,
            num_shares: shares.map(u64::try_from).transpose()?,
            price_in_cents: price.map(PriceCents::new).transpose()?,
            timestamp: time.map(|time| time.0),
            busted,
        })
    })
    .collect()
}
