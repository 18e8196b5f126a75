use tokio_postgres::error::SqlState;

use crate::order::{RecordError, StoredOrderError};
use crate::types::OrderId;
use crate::wal::{LogId, Lsn, WalError};

/// Why Postgres does not follow the log, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// The server cannot be reached, or the connection was lost.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// The server.
        server: String,
        /// The client's error.
        source: tokio_postgres::Error,
    },
    /// The server answered with an error.
    #[error("{server} refused to {action}{place}", place = place_of(source))]
    Refused {
        /// The server.
        server: String,
        /// The refused operation.
        action: &'static str,
        /// The server's error.
        source: tokio_postgres::Error,
    },
    /// The server did not answer.
    #[error("{server} did not answer in {seconds} s")]
    Silent {
        /// The server.
        server: String,
        /// The time limit.
        seconds: u64,
    },
    /// The tables are missing, or older than this version.
    #[error(
        "{server} has schema version {found}, and this version of Longbow needs {needed}: run `longbow migrate --postgres ...`, or start with --migrate"
    )]
    OldSchema {
        /// The server.
        server: String,
        /// Its schema version; 0 without tables.
        found: u32,
        /// The schema version needed.
        needed: u32,
    },
    /// The tables belong to a newer version.
    #[error(
        "{server} has schema version {found}, and this version of Longbow knows {known}: use the newer program, or set --postgres-schema if another program keeps its migrations in the same schema"
    )]
    NewSchema {
        /// The server.
        server: String,
        /// Its schema version.
        found: u32,
        /// The schema version known here.
        known: u32,
    },
    /// A member of a cluster runs with the orders that are to be restored.
    #[error(
        "node {node_id} on {host} shares the users of {server} with others, and all of them would end at once: nodes need no restore, as Postgres has all that they need; to go back to a single server, stop them first"
    )]
    NodeRuns {
        /// The server.
        server: String,
        /// The number of the node.
        node_id: i16,
        /// Its host.
        host: String,
    },
    /// A migration failed.
    #[error("{server} cannot be migrated")]
    Migration {
        /// The server.
        server: String,
        /// The cause.
        source: refinery::Error,
    },
    /// The server cannot work for Longbow.
    #[error("{server} cannot keep orders: {why}")]
    Unfit {
        /// The server.
        server: String,
        /// What is in the way, and what to do.
        why: String,
    },
    /// Another program uses the names.
    #[error(
        "{server}: the schema {schema:?} has {found}, which belongs to another program: give Longbow a schema of its own with --postgres-schema"
    )]
    OtherProgram {
        /// The server.
        server: String,
        /// The schema.
        schema: String,
        /// What is in it.
        found: String,
    },
    /// The session is not a session: a pooler lends it by the transaction.
    #[error(
        "{server} is behind a transaction pooler, such as pgbouncer with pool_mode=transaction, but Longbow needs a session of its own: use pool_mode=session, or connect to Postgres directly"
    )]
    Pooled {
        /// The server.
        server: String,
    },
    /// The server follows another log.
    #[error(
        "{server} follows log {found}, and this is log {ours}: use an empty database, or rebuild the data directory with `longbow restore`"
    )]
    OtherLog {
        /// The server.
        server: String,
        /// The log that it follows.
        found: LogId,
        /// The log here.
        ours: LogId,
    },
    /// The log no longer has records that the server needs.
    #[error(
        "{server} has everything up to record {found}, but the log begins at {first}: the records between are gone; stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    MissingRecords {
        /// The server.
        server: String,
        /// The last record it has.
        found: Lsn,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// There is nothing to restore.
    #[error(
        "{server} has no orders of user partitions {partitions} to restore, as no server has ever written to it; check the address"
    )]
    NeverWritten {
        /// The server.
        server: String,
        /// The user partitions that it should keep.
        partitions: String,
    },
    /// Rows are missing that other rows refer to.
    #[error(
        "{server} lacks rows, which a restore would lose: {lacking}; recover them from a backup, or restore without them with --force"
    )]
    Lacking {
        /// The server.
        server: String,
        /// What is missing.
        lacking: String,
    },
    /// The server is not at the end of the log, which a repair needs.
    #[error(
        "{server} has everything up to record {found}, and the log ends at {last}: start the server and let Postgres follow, or run `longbow backfill --postgres ...`"
    )]
    Behind {
        /// The server.
        server: String,
        /// The last record it has.
        found: Lsn,
        /// The newest record of the log.
        last: Lsn,
    },
    /// The server has orders of users that another server keeps.
    #[error(
        "{server} has order {order_id} of user partition {partition}, and --postgres gives it user partitions {partitions}: name the servers with the ranges that `serve` was given"
    )]
    OtherPartition {
        /// The server.
        server: String,
        /// One of the orders.
        order_id: OrderId,
        /// Its user partition.
        partition: u8,
        /// The user partitions that the server should keep.
        partitions: String,
    },
    /// The server has records that the log lacks.
    #[error(
        "{server} has everything up to record {found}, but the log ends at {last}: the data directory is older than Postgres; rebuild it with `longbow restore`"
    )]
    AheadOfLog {
        /// The server.
        server: String,
        /// The last record it has.
        found: Lsn,
        /// The newest record of the log.
        last: Lsn,
    },
    /// Another process has taken over these users.
    #[error(
        "{server} is written by another process since epoch {found}; this one began epoch {ours} and must stop"
    )]
    Superseded {
        /// The server.
        server: String,
        /// The newest epoch.
        found: i64,
        /// The epoch of this process.
        ours: i64,
    },
    /// This process has no epoch yet.
    #[error("this node has not joined the others at {server} yet")]
    NotJoined {
        /// The server.
        server: String,
    },
    /// A log record changes an order that the server lacks.
    #[error(
        "record {lsn} changes order {order_id}, which {server} does not have: its row was removed, or never written; stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    UnknownOrder {
        /// The server.
        server: String,
        /// The record.
        lsn: Lsn,
        /// The order.
        order_id: OrderId,
    },
    /// A row that is not a valid order.
    #[error(
        "the row of order {order_id} in {server} is invalid: stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    Row {
        /// The server.
        server: String,
        /// The order.
        order_id: OrderId,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Rows that are no valid account.
    #[error(
        "the rows of the account of {user} in {server} are invalid: stop the server and run `longbow backfill --postgres ...`, which copies all accounts from the index"
    )]
    Account {
        /// The server.
        server: String,
        /// The user.
        user: String,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A value that is not one of Longbow's.
    #[error(
        "a row of {table} in {server} has a value that Longbow never writes, in column {column}: {why}; correct that row"
    )]
    Value {
        /// The server.
        server: String,
        /// The table.
        table: &'static str,
        /// The column.
        column: String,
        /// The value, or what is wrong with it.
        why: String,
    },
    /// A row of `orders` that contradicts itself.
    #[error(
        "a row of orders in {server} is invalid: stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    Order {
        /// The server.
        server: String,
        /// The cause.
        source: StoredOrderError,
    },
    /// The owners of orders could not be looked up.
    #[error("the owners of orders cannot be read")]
    Owners(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A log record cannot be decoded.
    #[error("record {lsn} of the log cannot be decoded")]
    Record {
        /// The record.
        lsn: Lsn,
        /// The cause.
        source: RecordError,
    },
    /// The log cannot be read.
    #[error("the log cannot be read")]
    Log(#[from] WalError),
    /// The runtime for the connections could not be created.
    #[error("cannot create the runtime for the connections to Postgres")]
    Runtime(#[source] std::io::Error),
}

/// What to do about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Retry soon: it passes by itself.
    Wait,
    /// An operator must fix it. Retried now and then.
    Operator,
    /// The process must stop.
    Stop,
}

impl ProjectionError {
    /// Classifies an error of the Postgres client.
    pub(crate) fn of(
        server: &impl ToString,
        action: &'static str,
    ) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let server = server.to_string();
        move |source| match source.code() {
            // What was prepared a moment ago is gone, or is another session's.
            Some(code)
                if *code == SqlState::INVALID_SQL_STATEMENT_NAME
                    || *code == SqlState::DUPLICATE_PSTATEMENT =>
            {
                Self::Pooled { server }
            }
            Some(_) => Self::Refused { server, action, source },
            None => Self::Unreachable { server, source },
        }
    }

    /// Whether the batch may have been too large, so that a smaller one may pass. Includes lost
    /// connections: a server process that runs out of memory is killed without an answer.
    pub(super) fn may_be_size(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { source, .. } => source.code().is_some_and(is_limit),
            _ => false,
        }
    }

    /// The order that the error is about, if it concerns only one and an operator must fix it.
    pub(super) fn order_id(&self) -> Option<OrderId> {
        match self {
            Self::UnknownOrder { order_id, .. }
            | Self::Row { order_id, .. }
            | Self::Order { source: StoredOrderError::Contradiction { order_id, .. }, .. } => {
                Some(*order_id)
            }
            _ => None,
        }
    }

    /// Whether it may pass by itself.
    pub(crate) fn may_pass(&self) -> bool {
        self.remedy() == Remedy::Wait
    }

    /// Whether the server is away: it does not answer, or starts or stops.
    pub(crate) fn is_absence(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { source, .. } => source.code().is_some_and(is_going_or_coming),
            _ => false,
        }
    }

    /// Whether the server refuses this program: its database, its role or its privileges are not what they
    /// were, or never were right.
    pub(crate) fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }

    pub(super) fn remedy(&self) -> Remedy {
        match self {
            // The log's files may be out of reach for a while, as when too many files are open.
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::NotJoined { .. }
            | Self::Owners(_)
            | Self::Log(WalError::Io { .. }) => Remedy::Wait,
            Self::Refused { source, .. } => match source.code() {
                Some(code) if is_permanent(code) => Remedy::Operator,
                Some(_) | None => Remedy::Wait,
            },
            Self::OldSchema { .. }
            | Self::NewSchema { .. }
            | Self::Migration { .. }
            | Self::Unfit { .. }
            | Self::OtherProgram { .. }
            | Self::Pooled { .. }
            | Self::OtherLog { .. }
            | Self::AheadOfLog { .. }
            | Self::MissingRecords { .. }
            | Self::NeverWritten { .. }
            | Self::NodeRuns { .. }
            | Self::Lacking { .. }
            | Self::Behind { .. }
            | Self::OtherPartition { .. }
            | Self::UnknownOrder { .. }
            | Self::Row { .. }
            | Self::Account { .. }
            | Self::Value { .. }
            | Self::Order { .. }
            // The log can be damaged without harm to orders; they continue.
            | Self::Log(WalError::CutOff { .. } | WalError::Damaged { .. }) => Remedy::Operator,
            Self::Superseded { .. } | Self::Record { .. } | Self::Log(_) | Self::Runtime(_) => {
                Remedy::Stop
            }
        }
    }
}

