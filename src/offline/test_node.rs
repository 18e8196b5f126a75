//! Records on disk for unit tests: a real log and the index that follows it.

use std::path::Path;

use super::OfflineOptions;
use crate::data_dir::DataDir;
use crate::index::{Index, IndexFollower, IndexMetrics, IndexOptions};
pub(super) use crate::order::test_events::{accepted, created, filled};
use crate::order::{Event, EventEncoder, TrackedOrder};
use crate::wal::{self, Lsn, NewRecord, WalOptions};

const SEGMENT_BYTES: u64 = 1024 * 1024;

pub(super) fn order(number: u64, events: &[Event]) -> TrackedOrder {
    let mut order = TrackedOrder::new(&created(number));
    for event in events {
        let Event::Changed(changed) = event else { panic!("{event:?}") };
        assert!(order.apply(changed).recorded);
    }
    order
}

/// All events of some orders; every third order stays open.
pub(super) fn life_cycles(orders: u64) -> Vec<Event> {
    let of = |number: u64| {
        let mut events = vec![Event::Created(created(number)), accepted(number)];
        if !number.is_multiple_of(3) {
            events.push(filled(number, &format!("e{number}"), 4));
            events.push(filled(number, &format!("f{number}"), 6));
        }
        events
    };
    (1..=orders).flat_map(of).collect()
}

/// A log with a small segment, which is quick to create.
fn log_of(data_dir: &Path) -> WalOptions {
    WalOptions { segment_bytes: SEGMENT_BYTES, ..WalOptions::new(DataDir::from(data_dir).wal()) }
}

pub(super) fn append(data_dir: &Path, events: &[Event]) {
    let options = log_of(data_dir);
    let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
    let (mut appender, writer) = wal::open(options, recovery).unwrap();
    let log = writer.handle();
    let thread = std::thread::spawn(move || writer.run());
    let mut encoder = EventEncoder::new();
    let mut last = Lsn(0);
    for event in events {
        let record = NewRecord {
            partition: event.partition_byte(),
            kind: event.kind(),
            format_version: crate::order::RECORD_FORMAT_VERSION,
            payload: encoder.encode(event).unwrap(),
        };
        last = appender.append(record).unwrap();
    }
    while !appender.flush() {
        std::thread::yield_now();
    }
    while log.wait(Lsn(last.0 - 1), std::time::Duration::from_secs(30)) < last {}
    drop(appender);
    thread.join().unwrap().unwrap();
}

/// Moves the index of a data directory to a record of its log.
pub(super) fn follow(data_dir: &Path, to: Lsn) {
    let options = log_of(data_dir);
    let log_start = wal::log_start(&options).unwrap();
    let index = Index::open(IndexOptions::new(DataDir::from(data_dir).index(), log_start)).unwrap();
    let recovery = wal::recover(&options, index.position(), &mut |_| Ok(())).unwrap();
    let (_appender, writer) = wal::open(options, recovery).unwrap();
    let metrics = IndexMetrics::default();
    let mut follower = IndexFollower::new(index.clone(), writer.handle(), metrics).unwrap();
    while index.position() < to {
        follower.apply_batch(to).unwrap();
    }
    follower.persist().unwrap();
}

pub(super) fn options(data_dir: &Path, max_orders_in_memory: u64) -> OfflineOptions {
    OfflineOptions { max_orders_in_memory, ..OfflineOptions::new(data_dir) }
}
