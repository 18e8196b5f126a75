//! The state that the orders thread goes on from: open orders from the store, and what the log has
//! beyond it.

use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use compact_str::CompactString;

use super::error::OmsError;
use super::views::CommittedViews;
use crate::engine::{Engine, EngineOptions, Engines};
use crate::index::{Index, IndexError};
use crate::order::{Event, decode};
use crate::types::{TimestampMicros, USER_PARTITIONS, UserPartition};
use crate::wal::{self, RecordView, Recovery, VisitError, WalError, WalOptions};

/// What log and store say: the state that the orders thread goes on from.
#[derive(Debug)]
pub struct Recovered<L = Recovery> {
    /// With all orders that are in memory.
    pub engines: Engines,
    /// The same, as readers see it.
    pub views: CommittedViews,
    /// To open the log for appending with.
    pub wal: L,
    /// Session and last sequence that the feed was taken to: a feed goes on with the next one.
    pub feed_position: Option<(CompactString, u64)>,
    /// The latest time on record: no later record may have one before it.
    pub last_time: TimestampMicros,
}

/// Loads the open orders and replays the log from where the store has followed it. Nothing on disk
/// is changed.
///
/// # Errors
/// The log is damaged, in use, written by a newer program, or does not go with the store; the store
/// cannot be read.
pub fn recover(
    log: &WalOptions,
    store: &Index,
    options: EngineOptions,
) -> Result<Recovered, OmsError> {
    let threads = available_threads();
    let engines = load(store, options, threads)?;
    replay(engines, threads, store, |visit| wal::recover(log, store.position(), visit))
}

/// What the store says: everything up to its position, read by so many threads.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn load(
    store: &Index,
    options: EngineOptions,
    threads: usize,
) -> Result<Engines, OmsError> {
    let mut engines = load_open(store, options, threads)?;
    load_node(&mut engines, store)?;
    Ok(engines)
}

fn load_open(store: &Index, options: EngineOptions, threads: usize) -> Result<Engines, OmsError> {
    let next = AtomicU8::new(0);
    let loaded = in_parallel(threads, || {
        let mut loaded = Vec::new();
        while let Some(partition) = next_partition(&next) {
            let mut engine = Engine::default();
            store.load_open(partition, &mut |order| engine.load(order))?;
            loaded.push((partition, engine));
        }
        Ok::<_, IndexError>(loaded)
    });
    let mut engines = Engines::new(options);
    for loaded in loaded {
        for (partition, engine) in loaded? {
            engines.load_partition(partition, engine);
        }
    }
    Ok(engines)
}

/// Loads what belongs to no partition, and the orders that somebody has to look at although they
/// have ended.
fn load_node(engines: &mut Engines, store: &Index) -> Result<(), OmsError> {
    let node = store.node_state()?;
    for order_id in &node.attended {
        if !engines.has(*order_id)
            && let Some(order) = store.by_order_id(*order_id)?
        {
            engines.load(order);
        }
    }
    engines.load_node(node.feed_position, node.unmatched, node.ended);
    Ok(())
}

/// Shown each record of a log.
type Visit<'a> = dyn FnMut(RecordView<'_>) -> Result<(), VisitError> + 'a;

/// Replays the events that `read` shows from a log, from where the store has followed it.
///
/// # Errors
/// What `read` said, or a record that is none of ours.
pub(crate) fn replay<L>(
    mut engines: Engines,
    threads: usize,
    store: &Index,
    read: impl FnOnce(&mut Visit<'_>) -> Result<L, WalError>,
) -> Result<Recovered<L>, OmsError> {
    let mut last = store.position();
    let mut last_time = store.last_recorded_at()?.max(last_time_of(&engines));
    let wal = read(&mut |record| {
        last = last.max(record.lsn);
        let event = decode(record.kind, record.format_version, record.payload)?;
        last_time = last_time.max(event.at());
        replay_event(&mut engines, store, &event)
    })?;
    let views = CommittedViews::since(last);
    publish(&engines, &views, threads);
    let feed_position =
        engines.feed_position().map(|(session, sequence)| (session.clone(), sequence));
    Ok(Recovered { engines, views, wal, feed_position, last_time })
}

/// The latest time that open orders show, for a store that an older program wrote.
fn last_time_of(engines: &Engines) -> TimestampMicros {
    engines.orders().map(|order| order.updated_at).max().unwrap_or_default()
}

fn replay_event(engines: &mut Engines, store: &Index, event: &Event) -> Result<(), VisitError> {
    let Err(unknown) = engines.replay(event) else { return Ok(()) };
    // It had ended when the store followed the log, so it was not loaded.
    let Some(order) = store.by_order_id(unknown.order_id)? else { return Err(unknown.into()) };
    engines.load(order);
    Ok(engines.replay(event)?)
}

/// Shows everything in memory to readers.
fn publish(engines: &Engines, views: &CommittedViews, threads: usize) {
    let next = AtomicU8::new(0);
    in_parallel(threads, || {
        while let Some(partition) = next_partition(&next) {
            for order in engines.orders_of(partition) {
                views.publish(order.clone());
            }
        }
    });
}

/// Gives each partition out once.
fn next_partition(next: &AtomicU8) -> Option<UserPartition> {
    // Only the numbers matter; nothing is handed over with them.
    UserPartition::new(next.fetch_add(1, Ordering::Relaxed))
}

/// Does the same work on so many threads, this one included.
fn in_parallel<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    thread::scope(|scope| {
        let workers: Vec<_> = (1..threads).map(|_| scope.spawn(&work)).collect();
        let mut results = vec![work()];
        for worker in workers {
            match worker.join() {
                Ok(result) => results.push(result),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// A thread for each core, while there are partitions for them.
fn available_threads() -> usize {
    thread::available_parallelism().map_or(1, |cores| cores.get().min(USER_PARTITIONS))
}
