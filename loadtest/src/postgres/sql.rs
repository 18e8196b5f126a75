//! A blocking connection to Postgres.

use tokio::{
    runtime::{Builder, Runtime},
    task::JoinHandle,
};
use tokio_postgres::{Client, NoTls, Row, types::ToSql};

use crate::error::{Context, Error, Result};

/// A session. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Sql {
    client: Client,
    driver: JoinHandle<()>,
    runtime: Runtime,
}

impl Sql {
    /// Connects.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) fn connect(url: &str) -> Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("starting a runtime")?;
        let connected = runtime.block_on(tokio_postgres::connect(url, NoTls));
        let (client, connection) = connected.map_err(refused("let this test connect"))?;
        let driver = runtime.spawn(async move {
            // The next call returns the error.
            let _ = connection.await;
        });
        Ok(Self { client, driver, runtime })
    }

    /// Runs statements that return nothing.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) fn run(&self, statements: &str) -> Result<()> {
        let ran = self.runtime.block_on(self.client.batch_execute(statements));
        ran.map_err(refused(&format!("run {statements:?}")))
    }

    /// Runs a query of one row.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) fn row(&self, query: &str, parameters: &[&(dyn ToSql + Sync)]) -> Result<Row> {
        let row = self.runtime.block_on(self.client.query_one(query, parameters));
        row.map_err(refused(&format!("answer {query:?}")))
    }

    /// A setting of the server as this session has it.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub(super) fn setting(&self, name: &str) -> Result<String> {
        let row = self.row("SELECT current_setting($1)", &[&name])?;
        row.try_get(0).map_err(refused(&format!("tell {name}")))
    }
}

impl Drop for Sql {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

/// Adds what was requested to an error of Postgres.
pub(super) fn refused(what: &str) -> impl Fn(tokio_postgres::Error) -> Error {
    move |source| Error::Sql { what: what.to_owned(), source }
}
