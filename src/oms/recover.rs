//! Recovery of the orders thread's state: open orders from the store, then the log after the
//! store's position.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread;

use compact_str::CompactString;

use super::error::OmsError;
use super::views::CommittedViews;
use crate::engine::{Engine, EngineOptions, Engines};
use crate::index::{Index, IndexError};
use crate::money::Account;
use crate::order::{Event, TrackedOrder, booking, decode};
use crate::types::{OrderId, TimestampMicros, USER_PARTITIONS, UserId, UserPartition};
use crate::wal::{self, RecordView, Recovery, VisitError, WalError, WalOptions};

/// Orders that are read from the store at a time.
const SCANNED_AT_ONCE: usize = 1_024;

/// The recovered state.
#[derive(Debug)]
pub struct Recovered<L = Recovery> {
    /// With all orders that are in memory.
    pub engines: Engines,
    /// The same orders, for readers.
    pub views: CommittedViews,
    /// Opens the log for appending.
    pub wal: L,
    /// Session and last sequence read from the feed; the feed continues with the next one.
    pub feed_position: Option<(CompactString, u64)>,
    /// The latest recorded time: no later record may have an earlier one.
    pub last_time: TimestampMicros,
}

/// Loads the open orders and replays the log from the store's position. Changes nothing on disk.
///
/// # Errors
/// The log is damaged, in use, written by a newer program, or does not match the store; or the
/// store cannot be read.
pub fn recover(
    log: &WalOptions,
    store: &Index,
    options: EngineOptions,
) -> Result<Recovered, OmsError> {
    let threads = available_threads();
    let engines = load(store, options, threads)?;
    replay(engines, threads, store, |visit| wal::recover(log, store.position(), visit))
}

/// The state that the store has, everything up to its position, read by this many threads.
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
    let keeps_accounts = store.keeps_accounts()?;
    let loaded = in_parallel(threads, || {
        let mut loaded = Vec::new();
        while let Some(partition) = next_partition(&next) {
            let mut engine = Engine::default();
            if keeps_accounts {
                engine.keep_accounts();
            }
            // Also where the store is amid the records with which accounts begin.
            store.load_accounts(partition, &mut |user, account| {
                engine.load_account(user, account);
            })?;
            store.load_open(partition, &mut |order| engine.load(order))?;
            loaded.push((partition, engine));
        }
        Ok::<_, IndexError>(loaded)
    });
    let mut engines = Engines::new(options);
    let mut partitions = 0;
    for loaded in loaded {
        for (partition, engine) in loaded? {
            engines.load_partition(partition, engine);
            partitions += 1;
        }
    }
    assert_eq!(partitions, USER_PARTITIONS, "every partition is loaded once");
    Ok(engines)
}

/// Loads the state that belongs to no partition, and the ended orders that still need attention.
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

/// Is called with each record of a log.
type Visit<'a> = dyn FnMut(RecordView<'_>) -> Result<(), VisitError> + 'a;

