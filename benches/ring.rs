//! The ring beside two peers that do the same work: tokio's broadcast channel (which also
//! overwrites, under locks) and the `disruptor` crate (whose producer waits for the slowest
//! consumer, where ours laps it).
//!
//! What is measured: the time from publishing a burst of messages until every reader has copied
//! the last one and confirmed it in a word of its own. Bursts are smaller than the buffers, so
//! nobody is lapped and all contenders hand over the same number of messages. All poll in the
//! same loop, which yields its time slice after a while without messages.
//!
//! Two figures show the overhead of the harness: `harness/loop` is the burst without any
//! hand-over, and the contender `floor` hands over one bare counter, the least that any exchange
//! between these threads can cost.
//!
//! Each burst is timed separately, and a sample is the median burst, so that a burst disturbed
//! by another process or an interrupt does not count. Every figure, including the floor's,
//! contains two readings of the clock.
//!
//! The sweep runs twice, with the contenders side by side in each cell, so that a disturbance
//! shows as a difference between the rounds and not as a win.
//!
//! Cores: the publishing thread has the first core to itself; the readers share the others. Left
//! to the scheduler, a reader may or may not land on the publisher's core, which makes a
//! difference of a factor of five or more. With 2 cores, all readers share the second, so the
//! figures for 2 and 4 readers include scheduling. They compare the contenders under
//! overcommitment and say nothing about scaling with a core per reader.

use criterion::measurement::WallTime;
use criterion::{
    BenchmarkGroup, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main,
};
use crossbeam::utils::CachePadded;
use disruptor::{BusySpin, EventPoller, Producer, SingleProducerBarrier};
use longbow::sync;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{self, error::TryRecvError};

/// Seven words and a stamp: a slot of the ring is one cache line.
const WORDS: usize = 7;
type Message = [u64; WORDS];

/// Messages that each contender can hold.
const CAPACITY: usize = 1_024;
const READERS: [usize; 3] = [1, 2, 4];
/// With one message the hand-over dominates; at half the capacity, the messages do.
const BURSTS: [u64; 3] = [1, 64, 512];
/// Pause between bursts: none, or long enough for every thread to go cold.
const PAUSES: [Duration; 2] = [Duration::ZERO, Duration::from_micros(200)];
/// Limits on the bursts of a sample, so that pauses do not take minutes nor the times megabytes.
const PACED_BURSTS_PER_SAMPLE: u64 = 100;
const BURSTS_PER_SAMPLE: u64 = 50_000;
const ROUNDS: [&str; 2] = ["round-1", "round-2"];
/// Empty polls before a thread yields. Few, because with more threads than cores the awaited
/// thread may need this very core, and this constant would then dominate the figures.
const LOOKS_BEFORE_YIELD: u32 = 20;

/// The cores that this process may use, before it pins itself.
static CORES: LazyLock<Vec<usize>> = LazyLock::new(|| {
    let allowed = sched_getaffinity(None).unwrap_or_default();
    (0..CpuSet::MAX_CPU).filter(|core| allowed.is_set(*core)).collect()
});

/// Pins the calling thread: the publisher (0) to the first core, reader `n` (from 1) to one of
/// the others. Does nothing on a single core or where pinning is forbidden.
fn pin(thread: usize) {
    let Some((first, others)) = CORES.split_first().filter(|(_, others)| !others.is_empty()) else {
        return;
    };
    let core = match thread.checked_sub(1) {
        None => Some(first),
        Some(reader) => others.get(reader % others.len()),
    };
    if let Some(core) = core {
        let mut set = CpuSet::new();
        set.set(*core);
        if let Err(error) = sched_setaffinity(None, &set) {
            eprintln!("thread {thread} is not pinned to core {core}: {error}");
        }
    }
}

fn message(number: u64) -> Message {
    [number; WORDS]
}

/// The back-off that all contenders share.
#[derive(Default)]
struct Backoff(u32);

impl Backoff {
    fn wait(&mut self) {
        self.0 += 1;
        if self.0.is_multiple_of(LOOKS_BEFORE_YIELD) { thread::yield_now() } else { spin_loop() }
    }
}

/// The last message that a reader has seen, in a cache line of its own.
type Seen = CachePadded<AtomicU64>;

