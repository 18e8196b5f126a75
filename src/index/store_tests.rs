//! The index on a real disk: kills, lost tails, damage, and directories that do not belong
//! together.

use std::fs;
use std::path::Path;

use super::test_log::*;
use super::*;
use crate::wal::{LogId, LogStart, Lsn};

fn options(directory: &Path, first_lsn: u64) -> IndexOptions {
    IndexOptions {
        cache_bytes: 16 << 20,
        unmatched_report_age_micros: UNMATCHED_AGE_MICROS,
        ended_window_micros: WINDOW_MICROS,
        ..IndexOptions::new(directory, log_start_from(first_lsn))
    }
}

fn open(directory: &Path) -> (Index, IndexWriter) {
    let index = Index::open(options(directory, 1)).unwrap();
    let writer = IndexWriter::new(index.clone(), LOG).unwrap();
    (index, writer)
}

/// Fills an index in batches of 100 records. The last batches are not persisted.
fn fill(directory: &Path, model: &Model, last: usize) -> (Index, IndexWriter) {
    let (index, mut writer) = open(directory);
    for upto in (0..=last).step_by(100) {
        take_until(&mut writer, &model.events, upto);
        writer.commit().unwrap();
        if upto == last / 2 {
            writer.persist().unwrap();
        }
    }
    (index, writer)
}

fn finish(directory: &Path, model: &Model) -> Lsn {
    let (index, mut writer) = open(directory);
    let found = index.position();
    take_until(&mut writer, &model.events, model.events.len());
    writer.commit().unwrap();
    writer.persist().unwrap();
    model.check(&index);
    drop((index, writer));
    let (index, _) = open(directory);
    model.check(&index);
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            fs::copy(entry.path(), to).unwrap();
        }
    }
}

#[test]
fn an_index_resumes_at_its_position() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    drop(fill(directory.path(), &model, 1_200));
    finish(directory.path(), &model);
}

/// A kill leaves the files as they are in the middle of the work.
#[test]
fn a_killed_index_has_at_least_what_was_durable() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    let index_directory = directory.path().join("index");
    let (index, writer) = fill(&index_directory, &model, 1_200);
    let killed = directory.path().join("killed");
    copy(&index_directory, &killed);
    let durable = index.durable_position();
    assert!(durable > Lsn(0) && durable < index.position());
    drop((index, writer));
    let found = finish(&killed, &model);
    assert!(found >= durable && found <= Lsn(1_200), "{found}");
}

#[test]
fn a_journal_without_its_tail_opens_as_an_older_index() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    let whole = directory.path().join("index");
    drop(fill(&whole, &model, 1_200));
    let journal = |of: &Path| of.join("0.jnl");
    let used = fs::read(journal(&whole)).unwrap();
    let used = used.iter().rposition(|&byte| byte != 0).unwrap();
    for (number, part) in [2, 3, 5, 40].into_iter().enumerate() {
        let torn = directory.path().join(format!("torn-{number}"));
        copy(&whole, &torn);
        let file = fs::OpenOptions::new().write(true).open(journal(&torn)).unwrap();
        file.set_len((used - used / part) as u64).unwrap();
        let found = finish(&torn, &model);
        assert!(found < Lsn(1_200), "{found}");
    }
}

/// Overwrites the matching files below a directory. Returns how many.
fn damage(directory: &Path, is_target: &dyn Fn(&Path) -> bool) -> usize {
    let mut damaged = 0;
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            damaged += damage(&path, is_target);
        } else if is_target(&path) {
            let len = fs::metadata(&path).unwrap().len();
            let len = usize::try_from(len.min(5_000)).unwrap();
            fs::write(&path, vec![0xa5; len.max(16)]).unwrap();
            damaged += 1;
        }
    }
    damaged
}

#[test]
fn a_damaged_index_is_rebuilt_from_a_whole_log() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    let path = directory.path().join("index");
    type Target = fn(&Path) -> bool;
    let targets: [Target; 3] = [
        |path| path.file_name().is_some_and(|name| name == "current"),
        |path| path.file_name().is_some_and(|name| name == "version"),
        |path| path.extension().is_none() && path.file_name().is_some_and(|name| name != "lock"),
    ];
    for (number, is_target) in (1..).zip(targets) {
        drop(fill(&path, &model, 600));
        assert!(damage(&path, &is_target) > 0, "target {number}");
        let refused = Index::open(options(&path, 500)).unwrap_err();
        let message = refused.to_string();
        assert!(matches!(refused, IndexError::Damaged { first: Lsn(500), .. }), "{refused:?}");
        assert!(message.contains("restore") && message.contains("record 500"), "{message}");
        assert_eq!(finish(&path, &model), Lsn(0), "rebuilt");
        assert!(directory.path().join(format!("index.damaged-{number}")).is_dir());
        fs::remove_dir_all(&path).unwrap();
    }
}

#[test]
fn an_index_and_a_log_that_do_not_belong_together_are_refused_with_a_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let model = long_log();
    let path = directory.path().join("index");
    let missing = Index::open(options(&path, 2)).unwrap_err();
    assert!(matches!(missing, IndexError::Missing { first: Lsn(2), .. }), "{missing}");
    assert!(!path.exists(), "a refusal creates nothing");

    let (index, mut writer) = fill(&path, &model, 600);
    writer.persist().unwrap();
    assert!(matches!(Index::open(options(&path, 1)), Err(IndexError::Locked { .. })));
    drop((index, writer));
    let too_old = Index::open(options(&path, 602)).unwrap_err();
    assert!(matches!(too_old, IndexError::TooOld { position: Lsn(600), .. }), "{too_old}");
    assert_eq!(Index::open(options(&path, 601)).unwrap().position(), Lsn(600));
    let log = LogStart { log_id: Some(LogId(8)), first_lsn: Lsn(1) };
    let other = Index::open(IndexOptions { log, ..options(&path, 1) }).unwrap_err();
    assert!(matches!(other, IndexError::OtherLog { log: LogId(8), .. }), "{other}");
    let log = LogStart { log_id: None, first_lsn: Lsn(1) };
    let gone = Index::open(IndexOptions { log, ..options(&path, 1) }).unwrap_err();
    assert!(matches!(gone, IndexError::LogMissing { position: Lsn(600), .. }), "{gone}");
    for error in [missing, too_old, other, gone] {
        let message = error.to_string();
        assert!(message.contains("restore") || message.contains("pair"), "{message}");
        assert!(message.contains(path.to_str().unwrap()), "{message}");
    }
}

#[test]
fn a_newer_index_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("index");
    let index = Index::open(options(&path, 1)).unwrap();
    let meta = node::Meta {
        format: node::INDEX_FORMAT + 1,
        log_id: LOG,
        position: Lsn(5),
        last_at: Default::default(),
    };
    let write = store::Write {
        space: store::Space::Node,
        key: node::META_KEY.into(),
        value: Some(meta.encode()),
    };
    index.store().unwrap().commit(vec![write]).unwrap();
    index.store().unwrap().persist().unwrap();
    drop(index);
    let error = Index::open(options(&path, 1)).unwrap_err();
    let IndexError::Newer { found, newest, .. } = error else { panic!("{error}") };
    assert_eq!((found, newest), (node::INDEX_FORMAT + 1, node::INDEX_FORMAT));
    assert!(path.is_dir());
}
