//! The log against a faulty disk. The threads advance step by step, so that a failing case is
//! reproducible.

use std::thread;

use proptest::prelude::*;

use super::fault_model::*;
use super::storage::Storage;
use super::*;
use crate::testing::{Crash, Fault, FaultyDisk};

proptest! {
    #[test]
    fn crashes_at_any_operation_lose_nothing_committed(
        stories in proptest::collection::vec(life_story(), 1..6),
    ) {
        let disk = FaultyDisk::default();
        let mut model = Model::default();
        for story in &stories {
            model.live(&disk, story);
            disk.crash(story.crash, story.seed);
        }
        model.check(&disk);
    }

    #[test]
    fn rot_before_the_last_batch_is_refused(
        sizes in batch_sizes(), which: prop::sample::Index, at: prop::sample::Index, bit in 0..8_u32,
    ) {
        let written = written(&sizes);
        let (file, start, end, first) = &written.batches[which.index(written.batches.len() - 1)];
        written.disk.flip_bit(file, start + at.index(end - start), bit);
        match recovered(&written.disk) {
            Err(WalError::Damaged { file: named, offset, lsn, .. }) => {
                prop_assert!(named.ends_with(file));
                prop_assert!(offset >= *start as u64 && offset <= *end as u64);
                prop_assert!(lsn.0 > *first as u64);
            }
            other => prop_assert!(false, "{other:?}"),
        }
    }

    #[test]
    fn damage_to_the_last_batch_cuts_only_that_batch(
        sizes in batch_sizes(),
        at: prop::sample::Index,
        bit in 0..8_u32,
        next_too: bool,
        seed: u64,
    ) {
        let written = written(&sizes);
        let (file, start, end, first) = written.batches.last().unwrap();
        written.disk.flip_bit(file, start + at.index(end - start), bit);
        let names = written.disk.file_names();
        if next_too && names.last() != Some(file) {
            written.disk.flip_bit(names.last().unwrap(), BLOCK_BYTES + at.index(BLOCK_BYTES), bit);
        }
        let (recovery, payloads) = recovered(&written.disk).unwrap();
        prop_assert!(payloads.len() >= *first);
        prop_assert!(written.payloads.starts_with(&payloads));
        prop_assert!(recovery.torn_bytes > 0);
        // The cut is final: new records follow, and nothing is torn.
        drop(Life::start(recovery).unwrap());
        written.disk.crash(Crash::PowerLoss, seed);
        let (recovery, again) = recovered(&written.disk).unwrap();
        prop_assert_eq!((recovery.torn_bytes, &again), (0, &payloads));
        let mut life = Life::start(recovery).unwrap();
        life.append_and_commit(b"after the cut");
        drop(life);
        let (recovery, again) = recovered(&written.disk).unwrap();
        prop_assert_eq!(recovery.torn_bytes, 0);
        prop_assert_eq!(&again[..payloads.len()], &payloads[..]);
        prop_assert_eq!(&again[payloads.len()..], &[b"after the cut".to_vec()]);
    }

    #[test]
    fn rot_in_a_header_or_in_unused_zeros_is_detected(
        sizes in batch_sizes(), which: prop::sample::Index, at: prop::sample::Index, bit in 0..8_u32,
    ) {
        let written = written(&sizes);
        let names = written.disk.file_names();
        let name = &names[which.index(names.len())];
        let used_to = written.batches.iter().filter(|batch| batch.0 == *name).map(|batch| batch.2);
        let used_to = used_to.max().unwrap_or(BLOCK_BYTES);
        let file_bytes = to_usize(MIN_SEGMENT_BYTES);
        let unused = BLOCK_BYTES + file_bytes - used_to;
        let at = at.index(unused);
        let at = if at < BLOCK_BYTES { at } else { at - BLOCK_BYTES + used_to };
        written.disk.flip_bit(name, at, bit);
        let is_last = *name >= written.batches.last().unwrap().0;
        match recovered(&written.disk) {
            Err(WalError::Damaged { .. }) => prop_assert!(at < BLOCK_BYTES || !is_last),
            Ok((recovery, payloads)) => {
                prop_assert!(at >= BLOCK_BYTES && is_last);
                prop_assert_eq!(&payloads, &written.payloads);
                prop_assert!(recovery.torn_bytes > 0);
                let mut life = Life::start(recovery).unwrap();
                life.append_and_commit(&payload(payloads.len() as u64 + 1, 60_000));
                drop(life);
                let (recovery, again) = recovered(&written.disk).unwrap();
                prop_assert_eq!((again.len(), recovery.torn_bytes), (payloads.len() + 1, 0));
            }
            Err(error) => prop_assert!(false, "{error}"),
        }
    }

    #[test]
    fn hostile_segments_never_panic(
        sizes in batch_sizes(),
        changes in proptest::collection::vec(
            (any::<prop::sample::Index>(), any::<prop::sample::Index>(), 1_usize..5000, any::<u8>()),
            1..10,
        ),
        cut in proptest::option::of(any::<prop::sample::Index>()),
    ) {
        let written = written(&sizes);
        let names = written.disk.file_names();
        for (which, at, len, value) in changes {
            let name = &names[which.index(names.len())];
            let mut bytes = written.disk.file_bytes(name);
            let at = at.index(bytes.len());
            let end = bytes.len().min(at + len);
            bytes[at..end].fill(value);
            written.disk.set_file_bytes(name, bytes);
        }
        if let Some(cut) = cut {
            let name = names.last().unwrap();
            let mut bytes = written.disk.file_bytes(name);
            bytes.truncate(cut.index(bytes.len()));
            written.disk.set_file_bytes(name, bytes);
        }
        if let Ok((recovery, payloads)) = recovered(&written.disk) {
            prop_assert!(written.payloads.starts_with(&payloads));
            prop_assert!(Life::start(recovery).is_ok());
        }
    }
}