/// Reader threads, and the words that hold their progress.
struct Readers {
    seen: Vec<Arc<Seen>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts one thread per poll function, which copies available messages, records their numbers
    /// and returns whether there were any.
    fn start<P>(polls: impl IntoIterator<Item = P>) -> Self
    where
        P: FnMut(&Seen) -> bool + Send + 'static,
    {
        let mut readers =
            Self { seen: Vec::new(), stop: Arc::new(AtomicBool::new(false)), threads: Vec::new() };
        for (index, mut poll) in polls.into_iter().enumerate() {
            let (seen, stop) = (Arc::new(Seen::default()), Arc::clone(&readers.stop));
            readers.seen.push(Arc::clone(&seen));
            readers.threads.push(thread::spawn(move || {
                pin(1 + index);
                let mut backoff = Backoff::default();
                while !stop.load(Ordering::Relaxed) {
                    if !poll(&seen) {
                        backoff.wait();
                    }
                }
            }));
        }
        readers
    }

    fn wait_for(&self, number: u64) {
        let mut backoff = Backoff::default();
        for seen in &self.seen {
            while seen.load(Ordering::Acquire) < number {
                backoff.wait();
            }
        }
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            assert!(thread.join().is_ok(), "a reader failed");
        }
    }
}

/// One combination of the sweep.
#[derive(Clone, Copy)]
struct Shape {
    burst: u64,
    pause: Duration,
}

fn measure(
    group: &mut BenchmarkGroup<'_, WallTime>,
    contender: &str,
    shape: Shape,
    readers: &Readers,
    mut publish: impl FnMut(u64),
) {
    let Shape { burst, pause } = shape;
    let load = if pause.is_zero() {
        format!("burst {burst} at once")
    } else {
        format!("burst {burst} every {} us", pause.as_micros())
    };
    let (mut number, mut times) = (0, Vec::new());
    group.throughput(Throughput::Elements(burst));
    group.bench_function(BenchmarkId::new(contender, load), |bencher| {
        bencher.iter_custom(|iterations| {
            let most = if pause.is_zero() { BURSTS_PER_SAMPLE } else { PACED_BURSTS_PER_SAMPLE };
            times.clear();
            for _ in 0..iterations.min(most) {
                if !pause.is_zero() {
                    thread::sleep(pause);
                }
                let start = Instant::now();
                for _ in 0..burst {
                    number += 1;
                    publish(number);
                }
                readers.wait_for(number);
                times.push(start.elapsed());
            }
            let middle = times.len() / 2;
            let (_, median, _) = times.select_nth_unstable(middle);
            median.mul_f64(iterations as f64)
        });
    });
}

/// The least that a hand-over to these threads costs: one counter, nothing copied.
fn floor(group: &mut BenchmarkGroup<'_, WallTime>, count: usize, shape: Shape) {
    let counter = Arc::new(Seen::default());
    let readers = Readers::start((0..count).map(|_| {
        let (counter, mut last) = (Arc::clone(&counter), 0);
        move |seen: &Seen| {
            let now = counter.load(Ordering::Acquire);
            let any = now != last;
            if any {
                last = now;
                seen.store(now, Ordering::Release);
            }
            any
        }
    }));
    measure(group, "floor", shape, &readers, |n| counter.store(black_box(n), Ordering::Release));
}

fn longbow(group: &mut BenchmarkGroup<'_, WallTime>, count: usize, shape: Shape) {
    let (mut writer, first) = sync::ring::<WORDS>(CAPACITY);
    let readers = Readers::start((0..count).map(|_| {
        let mut reader = first.clone();
        move |seen: &Seen| match reader.try_next() {
            Ok(Some(words)) => {
                let [number, ..] = black_box(words);
                seen.store(number, Ordering::Release);
                true
            }
            Ok(None) => false,
            Err(lagged) => unreachable!("{lagged}, though a burst fits the ring"),
        }
    }));
    measure(group, "longbow", shape, &readers, |n| writer.publish(black_box(&message(n))));
}

fn tokio_broadcast(group: &mut BenchmarkGroup<'_, WallTime>, count: usize, shape: Shape) {
    let (sender, _) = broadcast::channel::<Message>(CAPACITY);
    let readers = Readers::start((0..count).map(|_| {
        let mut receiver = sender.subscribe();
        move |seen: &Seen| match receiver.try_recv() {
            Ok(words) => {
                let [number, ..] = black_box(words);
                seen.store(number, Ordering::Release);
                true
            }
            Err(TryRecvError::Empty | TryRecvError::Closed) => false,
            Err(lagged) => unreachable!("{lagged}, though a burst fits the channel"),
        }
    }));
    measure(group, "tokio-broadcast", shape, &readers, |n| {
        let sent = sender.send(black_box(message(n)));
        debug_assert!(sent.is_ok(), "the receivers live");
    });
}

