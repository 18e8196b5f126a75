//! The log on a real directory, with its real threads.

use std::fs::{self, OpenOptions};
use std::future::poll_fn;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::thread;

use futures_lite::future::block_on;

use super::*;

const SMALL: u64 = MIN_SEGMENT_BYTES;

fn options(directory: &Path) -> WalOptions {
    WalOptions {
        directory: directory.to_path_buf(),
        segment_bytes: SMALL,
        keep_bytes: 0,
        reserve_bytes: 0,
    }
}

type Records = Vec<(u64, u32, Vec<u8>)>;

fn recovered(options: &WalOptions) -> Result<(Recovery, Records), WalError> {
    let mut records = Records::new();
    let recovery = recover(options, Lsn(0), &mut |record| {
        assert_eq!(record.payload.as_ptr().addr() % 16, 0, "payloads are aligned");
        assert_eq!((record.kind, record.format_version), (3, 1));
        assert_eq!(u64::from(record.partition), record.lsn.0 % 64);
        records.push((record.lsn.0, record.epoch, record.payload.to_vec()));
        Ok(())
    })?;
    Ok((recovery, records))
}

fn append(appender: &mut WalAppender, lsn: u64, payload: &[u8]) -> Result<Lsn, WalError> {
    let partition = u8::try_from(lsn % 64).unwrap();
    appender.append(NewRecord { partition, kind: 3, format_version: 1, payload })
}

/// Appends records of many sizes up to `last` and commits them, waiting when the log is busy.
fn append_until(appender: &mut WalAppender, first: u64, last: u64) {
    let mut lsn = first;
    while appender.committed() < Lsn(last) {
        let seen = appender.committed();
        while lsn <= last {
            match append(appender, lsn, &payload(lsn)) {
                Ok(given) => assert_eq!(given, Lsn(lsn)),
                Err(WalError::Busy) => break,
                Err(error) => panic!("{error}"),
            }
            lsn += 1;
        }
        if appender.flush() && lsn <= last && appender.committed() == seen {
            continue;
        }
        block_on(poll_fn(|context| appender.poll_progress(context, seen)));
        assert!(!appender.is_poisoned());
    }
}

fn payload(lsn: u64) -> Vec<u8> {
    let bytes = usize::try_from(lsn * 131 % 1500).unwrap();
    (0..bytes).map(|at| u8::try_from((at + bytes) % 251).unwrap()).collect()
}

fn session(options: &WalOptions, count: u64) -> u64 {
    let (recovery, _) = recovered(options).unwrap();
    let first = recovery.next_lsn.0;
    let (mut appender, writer) = open(options.clone(), recovery).unwrap();
    let thread = thread::spawn(move || writer.run());
    append_until(&mut appender, first, first + count - 1);
    drop(appender);
    thread.join().unwrap().unwrap();
    first + count - 1
}

#[test]
fn records_survive_rotation_and_reopening_with_increasing_epochs() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let mut last = 0;
    for epoch in 1..=4 {
        last = session(&options, 300);
        let (recovery, records) = recovered(&options).unwrap();
        assert_eq!(recovery.next_lsn, Lsn(last + 1));
        assert_eq!(recovery.first_lsn, Lsn(1));
        assert_eq!((recovery.records, recovery.epoch), (last, epoch + 1));
        assert_eq!(recovery.torn_bytes, 0);
        assert_eq!(records.last().unwrap().1, epoch);
    }
    let (_, records) = recovered(&options).unwrap();
    assert_eq!(records.len() as u64, last);
    for (index, (lsn, epoch, bytes)) in records.into_iter().enumerate() {
        assert_eq!(lsn, index as u64 + 1);
        assert_eq!(u64::from(epoch), (lsn - 1) / 300 + 1);
        assert_eq!(bytes, payload(lsn));
    }
    let segments = fs::read_dir(directory.path()).unwrap().count();
    assert!(segments > 6, "small segments rotate often: {segments} files");
}

#[test]
fn an_empty_log_starts_at_one() {
    let directory = tempfile::tempdir().unwrap();
    let (recovery, records) = recovered(&options(directory.path())).unwrap();
    assert!(records.is_empty());
    assert_eq!((recovery.first_lsn, recovery.next_lsn, recovery.epoch), (Lsn(1), Lsn(1), 1));
}

