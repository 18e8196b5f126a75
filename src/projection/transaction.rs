//! One batch, one statement, one transaction: sent in one message and answered by one, since each takes
//! both sides some time, and replies may wait for it.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};

use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Statement};

use super::batch::Batch;
use super::days::Day;
use super::position::{self, bounds, newest_epoch};
use super::rows::{
    EventRows, ExecutionRows, ExternalRows, KEEP, ONLY_BUST, OrderRows, Parameters, REPLACE_OLDER,
};
use super::values::{Text, Timestamp, bigint};
use super::{PostgresServer, ProjectionError};
use crate::wal::LogId;

/// What a batch may have rows for. A statement writes some of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Part {
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
    prepared: HashMap<Vec<Part>, Statement>,
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

    /// Writes a batch: all of it, with the position behind it, or nothing.
    pub(super) async fn write(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        (log_id, epoch): (LogId, i64),
        batch: &Batch,
    ) -> Result<(), ProjectionError> {
        let (first, last) = bounds(server);
        let touched: Vec<i16> = if batch.touched.is_empty() {
            (first..=last).collect()
        } else {
            batch.touched.iter().map(|partition| partition.get().into()).collect()
        };
        let lsn = bigint(batch.last.0);
        let feed = batch.feed.as_ref().map(|(lsn, feed)| {
            let log_id = log_id.0.cast_signed();
            let sequence = feed.sequence.to_string();
            (Text::new(&feed.session), sequence, Timestamp(feed.at), log_id, bigint(lsn.0))
        });
        let mut parameters: Parameters<'_> = vec![&touched, &epoch, &lsn];
        let mut parts = Vec::new();
        for (part, rows) in parts_of(batch) {
            parts.push(part);
            parameters.extend(rows);
        }
        if let Some((session, sequence, at, log_id, lsn)) = &feed {
            parts.push(Part::Feed);
            let own: Parameters<'_> = vec![session, sequence, at, log_id, lsn];
            parameters.extend(own);
        }
        let statement = self.of(client, server, parts).await?;
        match client.execute(statement, &parameters).await {
            Ok(_) => Ok(()),
            Err(error) if error.code().map(SqlState::code) == Some(position::SUPERSEDED) => {
                let found = newest_epoch(client, server).await?;
                let server = server.to_string();
                Err(ProjectionError::Superseded { server, found, ours: epoch })
            }
            Err(error) => Err(ProjectionError::of(server, "take a batch of orders")(error)),
        }
    }

    /// The statement that writes these, prepared when it is needed for the first time.
    async fn of(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        parts: Vec<Part>,
    ) -> Result<&Statement, ProjectionError> {
        match self.prepared.entry(parts) {
            Entry::Occupied(prepared) => Ok(prepared.into_mut()),
            Entry::Vacant(place) => {
                let prepared = client.prepare(&statement(place.key())).await;
                let prepared =
                    prepared.map_err(ProjectionError::of(server, "prepare a statement"))?;
                Ok(place.insert(prepared))
            }
        }
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

/// The position comes first: from there on nobody else moves it.
fn statement(parts: &[Part]) -> String {
    let mut others = position::ADVANCE_PARAMETERS;
    let inserts = parts.iter().zip(1..).map(|(part, number)| {
        let (insert, count) = insert(*part, others);
        others += count;
        format!("part_{number} AS ({insert})")
    });
    let inserts: Vec<String> = inserts.collect();
    let with = if inserts.is_empty() { "" } else { "WITH " };
    format!("{with}{} {}", inserts.join(", "), position::ADVANCE)
}

/// What writes a part, and how many parameters it takes.
fn insert(part: Part, others: usize) -> (String, usize) {
    match part {
        Part::NewOrders => (OrderRows::insert(others), OrderRows::COUNT),
        Part::Orders => {
            (format!("{} {REPLACE_OLDER}", OrderRows::insert(others)), OrderRows::COUNT)
        }
        Part::Executions => {
            (format!("{} {ONLY_BUST}", ExecutionRows::insert(others)), ExecutionRows::COUNT)
        }
        Part::External => (format!("{} {KEEP}", ExternalRows::insert(others)), ExternalRows::COUNT),
        Part::NewEvents => (EventRows::insert(others), EventRows::COUNT),
        Part::Events => (format!("{} {KEEP}", EventRows::insert(others)), EventRows::COUNT),
        Part::Feed => {
            let [session, sequence, at, log_id, lsn] = [1, 2, 3, 4, 5].map(|own| others + own);
            let insert = format!(
                "INSERT INTO feed_position (session, sequence, at, log_id, lsn) \
                 VALUES (${session}, ${sequence}::text::numeric, ${at}, ${log_id}, ${lsn}) \
                 ON CONFLICT (is_only) DO UPDATE SET session = excluded.session, \
                     sequence = excluded.sequence, at = excluded.at, log_id = excluded.log_id, \
                     lsn = excluded.lsn \
                 WHERE feed_position.log_id <> excluded.log_id OR feed_position.lsn < excluded.lsn"
            );
            (insert, 5)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_numbered_through() {
        let text = statement(&[Part::External, Part::NewEvents, Part::Feed]);
        let mut last = 0;
        for number in text.split('$').skip(1).map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().unwrap()
        }) {
            // The position's own stand at the end.
            if number > position::ADVANCE_PARAMETERS {
                assert!(number == last + 1 || last == 0, "{number} behind {last}: {text}");
                last = number;
            }
        }
        assert_eq!(last, position::ADVANCE_PARAMETERS + ExternalRows::COUNT + EventRows::COUNT + 5);
        assert!(!statement(&[]).contains("WITH"));
    }
}
