//! The threads that move Postgres behind the log, and `longbow migrate`.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{CommitTo, PostgresArgs};
use crate::execution::PostgresSide;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::projection::{
    self, OwnersError, OwnersOf, PostgresServers, ProjectionMetrics, ProjectionOptions,
};
use crate::shutdown::Shutdown;
use crate::types::{OrderId, UserId};
use crate::wal::{LogHandle, Lsn};

use super::ServeError;
use super::threads::Threads;

/// How long to wait for the index to have what the log told Postgres of. It is behind by a quarter of
/// a second at most times.
const INDEX_PATIENCE: Duration = Duration::from_secs(10);

/// Reads `--postgres`, and sees to the tables.
///
/// # Errors
/// No such servers, tables of another version, or `--commit postgres` without Postgres.
pub(super) fn prepare(arguments: &PostgresArgs) -> Result<Option<PostgresServers>, ServeError> {
    let Some(text) = &arguments.postgres else {
        if arguments.commit == CommitTo::Postgres {
            return Err(ServeError::CommitWithoutPostgres);
        }
        return Ok(None);
    };
    let servers: PostgresServers = text.parse()?;
    projection::prepare(&servers, arguments.migrate)?;
    Ok(Some(servers))
}

/// Where Postgres fits in.
pub(super) struct Place<'a> {
    pub(super) arguments: &'a PostgresArgs,
    /// What is kept of the log anyway.
    pub(super) keep_bytes: u64,
    /// Size of its segments: it is cut by whole ones.
    pub(super) segment_bytes: u64,
    pub(super) log: LogHandle,
    pub(super) index: Index,
    pub(super) metrics: &'a Metrics,
}

/// Starts a thread for each server.
///
/// # Errors
/// The log cannot be kept for them, or there is no room for another thread.
pub(super) fn start(
    servers: PostgresServers,
    place: Place<'_>,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> Result<PostgresSide, ServeError> {
    let Place { arguments, keep_bytes, segment_bytes, log, index, metrics } = place;
    let is_awaited = arguments.commit == CommitTo::Postgres;
    let projection_metrics = ProjectionMetrics::default();
    metrics.register(|registry| projection_metrics.register(registry));
    let options = ProjectionOptions {
        servers,
        migrates: arguments.migrate,
        share_percent: arguments.postgres_share,
        is_awaited,
        // Of the oldest segment a part may be needed; the newest is there from its first record on.
        kept_bytes: keep_bytes.saturating_add(2 * segment_bytes),
        max_backlog_bytes: arguments.backlog_bytes(),
        owners: owners_in(index),
    };
    let (workers, progress) = projection::projection(options, &log, &projection_metrics)?;
    for (number, worker) in workers.into_iter().enumerate() {
        let stop = shutdown.clone();
        threads
            .spawn(&format!("projection-{number}"), shutdown, move || worker.run(&stop))
            .map_err(ServeError::Thread)?;
    }
    Ok(PostgresSide { progress, is_awaited })
}

/// Owners of orders, from the index. It follows the log by itself, and may have to be waited for.
fn owners_in(index: Index) -> OwnersOf {
    Arc::new(move |orders: &[OrderId], read_to: Lsn| {
        let look = |order_id: &OrderId| -> Result<Option<UserId>, OwnersError> {
            let order = index.by_order_id(*order_id)?;
            Ok(order.map(|order| order.order().user.clone()))
        };
        let mut owners: Vec<Option<UserId>> =
            orders.iter().map(look).collect::<Result<_, OwnersError>>()?;
        if owners.iter().any(Option::is_none) && index.position() < read_to {
            if let Some(reached) = index.wait_for(read_to) {
                // Whatever comes of the wait, what is there now is there.
                let _waited = reached.recv_timeout(INDEX_PATIENCE);
            }
            for (owner, order_id) in owners.iter_mut().zip(orders) {
                if owner.is_none() {
                    *owner = look(order_id)?;
                }
            }
        }
        Ok(owners)
    })
}
