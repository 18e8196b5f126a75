//! The log's group commit beside the best that the disk can do: one `fdatasync` after one 4 KiB write
//! to a zero-filled file, in the same run on the same disk.
//!
//! `latency` prints what criterion does not: quantiles of the time from append to commit, in units of
//! the bare sync, measured in turns with it.
//!
//! `append` is the appender's share and needs no disk. `recover` reads and verifies a log that is in no
//! cache except the disk's.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench stops at the first surprise"
)]

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::future::poll_fn;
use std::hint::black_box;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_lite::future::block_on;
use longbow::wal::{BLOCK_BYTES, Lsn, NewRecord, WalAppender, WalError, WalOptions, open, recover};
use rustix::fs::OFlags;

/// About the size of an order event.
const PAYLOAD: [u8; 200] = [7; 200];
const BARE_FILE_BYTES: usize = 64 * 1024 * 1024;
/// Turns of `latency`: each has some bare syncs, then a number of records per record in flight.
const LATENCY_TURNS: usize = 10;
const SYNCS_OF_A_TURN: usize = 100;
const RECORDS_OF_A_TURN: u64 = 200;
const RECOVERED_RECORDS: u64 = 200_000;
/// Records per burst in `append`: a quarter of a batch.
const BURST_RECORDS: u64 = 1000;

