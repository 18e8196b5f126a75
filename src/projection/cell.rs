//! Reads columns in which another program may have put a value that Longbow never writes.

use std::error::Error;
use std::fmt::Display;
use std::str::FromStr;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::{PostgresServer, ProjectionError};

/// A value that cannot be read, by its column.
#[derive(Debug, thiserror::Error)]
#[error("{column}: {why}")]
pub(super) struct CellError {
    column: String,
    why: String,
}

impl CellError {
    fn new(row: &Row, column: usize, why: String) -> Self {
        let name = row.columns().get(column).map_or_else(String::new, |known| known.name().into());
        Self { column: name, why }
    }

    /// The error of a row of this table.
    pub(super) fn within(self, server: &PostgresServer, table: &'static str) -> ProjectionError {
        let Self { column, why } = self;
        ProjectionError::Value { server: server.to_string(), table, column, why }
    }
}

/// The value of a column.
pub(super) fn value<'a, T: FromSql<'a>>(row: &'a Row, column: usize) -> Result<T, CellError> {
    row.try_get(column).map_err(|error| {
        let cause = error.source().map_or_else(|| error.to_string(), ToString::to_string);
        CellError::new(row, column, cause)
    })
}

/// A `bigint` that is never negative.
pub(super) fn number(row: &Row, column: usize) -> Result<u64, CellError> {
    let found: i64 = value(row, column)?;
    u64::try_from(found).map_err(|_| CellError::new(row, column, format!("{found} is below zero")))
}

/// A value that the query selects as text.
pub(super) fn parsed<T>(row: &Row, column: usize) -> Result<T, CellError>
where
    T: FromStr,
    T::Err: Display,
{
    let found: &str = value(row, column)?;
    found.parse().map_err(|error| CellError::new(row, column, format!("{found:?}: {error}")))
}
