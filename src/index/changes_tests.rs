//! Retention of changes, on a real disk.

use std::path::Path;
use std::time::Duration;

use futures_lite::future::{block_on, poll_once};

use super::store::{Period, Space, Store, Write};
use super::test_log::*;
use super::*;
use crate::testing::MemoryStore;
use crate::types::UserId;
use crate::wal::Lsn;

/// Times rise by 1 with each record.
const KEEP_MICROS: u64 = 400;
const PERIOD: u64 = KEEP_MICROS / 8;

fn open(directory: &Path) -> (Index, IndexWriter) {
    let index = Index::open(IndexOptions {
        cache_bytes: 16 << 20,
        unmatched_report_age_micros: UNMATCHED_AGE_MICROS,
        ended_window_micros: WINDOW_MICROS,
        changes_age_micros: KEEP_MICROS,
        ..IndexOptions::new(directory, log_start_from(1))
    })
    .unwrap();
    let writer = IndexWriter::new(index.clone(), LOG).unwrap();
    (index, writer)
}

fn kept_from(index: &Index) -> Lsn {
    index.changes(&UserId::new("a").unwrap(), Lsn(0), 1).unwrap().kept_from
}

#[test]
fn changes_are_kept_for_their_time_then_dropped_by_period() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    // The last step is amid those between two reopenings.
    let count = model.events.len() / 200 * 200 - 60;
    let (mut index, mut writer) = open(directory.path());
    for upto in (10..=count).step_by(10) {
        take_until(&mut writer, &model.events, upto);
        writer.commit().unwrap();
        // Reopened 160 records past the last persist, it resumes from what is on disk.
        match upto % 200 {
            40 => writer.persist().unwrap(),
            0 => {
                let kept = kept_from(&index);
                drop((index, writer));
                (index, writer) = open(directory.path());
                assert_eq!(kept_from(&index), kept);
                take_until(&mut writer, &model.events, upto);
                writer.commit().unwrap();
            }
            _ => {}
        }
    }
    writer.persist().unwrap();
    let kept_from = kept_from(&index);
    let kept = count as u64 - kept_from.0;
    assert!((KEEP_MICROS..KEEP_MICROS + 2 * PERIOD).contains(&kept), "{kept} records are kept");
    let mut checked = Model::default();
    checked.replay(&model.events[..usize::try_from(index.position().0).unwrap()]);
    for user in ["a", "aa", "b", "ä"] {
        checked.check_changes(&index, &UserId::new(user).unwrap(), kept_from);
    }
}

#[test]
fn a_view_keeps_a_period_that_is_dropped_later() {
    let directory = tempfile::tempdir().unwrap();
    let store =
        std::sync::Arc::new(fjall_store::FjallStore::open(directory.path(), 1 << 20).unwrap());
    let period = Period { first: 1, start_micros: 5 };
    store.add_period(period).unwrap();
    let write = |space, key: &[u8]| Write { space, key: key.into(), value: Some(b"v".into()) };
    store.commit(vec![write(Space::Versions(period), b"k")]).unwrap();
    let view = store.clone().view();
    store.drop_period(period).unwrap();
    assert!(store.periods().is_empty());
    assert!(store.get(Space::Versions(period), b"k").is_err());
    assert_eq!(view.get(Space::Versions(period), b"k").unwrap().unwrap(), *b"v");
    drop(view);
    drop(store);
    let store = fjall_store::FjallStore::open(directory.path(), 1 << 20).unwrap();
    assert!(store.periods().is_empty(), "a dropped period does not come back");
}

#[test]
fn a_store_of_format_1_keeps_changes_from_now_on() {
    let store = MemoryStore::new();
    let meta =
        node::Meta { format: 1, log_id: LOG, position: Lsn(70), last_at: Default::default() };
    let write =
        Write { space: Space::Node, key: node::META_KEY.into(), value: Some(meta.encode()) };
    store.commit(vec![write]).unwrap();
    let index = Index::in_memory(&store, AGES).unwrap();
    assert_eq!(kept_from(&index), Lsn(71));
    let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
    let created = long_log().events.into_iter().find(|event| event.partition_byte() < 64);
    writer.take(Lsn(71), created.unwrap()).unwrap();
    writer.commit().unwrap();
    assert_eq!(kept_from(&index), Lsn(71));
    let of = |user: &str| index.changes(&UserId::new(user).unwrap(), Lsn(70), 9).unwrap().changes;
    assert_eq!(["a", "aa", "b", "ä"].map(of).concat().len(), 1);
}

#[test]
fn a_waiter_for_a_record_is_woken_once_it_is_applied() {
    let store = MemoryStore::new();
    let index = Index::in_memory(&store, AGES).unwrap();
    let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
    let model = long_log();
    take_until(&mut writer, &model.events, 10);
    let (mut there, mut next) = (Box::pin(index.beyond(Lsn(9))), Box::pin(index.beyond(Lsn(10))));
    assert_eq!(block_on(poll_once(&mut there)), None);
    assert_eq!(block_on(poll_once(&mut next)), None);
    assert!(!index.wait_beyond(Lsn(9), Duration::ZERO));
    writer.commit().unwrap();
    assert_eq!(block_on(poll_once(&mut there)), Some(Ok(())));
    assert_eq!(block_on(poll_once(&mut next)), None);
    assert_eq!(block_on(poll_once(index.beyond(Lsn(9)))), Some(Ok(())));
    assert!(index.wait_beyond(Lsn(9), Duration::ZERO));
}

#[test]
fn whoever_waits_goes_on_waiting_when_the_store_is_opened_again() {
    let store = MemoryStore::new();
    let index = Index::in_memory(&store, AGES).unwrap();
    let mut writer = IndexWriter::new(index.clone(), LOG).unwrap();
    let model = long_log();
    take_until(&mut writer, &model.events, 10);
    let mut there = Box::pin(index.beyond(Lsn(9)));
    assert_eq!(block_on(poll_once(&mut there)), None);
    index.reopen().unwrap();
    assert_eq!(block_on(poll_once(&mut there)), None);
    writer.commit().unwrap();
    assert_eq!(block_on(poll_once(&mut there)), Some(Ok(())));
}
