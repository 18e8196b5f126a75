//! Postgres follows the write-ahead log: orders, executions and an audit log for everybody who
//! speaks SQL. Never on the path of an order or of a read of the engine, except in a cluster.
//!
//! # How it follows
//!
//! One thread per server reads committed records, applies them to the orders that they change, and
//! writes the result in one transaction: a row of `orders` for each changed order (however often it
//! changed), a row of `order_events` for each change, and the new position in the log. So each
//! record takes effect exactly once: after a lost connection the positions say whether the last
//! transaction was committed. In addition, rows are guarded by the order's version.
//!
//! Each user partition has its own position. A transaction advances the positions of the partitions
//! that it writes to, from the values that its writer knows: one that was given up and commits late
//! finds other values and fails. The other positions follow four times a second.
//!
//! If replies wait for Postgres, a batch ends before the first order whose outcome the exchange is
//! about to report, so that the order is written once, with its outcome.
//!
//! Recently changed orders are in memory; an older one that changes again is read back from
//! Postgres, which has it exactly as the log left it at that position.
//!
//! # Who may write
//!
//! Each start of a projection begins an epoch, and every transaction of an older epoch fails: a
//! machine that was thought dead cannot write beside its replacement. In a cluster the epoch is that of
//! the node, which owns some of the partitions ([`Ownership`]), and writes those alone.
//!
//! # With the server stopped
//!
//! [`PostgresRecords`] reads the tables at one moment, to compare them with log and index.
//! [`PostgresRestore`] reads all orders back for a machine that lost them, under a new log.
//! [`PostgresBackfill`] copies all orders from an index whose log no longer has its beginning. The
//! last two begin an epoch.
//!
//! # Reads of a cluster's members
//!
//! A member of a cluster has in its own log and index only what happened since it started. What its
//! memory lacks it reads here: [`PostgresReads`], over connections of their own.
//!
//! # Without Postgres
//!
//! Orders continue. The log is kept from the position of Postgres on; beyond a size limit new
//! orders are refused, so that the disk does not fill up. Errors in the data or the tables wait for
//! an operator and are retried every few seconds; all others are retried at once, then with growing
//! pauses.

mod account_rows;
mod adoption;
mod backfill;
mod backlog;
mod batch;
mod cell;
mod compare;
mod compare_accounts;
mod connection;
mod days;
mod error;
mod gaps;
mod held;
mod hosts;
mod intake;
mod lacking;
mod metrics;
mod migrations;
mod order_queries;
mod order_reads;
mod outcomes;
mod ownership;
mod pace;
pub(crate) mod position;
mod preflight;
mod progress;
mod read;
mod read_accounts;
mod reader;
mod restore;
mod roles;
mod rows;
mod schema;
mod servers;
mod session;
mod shared_ids;
mod size;
mod stray_rows;
mod transaction;
mod unchanged;
mod values;
mod worker;
mod working_set;

use std::sync::Arc;

pub(crate) use adoption::{OpenOrders, ReadOrders, ended_orders};
pub use backfill::{COPIED_ORDERS, CoveredOrders, PostgresBackfill};
pub use compare::{
    EventDifference, ExpectedEvents, PartitionPosition, PostgresExecution, PostgresOrder,
    PostgresRecords, as_storable, storable_time,
};
pub use compare_accounts::{FoundAccounts, WrongBalance};
pub(crate) use connection::{Connection, MEMBER_SESSION, in_time, within};
pub use error::ProjectionError;
pub use gaps::{EventGap, GapOrder};
pub use metrics::ProjectionMetrics;
pub(crate) use migrations::check as check_schema;
pub use migrations::{Migrated, migrate};
pub use order_queries::LogPosition;
pub use order_reads::{OrderList, PostgresRead, PostgresReadError, PostgresReads};
pub use ownership::{HeldPartitions, Ownership, OwnershipChange};
pub use progress::{DOES_NOT_ANSWER, Progress};
pub use reader::PostgresReader;
pub use restore::PostgresRestore;
pub use servers::{PostgresServer, PostgresServers, ServersError};
pub use shared_ids::SharedId;
pub(crate) use shared_ids::{SharedIds, note_shared_of};
pub use stray_rows::OrderRow;
pub use worker::ProjectionWorker;

use crate::types::{OrderId, UserId};
use crate::wal::{LogHandle, Lsn};
use backlog::Backlog;
use pace::Pace;

const CLAIM_NAME: &str = "postgres";

/// Why the owners of orders could not be looked up.
pub type OwnersError = Box<dyn std::error::Error + Send + Sync>;

/// The owner of an order, and its version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    pub user: UserId,
    /// The version that the order has in the log: Postgres cannot have a higher one. `None` if that
    /// part of the log is not read yet.
    pub version: Option<u64>,
}

