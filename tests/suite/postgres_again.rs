//! Executions taken back and shown again, in one transaction and in several: Postgres equals the
//! orders.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test stops at the first surprise"
)]

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

use longbow::data_dir::DataDir;
use longbow::index::{Index, IndexFollower, IndexMetrics, IndexOptions};
use longbow::metrics::{Metrics, PageFormat};
use longbow::offline::{self, Differences, OfflineOptions};
use longbow::order::{Change, Changed, Created, Event, EventEncoder, Fill, RECORD_FORMAT_VERSION};
use longbow::projection::{
    self, Owner, PostgresServers, Progress, ProjectionMetrics, ProjectionOptions, migrate,
};
use longbow::shutdown::{Shutdown, StopReason};
use longbow::types::{
    ExecutionId, OrderId, PriceCents, Side, Symbol, TimeInForce, TimestampMicros, UserId,
};
use longbow::wal::{self, Lsn, NewRecord, WalAppender, WalOptions};

use crate::offline::assert_agree;
use crate::support::api::until;
use crate::support::metric_of;
use crate::support::postgres::{Database, Postgres};

const START_MICROS: u64 = 1_732_400_000_000_000;
/// As many as a log batch holds at least.
const FLUSHED: u64 = 500;
/// More than a transaction holds.
const MANY: u64 = 5_000;

/// Log, index and projection without the server around them.
struct Node {
    appender: WalAppender,
    encoder: EventEncoder,
    progress: Progress,
    metrics: Metrics,
    threads: Vec<JoinHandle<()>>,
    shutdown: Shutdown,
    /// Events so far; each is a microsecond later than the previous one.
    events: u64,
}

impl Node {
    fn start(data: &Path, servers: &PostgresServers) -> Self {
        let segment_bytes = 1024 * 1024;
        let options = WalOptions { segment_bytes, ..WalOptions::new(DataDir::from(data).wal()) };
        let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
        let (appender, writer) = wal::open(options.clone(), recovery).unwrap();
        let log = writer.handle();
        let shutdown = Shutdown::new();
        let mut threads = vec![std::thread::spawn(move || writer.run().unwrap())];
        let log_start = wal::log_start(&options).unwrap();
        let index = Index::open(IndexOptions::new(DataDir::from(data).index(), log_start)).unwrap();
        let follower = IndexFollower::new(index, log.clone(), IndexMetrics::default()).unwrap();
        let stop = shutdown.clone();
        threads.push(std::thread::spawn(move || follower.run(&stop).unwrap()));
        let metrics = Metrics::new();
        let projection_metrics = ProjectionMetrics::default();
        metrics.register(|registry| projection_metrics.register(registry));
        let options = ProjectionOptions {
            servers: servers.clone(),
            migrates: false,
            share_percent: 100,
            is_awaited: true,
            kept_bytes: u64::MAX,
            max_backlog_bytes: u64::MAX,
            owners: Arc::new(|orders, _| {
                Ok(orders.iter().map(|_| Some(Owner { user: user(), version: None })).collect())
            }),
            ownership: None,
        };
        let (workers, progress) =
            projection::projection(options, &log, &projection_metrics).unwrap();
        for worker in workers {
            let stop = shutdown.clone();
            threads.push(std::thread::spawn(move || worker.run(&stop).unwrap()));
        }
        let encoder = EventEncoder::new();
        Self { appender, encoder, progress, metrics, threads, shutdown, events: 0 }
    }

    /// Appends these in one go and waits until Postgres has them.
    fn take(&mut self, changes: impl IntoIterator<Item = (u64, Option<Change>)>) {
        let mut last = Lsn(0);
        for (number, change) in changes {
            self.events += 1;
            let at = TimestampMicros::new(START_MICROS + self.events);
            let event = match change {
                None => Event::Created(created(number)),
                Some(change) => Event::Changed(Changed { order_id: id(number), at, change }),
            };
            let record = NewRecord {
                partition: event.partition_byte(),
                kind: event.kind(),
                format_version: RECORD_FORMAT_VERSION,
                payload: self.encoder.encode(&event).unwrap(),
            };
            last = self.appender.append(record).unwrap();
            if self.events.is_multiple_of(FLUSHED) {
                until("the log", || self.appender.flush().then_some(()));
            }
        }
        until("the log", || self.appender.flush().then_some(()));
        until("Postgres", || (self.progress.committed() >= last).then_some(()));
    }

    fn metric(&self, name: &str) -> u64 {
        metric_of(&self.metrics.print(PageFormat::OpenMetrics), name)
    }

