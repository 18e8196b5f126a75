//! The index following the log, on a real disk: applied records, lookups of absent keys, and the open
//! orders read at a start. Each order takes the most common course: created with a key, accepted,
//! filled by one execution.

#![expect(
    clippy::unwrap_used,
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "a bench may end with a panic, and its counts are far below 2^32"
)]

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use longbow::index::{Index, IndexOptions, IndexWriter};
use longbow::order::{Change, Changed, Created, Event, Fill, OrderFilter, PageRequest};
use longbow::types::{
    ClientOrderId, ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce,
    TimestampMicros, USER_PARTITIONS, UserId, UserPartition,
};
use longbow::wal::{LogId, LogStart, Lsn};
use tempfile::TempDir;

const LOG: LogId = LogId(7);
// The allocator of `longbow` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Records per batch: about 0.3 s at 53,000 records/s.
const BATCH_RECORDS: usize = 16_384;
/// Orders open at the same time: 17,700 new orders/s, each open for two seconds.
const ORDERS_UNDERWAY: u64 = 35_000;
const USERS: u64 = 100_000;
const STORED_ORDERS: u64 = 200_000;

/// Orders of one user, of whom there are few.
const ORDERS_OF_LARGE_USER: u64 = 200_000;

fn open(directory: &TempDir) -> (Index, IndexWriter) {
    let log = LogStart { log_id: Some(LOG), first_lsn: Lsn(1) };
    let index = Index::open(IndexOptions::new(directory.path(), log)).unwrap();
    let writer = IndexWriter::new(index.clone(), LOG).unwrap();
    (index, writer)
}

/// The events of order after order; each takes its course while `ORDERS_UNDERWAY` others begin.
struct Course {
    records: u64,
    users: Vec<UserId>,
    ids: Vec<OrderId>,
}

impl Course {
    fn new() -> Self {
        Self::of(USERS)
    }

    fn of(users: u64) -> Self {
        let users = (0..users).map(|n| UserId::new(&format!("user-{n}")).unwrap());
        Self { records: 0, users: users.collect(), ids: Vec::new() }
    }

    fn user(&self, number: u64) -> &UserId {
        &self.users[(number.wrapping_mul(7_919) % self.users.len() as u64) as usize]
    }

    fn created(&mut self, number: u64) -> Event {
        let user = self.user(number).clone();
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let nanos = 1_732_400_000_000_000_000 + u128::from(number) * 56_000;
        let order_id = OrderId::new(nanos, random, user.partition());
        self.ids.push(order_id);
        Event::Created(Created {
            order_id,
            user,
            client_order_id: Some(ClientOrderId::new(&format!("{random:016x}-key")).unwrap()),
            symbol: Symbol::new("IBM").unwrap(),
            side: Side::Buy,
            limit_price: Some(PriceCents::new(16_740).unwrap()),
            time_in_force: TimeInForce::Day,
            num_shares: 100,
            created_at: TimestampMicros::new(1_732_400_000_000_000 + number * 56),
            submit_before: TimestampMicros::new(1_732_400_005_000_000 + number * 56),
            reservation: longbow::money::Reservation::Nothing,
        })
    }

    fn changed(&self, number: u64, change: Change) -> Event {
        let at = TimestampMicros::new(1_732_400_000_000_000 + self.records * 19);
        Event::Changed(Changed { order_id: self.ids[number as usize], at, change })
    }

