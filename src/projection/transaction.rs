//! One batch, one transaction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

use super::batch::Batch;
use super::days::Day;
use super::position::{self, Positions, newest_epoch};
use super::rows::{
    EventRows, ExecutionRows, ExternalRows, KEEP, ONLY_BUST, OrderRows, Parameters, REPLACE_OLDER,
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

/// What a transaction consists of: a statement each. The position comes first: from there on nobody
/// else moves it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
    Position,
    NewOrders,
    Orders,
    Executions,
    External,
    NewEvents,
    Events,
    Feed,
}

/// The statements of a connection.
#[derive(Debug, Default)]
pub(super) struct Statements {
    prepared: HashMap<Part, Statement>,
    /// Days whose partitions are known to be there.
    days: BTreeSet<Day>,
}

impl Statements {
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

    /// Writes a batch: all of it, with the positions behind it, or nothing.
    pub(super) async fn write(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        (log_id, epoch, positions): (LogId, i64, &Positions),
        batch: &Batch,
    ) -> Result<(), ProjectionError> {
        let (touched, known) = positions.of(&batch.touched);
        let lsn = bigint(batch.last.0);
        let feed = batch.feed.as_ref().map(|(lsn, feed)| {
            let log_id = log_id.0.cast_signed();
            let sequence = feed.sequence.to_string();
            (Text::new(&feed.session), sequence, Timestamp(feed.at), log_id, bigint(lsn.0))
        });
        let mut parts: Vec<(Part, Parameters<'_>)> =
            vec![(Part::Position, vec![&touched, &known, &epoch, &lsn])];
        parts.extend(parts_of(batch));
        if let Some((session, sequence, at, log_id, lsn)) = &feed {
            parts.push((Part::Feed, vec![session, sequence, at, log_id, lsn]));
        }
        let mut statements = Vec::with_capacity(parts.len());
        for (part, rows) in parts {
            statements.push((self.prepared(client, server, part).await?, rows));
        }
        // All are on their way before the first is answered, the commit too: after an error Postgres
        // takes nothing more of the transaction, and ends it at the commit without any of it.
        type Answer<'a> = Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>>;
        let begin: Answer<'_> = Box::pin(client.batch_execute("BEGIN"));
        let commit: Answer<'_> = Box::pin(client.batch_execute("COMMIT"));
        let written = statements.iter().map(|(statement, rows)| -> Answer<'_> {
            Box::pin(async move { client.execute(statement, rows).await.map(drop) })
        });
        let answers = join_all(std::iter::once(begin).chain(written).chain([commit])).await;
        // What follows an error only says that there was one.
        match answers.into_iter().find_map(Result::err) {
            None => Ok(()),
            Some(error) if error.code().map(SqlState::code) == Some(position::SUPERSEDED) => {
                let found = newest_epoch(client, server).await?;
                let server = server.to_string();
                Err(ProjectionError::Superseded { server, found, ours: epoch })
            }
            Some(error) => Err(ProjectionError::of(server, "take a batch of orders")(error)),
        }
    }

    /// A statement, prepared when it is needed for the first time.
    async fn prepared(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        part: Part,
    ) -> Result<Statement, ProjectionError> {
        let prepared = match self.prepared.entry(part) {
            Entry::Occupied(prepared) => prepared.into_mut(),
            Entry::Vacant(place) => {
                let prepared = client.prepare(&part.statement()).await;
                let refused = ProjectionError::of(server, "prepare a statement");
                place.insert(prepared.map_err(refused)?)
            }
        };
        Ok(prepared.clone())
    }
}

/// The rows of a batch, where there are any.
fn parts_of(batch: &Batch) -> impl Iterator<Item = (Part, Parameters<'_>)> {
    let events = if batch.is_new { Part::NewEvents } else { Part::Events };
    let Batch { new_orders, orders, executions, external, .. } = batch;
    let parts = [
        (Part::NewOrders, new_orders.is_empty(), new_orders.parameters()),
        (Part::Orders, orders.is_empty(), orders.parameters()),
        (Part::Executions, executions.is_empty(), executions.parameters()),
        (Part::External, external.is_empty(), external.parameters()),
        (events, batch.events.is_empty(), batch.events.parameters()),
    ];
    parts.into_iter().filter(|(_, is_empty, _)| !is_empty).map(|(part, _, rows)| (part, rows))
}

impl Part {
    /// What writes it.
    fn statement(self) -> String {
        match self {
            Self::Position => position::ADVANCE.to_owned(),
            Self::NewOrders => OrderRows::insert(),
            Self::Orders => format!("{} {REPLACE_OLDER}", OrderRows::insert()),
            Self::Executions => format!("{} {ONLY_BUST}", ExecutionRows::insert()),
            Self::External => format!("{} {KEEP}", ExternalRows::insert()),
            Self::NewEvents => EventRows::insert(),
            Self::Events => format!("{} {KEEP}", EventRows::insert()),
            Self::Feed => UPSERT_FEED_POSITION.to_owned(),
        }
    }
}
