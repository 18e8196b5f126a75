//! Writes one batch in one transaction.

use std::collections::hash_map::Entry;
use std::collections::{BTreeSet, HashMap};
use std::pin::Pin;

use futures_util::future::join_all;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Error, Statement};

use super::account_rows::MoneyRows;
use super::batch::{Batch, Copy};
use super::days::Day;
use super::position::{self, Positions, newest_epoch};
use super::rows::{
    self, CashMovementRows, EventRows, ExecutionRows, ExternalRows, KEEP_EXISTING, LedgerRows,
    ON_COPIED_EXECUTION, ON_COPIED_EXTERNAL, ON_KNOWN_EXECUTION, ON_NEW_EXECUTION, OrderRows,
    Parameters, REPLACE_OLDER,
};
use super::values::{Text, Timestamp, bigint};
use super::{PostgresServer, ProjectionError};
use crate::types::Clock;
use crate::wal::LogId;

const UPSERT_FEED_POSITION: &str = "\
    INSERT INTO feed_position (session, sequence, at, log_id, lsn) \
    VALUES ($1, $2::text::numeric, $3, $4, $5) \
    ON CONFLICT (is_only) DO UPDATE SET session = excluded.session, \
        sequence = excluded.sequence, at = excluded.at, log_id = excluded.log_id, \
        lsn = excluded.lsn \
    WHERE feed_position.log_id <> excluded.log_id OR feed_position.lsn < excluded.lsn";

/// The partitions of a day of both tables that have them.
const MAKE_DAY: &str = "SELECT make_order_events_partition($1), make_ledger_entries_partition($1)";

/// The parts of a transaction, each one statement. The position comes first and locks its rows, so
/// no other writer can advance them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Part {
    Position,
    NewOrders,
    Orders,
    CopiedOrders,
    NewExecutions,
    Executions,
    CountedExecutions,
    External,
    CopiedExternal,
    NewEvents,
    Events,
    Accounts,
    WholeAccounts,
    Positions,
    WholePositions,
    Ledger,
    LedgerForward,
    CashMovements,
    Feed,
}

/// What became of a batch.
#[derive(Debug)]
pub(super) struct Written {
    /// The parts with rows that Postgres did not take, and how many.
    pub(super) unchanged: Vec<(Part, u64)>,
    /// Exchange ids of the batch were there already, of these orders or of others.
    pub(super) shares_ids: bool,
}

/// The prepared statements of a connection.
#[derive(Debug, Default)]
pub(super) struct Statements {
    prepared: HashMap<Part, Statement>,
    /// Days whose partitions exist.
    days: BTreeSet<Day>,
}

