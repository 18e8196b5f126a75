//! The index end to end: a log with its threads, the follower, the cut, and the next start.

use std::future::poll_fn;
use std::path::Path;
use std::thread;

use futures_lite::future::block_on;

use super::test_log::*;
use super::*;
use crate::order::*;
use crate::shutdown::{Shutdown, StopReason};
use crate::testing::{MemoryStore, wait_until};
use crate::types::*;
use crate::wal::{self, Lsn, MIN_SEGMENT_BYTES, NewRecord, WalAppender, WalOptions};

fn log_options(directory: &Path) -> WalOptions {
    WalOptions {
        segment_bytes: MIN_SEGMENT_BYTES,
        keep_bytes: 0,
        ..WalOptions::new(directory.join("wal"))
    }
}

fn append(appender: &mut WalAppender, events: &[Event]) {
    let mut encoder = EventEncoder::new();
    for event in events {
        let payload = encoder.encode(event).unwrap();
        let record = NewRecord {
            partition: event.partition_byte(),
            kind: event.kind(),
            format_version: RECORD_FORMAT_VERSION,
            payload,
        };
        loop {
            let seen = appender.committed();
            if appender.append(record).is_ok() {
                break;
            }
            appender.flush();
            block_on(poll_fn(|context| appender.poll_progress(context, seen)));
        }
        appender.flush();
    }
    loop {
        let seen = appender.committed();
        if appender.flush() {
            break;
        }
        block_on(poll_fn(|context| appender.poll_progress(context, seen)));
    }
}

struct Session {
    index: Index,
    visited: Vec<Lsn>,
    cut_segments: u64,
}

/// A process that starts, takes events and stops cleanly.
fn session(directory: &Path, events: &[Event]) -> Session {
    let options = log_options(directory);
    let log = wal::log_start(&options).unwrap();
    let index = Index::open(IndexOptions {
        cache_bytes: 16 << 20,
        unmatched_report_age_micros: UNMATCHED_AGE_MICROS,
        ended_window_micros: WINDOW_MICROS,
        ..IndexOptions::new(directory.join("index"), log)
    })
    .unwrap();
    let mut visited = Vec::new();
    let recovery = wal::recover(&options, index.position(), &mut |record| {
        visited.push(record.lsn);
        Ok(())
    })
    .unwrap();
    let (mut appender, writer) = wal::open(options, recovery).unwrap();
    let metrics = IndexMetrics::default();
    let follower = IndexFollower::new(index.clone(), writer.handle(), metrics.clone()).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let following = thread::spawn(move || follower.run(&stop));
    let writing = thread::spawn(move || writer.run());
    append(&mut appender, events);
    shutdown.request(StopReason::Requested);
    drop(appender);
    writing.join().unwrap().unwrap();
    following.join().unwrap().unwrap();
    assert_eq!(index.trouble(), None);
    assert_eq!(index.position(), index.durable_position());
    Session { index, visited, cut_segments: metrics.cut_segments.get() }
}

#[test]
fn the_log_is_cut_up_to_the_index_and_the_next_start_reads_only_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    let (first, rest) = model.events.split_at(1_300);
    let ended = session(directory.path(), first);
    assert_eq!(ended.index.position(), Lsn(first.len() as u64));
    assert!(ended.cut_segments > 1, "the log was cut");
    drop(ended);
    let log = wal::log_start(&log_options(directory.path())).unwrap();
    assert!(log.first_lsn > Lsn(1));
    let verified = wal::verify(&directory.path().join("wal"), None).unwrap();
    assert!(verified.verdict.is_ok(), "{verified}");

    let ended = session(directory.path(), rest);
    assert!(ended.visited.is_empty(), "everything was in the index");
    model.check(&ended.index);
}

