//! The table of the peer. Every statement is prepared once per connection and is a transaction of its
//! own.

use std::time::Duration;

use deadpool_postgres::{
    Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, Timeouts,
};
use tokio_postgres::{NoTls, Row};
use uuid::Uuid;

use super::order::{Order, order_type};

/// Longest wait for a connection.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(10);

/// Each row is updated once, soon after its insert. The fill factor leaves room for that on the page,
/// so no index is touched again.
const TABLE: &str = "\
    CREATE TABLE IF NOT EXISTS orders (
        order_id uuid PRIMARY KEY,
        user_id text NOT NULL,
        client_order_id text,
        external_order_id text,
        symbol text NOT NULL,
        position text NOT NULL,
        time_in_force text NOT NULL,
        limit_price_cents bigint,
        num_shares bigint NOT NULL,
        filled_shares bigint NOT NULL,
        filled_value_cents bigint NOT NULL,
        status text NOT NULL,
        reason text,
        created_at bigint NOT NULL,
        updated_at bigint NOT NULL,
        version bigint NOT NULL
    ) WITH (fillfactor = 50);
    CREATE INDEX IF NOT EXISTS orders_of_user ON orders (user_id, order_id)";

const INSERT: &str = "\
    INSERT INTO orders (order_id, user_id, client_order_id, symbol, position, time_in_force, \
        limit_price_cents, num_shares, filled_shares, filled_value_cents, status, created_at, \
        updated_at, version) \
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, 0, 0, $9, $10, $11, $12)";

const UPDATE: &str = "\
    UPDATE orders SET status = $2, external_order_id = $3, reason = $4, updated_at = $5, \
        version = $6 \
    WHERE order_id = $1 AND status = 'pending'";

macro_rules! select {
    ($rest:literal) => {
        concat!(
            "SELECT order_id, user_id, client_order_id, external_order_id, symbol, position, ",
            "time_in_force, limit_price_cents, num_shares, filled_shares, filled_value_cents, ",
            "status, reason, created_at, updated_at, version FROM orders ",
            $rest
        )
    };
}

const ONE: &str = select!("WHERE order_id = $1 AND user_id = $2");

const PAGE: &str = select!(
    "WHERE user_id = $1 AND order_id < $2 AND ($3::text IS NULL OR status = $3) \
     AND ($4::text IS NULL OR symbol = $4) ORDER BY order_id DESC LIMIT $5"
);

