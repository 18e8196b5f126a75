//! All orders of the index into Postgres, for a server that gets one later: the log no longer has its
//! beginning then.

use std::ops::RangeInclusive;

use super::open::{OpenBooks, event_of};
use super::passes::{groups, told};
use super::{BooksError, BooksOptions};
use crate::index::{Index, IndexFollower, IndexMetrics};
use crate::order::Event;
use crate::projection::{COPIED_ORDERS, PostgresBackfill, PostgresServers, ToldOrders};
use crate::types::{Clock, OrderId};
use crate::wal::{self, Lsn, WalError};

/// Events of one transaction.
const BATCH_EVENTS: usize = 4_096;

/// What came of a copy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backfilled {
    /// How many orders were copied.
    pub orders: u64,
    /// Postgres follows the log from behind this record.
    pub position: Lsn,
}

/// Copies all orders into Postgres, with the events of those that came into being in the part of the
/// log that is kept. What is newer there is left alone, so that a copy that was interrupted can be
/// begun again; only its last step says how far Postgres has come.
///
/// # Errors
/// The books are in use or cannot be read; Postgres refuses, or follows another log.
pub fn backfill(
    options: &BooksOptions,
    servers: &PostgresServers,
) -> Result<Backfilled, BooksError> {
    let books = OpenBooks::open(options)?;
    let told = told(&books, books.last)?;
    let index = books.index.clone();
    let (log_id, last) = (books.log_id, books.last);
    let groups: Vec<_> = servers
        .iter()
        .map(|server| groups(&server.partitions(), &told, options.max_orders_in_memory))
        .collect();
    let kept = KeptLog { directory: books.log.directory.clone(), last };
    // The log is durable from here on, and stays locked.
    let follower = follow_to_end(books)?;
    let mut orders = 0;
    for (server, groups) in servers.iter().zip(groups) {
        let now = Clock.now();
        let mut postgres = PostgresBackfill::begin(server, (log_id, last), now)?;
        for group in groups {
            // The events first: they know when executions were made.
            kept.copy_events(&group, &mut postgres)?;
        }
        orders += copy_orders(&index, &server.partitions(), &mut postgres)?;
        postgres.finish(last, index.node_state()?.feed_position)?;
    }
    drop(follower);
    Ok(Backfilled { orders, position: last })
}

/// Makes the log durable as each start does, and moves the index to its end.
fn follow_to_end(books: OpenBooks) -> Result<impl Sized, BooksError> {
    let OpenBooks { index, log, recovery, last, .. } = books;
    let (appender, writer) = wal::open(log, recovery)?;
    let handle = writer.handle();
    let mut follower = IndexFollower::new(index.clone(), handle, IndexMetrics::default())?;
    while index.position() < last {
        let before = index.position();
        follower.apply_batch(last)?;
        if index.position() == before {
            return Err(BooksError::Stuck { position: before, last });
        }
    }
    follower.persist()?;
    Ok((appender, writer, follower))
}

/// The part of the log that is kept.
struct KeptLog {
    directory: std::path::PathBuf,
    last: Lsn,
}

impl KeptLog {
    /// Writes the events of orders that came into being in the log.
    fn copy_events(
        &self,
        group: &RangeInclusive<u8>,
        postgres: &mut PostgresBackfill,
    ) -> Result<(), BooksError> {
        let mut orders = ToldOrders::default();
        let mut events: Vec<(Lsn, Event)> = Vec::with_capacity(BATCH_EVENTS);
        let read = wal::inspect(&self.directory, None, &mut |record| {
            if record.lsn > self.last || !group.contains(&record.partition) {
                return Ok(());
            }
            let event = event_of(&record)?;
            if orders.tells(&event) {
                orders.will_tell(record.lsn, &event);
                events.push((record.lsn, event));
            }
            if events.len() == BATCH_EVENTS {
                postgres.events(&events, &mut orders).map_err(BooksError::from)?;
                events.clear();
            }
            Ok(())
        });
        read.map_err(|error: WalError| BooksError::from(error))?;
        Ok(postgres.events(&events, &mut orders)?)
    }
}

/// Writes all orders of these partitions as the index has them.
fn copy_orders(
    index: &Index,
    partitions: &RangeInclusive<u8>,
    postgres: &mut PostgresBackfill,
) -> Result<u64, BooksError> {
    let mut copied = 0;
    let mut scan = index.scan_orders()?;
    loop {
        let is_wanted = |id: OrderId| partitions.contains(&id.partition().get());
        let orders = scan.next_orders(COPIED_ORDERS, is_wanted)?;
        if orders.is_empty() {
            return Ok(copied);
        }
        postgres.orders(&orders)?;
        copied += orders.len() as u64;
    }
}
