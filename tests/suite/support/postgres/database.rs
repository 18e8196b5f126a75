//! SQL in one database.

use serde_json::Value;
use tokio_postgres::{NoTls, SimpleQueryMessage};

use crate::support::api;

/// One database of a server, by its address.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    /// `postgres://user@host:port/database`.
    pub url: String,
}

impl Database {
    /// Runs statements and returns all their rows, each value as text.
    pub(crate) fn sql(&self, text: &str) -> Vec<Vec<Option<String>>> {
        self.try_sql(text).unwrap_or_else(|error| panic!("{text}: {error:?}"))
    }

    /// Runs statements that may fail.
    pub(crate) fn try_sql(
        &self,
        text: &str,
    ) -> Result<Vec<Vec<Option<String>>>, tokio_postgres::Error> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let (client, connection) = tokio_postgres::connect(&self.url, NoTls).await?;
            let driver = tokio::spawn(connection);
            let messages = client.simple_query(text).await?;
            drop(client);
            // Waits for the end of the session, which releases locks and the connection.
            driver.await.expect("it does not panic")?;
            let rows = messages.iter().filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let value = |column| row.get(column).map(str::to_owned);
                    Some((0..row.len()).map(value).collect())
                }
                _ => None,
            });
            Ok(rows.collect())
        })
    }

    /// The rows of a query, each as an object with its columns. Times are microseconds since 1970 if the
    /// query converts them.
    pub(crate) fn rows(&self, query: &str) -> Vec<Value> {
        let rows = self.sql(&format!("SELECT to_json(q) FROM ({query}) AS q"));
        let row = |row: Vec<Option<String>>| row.into_iter().next().flatten().expect("a value");
        rows.into_iter().map(|columns| serde_json::from_str(&row(columns)).expect("JSON")).collect()
    }

    /// The one value of a query, as a number.
    pub(crate) fn number(&self, query: &str) -> i64 {
        let rows = self.sql(query);
        let value = rows.first().and_then(|row| row.first()).cloned().flatten();
        value.expect("one value").parse().expect("a whole number")
    }

    /// The columns of a table that can be written: those that are not computed.
    pub(crate) fn columns(&self, table: &str) -> String {
        let query = format!(
            "SELECT string_agg(column_name, ', ') FROM information_schema.columns \
             WHERE table_schema = 'public' AND table_name = '{table}' AND is_generated = 'NEVER'"
        );
        self.sql(&query).concat().into_iter().flatten().next().expect("columns")
    }

    /// Waits until a query returns this number.
    pub(crate) fn await_number(&self, query: &str, expected: i64) {
        api::until(&format!("{query} to give {expected}"), || {
            (self.number(query) == expected).then_some(())
        });
    }
}