/// Every operation of a long run fails once, in each way, with each kind of crash.
#[test]
fn every_single_fault_is_survived() {
    let steps: Vec<Step> = (0..160)
        .map(|at| match at % 8 {
            0 | 1 | 4 => Step::Append(700 + at * 37 % 9000),
            2 | 5 => Step::Flush,
            3 | 6 => Step::Write,
            _ if at % 5 == 0 => Step::Cut(200),
            _ => Step::Prepare,
        })
        .collect();
    for fault_after in 1..110 {
        for fault in [Fault::Crash, Fault::Error] {
            for crash in [Crash::Kill, Crash::PowerLoss] {
                let disk = FaultyDisk::default();
                let mut model = Model::default();
                for fault_after in [fault_after, 3] {
                    let (steps, seed) = (steps.clone(), fault_after);
                    model.live(&disk, &LifeStory { steps, fault_after, fault, crash, seed });
                    disk.crash(crash, seed);
                }
                model.check(&disk);
            }
        }
    }
}

#[test]
fn a_failed_sync_poisons_and_is_not_retried() {
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    life.append_and_commit(b"first");
    life.append(b"second").unwrap();
    assert!(life.appender.flush());
    // The next segment exists, so the next operations are the batch's write and its sync.
    disk.fail_after(2, Fault::Error, 1);
    let (mut appender, writer) = life.into_parts();
    let error = thread::spawn(move || writer.run()).join().unwrap().unwrap_err();
    assert!(error.to_string().contains("sync"), "{error}");
    assert!(appender.is_poisoned());
    assert_eq!(appender.committed(), Lsn(1));
    let third = NewRecord { partition: 0, kind: 0, format_version: 0, payload: b"third" };
    assert!(matches!(appender.append(third), Err(WalError::Poisoned)));
    let (recovery, payloads) = recovered(&disk).unwrap();
    assert!(payloads.len() == 1 || payloads.len() == 2);
    assert!(Life::start(recovery).is_ok());
}

