//! The threads that apply the log to Postgres, and `longbow migrate`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::config::{CommitTo, PostgresArgs, SchemaArgs};
use crate::data_dir::DataDir;
use crate::index::Index;
use crate::metrics::Metrics;
use crate::oms::PostgresSide;
use crate::projection::{
    self, OnRefusal, Owner, OwnersError, OwnersOf, Ownership, PostgresServers, ProjectionMetrics,
    ProjectionOptions,
};
use crate::shutdown::Shutdown;
use crate::types::OrderId;
use crate::wal::{LogHandle, Lsn};

use super::ServeError;
use super::node;
use super::threads::Threads;

/// How long to wait for the index to come to orders that Postgres has. It is behind by a quarter of a
/// second at most times.
const INDEX_PATIENCE: Duration = Duration::from_secs(10);

/// Reads `--postgres`, and sees to the tables. A server that refuses the program fails the first start in
/// a data directory, and no later one: cancels and fills do not wait for it.
///
/// # Errors
/// No such servers, tables of another version, or `--commit postgres` without Postgres.
pub(super) fn prepare(
    arguments: &PostgresArgs,
    directory: &DataDir,
) -> Result<Option<PostgresServers>, ServeError> {
    let Some(text) = &arguments.postgres else {
        if arguments.commit == CommitTo::Postgres {
            return Err(ServeError::CommitWithoutPostgres);
        }
        return Ok(None);
    };
    let servers = servers(text, &arguments.schema)?;
    let on_refusal =
        if node::has_been_used(directory)? { OnRefusal::GoOn } else { OnRefusal::Fail };
    let is_awaited = arguments.commit == CommitTo::Postgres;
    projection::prepare(&servers, arguments.migrate, (on_refusal, is_awaited))?;
    Ok(Some(servers))
}

/// The servers of `--postgres`, with the tables in the schema of `--postgres-schema`.
///
/// # Errors
/// One of the two settings is wrong.
pub fn servers(text: &str, schema: &SchemaArgs) -> Result<PostgresServers, ServeError> {
    let servers: PostgresServers = text.parse()?;
    servers.in_schema(&schema.postgres_schema).map_err(ServeError::PostgresSchema)
}

/// Where Postgres fits in.
pub(super) struct ProjectionSetup<'a> {
    pub(super) arguments: &'a PostgresArgs,
    /// What is kept of the log anyway.
    pub(super) keep_bytes: u64,
    /// Size of its segments: it is cut by whole ones.
    pub(super) segment_bytes: u64,
    pub(super) log: LogHandle,
    pub(super) index: Index,
    pub(super) metrics: &'a Metrics,
    /// Where other nodes write some users' orders: whose this one writes.
    pub(super) ownership: Option<Ownership>,
}

/// Starts a thread for each server.
///
/// # Errors
/// The log cannot be kept for them, or there is no room for another thread.
pub(super) fn start(
    servers: PostgresServers,
    place: ProjectionSetup<'_>,
    (threads, shutdown): (&mut Threads, &Shutdown),
) -> Result<PostgresSide, ServeError> {
    let ProjectionSetup { arguments, keep_bytes, segment_bytes, log, index, metrics, ownership } =
        place;
    let is_awaited = arguments.commit == CommitTo::Postgres;
    let projection_metrics = ProjectionMetrics::default();
    metrics.register(|registry| projection_metrics.register(registry));
    let options = ProjectionOptions {
        servers,
        migrates: arguments.migrate,
        share_percent: arguments.postgres_share_percent,
        is_awaited,
        // Of the oldest segment a part may be needed; the newest is there from its first record on.
        kept_bytes: keep_bytes.saturating_add(2 * segment_bytes),
        max_backlog_bytes: arguments.backlog_bytes(),
        owners: owners_in(index, INDEX_PATIENCE),
        ownership,
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

/// The index does not know whose orders these are, and may yet.
#[derive(Debug, thiserror::Error)]
#[error(
    "at record {position} the index does not know the users of {missing} orders; it may learn them by record {read_to}: Postgres continues once it does"
)]
struct IndexBehind {
    position: Lsn,
    read_to: Lsn,
    missing: usize,
}

