use tokio_postgres::error::SqlState;

use crate::order::{RecordError, StoredOrderError};
use crate::types::OrderId;
use crate::wal::{LogId, Lsn, WalError};

/// Why Postgres does not follow the log, or cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ProjectionError {
    /// It cannot be reached, or the connection was lost.
    #[error("{server} cannot be reached")]
    Unreachable {
        /// Which server.
        server: String,
        /// What the connection said.
        source: tokio_postgres::Error,
    },
    /// It answered with an error.
    #[error("{server} refused to {action}{place}", place = place_of(source))]
    Refused {
        /// Which server.
        server: String,
        /// What was asked of it.
        action: &'static str,
        /// What it said.
        source: tokio_postgres::Error,
    },
    /// It did not answer.
    #[error("{server} did not answer in {seconds} s")]
    Silent {
        /// Which server.
        server: String,
        /// How long it was given.
        seconds: u64,
    },
    /// The tables are not there, or older than this program.
    #[error(
        "{server} has schema version {found}, and this program needs {needed}: run `longbow migrate --postgres ...`, or start with --migrate"
    )]
    OldSchema {
        /// Which server.
        server: String,
        /// Its version; 0 without tables.
        found: u32,
        /// The version of this program.
        needed: u32,
    },
    /// The tables are of a newer program.
    #[error(
        "{server} has schema version {found}, and this program knows {known}: use the newer program, or --postgres-schema where another program keeps its migrations in the same schema"
    )]
    NewSchema {
        /// Which server.
        server: String,
        /// Its version.
        found: u32,
        /// The version of this program.
        known: u32,
    },
    /// The migrations did not go through.
    #[error("{server} cannot be migrated")]
    Migration {
        /// Which server.
        server: String,
        /// What the migration said.
        source: refinery::Error,
    },
    /// Nothing of this program can work there.
    #[error("{server} cannot keep orders: {why}")]
    Unfit {
        /// Which server.
        server: String,
        /// What is in the way, and what to do.
        why: String,
    },
    /// Another program has the names.
    #[error(
        "{server}: the schema {schema:?} has {found}, which is another program's: give Longbow a schema of its own with --postgres-schema"
    )]
    OtherProgram {
        /// Which server.
        server: String,
        /// The schema that was named.
        schema: String,
        /// What is in it.
        found: String,
    },
    /// A session there is none.
    #[error(
        "{server} is behind a pooler that lends sessions by the transaction, such as pgbouncer with pool_mode=transaction, and Longbow needs a session of its own: use pool_mode=session for it, or the address of Postgres itself"
    )]
    Pooled {
        /// Which server.
        server: String,
    },
    /// It follows another log.
    #[error(
        "{server} follows log {found}, and this is log {ours}: use an empty database, or rebuild the data directory with `longbow restore`"
    )]
    OtherLog {
        /// Which server.
        server: String,
        /// The log that it follows.
        found: LogId,
        /// The log here.
        ours: LogId,
    },
    /// The log no longer has what it needs.
    #[error(
        "{server} has everything up to record {found}, but the log begins at {first}: what is between is not there any more; stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    MissingRecords {
        /// Which server.
        server: String,
        /// How far it has come.
        found: Lsn,
        /// The oldest record of the log.
        first: Lsn,
    },
    /// There is nothing to make orders from.
    #[error(
        "{server} has never been written by a server: there are no orders of user partitions {partitions} in it to restore; check the address"
    )]
    NeverWritten {
        /// Which server.
        server: String,
        /// Whose orders it should keep.
        partitions: String,
    },
    /// Rows are gone of which others speak.
    #[error(
        "{server} lacks rows, and a restore would lose what they said: {lacking}; bring them back from a backup, or restore what there is with --force"
    )]
    Lacking {
        /// Which server.
        server: String,
        /// What is lacking.
        lacking: String,
    },
    /// It is not where it has to be for a repair.
    #[error(
        "{server} has everything up to record {found}, and the log ends at {last}: start the server and let Postgres follow, or run `longbow backfill --postgres ...`"
    )]
    Behind {
        /// Which server.
        server: String,
        /// How far it has come.
        found: Lsn,
        /// The newest record of the log.
        last: Lsn,
    },
    /// It keeps orders of users that are another server's.
    #[error(
        "{server} has order {order_id} of user partition {partition}, and --postgres gives it user partitions {partitions}: name the servers with the ranges that `serve` had"
    )]
    OtherPartition {
        /// Which server.
        server: String,
        /// One of the orders.
        order_id: OrderId,
        /// Its user partition.
        partition: u8,
        /// What the server should keep.
        partitions: String,
    },
    /// It has records that the log does not have.
    #[error(
        "{server} has everything up to record {found}, but the log ends at {last}: this data directory is older than that; make it anew with `longbow restore`"
    )]
    AheadOfLog {
        /// Which server.
        server: String,
        /// How far it has come.
        found: Lsn,
        /// The newest record of the log.
        last: Lsn,
    },
    /// Another process has taken over these users.
    #[error(
        "{server} is written by another process since epoch {found}; this one began epoch {ours} and must not go on"
    )]
    Superseded {
        /// Which server.
        server: String,
        /// The newest epoch.
        found: i64,
        /// The epoch of this process.
        ours: i64,
    },
    /// The log speaks of an order that Postgres does not have.
    #[error(
        "record {lsn} changes order {order_id}, which {server} does not have: its row was removed there, or never came; stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    UnknownOrder {
        /// Which server.
        server: String,
        /// Which record.
        lsn: Lsn,
        /// Which order.
        order_id: OrderId,
    },
    /// A row that is no order.
    #[error(
        "the row of order {order_id} in {server} cannot be used: stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    Row {
        /// Which server.
        server: String,
        /// Which order.
        order_id: OrderId,
        /// What is wrong with it.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// An order's row contradicts itself.
    #[error(
        "a row of orders in {server} cannot be used: stop the server and run `longbow backfill --postgres ...`, which copies all orders from the index"
    )]
    Order {
        /// Which server.
        server: String,
        /// What is wrong with it.
        source: StoredOrderError,
    },
    /// Whose order it is cannot be found out here.
    #[error("the owners of orders cannot be read")]
    Owners(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A record of the log cannot be read.
    #[error("record {lsn} of the log cannot be used")]
    Record {
        /// Which record.
        lsn: Lsn,
        /// Why not.
        source: RecordError,
    },
    /// The log cannot be followed.
    #[error("the log cannot be followed")]
    Log(#[from] WalError),
    /// No runtime for the connections.
    #[error("the connections to Postgres cannot be driven")]
    Runtime(#[source] std::io::Error),
}

/// What is to be done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Remedy {
    /// Try again soon: it passes by itself.
    Wait,
    /// Somebody has to look at it. Tried again once in a while.
    Operator,
    /// The process must not go on.
    Stop,
}

impl ProjectionError {
    /// Sorts what a client of Postgres says.
    pub(super) fn of(
        server: &impl ToString,
        action: &'static str,
    ) -> impl FnOnce(tokio_postgres::Error) -> Self {
        let server = server.to_string();
        move |source| match source.code() {
            // What was prepared a moment ago is not there, or another's is.
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

    /// Whether it may be that too much was asked for at once: less may pass. Also what was lost on the way,
    /// since a process of a server that has no memory left is ended without a word.
    pub(super) fn may_be_size(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::Silent { .. } => true,
            Self::Refused { source, .. } => source.code().is_some_and(is_of_the_size),
            _ => false,
        }
    }

    /// The one order that it is about, of those that an operator has to see to.
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

    pub(super) fn remedy(&self) -> Remedy {
        match self {
            // The log's files may be out of reach for a while, as when there are too many open ones.
            Self::Unreachable { .. }
            | Self::Silent { .. }
            | Self::Owners(_)
            | Self::Log(WalError::Io { .. }) => Remedy::Wait,
            Self::Refused { source, .. } => match source.code() {
                Some(code) if is_of_the_data(code) => Remedy::Operator,
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
            | Self::Lacking { .. }
            | Self::Behind { .. }
            | Self::OtherPartition { .. }
            | Self::UnknownOrder { .. }
            | Self::Row { .. }
            | Self::Order { .. }
            // What the store has may rot without harm to orders, and they do not end with it.
            | Self::Log(WalError::CutOff { .. } | WalError::Damaged { .. }) => Remedy::Operator,
            Self::Superseded { .. } | Self::Record { .. } | Self::Log(_) | Self::Runtime(_) => {
                Remedy::Stop
            }
        }
    }
}

/// Whether an error says that a statement took too long, had to wait for others, or needed more than there
/// is: time, locks, memory, disk or what a statement may be (PostgreSQL documentation, appendix A).
fn is_of_the_size(code: &SqlState) -> bool {
    const CODES: [&str; 7] = ["57014", "55P03", "40001", "40P01", "25P03", "25P04", "57P05"];
    let code = code.code();
    CODES.contains(&code) || code.starts_with("53") || code.starts_with("54")
}

/// Whether an error comes from what is written, from the tables that it is written into, or from the
/// address (its user, password or database): the same again would meet it again. By the classes of
/// the standard (PostgreSQL documentation, appendix A).
fn is_of_the_data(code: &SqlState) -> bool {
    ["22", "23", "42", "54", "P0", "0A", "28", "3D", "3F"]
        .iter()
        .any(|class| code.code().starts_with(class))
}

/// Where a row was refused. The row itself is in what Postgres says.
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
    fn what_less_may_get_through_is_told_from_what_the_same_would_meet_again() {
        for code in
            ["57014", "55P03", "40001", "40P01", "53200", "53100", "53400", "54000", "25P03"]
        {
            assert!(is_of_the_size(&SqlState::from_code(code)), "{code}");
        }
        for code in ["23505", "42501", "22P05", "3D000", "57P01", "LB001", "P0001"] {
            assert!(!is_of_the_size(&SqlState::from_code(code)), "{code}");
        }
    }
}
