//! Following and cutting the log on a real directory, with its real threads.

use std::fs;
use std::future::poll_fn;
use std::path::Path;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use futures_lite::future::block_on;

use super::*;

const SMALL: u64 = MIN_SEGMENT_BYTES;
/// Far longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn options(directory: &Path) -> WalOptions {
    WalOptions {
        directory: directory.to_path_buf(),
        segment_bytes: SMALL,
        keep_bytes: 0,
        reserve_bytes: 0,
    }
}

fn payload(lsn: u64) -> Vec<u8> {
    vec![u8::try_from(lsn % 251).unwrap(); usize::try_from(lsn * 131 % 1500).unwrap()]
}

fn append_until(appender: &mut WalAppender, last: u64) {
    let mut lsn = appender.committed().0 + 1;
    while appender.committed() < Lsn(last) {
        let seen = appender.committed();
        let payload = payload(lsn);
        let record = NewRecord { partition: 1, kind: 3, format_version: 1, payload: &payload };
        let wants_room = lsn <= last && appender.append(record).map(|_| lsn += 1).is_err();
        let is_waiting = !appender.flush() || wants_room || lsn > last;
        if is_waiting {
            block_on(poll_fn(|context| appender.poll_progress(context, seen)));
        }
    }
}

/// Opens the log, runs `work`, and shuts down in order.
fn session(options: &WalOptions, work: impl FnOnce(&mut WalAppender, LogHandle)) {
    let recovery = recover(options, Lsn(0), &mut |_| Ok(()));
    let recovery = recovery.or_else(|error| match error {
        WalError::CutOff { first, .. } => recover(options, Lsn(first.0 - 1), &mut |_| Ok(())),
        other => Err(other),
    });
    let (mut appender, writer) = open(options.clone(), recovery.unwrap()).unwrap();
    let handle = writer.handle();
    let thread = thread::spawn(move || writer.run());
    work(&mut appender, handle);
    drop(appender);
    thread.join().unwrap().unwrap();
}

fn read_until(reader: &mut LogReader, handle: &LogHandle, last: u64) {
    while reader.position() < Lsn(last) {
        handle.wait(reader.position(), LONG);
        let expected = reader.position().0 + 1;
        let record = reader.next_record().unwrap().expect("more was committed");
        assert_eq!(record.lsn, Lsn(expected));
        assert_eq!(record.payload, payload(expected));
    }
}

#[test]
fn a_reader_beside_the_writer_sees_every_record_once() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    for round in 1..=3 {
        session(&options, |appender, handle| {
            let before = handle.committed().0;
            let last = round * 700;
            let start = Barrier::new(3);
            thread::scope(|scope| {
                for after in [0, before] {
                    let (handle, start) = (handle.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        let mut reader = handle.reader(Lsn(after)).unwrap();
                        read_until(&mut reader, &handle, last);
                    });
                }
                start.wait();
                append_until(appender, last);
            });
            let mut reader = handle.reader(Lsn(last)).unwrap();
            assert!(reader.next_record().unwrap().is_none());
        });
    }
}

#[test]
fn waiters_are_woken_when_the_writer_ends() {
    let directory = tempfile::tempdir().unwrap();
    let mut waiting = None;
    session(&options(directory.path()), |_, handle| {
        assert_eq!(handle.wait(Lsn(0), Duration::ZERO), Lsn(0));
        waiting = Some(thread::spawn(move || {
            let committed = handle.wait(Lsn(0), LONG);
            (committed, handle.is_poisoned())
        }));
    });
    assert_eq!(waiting.unwrap().join().unwrap(), (Lsn(0), true));
}