    fn stop(self) {
        drop(self.appender);
        self.shutdown.request(StopReason::Requested);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

fn user() -> UserId {
    UserId::new("alice").unwrap()
}

fn id(number: u64) -> OrderId {
    OrderId::new(u128::from(START_MICROS) * 1_000, number, user().partition())
}

fn created(number: u64) -> Created {
    Created {
        order_id: id(number),
        user: user(),
        client_order_id: None,
        symbol: Symbol::new("IBM").unwrap(),
        side: Side::Buy,
        limit_price: None,
        time_in_force: TimeInForce::Day,
        num_shares: 100,
        created_at: TimestampMicros::new(START_MICROS),
        submit_before: TimestampMicros::new(START_MICROS + 5_000_000),
        reservation: longbow::money::Reservation::Nothing,
    }
}

/// An execution with this many shares; price and time are derived from them.
fn filled(number: u64, num_shares: u64) -> (u64, Option<Change>) {
    let fill = Fill {
        execution_id: execution(number),
        price: PriceCents::new(10_000 + i64::try_from(num_shares).unwrap()).unwrap(),
        num_shares,
        executed_at: TimestampMicros::new(START_MICROS + num_shares),
    };
    (number, Some(Change::Filled(fill)))
}

fn taken_back(number: u64) -> (u64, Option<Change>) {
    (number, Some(Change::TakenBack { execution_id: execution(number) }))
}

fn busted(number: u64) -> (u64, Option<Change>) {
    (number, Some(Change::Busted { execution_id: execution(number) }))
}

fn execution(number: u64) -> ExecutionId {
    ExecutionId::new(&format!("e{number}")).unwrap()
}

/// Shares, price, and the microseconds of execution, recording and bust.
fn row(database: &Database, number: u64) -> [Option<i64>; 5] {
    let micros =
        |column: &str| format!("(extract(epoch FROM {column}) * 1000000)::bigint - {START_MICROS}");
    let question = format!(
        "SELECT num_shares, price_cents, {}, {}, {} FROM executions WHERE execution_id = 'e{number}'",
        micros("executed_at"),
        micros("recorded_at"),
        micros("busted_at")
    );
    let row = database.sql(&question).swap_remove(0);
    [0, 1, 2, 3, 4].map(|column| row[column].as_ref().map(|value| value.parse().unwrap()))
}

#[test]
fn executions_that_come_back_are_what_the_orders_count() {
    let (data, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let postgres = Postgres::start();
    let database = postgres.database();
    let servers: PostgresServers = database.url.parse().unwrap();
    migrate(&servers).unwrap();
    let mut node = Node::start(data.path(), &servers);
    let orders = 1..=6;
    node.take(orders.clone().map(|number| (number, None)));
    assert_eq!(node.events, 6);
    // One that counts, one that does not, and one that is busted before it is seen.
    node.take([filled(1, 100), filled(2, 100), filled(3, 100), busted(4)]);
    node.take([taken_back(2)]);
    assert_eq!(row(&database, 2), [Some(100), Some(10_100), Some(100), Some(8), Some(11)]);
    // Shown again in one transaction: it was already there.
    node.take([taken_back(1), filled(1, 100)]);
    assert_eq!(row(&database, 1), [Some(100), Some(10_100), Some(100), Some(7), None]);
    // Other shares, in another transaction and in one.
    node.take([filled(2, 60)]);
    assert_eq!(row(&database, 2), [Some(60), Some(10_060), Some(60), Some(8), None]);
    node.take([taken_back(3), filled(3, 60), busted(3)]);
    assert_eq!(row(&database, 3), [Some(60), Some(10_060), Some(60), Some(9), Some(17)]);
    // The time of the first recording counts, also for a new one.
    node.take([filled(5, 100), taken_back(5), filled(5, 60)]);
    assert_eq!(row(&database, 5), [Some(60), Some(10_060), Some(60), Some(18), None]);
    let again = (0..MANY).flat_map(|_| [taken_back(6), filled(6, 60)]);
    node.take([filled(6, 100)].into_iter().chain(again));
    assert_eq!(row(&database, 6), [Some(60), Some(10_060), Some(60), Some(21), None]);
    assert_eq!(node.metric("projection_unchanged_rows_total"), 0);
    node.stop();
    assert_agree(data.path(), &database.url);

    // A copy gives the same result, whatever is there.
    database.sql(
        "UPDATE executions SET num_shares = 7, executed_at = now(), recorded_at = now(), \
         busted_at = now()",
    );
    let wanted: BTreeSet<OrderId> = orders.map(id).collect();
    let options = OfflineOptions::new(data.path());
    let wanted = Differences { orders: wanted, ..Differences::default() };
    assert_eq!(offline::repair(&options, &servers, &wanted).unwrap(), 6);
    assert_agree(data.path(), &database.url);
    assert_eq!(row(&database, 6), [Some(60), Some(10_060), Some(60), Some(21), None]);
    let restored = offline::restore(&empty.path().join("data").into(), &servers, false).unwrap();
    assert_eq!(restored.orders, 6);
}
