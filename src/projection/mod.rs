//! Postgres, moved forward from the write-ahead log: orders, executions and an audit log for
//! everybody who speaks SQL. Never on the way of an order or of a read of the engine.
//!
//! # How it follows
//!
//! A thread for each server reads committed records, applies them to the orders that they change, and
//! writes what comes out in one transaction: a row of `orders` for each order that has changed
//! (however often), a row of `order_events` for each change, and the place in the log behind them.
//! So each record takes effect once: after a lost connection the places say whether the last
//! transaction was committed. Rows are guarded by the order's version on top of that.
//!
//! Each user partition has a place of its own. A transaction moves those that it writes to, from where
//! its writer knows them: one that was given up and comes late finds them elsewhere and fails. The
//! others follow four times a second.
//!
//! Where replies wait for Postgres, a batch ends before the first order whose outcome the exchange is
//! about to tell, so that the order is written once, with the outcome.
//!
//! Orders that changed not long ago are in memory; one that changes again long after is read back
//! from Postgres itself, which has it exactly as the log has left it at that place.
//!
//! # Who may write
//!
//! Each start of a projection begins an epoch, and every transaction of an older one fails: a machine
//! that was thought dead cannot write beside the one that replaced it.
//!
//! # For a server that is stopped
//!
//! [`PostgresRecords`] is what the tables say at one moment, to be compared with log and index.
//! [`PostgresRestore`] gives all orders back to a machine that has lost them, under a new log, and
//! [`PostgresBackfill`] takes all orders from an index whose log has lost its beginning. Both begin an
//! epoch.
//!
//! # When Postgres is not there
//!
//! Orders go on. The log is kept from the place that Postgres has; when it has grown to a limit, new
//! orders are refused rather than the disk filled. What is wrong with the data or the tables waits for
//! an operator and is tried again every few seconds; everything else is tried again at once, then less
//! and less often.

mod backfill;
mod backlog;
mod batch;
mod compare;
mod connection;
mod days;
mod error;
mod gaps;
mod held;
mod intake;
mod lacking;
mod metrics;
mod migrations;
mod outcomes;
mod pace;
mod position;
mod preflight;
mod progress;
mod read;
mod restore;
mod roles;
mod rows;
mod schema;
mod servers;
mod session;
mod size;
mod transaction;
mod unchanged;
mod values;
mod worker;
mod working_set;

use std::sync::Arc;

pub use backfill::{COPIED_ORDERS, PostgresBackfill, ToldOrders};
pub use compare::{
    EventDifference, ExpectedEvents, OrderRow, PartitionPosition, PostgresExecution, PostgresOrder,
    PostgresRecords, as_kept, moment_as_kept,
};
pub use error::ProjectionError;
pub use gaps::{EventGap, GapOrder};
pub use metrics::ProjectionMetrics;
pub use migrations::{Migrated, migrate};
pub use progress::Progress;
pub use restore::PostgresRestore;
pub use servers::{PostgresServer, PostgresServers, ServersError};
pub use worker::ProjectionWorker;

use crate::types::{OrderId, UserId};
use crate::wal::{LogHandle, Lsn};
use backlog::Backlog;
use connection::Connection;
use pace::Pace;

/// Name of the claims on the log.
const CLAIM_NAME: &str = "postgres";

/// Why the owners of orders are not known.
pub type OwnersError = Box<dyn std::error::Error + Send + Sync>;

/// Whose order it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// The user.
    pub user: UserId,
    /// A version that the order has reached by the log: Postgres cannot have a higher one. None where that
    /// much of the log is not known yet.
    pub version: Option<u64>,
}

/// Says whose orders these are; `None` for one that is not known. The log has been read up to the second
/// record: what that much of it speaks of is to be known. What happened up to the first one Postgres may
/// have.
pub type OwnersOf =
    Arc<dyn Fn(&[OrderId], (Lsn, Lsn)) -> Result<Vec<Option<Owner>>, OwnersError> + Send + Sync>;

/// How Postgres follows the log.
pub struct ProjectionOptions {
    /// The servers.
    pub servers: PostgresServers,
    /// Whether tables that are missing or old are made when a server comes up.
    pub migrates: bool,
    /// Most of the time that Postgres is kept at work while orders come in, in percent.
    pub share_percent: u8,
    /// Whether replies wait for Postgres: then it is told of everything at once.
    pub is_awaited: bool,
    /// Bytes of the log that may be on disk although Postgres has everything.
    pub kept_bytes: u64,
    /// Most bytes beyond that before new orders are refused.
    pub max_backlog_bytes: u64,
    /// Finds the owners of orders that are not in memory any more.
    pub owners: OwnersOf,
}

/// A worker for each server, and how far they have come. The log is kept for them from now on.
///
/// # Errors
/// [`ProjectionError::Log`] where the log cannot be kept.
pub fn projection(
    options: ProjectionOptions,
    log: &LogHandle,
    metrics: &ProjectionMetrics,
) -> Result<(Vec<ProjectionWorker>, Progress), ProjectionError> {
    let progress = Progress::new(options.servers.iter().len());
    let mut backlog = Some(Backlog {
        log: log.clone(),
        kept_bytes: options.kept_bytes,
        max_bytes: options.max_backlog_bytes,
        progress: progress.clone(),
        metrics: metrics.clone(),
    });
    let mut workers = Vec::new();
    for (number, server) in options.servers.iter().enumerate() {
        // Where Postgres is can only be asked once it is there.
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
            size: size::BatchSize::default(),
            held: held::Held::default(),
            is_session_checked: false,
            trouble: worker::Trouble::default(),
        });
    }
    Ok((workers, progress))
}

/// Sees to the tables at a start: the servers that are there must have those of this program, or are
/// given them. One that cannot be reached is left for later.
///
/// # Errors
/// What an operator has to see to.
pub fn prepare(servers: &PostgresServers, migrates: bool) -> Result<(), ProjectionError> {
    block_on(async {
        for server in servers.iter() {
            let prepared = match Connection::open(server).await {
                Ok(mut connection) => prepare_one(&mut connection, server, migrates).await,
                Err(error) => Err(error),
            };
            match prepared {
                Err(error) if error.remedy() == error::Remedy::Operator => return Err(error),
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, "Postgres is not there yet; orders go on without it");
                }
                Ok(()) => {}
            }
        }
        Ok(())
    })
}

async fn prepare_one(
    connection: &mut Connection,
    server: &PostgresServer,
    migrates: bool,
) -> Result<(), ProjectionError> {
    preflight::check_session(&connection.client, server).await?;
    migrations::prepare(&mut connection.client, server, migrates).await
}

/// Drives connections on the calling thread.
fn block_on<T>(
    work: impl Future<Output = Result<T, ProjectionError>>,
) -> Result<T, ProjectionError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(ProjectionError::Runtime)?.block_on(work)
}