#[test]
fn a_full_disk_refuses_only_what_does_not_fit_and_recovers_by_itself() {
    for space_is_reported in [false, true] {
        fill_and_free(space_is_reported);
    }
}

fn fill_and_free(space_is_reported: bool) {
    let disk = FaultyDisk::default();
    let segment_bytes = to_usize(OPTIONS_BYTES);
    disk.set_space(segment_bytes + BLOCK_BYTES, space_is_reported);
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    life.prepare();
    assert!(life.appender.is_out_of_space());
    assert_eq!(life.appender.room_bytes(), MAX_RECORD_BYTES as u64);
    let mut count = 0;
    while life.appender.room_bytes() >= BLOCK_BYTES as u64 {
        life.append_and_commit(&[7; 3000]);
        count += 1;
    }
    assert_eq!(count, MAX_RECORD_BYTES / BLOCK_BYTES);
    let seen = life.appender.committed();
    assert!(matches!(life.append(b"no room"), Err(WalError::NoSpace)));
    life.prepare();
    assert!(matches!(life.append(b"no room"), Err(WalError::NoSpace)));
    assert!(!life.has_progress(seen));
    assert_eq!(disk.file_names(), [segment::name(1)], "a failed attempt returns its space");

    disk.set_space(3 * segment_bytes, space_is_reported);
    life.prepare();
    assert!(life.has_progress(seen), "a refused appender is woken");
    assert!(!life.appender.is_out_of_space());
    life.append_and_commit(b"room");
    drop(life);
    assert_eq!(recovered(&disk).unwrap().1.len(), count + 1);
}

/// Operations that make a segment: create, write, sync, rename.
const PREPARE_OPERATIONS: u64 = 4;

#[test]
fn a_failed_segment_is_retried() {
    for operation in 1..=PREPARE_OPERATIONS {
        let disk = FaultyDisk::default();
        let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
        disk.fail_after(operation, Fault::Error, 1);
        life.prepare();
        let trouble = life.handle.room().trouble.expect("new orders are refused");
        assert!(trouble.contains("the test's disk failed"), "{trouble}");
        assert_eq!(disk.file_names(), [segment::name(1)]);
        life.prepare();
        assert_eq!(life.handle.room().trouble, None);
        assert_eq!(disk.file_names(), [segment::name(1), segment::name(2)]);
        life.write().unwrap();
        life.append_and_commit(b"next");
    }
}

/// Whether its name is durable is unknown, and a retry would not tell.
#[test]
fn a_segment_whose_name_may_not_be_durable_ends_the_writer() {
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    disk.fail_after(PREPARE_OPERATIONS + 1, Fault::Error, 1);
    life.prepare();
    let error = life.write().unwrap_err();
    assert!(error.to_string().contains("prepare"), "{error}");
}

const RESERVE: u64 = 3 * OPTIONS_BYTES;

/// A log with a reserve.
fn with_reserve(disk: &FaultyDisk) -> Life {
    let mut life = Life::start_with_reserve(recovered(disk).unwrap().0, RESERVE).unwrap();
    life.prepare();
    life
}