/// Whether a statement took too long, waited for others, or needed too much: time, locks, memory,
/// disk or statement limits (PostgreSQL documentation, appendix A).
fn is_limit(code: &SqlState) -> bool {
    const CODES: [&str; 7] = ["57014", "55P03", "40001", "40P01", "25P03", "25P04", "57P05"];
    let code = code.code();
    CODES.contains(&code) || code.starts_with("53") || code.starts_with("54")
}

/// Whether the server shuts down, has crashed, or starts.
fn is_going_or_coming(code: &SqlState) -> bool {
    [SqlState::ADMIN_SHUTDOWN, SqlState::CRASH_SHUTDOWN, SqlState::CANNOT_CONNECT_NOW]
        .contains(code)
}

/// Whether the error comes from the data, the tables or the address (its user, password or
/// database), so that a retry meets it again. By the error classes of the standard (PostgreSQL
/// documentation, appendix A).
fn is_permanent(code: &SqlState) -> bool {
    ["22", "23", "42", "54", "P0", "0A", "28", "3D", "3F"]
        .iter()
        .any(|class| code.code().starts_with(class))
}

/// The table and constraint that refused a row. The row itself is in the server's error.
fn place_of(error: &tokio_postgres::Error) -> String {
    let Some(error) = error.as_db_error() else { return String::new() };
    let mut place = String::new();
    for (name, value) in [("table", error.table()), ("constraint", error.constraint())] {
        if let Some(value) = value {
            place.push_str(&format!(", {name}: {value}"));
        }
    }
    place
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_stops_or_starts_is_away_and_one_that_refuses_is_not() {
        for (code, is_away) in
            [("57P01", true), ("57P02", true), ("57P03", true), ("28P01", false), ("57014", false)]
        {
            assert_eq!(is_going_or_coming(&SqlState::from_code(code)), is_away, "{code}");
        }
        let silent = ProjectionError::Silent { server: "one".into(), seconds: 3 };
        let not_joined = ProjectionError::NotJoined { server: "one".into() };
        assert!(silent.is_absence() && !not_joined.is_absence());
    }

    #[test]
    fn errors_that_a_smaller_batch_may_avoid_are_recognized() {
        for code in
            ["57014", "55P03", "40001", "40P01", "53200", "53100", "53400", "54000", "25P03"]
        {
            assert!(is_limit(&SqlState::from_code(code)), "{code}");
        }
        for code in ["23505", "42501", "22P05", "3D000", "57P01", "LB001", "P0001"] {
            assert!(!is_limit(&SqlState::from_code(code)), "{code}");
        }
    }
}