impl Statements {
    /// Creates the partitions of these days, and of the day after each, ahead of time.
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
            let made = client.execute(MAKE_DAY, &[&day.since_1970()]).await;
            made.map_err(ProjectionError::of(server, "make the partitions of a day"))?;
            self.days.insert(day);
        }
        Ok(())
    }

    /// Writes a batch and advances the positions, or does neither.
    pub(super) async fn write(
        &mut self,
        client: &Client,
        server: &PostgresServer,
        (log_id, epoch, positions): (LogId, i64, &Positions),
        batch: &Batch,
    ) -> Result<Written, ProjectionError> {
        let (touched, known) = positions.of(&batch.touched);
        let lsn = bigint(batch.last.0);
        let feed = batch.feed.as_ref().map(|(lsn, feed)| {
            let log_id = log_id.0.cast_signed();
            let sequence = feed.sequence.to_string();
            (Text::new(&feed.session), sequence, Timestamp(feed.at), log_id, bigint(lsn.0))
        });
        let begins = &batch.money.begins;
        let mut parts: Vec<(Part, Parameters<'_>)> =
            vec![(Part::Position, vec![&touched, &known, &epoch, &lsn, begins])];
        parts.extend(parts_of(batch));
        let now = Timestamp(Clock.now());
        if *begins {
            parts.push((Part::LedgerForward, vec![&now]));
        }
        if let Some((session, sequence, at, log_id, lsn)) = &feed {
            parts.push((Part::Feed, vec![session, sequence, at, log_id, lsn]));
        }
        let mut statements = Vec::with_capacity(parts.len());
        let mut sent = Vec::with_capacity(parts.len());
        for (part, rows) in parts {
            sent.push(part);
            statements.push((self.prepared(client, server, part).await?, rows));
        }
        // All statements are sent before the first answer, the commit included: after an error
        // Postgres ignores the rest of the transaction and rolls it back at the commit.
        type Answer<'a> = Pin<Box<dyn Future<Output = Result<u64, Error>> + 'a>>;
        let no_rows = |text: &'static str| -> Answer<'_> {
            Box::pin(async move { client.batch_execute(text).await.map(|()| 0) })
        };
        let (begin, commit) = (no_rows("BEGIN"), no_rows("COMMIT"));
        let written = statements
            .iter()
            .map(|(statement, rows)| -> Answer<'_> { Box::pin(client.execute(statement, rows)) });
        let answers = join_all(std::iter::once(begin).chain(written).chain([commit])).await;
        let taken: Vec<u64> =
            answers.iter().skip(1).map(|answer| *answer.as_ref().unwrap_or(&0)).collect();
        // Later errors are only consequences of the first.
        match answers.into_iter().find_map(Result::err) {
            None => {
                let external = sent.iter().zip(&taken).find(|(part, _)| **part == Part::External);
                let external = external.map_or(0, |(_, taken)| *taken);
                Ok(Written {
                    shares_ids: batch.copy.is_none() && external < batch.external.len() as u64,
                    unchanged: not_taken(batch, sent.into_iter().zip(taken)),
                })
            }
            Some(error) if error.code().map(SqlState::code) == Some(position::SUPERSEDED) => {
                let found = newest_epoch(client, server).await?;
                let server = server.to_string();
                Err(ProjectionError::Superseded { server, found, ours: epoch })
            }
            Some(error) => Err(ProjectionError::of(server, "take a batch of orders")(error)),
        }
    }

    /// A statement, prepared on first use.
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

/// The parts where Postgres took fewer rows than were sent.
fn not_taken(batch: &Batch, parts: impl Iterator<Item = (Part, u64)>) -> Vec<(Part, u64)> {
    let missing = |(part, taken): (Part, u64)| {
        let sent = match part {
            // Two orders may have come with the same exchange id; the position is checked by its
            // function.
            Part::Position | Part::External | Part::Feed => return None,
            // Rows that are right already stay.
            Part::CopiedOrders
            | Part::NewExecutions
            | Part::Executions
            | Part::CountedExecutions
            | Part::CopiedExternal
            | Part::WholeAccounts
            | Part::WholePositions
            | Part::LedgerForward
            | Part::CashMovements => return None,
            Part::Accounts => batch.money.accounts.len(),
            Part::Positions => batch.money.positions.len(),
            Part::Ledger => batch.money.entries.len(),
            Part::NewOrders => batch.new_orders.len(),
            Part::Orders => batch.orders.len(),
            Part::NewEvents | Part::Events => batch.events.len(),
        };
        let missing = (sent as u64).saturating_sub(taken);
        (missing > 0).then_some((part, missing))
    };
    parts.filter_map(missing).collect()
}

/// The parts of a batch that have rows.
fn parts_of(batch: &Batch) -> impl Iterator<Item = (Part, Parameters<'_>)> {
    let events = if batch.is_new { Part::NewEvents } else { Part::Events };
    let Batch { new_orders, orders, new_executions, executions, external, .. } = batch;
    let (order_part, execution_part, external_part) = match batch.copy {
        None | Some(Copy::Events) => (Part::Orders, Part::Executions, Part::External),
        Some(Copy::Orders) => (Part::CopiedOrders, Part::CountedExecutions, Part::CopiedExternal),
    };
    let MoneyRows { accounts, positions, entries, cash_movements, are_whole, .. } = &batch.money;
    let (account_part, position_part) = match are_whole {
        false => (Part::Accounts, Part::Positions),
        true => (Part::WholeAccounts, Part::WholePositions),
    };
    let parts = [
        (Part::NewOrders, new_orders.is_empty(), new_orders.parameters()),
        (order_part, orders.is_empty(), orders.parameters()),
        (Part::NewExecutions, new_executions.is_empty(), new_executions.parameters()),
        (execution_part, executions.is_empty(), executions.parameters()),
        (external_part, external.is_empty(), external.parameters()),
        (events, batch.events.is_empty(), batch.events.parameters()),
        (account_part, accounts.is_empty(), accounts.parameters()),
        (position_part, positions.is_empty(), positions.parameters()),
        (Part::Ledger, entries.is_empty(), entries.parameters()),
        (Part::CashMovements, cash_movements.is_empty(), cash_movements.parameters()),
    ];
    parts.into_iter().filter(|(_, is_empty, _)| !is_empty).map(|(part, _, rows)| (part, rows))
}

impl Part {
    /// The table of its rows.
    pub(super) fn table(self) -> &'static str {
        match self {
            Self::Position => "projection",
            Self::NewOrders | Self::Orders | Self::CopiedOrders => "orders",
            Self::NewExecutions | Self::Executions | Self::CountedExecutions => "executions",
            Self::External | Self::CopiedExternal => "external_orders",
            Self::NewEvents | Self::Events => "order_events",
            Self::Accounts | Self::WholeAccounts => "accounts",
            Self::Positions | Self::WholePositions => "positions",
            Self::Ledger | Self::LedgerForward => "ledger_entries",
            Self::CashMovements => "cash_movements",
            Self::Feed => "feed_position",
        }
    }

    fn statement(self) -> String {
        match self {
            Self::Position => position::ADVANCE.to_owned(),
            Self::NewOrders => OrderRows::insert(),
            Self::Orders => format!("{} {REPLACE_OLDER}", OrderRows::insert()),
            Self::CopiedOrders => format!("{} {}", OrderRows::insert(), rows::replace_any()),
            Self::NewExecutions => format!("{} {ON_NEW_EXECUTION}", ExecutionRows::insert()),
            Self::Executions => format!("{} {ON_KNOWN_EXECUTION}", ExecutionRows::insert()),
            Self::CountedExecutions => format!("{} {ON_COPIED_EXECUTION}", ExecutionRows::insert()),
            Self::External => format!("{} {KEEP_EXISTING}", ExternalRows::insert()),
            Self::CopiedExternal => format!("{} {ON_COPIED_EXTERNAL}", ExternalRows::insert()),
            Self::NewEvents => EventRows::insert(),
            Self::Events => format!("{} {KEEP_EXISTING}", EventRows::insert()),
            Self::Accounts => rows::write_accounts(false),
            Self::WholeAccounts => rows::write_accounts(true),
            Self::Positions => rows::write_positions(false),
            Self::WholePositions => rows::write_positions(true),
            Self::Ledger => format!("{} {KEEP_EXISTING}", LedgerRows::insert()),
            Self::LedgerForward => "SELECT bring_ledger_forward($1)".to_owned(),
            Self::CashMovements => format!("{} {KEEP_EXISTING}", CashMovementRows::insert()),
            Self::Feed => UPSERT_FEED_POSITION.to_owned(),
        }
    }
}