#[test]
fn a_full_disk_uses_up_the_reserve_which_returns_with_the_space() {
    for space_is_reported in [false, true] {
        let disk = FaultyDisk::default();
        let mut life = with_reserve(&disk);
        assert_eq!(
            life.handle.room(),
            Room {
                free_bytes: u64::MAX,
                reserve_bytes: RESERVE,
                least_free_bytes: RESERVE,
                trouble: None,
            }
        );
        // The first segment, the next one and the reserve.
        assert_eq!(disk.file_names().len(), 5);

        let used = 5 * to_usize(OPTIONS_BYTES);
        disk.set_space(used + BLOCK_BYTES, space_is_reported);
        life.prepare();
        assert_eq!(
            life.appender.is_out_of_space(),
            space_is_reported,
            "noticed before the space is needed"
        );
        let mut count = 0;
        let refused = loop {
            life.prepare();
            match life.append(&[7; 3000]) {
                Ok(_) => count += 1,
                Err(error) => break error,
            }
            assert!(life.appender.flush());
            life.write().unwrap();
        };
        assert!(matches!(refused, WalError::NoSpace), "{refused}");
        assert!(life.appender.is_exhausted());
        assert_eq!(count, 5 * MAX_RECORD_BYTES / BLOCK_BYTES, "all five segments are full");
        assert!(life.handle.room().trouble.unwrap().contains("the disk is full"));

        disk.set_space(4 * used, space_is_reported);
        let seen = life.appender.committed();
        life.prepare();
        assert!(life.has_progress(seen), "a refused appender is woken");
        assert_eq!(life.handle.room().reserve_bytes, RESERVE);
        assert!(!life.appender.is_out_of_space());
        life.append_and_commit(b"room");
        drop(life);
        assert_eq!(recovered(&disk).unwrap().1.len(), count + 1);
    }
}

#[test]
fn the_reserve_survives_a_restart_and_follows_its_option() {
    let disk = FaultyDisk::default();
    let mut life = with_reserve(&disk);
    life.append_and_commit(b"one");
    drop(life);
    disk.crash(Crash::PowerLoss, 1);
    // There is no space left, and none is needed.
    disk.set_space(5 * to_usize(OPTIONS_BYTES), true);
    let (recovery, payloads) = recovered(&disk).unwrap();
    assert_eq!(payloads, [b"one"]);
    let mut life = Life::start_with_reserve(recovery, RESERVE).unwrap();
    life.append_and_commit(b"two");
    assert_eq!(life.handle.room().reserve_bytes, RESERVE);
    assert!(life.appender.is_out_of_space() && !life.appender.is_exhausted());
    drop(life);
    let recovery = recovered(&disk).unwrap().0;
    drop(Life::start_with_reserve(recovery, OPTIONS_BYTES).unwrap());
    assert_eq!(
        disk.file_names().len(),
        3,
        "the current segment, the next one and a reserve of one"
    );
    let (recovery, payloads) = recovered(&disk).unwrap();
    assert_eq!(payloads.len(), 2);
    drop(Life::start(recovery).unwrap());
    assert_eq!(disk.file_names().len(), 2);
}

#[test]
fn progress_is_signalled_only_once() {
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    assert!(!life.has_progress(Lsn(0)));
    life.append(b"one").unwrap();
    assert!(life.has_progress(Lsn(0)), "the writer can take the batch");
    assert!(life.appender.flush());
    life.append(b"two").unwrap();
    assert!(!life.appender.flush(), "the writer has a batch");
    assert!(!life.has_progress(Lsn(0)));
    life.write().unwrap();
    assert!(life.has_progress(Lsn(0)) && life.has_progress(Lsn(1)));
    assert!(life.appender.flush());
    assert!(!life.has_progress(Lsn(1)));
    life.write().unwrap();
    assert_eq!(life.appender.committed(), Lsn(2));
    assert!(!life.has_progress(Lsn(2)));
}

/// Two continuations of one log, as made by restoring a copy of its directory.
#[test]
fn segments_of_two_histories_of_one_log_do_not_mix() {
    let copy = written(&[vec![100]]);
    let first = copy.disk.file_bytes(&segment::name(1));
    let mut second_segments = Vec::new();
    for value in [1, 2] {
        copy.disk.set_file_bytes(&segment::name(1), first.clone());
        let second = vec![0; first.len() - BLOCK_BYTES];
        let mut bytes = copy.disk.file_bytes(&segment::name(2));
        bytes[BLOCK_BYTES..].copy_from_slice(&second);
        copy.disk.set_file_bytes(&segment::name(2), bytes);
        let mut life = Life::start(recovered(&copy.disk).unwrap().0).unwrap();
        for _ in 0..3 {
            life.append_and_commit(&[value; 30_000]);
        }
        second_segments.push(copy.disk.file_bytes(&segment::name(2)));
    }
    assert_eq!(recovered(&copy.disk).unwrap().1.len(), 4);
    copy.disk.set_file_bytes(&segment::name(2), second_segments[0].clone());
    let error = recovered(&copy.disk).unwrap_err();
    assert!(error.to_string().contains("does not follow the previous record"), "{error}");
}