#[test]
fn a_log_in_use_cannot_be_recovered_again() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let (recovery, _) = recovered(&options).unwrap();
    assert!(matches!(recovered(&options), Err(WalError::Locked { .. })));
    let (appender, writer) = open(options.clone(), recovery).unwrap();
    assert!(matches!(recovered(&options), Err(WalError::Locked { .. })));
    drop((appender, writer));
    recovered(&options).unwrap();
}

#[test]
fn a_batch_in_flight_is_written_after_the_appender_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let (recovery, _) = recovered(&options).unwrap();
    let (mut appender, writer) = open(options.clone(), recovery).unwrap();
    append(&mut appender, 1, b"handed over").unwrap();
    assert!(appender.flush());
    append(&mut appender, 2, b"left behind").unwrap();
    let thread = thread::spawn(move || writer.run());
    drop(appender);
    thread.join().unwrap().unwrap();
    let (recovery, records) = recovered(&options).unwrap();
    assert_eq!(records, [(1, 1, b"handed over".to_vec())]);
    assert_eq!(recovery.next_lsn, Lsn(2));
}

#[test]
fn limits_are_enforced() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let (recovery, _) = recovered(&options).unwrap();
    let (mut appender, writer) = open(options.clone(), recovery).unwrap();
    let large = vec![1; MAX_PAYLOAD_BYTES + 1];
    assert!(matches!(append(&mut appender, 1, &large), Err(WalError::TooLarge { .. })));
    append(&mut appender, 1, &large[1..]).unwrap();
    // The first segment has room for one maximum record, and the next one does not exist yet.
    assert!(matches!(append(&mut appender, 2, &large[1..]), Err(WalError::Busy)));
    assert_eq!(appender.room_bytes(), 0);
    let thread = thread::spawn(move || writer.run());
    append_until(&mut appender, 2, 3);
    drop(appender);
    thread.join().unwrap().unwrap();
    assert_eq!(recovered(&options).unwrap().0.records, 3);

    let wrong = WalOptions { segment_bytes: SMALL + 1, ..options };
    assert!(matches!(recover(&wrong, Lsn(0), &mut |_| Ok(())), Err(WalError::SegmentBytes { .. })));
}

#[test]
fn a_dropped_writer_poisons_the_log() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let (recovery, _) = recovered(&options).unwrap();
    let (mut appender, writer) = open(options, recovery).unwrap();
    drop(writer);
    assert!(appender.is_poisoned());
    assert!(matches!(append(&mut appender, 1, b""), Err(WalError::Poisoned)));
    block_on(poll_fn(|context| appender.poll_progress(context, Lsn(0))));
}

#[test]
fn an_error_of_the_visitor_stops_recovery() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    session(&options, 5);
    let error = recover(&options, Lsn(0), &mut |record| {
        if record.lsn == Lsn(3) { Err("unknown kind".into()) } else { Ok(()) }
    })
    .unwrap_err();
    assert!(matches!(error, WalError::Visit { lsn: Lsn(3), .. }));
}

#[test]
fn rot_is_refused_naming_file_offset_and_tool() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    session(&options, 400);
    let path = directory.path().join(segment::name(2));
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, 4096 + 60).unwrap();
    file.write_all_at(&[byte[0] ^ 1], 4096 + 60).unwrap();
    let error = recovered(&options).unwrap_err();
    assert!(matches!(error, WalError::Damaged { offset: 4096, .. }), "{error:?}");
    let message = error.to_string();
    assert!(message.contains(path.to_str().unwrap()) && message.contains("at byte 4096"));
    assert!(message.contains("longbow wal verify"), "{message}");
}