/// Owners of orders, from the index. It follows the log by itself, and may have to be waited for: as
/// long as it takes to come to these orders, and no longer. Where replies wait for Postgres the index
/// waits for it as well, and what is behind these orders comes only when Postgres has them.
fn owners_in(index: Index, patience: Duration) -> OwnersOf {
    Arc::new(move |orders: &[OrderId], (written, read_to): (Lsn, Lsn)| {
        let give_up = Instant::now() + patience;
        let mut owners: Vec<Option<Owner>> = vec![None; orders.len()];
        loop {
            // Before the look, so that nothing that it comes to meanwhile is missed.
            let position = index.position();
            for (owner, order_id) in owners.iter_mut().zip(orders) {
                if owner.is_none() {
                    let order = index.by_order_id(*order_id)?;
                    let version = |version| (position >= written).then_some(version);
                    *owner = order.map(|order| Owner {
                        user: order.order().user.clone(),
                        version: version(order.order().version),
                    });
                }
            }
            let missing = owners.iter().filter(|owner| owner.is_none()).count();
            if missing == 0 || position >= read_to {
                return Ok(owners);
            }
            let left = give_up.saturating_duration_since(Instant::now());
            if left.is_zero() || !index.wait_beyond(position, left) {
                return Err(OwnersError::from(IndexBehind { position, read_to, missing }));
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::index::{IndexAges, IndexWriter};
    use crate::order::{Created, Event};
    use crate::testing::MemoryStore;
    use crate::types::{Side, Symbol, TimeInForce, TimestampMicros, UserId};
    use crate::wal::LogId;

    fn created(user: &UserId) -> Created {
        Created {
            order_id: OrderId::new(1, 0, user.partition()),
            user: user.clone(),
            client_order_id: None,
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: None,
            time_in_force: TimeInForce::Day,
            num_shares: 1,
            created_at: TimestampMicros::new(1),
            submit_before: TimestampMicros::new(2),
            reservation: crate::money::Reservation::Nothing,
        }
    }

    #[test]
    fn owners_are_waited_for_but_nothing_behind_them_is() {
        let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
        let mut writer = IndexWriter::new(index.clone(), LogId(7)).unwrap();
        let alice = UserId::new("alice").unwrap();
        let created = created(&alice);
        let ids = [created.order_id];
        // The index comes to the order, and to nothing of what was read of the log after it: that
        // waits for Postgres, which waits for this.
        let owners = owners_in(index, Duration::from_secs(600));
        let asking = std::thread::spawn(move || owners(&ids, (Lsn(0), Lsn(1_000))).unwrap());
        writer.take(Lsn(1), Event::Created(created)).unwrap();
        writer.commit().unwrap();
        let known = Owner { user: alice, version: Some(1) };
        assert_eq!(asking.join().unwrap(), [Some(known)]);
    }

    #[test]
    fn an_order_that_the_index_may_yet_come_to_is_an_error_and_one_that_it_has_passed_is_unknown() {
        let index = Index::in_memory(&MemoryStore::new(), IndexAges::default()).unwrap();
        let mut writer = IndexWriter::new(index.clone(), LogId(7)).unwrap();
        let created = created(&UserId::new("alice").unwrap());
        let stranger = OrderId::new(9_000_000, 0, created.order_id.partition());
        let own = created.order_id;
        writer.take(Lsn(1), Event::Created(created)).unwrap();
        writer.commit().unwrap();
        let owners = owners_in(index, Duration::ZERO);
        let behind = owners(&[stranger], (Lsn(1), Lsn(2))).unwrap_err().to_string();
        assert!(behind.contains("at record 1 "), "{behind}");
        assert_eq!(owners(&[stranger], (Lsn(1), Lsn(1))).unwrap(), [None]);
        let known = owners(&[own], (Lsn(2), Lsn(1))).unwrap();
        let version = known[0].as_ref().unwrap().version;
        assert_eq!(version, None, "Postgres may have more of it than the index");
    }
}