#[test]
fn removing_prepared_segments_never_leaves_a_gap() {
    for operations in 1..6 {
        for seed in 0..20 {
            let disk = FaultyDisk::default();
            let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
            life.append_and_commit(b"one");
            let mut other_size = life.maker_of(2 * MIN_SEGMENT_BYTES);
            drop(life);
            disk.remove(&segment::name(2)).unwrap();
            for number in 2..5 {
                other_size.make(&disk, number).unwrap();
            }
            disk.fail_after(operations, Fault::Crash, seed);
            let recovery = recovered(&disk).unwrap().0;
            assert!(Life::start(recovery).is_err(), "it fails while removing");
            disk.crash(Crash::PowerLoss, seed);
            let (recovery, payloads) = recovered(&disk).unwrap();
            assert_eq!(payloads, [b"one"]);
            assert!(Life::start(recovery).is_ok());
            assert_eq!(disk.file_names(), [segment::name(1)]);
        }
    }
}

#[test]
fn segments_of_two_logs_do_not_mix() {
    let sizes = vec![vec![30_000, 20_000]; 3];
    let (one, other) = (written(&sizes), written(&sizes));
    let name = segment::name(2);
    one.disk.set_file_bytes(&name, other.disk.file_bytes(&name));
    let error = recovered(&one.disk).unwrap_err();
    assert!(error.to_string().contains("another log"), "{error}");
}

#[test]
fn a_segment_of_a_newer_format_is_reported_as_such() {
    let written = written(&[vec![10]]);
    let name = segment::name(1);
    let mut bytes = written.disk.file_bytes(&name);
    bytes[16] = 2;
    let checksum = xxhash_rust::xxh3::xxh3_64(&bytes[8..BLOCK_BYTES]);
    bytes[0..8].copy_from_slice(&checksum.to_le_bytes());
    written.disk.set_file_bytes(&name, bytes);
    assert!(matches!(recovered(&written.disk), Err(WalError::Newer { found: 2, newest: 1, .. })));
}

/// A torn batch has a payload that looks like a later batch of the same log.
#[test]
fn a_forged_record_in_a_payload_proves_nothing_without_the_log_id() {
    let mut forged = record::RecordHeader {
        checksum: 0,
        previous_checksum: 0,
        lsn: 1000,
        batch_first_lsn: 1000,
        epoch: 1,
        payload_bytes: 0,
        kind: 0,
        format_version: 0,
        partition: 0,
    }
    .encode();
    record::seal(&mut forged, 0, 0);
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    life.append_and_commit(&forged);
    drop(life);
    disk.flip_bit(&segment::name(1), BLOCK_BYTES, 0);
    let (recovery, payloads) = recovered(&disk).unwrap();
    assert!(payloads.is_empty() && recovery.torn_bytes > 0);
}

#[test]
fn a_committed_record_that_is_gone_when_read_again_is_damage() {
    let disk = FaultyDisk::default();
    let mut life = Life::start(recovered(&disk).unwrap().0).unwrap();
    life.append_and_commit(b"one");
    drop(life.into_parts());
    // Another process has none of it in memory.
    let life = Life::start(recovered(&disk).unwrap().0).unwrap();
    let mut reader = life.handle.reader(Lsn(0)).unwrap();
    disk.become_unsteady();
    let found = reader.next_record().map(|record| record.is_some());
    assert!(matches!(found, Err(WalError::Damaged { lsn: Lsn(1), .. })), "{found:?}");
}