    /// The next event of the orders in turn: created, accepted halfway, filled at the end.
    fn next(&mut self) -> (Lsn, Event) {
        let (number, step) = (self.records / 3, self.records % 3);
        self.records += 1;
        let accepted = number.checked_sub(ORDERS_UNDERWAY / 2);
        let filled = number.checked_sub(ORDERS_UNDERWAY);
        let event = match (step, accepted, filled) {
            (1, Some(number), _) => {
                let id = ExternalOrderId::new(&format!("X{number:011}")).unwrap();
                self.changed(number, Change::Accepted { external_order_id: id })
            }
            (2, _, Some(number)) => self.changed(
                number,
                Change::Filled(Fill {
                    execution_id: ExecutionId::new(&format!("E{number:011}")).unwrap(),
                    price: PriceCents::new(16_739).unwrap(),
                    num_shares: 100,
                    executed_at: TimestampMicros::new(1_732_400_000_000_000),
                }),
            ),
            // Before the first orders there is none to accept or fill.
            (1 | 2, _, _) => self.changed(number, Change::CancelRequested),
            _ => self.created(number),
        };
        (Lsn(self.records), event)
    }
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("index/apply");
    group.throughput(Throughput::Elements(BATCH_RECORDS as u64)).sample_size(20);
    group.warm_up_time(Duration::from_secs(2)).measurement_time(Duration::from_secs(15));
    let directory = tempfile::tempdir().unwrap();
    let (_, mut writer) = open(&directory);
    let mut course = Course::new();
    group.bench_function("batch", |bencher| {
        bencher.iter_batched(
            || (0..BATCH_RECORDS).map(|_| course.next()).collect::<Vec<_>>(),
            |records| {
                for (lsn, event) in records {
                    writer.take(lsn, event).unwrap();
                }
                writer.commit().unwrap();
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

/// Fills an index; one of every `open_of` orders stays open.
fn filled(directory: &TempDir, orders: u64, open_of: u64) -> Index {
    filled_of(Course::new(), directory, orders, open_of)
}

fn filled_of(mut course: Course, directory: &TempDir, orders: u64, open_of: u64) -> Index {
    let (index, mut writer) = open(directory);
    let mut lsn = 0;
    let mut take = |event| {
        lsn += 1;
        writer.take(Lsn(lsn), event).unwrap();
        if lsn % BATCH_RECORDS as u64 == 0 {
            writer.commit().unwrap();
        }
    };
    for number in 0..orders {
        let created = course.created(number);
        take(created);
        let id = ExternalOrderId::new(&format!("X{number:011}")).unwrap();
        take(course.changed(number, Change::Accepted { external_order_id: id }));
        if number % open_of != 0 {
            let reason = "halted".into();
            take(course.changed(number, Change::CancelRejected { reason }));
            let cause = longbow::order::CancelCause::Expired;
            take(course.changed(number, Change::Cancelled { cause }));
        }
    }
    writer.commit().unwrap();
    writer.persist().unwrap();
    index
}

fn lookups(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let index = filled(&directory, STORED_ORDERS, 10);
    let mut group = criterion.benchmark_group("index/lookup");
    let users: Vec<UserId> =
        (0..1_000).map(|n| UserId::new(&format!("user-{n}")).unwrap()).collect();
    let mut number = 0_usize;
    group.bench_function("missing key", |bencher| {
        bencher.iter(|| {
            number += 1;
            let key = ClientOrderId::new(&format!("missing-{number}")).unwrap();
            assert!(index.by_key(&users[number % 1_000], &key).unwrap().is_none());
        });
    });
    group.bench_function("missing external id", |bencher| {
        bencher.iter(|| {
            number += 1;
            let id = ExternalOrderId::new(&format!("Y{number}")).unwrap();
            assert!(index.by_external_id(&id).unwrap().is_none());
        });
    });
    group.bench_function("ended order by external id", |bencher| {
        bencher.iter(|| {
            number += 1;
            let wanted = (number as u64 * 7_919) % STORED_ORDERS;
            let id = ExternalOrderId::new(&format!("X{wanted:011}")).unwrap();
            assert!(index.by_external_id(&id).unwrap().is_some());
        });
    });
    for most in [1, 50] {
        group.bench_with_input(BenchmarkId::new("page", most), &most, |bencher, &most| {
            bencher.iter(|| {
                number += 1;
                let request = PageRequest { limit: most, ..PageRequest::default() };
                black_box(index.ended(&users[number % 1_000], &request).unwrap())
            });
        });
    }
    group.finish();
}

/// Lists of a user with very many ended orders: a plain page, and all parts of a list that selects none.
fn large_user(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let index = filled_of(Course::of(1), &directory, ORDERS_OF_LARGE_USER, 1_000);
    let user = UserId::new("user-0").unwrap();
    let mut group = criterion.benchmark_group("index/large-user");
    group.sample_size(20);
    group.bench_function("page of 50", |bencher| {
        let request = PageRequest { limit: 50, ..PageRequest::default() };
        bencher.iter(|| black_box(index.ended(&user, &request).unwrap()));
    });
    let symbols = vec![Symbol::new("NONE").unwrap()];
    let filter = OrderFilter { symbols, ..OrderFilter::default() };
    let request = PageRequest { limit: 50, filter, ..PageRequest::default() };
    group.bench_function("one part of a list that selects none", |bencher| {
        bencher.iter(|| black_box(index.ended(&user, &request).unwrap()));
    });
    group.bench_function("all parts of a list that selects none", |bencher| {
        bencher.iter(|| {
            let mut request = request.clone();
            loop {
                let part = index.ended(&user, &request).unwrap();
                assert!(part.orders.is_empty());
                request.after = part.next;
                if part.next.is_none() {
                    break;
                }
            }
        });
    });
    group.finish();
}

fn load_open(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let index = filled(&directory, STORED_ORDERS, 2);
    let mut group = criterion.benchmark_group("index/load_open");
    group.throughput(Throughput::Elements(STORED_ORDERS / 2)).sample_size(10);
    group.bench_function("one thread", |bencher| {
        bencher.iter(|| {
            let mut loaded = 0;
            for partition in 0..USER_PARTITIONS {
                let partition = UserPartition::new(partition as u8).unwrap();
                index
                    .load_open(partition, &mut |tracked| {
                        black_box(tracked);
                        loaded += 1;
                    })
                    .unwrap();
            }
            assert_eq!(loaded, STORED_ORDERS / 2);
        });
    });
    group.finish();
}

criterion_group!(benches, apply, lookups, large_user, load_open);
criterion_main!(benches);
