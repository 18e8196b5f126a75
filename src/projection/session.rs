//! A blocking session with a server, for the commands that compare, restore and copy.

use std::ops::RangeInclusive;
use tokio::runtime::Runtime;
use tokio_postgres::Row;

use super::connection::Connection;
use super::{PostgresServer, ProjectionError, migrations, preflight};

/// Rows fetched from a cursor at a time.
const FETCHED_ROWS: usize = 2_000;

/// No timeouts: an operator waits for the queries, and the transaction idles while other records
/// are read. Cursors are read to the end.
const TRANSACTION: &str = "\
    SET LOCAL idle_in_transaction_session_timeout = 0; \
    SET LOCAL statement_timeout = 0; \
    SET LOCAL cursor_tuple_fraction = 1";

/// A connection and the runtime that drives it.
#[derive(Debug)]
pub(super) struct Session {
    /// Dropped before its runtime.
    pub(super) connection: Connection,
    pub(super) server: PostgresServer,
    pub(super) runtime: Runtime,
}

impl Session {
    /// Connects to a server that has the schema of this version.
    pub(super) fn open(server: &PostgresServer) -> Result<Self, ProjectionError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(ProjectionError::Runtime)?;
        let connection = runtime.block_on(async {
            let connection = Connection::open(server).await?;
            preflight::check_session(&connection.client, server).await?;
            migrations::check(&connection.client, server).await?;
            Ok::<_, ProjectionError>(connection)
        })?;
        Ok(Self { connection, server: server.clone(), runtime })
    }

    /// Begins a transaction whose statements all see the same snapshot, taken by the first one that
    /// reads.
    pub(super) fn begin(&self, mode: &str) -> Result<(), ProjectionError> {
        let begin = format!("BEGIN ISOLATION LEVEL REPEATABLE READ {mode}; {TRANSACTION}");
        self.run(&begin, "begin a transaction")
    }

    /// Runs statements that return no rows.
    pub(super) fn run(
        &self,
        statements: &str,
        action: &'static str,
    ) -> Result<(), ProjectionError> {
        let answer = self.runtime.block_on(self.connection.client.batch_execute(statements));
        answer.map_err(ProjectionError::of(&self.server, action))
    }

    /// Runs a query with few rows.
    pub(super) fn rows(
        &self,
        query: &str,
        parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)],
    ) -> Result<Vec<Row>, ProjectionError> {
        let answer = self.runtime.block_on(self.connection.client.query(query, parameters));
        answer.map_err(ProjectionError::of(&self.server, "be read"))
    }

    /// Opens a cursor for a query with any number of rows, inside a transaction.
    pub(super) fn open_cursor(&self, name: &str, query: &str) -> Result<(), ProjectionError> {
        self.run(&format!("DECLARE {name} NO SCROLL CURSOR FOR {query}"), "be read")
    }

    /// The next rows; empty after the last.
    pub(super) fn fetch(&self, name: &str) -> Result<Vec<Row>, ProjectionError> {
        self.rows(&format!("FETCH {FETCHED_ROWS} FROM {name}"), &[])
    }

    /// Visits all rows of a query.
    pub(super) fn each_row<E: From<ProjectionError>>(
        &self,
        query: &str,
        mut visit: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        self.open_cursor("each_row", query)?;
        loop {
            let rows = self.fetch("each_row")?;
            if rows.is_empty() {
                break;
            }
            rows.iter().try_for_each(&mut visit)?;
        }
        Ok(self.run("CLOSE each_row", "be read")?)
    }
}

/// SQL expression: the user partition that an order id names, whatever the column `user_partition`
/// says.
pub(super) fn partition_of(order_id: &str) -> String {
    format!("(get_byte(uuid_send({order_id}), 15) & 63)")
}

/// SQL condition: the order id names one of these user partitions.
pub(super) fn in_partitions(order_id: &str, partitions: &RangeInclusive<u8>) -> String {
    let (first, last) = (partitions.start(), partitions.end());
    format!("{} BETWEEN {first} AND {last}", partition_of(order_id))
}