#[test]
fn a_missing_segment_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    session(&options, 400);
    fs::remove_file(directory.path().join(segment::name(2))).unwrap();
    let error = recovered(&options).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    let verification = verify(directory.path(), None).unwrap();
    assert!(verification.verdict.is_err(), "{verification}");
    fs::remove_file(directory.path().join(segment::name(1))).unwrap();
    let error = recovered(&options).unwrap_err();
    let WalError::CutOff { first, needed: Lsn(1), .. } = error else { panic!("{error}") };
    let before_first = Lsn(first.0 - 1);
    let mut visited = Vec::new();
    let recovery = recover(&options, before_first, &mut |record| {
        visited.push(record.lsn);
        Ok(())
    });
    assert_eq!(recovery.unwrap().first_lsn, first);
    assert_eq!(visited.first(), Some(&first));
    let verification = verify(directory.path(), None).unwrap();
    assert!(verification.verdict.is_ok(), "a log without its beginning verifies: {verification}");
}

#[test]
fn a_log_with_only_an_unused_segment_left_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    session(&options, 1);
    fs::remove_file(directory.path().join(segment::name(1))).unwrap();
    let error = recovered(&options).unwrap_err();
    assert!(error.to_string().contains("no record"), "{error}");
    let error = log_start(&options).unwrap_err().to_string();
    assert!(error.contains("segments with records are missing"), "{error}");
    assert!(error.contains(&segment::name(2)), "{error}");
}

#[test]
fn verify_refuses_a_log_that_ends_before_what_the_store_has() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let last = session(&options, 3);
    let found = |stored| verify(directory.path(), stored).unwrap();
    for stored in [None, Some(Lsn(0)), Some(Lsn(last))] {
        assert!(found(stored).verdict.is_ok(), "{stored:?}");
    }
    let ahead = Lsn(last + 1);
    let refused = recover(&options, ahead, &mut |_| Ok(())).unwrap_err().to_string();
    let verification = found(Some(ahead));
    assert_eq!(verification.verdict.as_ref().unwrap_err().to_string(), refused);
    assert!(verification.to_string().ends_with(&refused), "{verification}");
    let log_id = log_start(&options).unwrap().log_id.unwrap();
    taken::write(&storage::Directory::lock(directory.path()).unwrap(), log_id, ahead).unwrap();
    assert!(matches!(found(None).verdict, Err(WalError::LostTail { known, .. }) if known == ahead));
}

#[test]
fn verify_shows_what_is_readable_beside_an_open_log() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let last = session(&options, 400);
    let (recovery, _) = recovered(&options).unwrap();
    let verification = verify(directory.path(), None).unwrap();
    assert!(verification.verdict.is_ok());
    let records: u64 = verification.segments.iter().map(|segment| segment.records).sum();
    assert_eq!(records, last);
    drop(recovery);

    let path = directory.path().join(segment::name(2));
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.write_all_at(&[0xff; 5000], 8192 + 100).unwrap();
    file.write_all_at(&[0xff; 10], 0).unwrap();
    let damaged = verify(directory.path(), None).unwrap();
    assert!(matches!(damaged.verdict, Err(WalError::Damaged { .. })));
    let (before, after) = (&verification.segments[1], &damaged.segments[1]);
    assert!(before.header_is_intact && !after.header_is_intact);
    assert!(after.records > 0 && after.records < before.records);
    assert_eq!((after.first_lsn, after.last_lsn), (before.first_lsn, before.last_lsn));
    assert!(after.unreadable_bytes >= 4096 && after.first_unreadable.is_some());
    assert_eq!(damaged.segments[2], verification.segments[2]);
    let text = damaged.to_string();
    assert!(text.contains("unreadable") && text.contains("header"), "{text}");

    assert!(verify(&directory.path().join("nothing here"), None).is_err());
}

#[test]
fn a_half_made_segment_is_removed_at_start() {
    let directory = tempfile::tempdir().unwrap();
    let options = options(directory.path());
    let last = session(&options, 400);
    let half_made = directory.path().join(format!("{}.preparing", segment::name(99)));
    fs::write(&half_made, [1; 5000]).unwrap();
    assert_eq!(session(&options, 10), last + 10);
    assert!(!half_made.exists());
}

#[test]
fn the_segment_size_may_change_between_starts() {
    let directory = tempfile::tempdir().unwrap();
    let mut options = options(directory.path());
    let mut last = 0;
    for factor in [1, 3, 2] {
        options.segment_bytes = SMALL * factor + 4096 * factor;
        last = session(&options, 400);
    }
    assert_eq!(recovered(&options).unwrap().0.records, last);
}