fn directory() -> tempfile::TempDir {
    // Beside the build, not in /tmp, which may be in memory.
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

struct Log {
    appender: WalAppender,
    writer: JoinHandle<Result<(), WalError>>,
    appended: u64,
}

impl Log {
    fn open(directory: &Path) -> Self {
        let options = WalOptions::new(directory);
        let recovery = recover(&options, Lsn(0), &mut |_| Ok(())).unwrap();
        let appended = recovery.next_lsn.0 - 1;
        let (appender, writer) = open(options, recovery).unwrap();
        let writer = thread::Builder::new().name("wal".into()).spawn(|| writer.run()).unwrap();
        Self { appender, writer, appended }
    }

    /// Appends one record unless `in_flight` are uncommitted; returns `false` if the log is busy.
    fn append_one(&mut self, in_flight: u64) -> bool {
        if self.appended - self.appender.committed().0 >= in_flight {
            return false;
        }
        let record = NewRecord { partition: 1, kind: 1, format_version: 1, payload: &PAYLOAD };
        match self.appender.append(record) {
            Ok(lsn) => self.appended = lsn.0,
            Err(WalError::Busy) => return false,
            Err(error) => panic!("{error}"),
        }
        true
    }

    /// Commits `records` records with at most `in_flight` uncommitted at any time.
    fn commit(&mut self, records: u64, in_flight: u64) {
        let last = self.appended + records;
        loop {
            let seen = self.appender.committed();
            if seen >= Lsn(last) {
                return;
            }
            while self.appended < last && self.append_one(in_flight) {}
            self.appender.flush();
            block_on(poll_fn(|context| self.appender.poll_progress(context, seen)));
            assert!(!self.appender.is_poisoned());
        }
    }

    /// Like [`Self::commit`], and returns each record's time from append to commit.
    fn latencies(&mut self, records: u64, in_flight: u64) -> Vec<Duration> {
        let last = self.appended + records;
        let mut waiting = VecDeque::new();
        let mut took = Vec::new();
        while took.len() < usize::try_from(records).unwrap() {
            let seen = self.appender.committed();
            while waiting.front().is_some_and(|(lsn, _)| *lsn <= seen.0) {
                let (_, appended_at): (u64, Instant) = waiting.pop_front().unwrap();
                took.push(appended_at.elapsed());
            }
            while self.appended < last && self.append_one(in_flight) {
                waiting.push_back((self.appended, Instant::now()));
            }
            self.appender.flush();
            if !waiting.is_empty() {
                block_on(poll_fn(|context| self.appender.poll_progress(context, seen)));
            }
            assert!(!self.appender.is_poisoned());
        }
        took
    }

    fn close(self) {
        drop(self.appender);
        self.writer.join().unwrap().unwrap();
    }
}

/// A memory block aligned for `O_DIRECT`.
fn aligned_block(memory: &mut [u8]) -> &mut [u8] {
    let address = memory.as_ptr().addr();
    let start = address.next_multiple_of(BLOCK_BYTES) - address;
    &mut memory[start..start + BLOCK_BYTES]
}

fn zero_filled(path: &Path) -> File {
    let mut options = OpenOptions::new();
    options.read(true).write(true).create(true).truncate(true);
    std::fs::write(path, vec![0; BARE_FILE_BYTES]).unwrap();
    options.truncate(false);
    let file = options.custom_flags(OFlags::DIRECT.bits().cast_signed()).open(path).unwrap();
    file.sync_all().unwrap();
    file
}

fn group_commit(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(20).measurement_time(Duration::from_secs(6));
    group.throughput(Throughput::Elements(1));

    let directory_ = directory();
    let file = zero_filled(&directory_.path().join("bare"));
    let mut memory = vec![1; 2 * BLOCK_BYTES];
    let block = aligned_block(&mut memory);
    let mut offset = 0;
    group.bench_function("bare write and fdatasync of 4 KiB", |bencher| {
        bencher.iter(|| {
            file.write_all_at(block, offset as u64).unwrap();
            file.sync_data().unwrap();
            offset = (offset + BLOCK_BYTES) % BARE_FILE_BYTES;
        });
    });
    drop(directory_);

    for in_flight in [1, 16, 64] {
        let directory = directory();
        let mut log = Log::open(directory.path());
        group.bench_with_input(
            BenchmarkId::new("commit, in flight", in_flight),
            &in_flight,
            |bencher, &in_flight| {
                bencher.iter_custom(|records| {
                    let start = Instant::now();
                    log.commit(records, in_flight);
                    start.elapsed()
                });
            },
        );
        log.close();
    }
    group.finish();
}

fn quantile(sorted: &[Duration], percent: usize) -> Duration {
    sorted[(sorted.len() * percent / 100).min(sorted.len() - 1)]
}

/// Not a criterion bench: it cannot be filtered by name, and runs unless criterion only lists or tests.
fn latency(_: &mut Criterion) {
    if std::env::args().any(|argument| ["--list", "--test"].contains(&argument.as_str())) {
        return;
    }
    for in_flight in [1, 64] {
        let (bare_directory, log_directory) = (directory(), directory());
        let file = zero_filled(&bare_directory.path().join("bare"));
        let mut memory = vec![1; 2 * BLOCK_BYTES];
        let block = aligned_block(&mut memory);
        let mut log = Log::open(log_directory.path());
        let (mut syncs, mut commits) = (Vec::new(), Vec::new());
        for _ in 0..LATENCY_TURNS {
            for number in 0..SYNCS_OF_A_TURN {
                let start = Instant::now();
                file.write_all_at(block, (number * BLOCK_BYTES) as u64).unwrap();
                file.sync_data().unwrap();
                syncs.push(start.elapsed());
            }
            commits.extend(log.latencies(RECORDS_OF_A_TURN * in_flight, in_flight));
        }
        log.close();
        syncs.sort_unstable();
        commits.sort_unstable();
        let sync = quantile(&syncs, 50);
        let told = |percent| {
            let took = quantile(&commits, percent);
            format!("{took:.0?} ({:.2} syncs)", took.as_secs_f64() / sync.as_secs_f64())
        };
        println!(
            "wal/latency of a commit, in flight/{in_flight}: p50 {}, p99 {}; a sync p50 {sync:.0?}, \
             p99 {:.0?}",
            told(50),
            told(99),
            quantile(&syncs, 99)
        );
    }
}

fn append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(20).measurement_time(Duration::from_secs(3));
    group.throughput(Throughput::Elements(1));
    let directory = directory();
    let mut log = Log::open(directory.path());
    group.bench_function("append", |bencher| {
        bencher.iter_custom(|records| {
            let mut spent = Duration::ZERO;
            let mut left = records;
            while left > 0 {
                let burst = left.min(BURST_RECORDS);
                let start = Instant::now();
                let mut appended = 0;
                while appended < burst && log.append_one(u64::MAX) {
                    appended += 1;
                }
                spent += start.elapsed();
                left -= appended;
                let seen = log.appender.committed();
                log.commit(0, u64::MAX);
                if appended < burst {
                    // The bench outruns segment preparation, which is not part of an append.
                    block_on(poll_fn(|context| log.appender.poll_progress(context, seen)));
                }
            }
            spent
        });
    });
    log.close();
    group.finish();
}

fn recovery(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("wal");
    group.sample_size(20).measurement_time(Duration::from_secs(5));
    group.throughput(Throughput::Elements(RECOVERED_RECORDS));
    let directory = directory();
    let mut log = Log::open(directory.path());
    log.commit(RECOVERED_RECORDS, 4096);
    log.close();
    let options = WalOptions::new(directory.path());
    group.bench_function(BenchmarkId::new("recover, records", RECOVERED_RECORDS), |bencher| {
        bencher.iter(|| {
            let mut bytes = 0;
            let recovery = recover(&options, Lsn(0), &mut |record| {
                bytes += record.payload.len();
                Ok(())
            });
            assert_eq!(recovery.unwrap().records, RECOVERED_RECORDS);
            black_box(bytes)
        });
    });
    group.finish();
}

criterion_group!(benches, group_commit, latency, append, recovery);
criterion_main!(benches);