/// Why a call to Postgres failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum StoreError {
    /// No connection.
    #[error("there is no connection to Postgres: {0}")]
    Pool(#[from] PoolError),
    /// The pool cannot be created.
    #[error("the pool cannot be made: {0}")]
    Build(#[from] deadpool_postgres::BuildError),
    /// A statement failed.
    #[error("Postgres refused a statement: {0}")]
    Refused(#[from] tokio_postgres::Error),
    /// The order is no longer `pending`.
    #[error("the order {0} is not pending any more")]
    NotPending(Uuid),
}

/// Filters of a list.
#[derive(Debug)]
pub(super) struct PageRequest {
    /// Only those before this one.
    pub before: Option<Uuid>,
    /// Only those of this status.
    pub status: Option<String>,
    /// Only those of this symbol.
    pub symbol: Option<String>,
    /// Most orders of the page.
    pub limit: i64,
}

/// The table of orders.
pub(super) struct Store {
    pool: Pool,
}

impl Store {
    /// Creates the table if it is missing, and opens all connections.
    ///
    /// # Errors
    /// The database is not usable.
    pub(super) async fn open(database: &str, connections: usize) -> Result<Self, StoreError> {
        let config: tokio_postgres::Config = database.parse()?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, NoTls, recycling);
        let wait = Some(CONNECTION_TIMEOUT);
        let pool = Pool::builder(manager)
            .max_size(connections)
            .runtime(Runtime::Tokio1)
            .timeouts(Timeouts { wait, create: wait, recycle: wait })
            .build()?;
        pool.get().await?.batch_execute(TABLE).await?;
        let mut opened: Vec<Object> = Vec::new();
        for _ in 0..connections {
            opened.push(pool.get().await?);
        }
        for connection in &opened {
            for statement in [INSERT, UPDATE, ONE, PAGE] {
                connection.prepare_cached(statement).await?;
            }
        }
        Ok(Self { pool })
    }

    /// Number of open connections.
    pub(super) fn connections(&self) -> usize {
        self.pool.status().size
    }

    /// Adds an order; durable when this returns.
    ///
    /// # Errors
    /// The order was not inserted.
    pub(super) async fn insert(&self, order: &Order) -> Result<(), StoreError> {
        let connection = self.pool.get().await?;
        let statement = connection.prepare_cached(INSERT).await?;
        connection
            .execute(
                &statement,
                &[
                    &order.order_id,
                    &order.user_id,
                    &order.client_order_id,
                    &order.symbol,
                    &order.position.as_ref(),
                    &order.time_in_force.as_ref(),
                    &order.price_in_cents,
                    &order.num_shares,
                    &order.status.as_ref(),
                    &order.created_at,
                    &order.updated_at,
                    &order.version,
                ],
            )
            .await?;
        Ok(())
    }

    /// Writes the exchange's answer about a pending order; durable when this returns.
    ///
    /// # Errors
    /// The order was not updated.
    pub(super) async fn update(&self, order: &Order) -> Result<(), StoreError> {
        let connection = self.pool.get().await?;
        let statement = connection.prepare_cached(UPDATE).await?;
        let changed = connection
            .execute(
                &statement,
                &[
                    &order.order_id,
                    &order.status.as_ref(),
                    &order.external_order_id,
                    &order.reason,
                    &order.updated_at,
                    &order.version,
                ],
            )
            .await?;
        if changed == 1 { Ok(()) } else { Err(StoreError::NotPending(order.order_id)) }
    }

    /// One order of a user.
    ///
    /// # Errors
    /// The query failed.
    pub(super) async fn order(
        &self,
        user: &str,
        order_id: Uuid,
    ) -> Result<Option<Order>, StoreError> {
        let connection = self.pool.get().await?;
        let statement = connection.prepare_cached(ONE).await?;
        let row = connection.query_opt(&statement, &[&order_id, &user]).await?;
        Ok(row.as_ref().map(read).transpose()?)
    }

    /// Orders of a user, newest first.
    ///
    /// # Errors
    /// The query failed.
    pub(super) async fn page(
        &self,
        user: &str,
        page: &PageRequest,
    ) -> Result<Vec<Order>, StoreError> {
        let connection = self.pool.get().await?;
        let statement = connection.prepare_cached(PAGE).await?;
        let before = page.before.unwrap_or(Uuid::max());
        let rows = connection
            .query(&statement, &[&user, &before, &page.status, &page.symbol, &page.limit])
            .await?;
        Ok(rows.iter().map(read).collect::<Result<_, _>>()?)
    }
}

fn read(row: &Row) -> Result<Order, tokio_postgres::Error> {
    let limit: Option<i64> = row.try_get(7)?;
    let (filled, value): (i64, i64) = (row.try_get(9)?, row.try_get(10)?);
    Ok(Order {
        order_id: row.try_get(0)?,
        user_id: row.try_get(1)?,
        client_order_id: row.try_get(2)?,
        external_order_id: row.try_get(3)?,
        symbol: row.try_get(4)?,
        position: row.try_get::<_, String>(5)?.into(),
        time_in_force: row.try_get::<_, String>(6)?.into(),
        order_type: order_type(limit),
        price_in_cents: limit,
        num_shares: row.try_get(8)?,
        filled_shares: filled,
        filled_value_in_cents: value,
        average_price_in_cents: value.checked_div(filled),
        status: row.try_get::<_, String>(11)?.into(),
        reason: row.try_get(12)?,
        created_at: row.try_get(13)?,
        updated_at: row.try_get(14)?,
        version: row.try_get(15)?,
    })
}
