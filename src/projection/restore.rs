//! Reads all orders back from Postgres, for a machine that has nothing else.

use std::time::Duration;

use super::compare::feed_position;
use super::position;
use super::read::{self, ORDER_COLUMNS};
use super::read_accounts::{self, ACCOUNT_COLUMNS, WITH_POSITIONS};
use super::session::{Session, partition_of};
use super::{PostgresServers, ProjectionError, lacking};
use crate::money::Account;
use crate::order::{FeedPosition, TrackedOrder};
use crate::types::{ExternalOrderId, OrderId, UserId};
use crate::wal::{LogId, Lsn};

/// A writer locks a row of this table; with this lock no other one can begin. Taken before the
/// first statement that reads, so that the last writes are read.
const LOCK: &str = "LOCK TABLE projection IN SHARE ROW EXCLUSIVE MODE";

/// Members that may be running, and until when they do. A server that shares no users may be taken over from
/// while it runs: it may be out of reach.
const RUNNING: &str = "\
    SELECT node_id, home, epoch, (extract(epoch FROM lease_until) * 1000000)::bigint \
    FROM nodes WHERE lease_until > clock_timestamp() AND is_member ORDER BY node_id";
/// Pause between two looks at a lease that may be renewed.
const LOOK_PAUSE: Duration = Duration::from_millis(250);

/// Takes over the orders of all servers for a new log, and reads them at that moment. Earlier
/// writers wait until it ends, and are superseded.
#[derive(Debug)]
pub struct PostgresRestore {
    sessions: Vec<Session>,
    /// What the servers lack.
    lacking: Vec<String>,
    orders: ReadCursor,
    external: ReadCursor,
    accounts: ReadCursor,
}

/// The server being read, and whether its cursor is open.
#[derive(Debug, Default)]
struct ReadCursor {
    server: usize,
    is_open: bool,
}

impl PostgresRestore {
    /// Begins an epoch for all users that follows `log_id` from its first record. Takes effect with
    /// [`commit`](Self::commit). With `is_forced` also if rows are missing.
    ///
    /// # Errors
    /// A server cannot be reached, has another schema, was never written, has orders that another
    /// server keeps, or lacks rows that others refer to; or members of a cluster run with its orders.
    pub fn begin(
        servers: &PostgresServers,
        log_id: LogId,
        is_forced: bool,
    ) -> Result<Self, ProjectionError> {
        let mut sessions = Vec::new();
        let mut all_lacking = Vec::new();
        for server in servers.iter() {
            let session = Session::open(server)?;
            await_no_node(&session)?;
            session.begin("READ WRITE")?;
            session.run(LOCK, "let its orders be taken over")?;
            check(&session)?;
            let lacking = lacking::find(&session)?;
            if !lacking.is_empty() && !is_forced {
                let server = server.to_string();
                return Err(ProjectionError::Lacking { server, lacking: lacking.join("; ") });
            }
            all_lacking.extend(lacking.into_iter().map(|what| format!("{server}: {what}")));
            let client = &session.connection.client;
            session.runtime.block_on(position::begin_epoch(client, server, log_id, Lsn(0)))?;
            sessions.push(session);
        }
        let [orders, external, accounts] = std::array::from_fn(|_| ReadCursor::default());
        Ok(Self { sessions, lacking: all_lacking, orders, external, accounts })
    }

    /// What the servers lack, one sentence each.
    pub fn lacking(&self) -> &[String] {
        &self.lacking
    }

    /// The next orders, in any sequence; empty after the last.
    ///
    /// # Errors
    /// A server refuses, or has an invalid order.
    pub fn next_orders(&mut self) -> Result<Vec<TrackedOrder>, ProjectionError> {
        let query = format!("SELECT {ORDER_COLUMNS} FROM orders o");
        let Some((session, rows)) =
            next_rows(&self.sessions, &mut self.orders, ("all_orders", &query))?
        else {
            return Ok(Vec::new());
        };
        let server = &session.server;
        let mut wanted = Vec::with_capacity(rows.len());
        for row in &rows {
            let order_id = read::order_id(row, 1);
            let parts = read::parts(row, Vec::new())
                .map_err(|source| read::unusable(server, order_id, source))?;
            wanted.push((parts.user, order_id));
        }
        let client = &session.connection.client;
        let mut executions = session.runtime.block_on(read::executions(client, server, &wanted))?;
        rows.iter()
            .map(|row| {
                let executions = executions.remove(&read::order_id(row, 1)).unwrap_or_default();
                read::tracked(server, row, executions)
            })
            .collect()
    }

    /// The next exchange ids and the orders that they name; empty after the last.
    ///
    /// # Errors
    /// A server refuses, or has an invalid id.
    pub fn next_external(&mut self) -> Result<Vec<(ExternalOrderId, OrderId)>, ProjectionError> {
        let query = "SELECT external_order_id, order_id FROM external_orders";
        let Some((session, rows)) =
            next_rows(&self.sessions, &mut self.external, ("all_external", query))?
        else {
            return Ok(Vec::new());
        };
        rows.iter()
            .map(|row| {
                let order_id = read::order_id(row, 1);
                let unusable = |error| read::unusable(&session.server, order_id, error);
                let id = row.try_get::<_, &str>(0).map_err(|error| unusable(error.into()))?;
                let id = ExternalOrderId::new(id).map_err(|error| unusable(error.into()))?;
                Ok((id, order_id))
            })
            .collect()
    }