/// Replays the events that `read` passes to its callback, from the store's position.
///
/// # Errors
/// The error of `read`, or a record that is not one of ours.
pub(crate) fn replay<L>(
    mut engines: Engines,
    threads: usize,
    store: &Index,
    read: impl FnOnce(&mut Visit<'_>) -> Result<L, WalError>,
) -> Result<Recovered<L>, OmsError> {
    let mut last = store.position();
    let mut last_time = store.last_recorded_at()?.max(last_time_of(&engines));
    let wal = read(&mut |record| {
        assert!(record.lsn > last, "records are replayed in the order of the log, each once");
        last = record.lsn;
        let event = decode(record.kind, record.format_version, record.payload)?;
        last_time = last_time.max(event.at());
        replay_event(&mut engines, store, &event)
    })?;
    if engines.lacks_accounts() {
        let accounts = accounts_of_orders(&engines, store)?;
        if !accounts.is_empty() {
            let accounts = accounts.len();
            tracing::info!(accounts, "accounts begin with what the orders come to, and no cash");
        }
        engines.bring_accounts(accounts);
    }
    let views = CommittedViews::since(last);
    publish(&engines, (&views, last), threads);
    for (user, _) in engines.kept_cash_ids() {
        if let Some(account) = engines.account(user) {
            views.publish_moved_account(user, Arc::new(account.clone()), last);
        }
    }
    let feed_position =
        engines.feed_position().map(|(session, sequence)| (session.clone(), sequence));
    Ok(Recovered { engines, views, wal, feed_position, last_time })
}

/// What all orders come to, of a log that has no accounts yet, by user. Orders count in the sequence
/// of their ids: those that are not in memory have ended, and the store has them in that sequence.
fn accounts_of_orders(
    engines: &Engines,
    store: &Index,
) -> Result<Vec<(UserId, Account)>, IndexError> {
    let mut accounts: BTreeMap<UserId, Account> = BTreeMap::new();
    let mut count = |order: &TrackedOrder| {
        if order.executions().iter().any(|(_, execution)| execution.counted().is_some()) {
            let account = accounts.entry(order.order().user.clone()).or_default();
            booking::bring_forward(order, account);
        }
    };
    let mut in_memory: Vec<OrderId> = engines.orders().map(|order| order.order_id).collect();
    in_memory.sort_unstable();
    let mut in_memory = in_memory.into_iter().filter_map(|id| engines.tracked(id)).peekable();
    let mut scan = store.scan_orders()?;
    loop {
        let stored = scan.next_orders(SCANNED_AT_ONCE, |order_id| !engines.has(order_id))?;
        if stored.is_empty() {
            break;
        }
        for order in &stored {
            let order_id = order.order().order_id;
            while let Some(older) = in_memory.next_if(|one| one.order().order_id < order_id) {
                count(older);
            }
            count(order);
        }
    }
    in_memory.for_each(count);
    Ok(accounts.into_iter().collect())
}

/// The latest time of the open orders, for a store written by an older program.
fn last_time_of(engines: &Engines) -> TimestampMicros {
    engines.orders().map(|order| order.updated_at).max().unwrap_or_default()
}

fn replay_event(engines: &mut Engines, store: &Index, event: &Event) -> Result<(), VisitError> {
    let Err(unknown) = engines.replay(event) else { return Ok(()) };
    assert!(!engines.has(unknown.order_id), "only an order that memory lacks is unknown");
    // The order had ended when the store followed the log, so it was not loaded.
    let Some(order) = store.by_order_id(unknown.order_id)? else { return Err(unknown.into()) };
    engines.load(order);
    Ok(engines.replay(event)?)
}

/// Publishes everything in memory to readers.
fn publish(engines: &Engines, (views, last): (&CommittedViews, wal::Lsn), threads: usize) {
    let next = AtomicU8::new(0);
    in_parallel(threads, || {
        while let Some(partition) = next_partition(&next) {
            for order in engines.orders_of(partition) {
                views.publish(order.clone());
                if let Some(account) = engines.account(&order.user)
                    && views.user(&order.user).is_none_or(|view| view.account.is_none())
                {
                    views.publish_account(&order.user, Arc::new(account.clone()), last);
                }
            }
        }
    });
}

/// Hands out each partition once. The counter does not come round: threads stop at the first number
/// that is no partition.
fn next_partition(next: &AtomicU8) -> Option<UserPartition> {
    // Relaxed: no other data is handed over with the numbers.
    UserPartition::new(next.fetch_add(1, Ordering::Relaxed))
}

/// Runs the same work on this many threads, the calling one included.
fn in_parallel<T: Send>(threads: usize, work: impl Fn() -> T + Sync) -> Vec<T> {
    // Each thread asks for one partition more than there are: see `next_partition`.
    assert!((1..=USER_PARTITIONS).contains(&threads), "a partition has at most one thread");
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

#[cfg(test)]
#[path = "recover_tests.rs"]
mod tests;
