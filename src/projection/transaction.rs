//! One batch, one transaction.

use std::collections::BTreeSet;
use std::pin::Pin;

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

use super::batch::Batch;
use super::days::Day;
use super::position::{self, bounds};
use super::rows::{
    INSERT_EXTERNAL_ORDERS, INSERT_ORDER_EVENTS, Parameters, UPSERT_EXECUTIONS, UPSERT_ORDERS,
};
use super::values::{Text, Timestamp, bigint};
use super::{PostgresServer, ProjectionError};
use crate::wal::LogId;

const UPSERT_FEED_POSITION: &str = "\
    INSERT INTO feed_position (session, sequence, at, log_id, lsn) \
    VALUES ($1, $2::text::numeric, $3, $4, $5) \
    ON CONFLICT (is_only) DO UPDATE SET session = excluded.session, \
        sequence = excluded.sequence, at = excluded.at, log_id = excluded.log_id, \
        lsn = excluded.lsn \
    WHERE feed_position.log_id <> excluded.log_id OR feed_position.lsn < excluded.lsn";

/// The statements of a connection.
#[derive(Debug)]
pub(super) struct Statements {
    advance: Statement,
    orders: Statement,
    executions: Statement,
    external: Statement,
    events: Statement,
    feed: Statement,
    /// Days whose partitions are known to be there.
    days: BTreeSet<Day>,
}

impl Statements {
    pub(super) async fn prepare(
        client: &Client,
        server: &PostgresServer,
    ) -> Result<Self, ProjectionError> {
        let prepare = async |sql| {
            let prepared = client.prepare(sql).await;
            prepared.map_err(ProjectionError::of(server, "prepare a statement"))
        };
        Ok(Self {
            advance: prepare(position::ADVANCE).await?,
            orders: prepare(UPSERT_ORDERS).await?,
            executions: prepare(UPSERT_EXECUTIONS).await?,
            external: prepare(INSERT_EXTERNAL_ORDERS).await?,
            events: prepare(INSERT_ORDER_EVENTS).await?,
            feed: prepare(UPSERT_FEED_POSITION).await?,
            days: BTreeSet::new(),
        })
    }

    /// Makes the partitions of these days and of the ones that follow, ahead of their time.
    pub(super) async fn make_days(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        days: impl Iterator<Item = Day>,
    ) -> Result<(), ProjectionError> {
        let wanted: BTreeSet<Day> = days.flat_map(|day| [day, day.next()]).collect();
        for day in wanted {
            if self.days.contains(&day) {
                continue;
            }
            let made = client
                .execute("SELECT make_order_events_partition($1)", &[&day.since_1970()])
                .await;
            made.map_err(ProjectionError::of(server, "make a partition of order_events"))?;
            self.days.insert(day);
        }
        Ok(())
    }

    /// Writes a batch: all of it, with the position behind it, or nothing.
    pub(super) async fn write(
        &self,
        client: &Client,
        server: &PostgresServer,
        (log_id, epoch): (LogId, i64),
        batch: &Batch,
    ) -> Result<(), ProjectionError> {
        let refused = |error| ProjectionError::of(server, "take a batch of orders")(error);
        let (first, last) = bounds(server);
        let lsn = bigint(batch.last.0);
        let advance: Parameters<'_> = vec![&first, &last, &epoch, &lsn];
        // The position first: from here on nobody else moves it.
        let mut parts = vec![(&self.advance, advance)];
        parts.extend(batch.orders.iter().map(|rows| (&self.orders, rows.parameters())));
        parts.extend(batch.executions.iter().map(|rows| (&self.executions, rows.parameters())));
        parts.extend(batch.external.iter().map(|rows| (&self.external, rows.parameters())));
        parts.extend(batch.events.iter().map(|rows| (&self.events, rows.parameters())));
        let feed = batch.feed.as_ref().map(|(lsn, feed)| {
            let log_id = log_id.0.cast_signed();
            let sequence = feed.sequence.to_string();
            (Text::new(&feed.session), sequence, Timestamp(feed.at), log_id, bigint(lsn.0))
        });
        if let Some((session, sequence, at, log_id, lsn)) = &feed {
            parts.push((&self.feed, vec![session, sequence, at, log_id, lsn]));
        }
        // All are on their way before the first is answered, the commit too: after an error Postgres
        // takes nothing more of the transaction, and ends it at the commit without any of it.
        type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;
        let begin: Answer<'_> = Box::pin(client.batch_execute("BEGIN"));
        let commit: Answer<'_> = Box::pin(client.batch_execute("COMMIT"));
        let parts = parts.iter().map(|(statement, parameters)| -> Answer<'_> {
            Box::pin(async { client.execute(*statement, parameters).await.map(drop) })
        });
        let answers = join_all(std::iter::once(begin).chain(parts).chain([commit])).await;
        match first_error(answers) {
            None => Ok(()),
            Some(error) if error.code().map(SqlState::code) == Some(position::SUPERSEDED) => {
                let found = newest_epoch(client, server).await?;
                let server = server.to_string();
                Err(ProjectionError::Superseded { server, found, ours: epoch })
            }
            Some(error) => Err(refused(error)),
        }
    }
}

/// The first thing that went wrong. What follows an error only says that there was one.
fn first_error(answers: Vec<Result<(), Error>>) -> Option<Error> {
    answers.into_iter().find_map(Result::err)
}

async fn newest_epoch(client: &Client, server: &PostgresServer) -> Result<i64, ProjectionError> {
    let (first, last) = bounds(server);
    let newest = client
        .query_one(
            "SELECT coalesce(max(epoch), 0) FROM projection WHERE user_partition BETWEEN $1 AND $2",
            &[&first, &last],
        )
        .await;
    Ok(newest.map_err(ProjectionError::of(server, "tell its newest epoch"))?.get(0))
}