#[test]
fn a_lost_index_is_rebuilt_from_a_whole_log_and_refused_with_a_cut_one() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    // Few enough to fit in the first segment, which is never cut.
    drop(session(directory.path(), &model.events[..100]));
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let ended = session(directory.path(), &model.events[100..]);
    assert_eq!(ended.visited.len(), 100);
    model.check(&ended.index);
    drop(ended);
    std::fs::remove_dir_all(directory.path().join("index")).unwrap();
    let log = wal::log_start(&log_options(directory.path())).unwrap();
    let error = Index::open(IndexOptions::new(directory.path().join("index"), log)).unwrap_err();
    assert!(matches!(error, IndexError::Missing { .. }), "{error}");
}

#[test]
fn an_unreadable_record_stops_the_follower_with_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let options = log_options(directory.path());
    let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
    let log = wal::log_start(&options).unwrap();
    let (mut appender, writer) = wal::open(options, recovery).unwrap();
    let index = Index::open(IndexOptions::new(directory.path().join("index"), log)).unwrap();
    let follower =
        IndexFollower::new(index.clone(), writer.handle(), IndexMetrics::default()).unwrap();
    let shutdown = Shutdown::new();
    let following = thread::spawn(move || follower.run(&shutdown));
    let writing = thread::spawn(move || writer.run());
    let record = NewRecord { partition: 1, kind: 99, format_version: 1, payload: b"?" };
    appender.append(record).unwrap();
    assert!(appender.flush());
    let error = following.join().unwrap().unwrap_err();
    assert!(matches!(error, IndexError::Record { lsn: Lsn(1), .. }), "{error}");
    assert!(index.trouble().is_some());
    drop(appender);
    writing.join().unwrap().unwrap();
}

#[test]
fn a_store_that_refuses_writes_is_reopened_and_catches_up() {
    let directory = tempfile::tempdir().unwrap();
    let options = log_options(directory.path());
    let recovery = wal::recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
    let (mut appender, writer) = wal::open(options, recovery).unwrap();
    let store = MemoryStore::new();
    let index = Index::in_memory(&store, AGES).unwrap();
    let metrics = IndexMetrics::default();
    let follower = IndexFollower::new(index.clone(), writer.handle(), metrics.clone()).unwrap();
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let following = thread::spawn(move || follower.run(&stop));
    let writing = thread::spawn(move || writer.run());
    let model = long_log();
    let (first, rest) = model.events.split_at(500);
    append(&mut appender, first);
    wait_until(|| {
        assert!(!following.is_finished());
        index.position() >= Lsn(500)
    });

    store.refuse_writes(true);
    append(&mut appender, rest);
    wait_until(|| {
        assert!(!following.is_finished());
        metrics.failures.get() >= 2
    });
    store.refuse_writes(false);
    wait_until(|| {
        assert!(!following.is_finished());
        index.position() >= Lsn(model.events.len() as u64)
    });
    shutdown.request(StopReason::Requested);
    drop(appender);
    writing.join().unwrap().unwrap();
    following.join().unwrap().unwrap();
    assert_eq!(index.trouble(), None);
    model.check(&index);
}

#[test]
fn readers_answer_live_callers_and_refuse_when_the_queue_is_full() {
    let store = MemoryStore::new();
    let index = Index::in_memory(&store, AGES).unwrap();
    let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
    let model = long_log();
    take_until(&mut writer, &model.events, model.events.len());
    writer.commit().unwrap();

    let (readers, [one, other]) = IndexReaders::new(&index);
    let gone = readers.ask(|_| -> Result<(), IndexError> { panic!("nobody listens") });
    drop(gone.unwrap());
    let mut answers = Vec::new();
    for number in 1..READ_QUEUE_CAPACITY {
        let user = UserId::new(if number % 2 == 0 { "a" } else { "b" }).unwrap();
        let request = PageRequest { limit: 5, ..PageRequest::default() };
        answers.push(readers.ask(move |index| index.ended(&user, &request)).unwrap());
    }
    assert_eq!(readers.ask(|index| Ok(index.position())).unwrap_err(), ReadersBusy);
    let threads = [one, other].map(|reader| thread::spawn(move || reader.run()));
    for answer in answers {
        assert!(!answer.recv().unwrap().unwrap().orders.is_empty());
    }
    drop(readers);
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}