/// Looks up the owners of orders; `None` for an unknown order. The log has been read up to the
/// second LSN: orders in that part must be known. Postgres may have what happened up to the first
/// LSN.
pub type OwnersOf =
    Arc<dyn Fn(&[OrderId], (Lsn, Lsn)) -> Result<Vec<Option<Owner>>, OwnersError> + Send + Sync>;

pub struct ProjectionOptions {
    pub servers: PostgresServers,
    /// Whether missing or old tables are migrated when a server is reached.
    pub migrates: bool,
    /// Most of the time, in percent, that Postgres is busy while orders come in.
    pub share_percent: u8,
    /// Whether replies wait for Postgres: then records are written at once.
    pub is_awaited: bool,
    /// Bytes of the log that stay on disk even if Postgres has everything.
    pub kept_bytes: u64,
    /// Most bytes beyond that; then new orders are refused.
    pub max_backlog_bytes: u64,
    /// Looks up the owners of orders that are no longer in memory.
    pub owners: OwnersOf,
    /// Where other nodes write other partitions: which ones are ours.
    pub ownership: Option<Ownership>,
}

/// A worker for each server, and their progress. Claims the log for them from now on.
///
/// # Errors
/// [`ProjectionError::Log`] if the log cannot be claimed.
pub fn projection(
    options: ProjectionOptions,
    log: &LogHandle,
    metrics: &ProjectionMetrics,
) -> Result<(Vec<ProjectionWorker>, Progress), ProjectionError> {
    let count = options.servers.iter().len();
    let progress = match &options.ownership {
        Some(_) => Progress::shared(count),
        None => Progress::new(count),
    };
    let mut backlog = Some(Backlog {
        log: log.clone(),
        kept_bytes: options.kept_bytes,
        max_bytes: options.max_backlog_bytes,
        progress: progress.clone(),
        metrics: metrics.clone(),
    });
    let mut workers = Vec::new();
    for (number, server) in options.servers.iter().enumerate() {
        // The position of Postgres is known only once it is connected.
        let oldest = Lsn(log.first_lsn().0 - 1);
        workers.push(ProjectionWorker {
            number,
            server: server.clone(),
            log: log.clone(),
            claim: log.claim(CLAIM_NAME, oldest)?,
            owners: Arc::clone(&options.owners),
            pace: if options.is_awaited { Pace::eager() } else { Pace::new(options.share_percent) },
            backlog: backlog.take(),
            progress: progress.clone(),
            metrics: metrics.clone(),
            migrates: options.migrates,
            epoch: None,
            ownership: options.ownership.clone(),
            size: size::BatchSize::default(),
            sharing: rows::ExternalRows::default(),
            held: held::Held::default(),
            is_session_checked: false,
            has_told_of_accounts: false,
            trouble: worker::Trouble::default(),
        });
    }
    Ok((workers, progress))
}

/// What a start does about a server that refuses it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnRefusal {
    /// It fails: on its first start the address is probably wrong.
    Fail,
    /// It goes on without the server, which let it in before, and retries.
    GoOn,
}

/// Checks the tables at a start: servers that can be reached must have the schema of this version,
/// or are migrated to it. One that cannot be reached is left for later. `is_awaited`: replies wait for them.
///
/// # Errors
/// Errors that an operator must fix.
pub fn prepare(
    servers: &PostgresServers,
    migrates: bool,
    (on_refusal, is_awaited): (OnRefusal, bool),
) -> Result<(), ProjectionError> {
    block_on(async {
        for server in servers.iter() {
            let prepared = match Connection::open(server).await {
                Ok(mut connection) => prepare_one(&mut connection, server, migrates).await,
                Err(error) => Err(error),
            };
            match prepared {
                Err(error) if error.remedy() == error::Remedy::Operator => {
                    if !(error.is_refusal() && on_refusal == OnRefusal::GoOn) {
                        return Err(error);
                    }
                    tracing::error!(
                        error = worker::with_causes(&error),
                        "Postgres is on hold until an operator fixes this; {}",
                        effect_of_absence(is_awaited)
                    );
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(
                        error,
                        "Postgres cannot be reached yet; {}",
                        if is_awaited {
                            effect_of_absence(true)
                        } else {
                            "orders continue without it"
                        }
                    );
                }
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

/// What becomes of orders while Postgres does not follow.
fn effect_of_absence(is_awaited: bool) -> &'static str {
    if is_awaited { "new orders are refused until then" } else { "orders continue" }
}

async fn prepare_one(
    connection: &mut Connection,
    server: &PostgresServer,
    migrates: bool,
) -> Result<(), ProjectionError> {
    preflight::check_session(&connection.client, server).await?;
    migrations::prepare(&mut connection.client, server, migrates).await
}

/// Runs a future on the calling thread.
pub(crate) fn block_on<T>(
    work: impl Future<Output = Result<T, ProjectionError>>,
) -> Result<T, ProjectionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ProjectionError::Runtime)?.block_on(work)
}