#[test]
fn segments_are_cut_up_to_the_slowest_claim_and_retention_holds() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    session(&options, |appender, handle| {
        append_until(appender, 1_000);
        assert_eq!(handle.cut().unwrap(), 0, "there are no claims");
        let (fast, slow) =
            (handle.claim("fast", Lsn(0)).unwrap(), handle.claim("slow", Lsn(0)).unwrap());
        fast.advance(Lsn(1_000));
        assert_eq!(handle.cut().unwrap(), 0);
        slow.advance(Lsn(500));
        slow.advance(Lsn(3));
        assert!(handle.cut().unwrap() > 1);
        assert_eq!(handle.cut().unwrap(), 0);
        let first = handle.first_lsn();
        assert!(first > Lsn(1) && first <= Lsn(501), "{first}");
        read_until(&mut handle.reader(Lsn(500)).unwrap(), &handle, 1_000);
        let needed = handle.reader(Lsn(0)).unwrap_err();
        assert!(matches!(needed, WalError::CutOff { needed: Lsn(1), .. }));
        assert!(matches!(handle.claim("late", Lsn(0)), Err(WalError::CutOff { .. })));
        slow.advance(Lsn(2_000));
        handle.cut().unwrap();
        assert_eq!(handle.kept_segments().0, 1, "the current segment stays");
        append_until(appender, 2_000);
        read_until(&mut handle.reader(Lsn(1_000)).unwrap(), &handle, 2_000);
    });
    let verification = verify(directory.path(), None).unwrap();
    assert!(verification.verdict.is_ok(), "{verification}");

    options.keep_bytes = 5 * SMALL;
    session(&options, |appender, handle| {
        append_until(appender, 3_000);
        handle.claim("only", Lsn(2_000)).unwrap().advance(Lsn(3_000));
        assert!(handle.cut().unwrap() > 0);
        let (segments, bytes) = handle.kept_segments();
        assert_eq!((segments, bytes), (5, 5 * SMALL), "all retained segments");
    });
}

#[test]
fn recovery_starts_at_a_position_and_reads_nothing_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    session(&options, |appender, _| append_until(appender, 1_000));
    let segments = first_lsns(&options);
    for after in [0, 1, 499, 500, 998, 999, 1_000] {
        let mut visited = Vec::new();
        let recovery = recover(&options, Lsn(after), &mut |record| {
            visited.push(record.lsn.0);
            Ok(())
        })
        .unwrap();
        assert_eq!(visited, (after + 1..=1_000).collect::<Vec<_>>());
        assert_eq!((recovery.first_lsn, recovery.next_lsn), (Lsn(1), Lsn(1_001)));
        assert_eq!((recovery.records, recovery.epoch), (1_000 - after, 2));
    }
    let error = recover(&options, Lsn(1_001), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, WalError::LostTail { last: Lsn(1_000), .. }), "{error}");

    // Rot in segments entirely before the position goes unnoticed, other rot does not.
    let damaged = directory.path().join(segment::name(2));
    let mut bytes = fs::read(&damaged).unwrap();
    bytes[BLOCK_BYTES + 60] ^= 1;
    fs::write(&damaged, bytes).unwrap();
    let third = segments[2].unwrap();
    recover(&options, Lsn(third), &mut |_| Ok(())).unwrap();
    let error = recover(&options, Lsn(third - 1), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, WalError::Damaged { .. }), "{error}");
}

fn first_lsns(options: &WalOptions) -> Vec<Option<u64>> {
    let storage = storage::Directory::open_unlocked(&options.directory).unwrap();
    log_start::segment_spans(&storage).unwrap().into_iter().map(|span| span.first_lsn).collect()
}

#[test]
fn log_start_returns_the_id_and_the_first_record() {
    let directory = tempfile::tempdir().unwrap();
    let missing = options(&directory.path().join("none"));
    let nothing = LogStart { log_id: None, first_lsn: Lsn(1) };
    assert_eq!(log_start(&missing).unwrap(), nothing);
    let options = options(directory.path());
    let mut log_id = None;
    session(&options, |appender, handle| {
        append_until(appender, 500);
        handle.claim("only", Lsn(0)).unwrap().advance(Lsn(400));
        handle.cut().unwrap();
        log_id = Some(handle.log_id());
    });
    let found = log_start(&options).unwrap();
    assert_eq!(found.log_id, log_id);
    assert!(found.first_lsn > Lsn(1) && found.first_lsn <= Lsn(401), "{found:?}");
    let error = recover(&options, Lsn(0), &mut |_| Ok(())).unwrap_err();
    assert!(matches!(error, WalError::CutOff { needed: Lsn(1), .. }), "{error}");
}