fn disruptor_crate(group: &mut BenchmarkGroup<'_, WallTime>, count: usize, shape: Shape) {
    fn poll(
        mut poller: EventPoller<Message, SingleProducerBarrier>,
    ) -> impl FnMut(&Seen) -> bool + Send {
        move |seen| match poller.poll() {
            Ok(mut events) => {
                for event in &mut events {
                    let [number, ..] = black_box(*event);
                    seen.store(number, Ordering::Release);
                }
                true
            }
            Err(_) => false,
        }
    }
    let builder = disruptor::build_single_producer(CAPACITY, || message(0), BusySpin);
    if count == 1 {
        let (poller, builder) = builder.new_event_poller();
        let mut producer = builder.build();
        let readers = Readers::start([poll(poller)]);
        measure(group, "disruptor", shape, &readers, |n| {
            producer.publish(|event| *event = black_box(message(n)));
        });
        return;
    }
    let mut builder = builder.with_multi_consumer();
    let mut pollers = Vec::new();
    for _ in 0..count {
        let (poller, next) = builder.new_event_poller();
        pollers.push(poll(poller));
        builder = next;
    }
    let mut producer = builder.build();
    let readers = Readers::start(pollers);
    measure(group, "disruptor", shape, &readers, |n| {
        producer.publish(|event| *event = black_box(message(n)));
    });
}

/// The cost of one message without contention. The disruptor has no row without a reader: its
/// producer would wait for one.
fn one_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("one-thread");
    let mut number = 0;
    let mut next = || {
        number += 1;
        black_box(message(number))
    };
    group.bench_function("harness/loop", |bencher| bencher.iter(&mut next));

    let (mut writer, mut reader) = sync::ring::<WORDS>(CAPACITY);
    group.bench_function("publish/longbow", |bencher| {
        bencher.iter(|| writer.publish(&next()));
    });
    let _ = reader.try_next(); // Lapped: now half a ring behind, and caught up with below.
    while let Ok(Some(_)) = reader.try_next() {}
    group.bench_function("publish-and-read/longbow", |bencher| {
        bencher.iter(|| {
            writer.publish(&next());
            reader.try_next()
        });
    });

    let (sender, mut receiver) = broadcast::channel::<Message>(CAPACITY);
    group.bench_function("publish/tokio-broadcast", |bencher| {
        bencher.iter(|| sender.send(next()).is_ok());
    });
    receiver = receiver.resubscribe();
    group.bench_function("publish-and-read/tokio-broadcast", |bencher| {
        bencher.iter(|| {
            let sent = sender.send(next()).is_ok();
            (sent, receiver.try_recv())
        });
    });

    let builder = disruptor::build_single_producer(CAPACITY, || message(0), BusySpin);
    let (mut poller, builder) = builder.new_event_poller();
    let mut producer = builder.build();
    group.bench_function("publish-and-read/disruptor", |bencher| {
        bencher.iter(|| {
            producer.publish(|event| *event = next());
            poller.poll().map(|mut events| (&mut events).next().copied())
        });
    });

    let wakeup = sync::Wakeup::new();
    group.bench_function("wake-of-nobody", |bencher| bencher.iter(|| black_box(&wakeup).wake()));
    group.finish();
}

fn many_threads(criterion: &mut Criterion) {
    pin(0);
    for round in ROUNDS {
        for count in READERS {
            let mut group = criterion.benchmark_group(format!("{count}-readers/{round}"));
            for burst in BURSTS {
                for pause in PAUSES {
                    let shape = Shape { burst, pause };
                    floor(&mut group, count, shape);
                    longbow(&mut group, count, shape);
                    tokio_broadcast(&mut group, count, shape);
                    disruptor_crate(&mut group, count, shape);
                }
            }
            group.finish();
        }
    }
}

/// Short samples: with some hundred cells the whole run stays under two minutes.
fn short() -> Criterion {
    Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(150))
        .measurement_time(Duration::from_millis(450))
        .nresamples(1_001)
        .without_plots()
}

criterion_group! { name = ring; config = short(); targets = one_thread, many_threads }
criterion_main!(ring);