    /// Whether accounts follow the orders of all users.
    ///
    /// # Errors
    /// A server refuses.
    pub fn keeps_accounts(&self) -> Result<bool, ProjectionError> {
        for session in &self.sessions {
            let (first, last) = position::bounds(&session.server);
            let rows = session.rows(
                "SELECT bool_and(keeps_accounts) FROM projection \
                 WHERE is_current AND user_partition BETWEEN $1 AND $2",
                &[&first, &last],
            )?;
            if !rows.first().and_then(|row| row.get(0)).unwrap_or(false) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The next accounts, each of which balances; empty after the last.
    ///
    /// # Errors
    /// A server refuses, or has an invalid account.
    pub fn next_accounts(&mut self) -> Result<Vec<(UserId, Account)>, ProjectionError> {
        let query = format!("SELECT {ACCOUNT_COLUMNS} FROM accounts a {WITH_POSITIONS}");
        let next = next_rows(&self.sessions, &mut self.accounts, ("all_accounts", &query))?;
        let Some((session, rows)) = next else { return Ok(Vec::new()) };
        rows.iter().map(|row| read_accounts::account(&session.server, row)).collect()
    }

    /// The position in the exchange's feed that every server has reached. `None` if the servers
    /// have positions of different feed sessions.
    ///
    /// # Errors
    /// A server refuses.
    pub fn feed_position(&self) -> Result<Option<FeedPosition>, ProjectionError> {
        let mut positions = Vec::new();
        for session in &self.sessions {
            positions.push(feed_position(session)?.map(|(_, position)| position));
        }
        Ok(common_position(positions))
    }

    /// Commits, one server after the other.
    ///
    /// # Errors
    /// A server refuses, or cannot be reached any more; the outcome there is then unknown.
    pub fn commit(self) -> Result<(), ProjectionError> {
        self.sessions.iter().try_for_each(|session| session.run("COMMIT", "be taken over"))
    }
}

/// The next rows of all servers, and the session that they come from.
fn next_rows<'a>(
    sessions: &'a [Session],
    cursor_state: &mut ReadCursor,
    (cursor, query): (&str, &str),
) -> Result<Option<(&'a Session, Vec<tokio_postgres::Row>)>, ProjectionError> {
    while let Some(session) = sessions.get(cursor_state.server) {
        if !cursor_state.is_open {
            session.open_cursor(cursor, query)?;
            cursor_state.is_open = true;
        }
        let rows = session.fetch(cursor)?;
        if !rows.is_empty() {
            return Ok(Some((session, rows)));
        }
        session.run(&format!("CLOSE {cursor}"), "be read")?;
        *cursor_state = ReadCursor { server: cursor_state.server + 1, is_open: false };
    }
    Ok(None)
}

/// Checks that a server has the orders that it should have.
fn check(session: &Session) -> Result<(), ProjectionError> {
    let server = &session.server;
    let (first, last) = position::bounds(server);
    let partitions = || format!("{first} to {last}");
    let rows = session.rows(
        "SELECT count(*) FROM projection WHERE is_current AND user_partition BETWEEN $1 AND $2",
        &[&first, &last],
    )?;
    let written = rows.first().map_or(0, |row| row.get::<_, i64>(0));
    if written != i64::from(last - first) + 1 {
        let server = server.to_string();
        return Err(ProjectionError::NeverWritten { server, partitions: partitions() });
    }
    let other = session.rows(
        &format!(
            "SELECT order_id FROM orders WHERE {} NOT BETWEEN {first} AND {last} LIMIT 1",
            partition_of("order_id")
        ),
        &[],
    )?;
    let Some(row) = other.first() else { return Ok(()) };
    let order_id = read::order_id(row, 0);
    Err(ProjectionError::OtherPartition {
        server: server.to_string(),
        order_id,
        partition: order_id.partition().get(),
        partitions: partitions(),
    })
}

/// The lowest position, if all are of the same feed session.
fn common_position(positions: Vec<Option<FeedPosition>>) -> Option<FeedPosition> {
    let positions: Vec<FeedPosition> = positions.into_iter().collect::<Option<_>>()?;
    let least = positions.iter().min_by_key(|position| position.sequence)?.clone();
    positions.iter().all(|position| position.session == least.session).then_some(least)
}

/// Waits for the leases of nodes that have ended without a word.
///
/// # Errors
/// A node renews its lease: it would have to end as soon as its orders are taken over.
fn await_no_node(session: &Session) -> Result<(), ProjectionError> {
    let mut first: Option<Vec<(i64, i64)>> = None;
    loop {
        let rows = session.rows(RUNNING, &[])?;
        let leases: Vec<(i64, i64)> = rows.iter().map(|row| (row.get(2), row.get(3))).collect();
        let Some(before) = &first else {
            if leases.is_empty() {
                return Ok(());
            }
            first = Some(leases);
            continue;
        };
        let is_renewed = |(epoch, until): &(i64, i64)| {
            before.iter().all(|(known, then)| known != epoch || then != until)
        };
        if let Some((row, _)) = rows.iter().zip(&leases).find(|(_, lease)| is_renewed(lease)) {
            let (server, home): (_, String) = (session.server.to_string(), row.get(1));
            let host = home.rsplit(' ').next().unwrap_or_default().to_owned();
            return Err(ProjectionError::NodeRuns { server, node_id: row.get(0), host });
        }
        if leases.is_empty() {
            return Ok(());
        }
        std::thread::sleep(LOOK_PAUSE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::TimestampMicros;

    #[test]
    fn the_feed_resumes_from_the_lowest_position() {
        let position = |session: &str, sequence| {
            let at = TimestampMicros::new(1);
            Some(FeedPosition { session: session.into(), sequence, at, past: Vec::new() })
        };
        let least = common_position(vec![position("a", 9), position("a", 7), position("a", 8)]);
        assert_eq!(least, position("a", 7));
        assert_eq!(common_position(vec![position("a", 9), position("b", 7)]), None);
        assert_eq!(common_position(vec![position("a", 9), None]), None, "it may lag far");
        assert_eq!(common_position(vec![]), None);
    }
}
