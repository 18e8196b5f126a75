//! One changed price to 1,000 streams of a shard, beside a bare `send()` loop over as many sockets:
//! CPU time of the sending thread, without a runtime. `loadtest stream` measures a whole server.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longbow::market::{Listing, MarketLimits, Print, ShardWatch, Watchers, open_market};
use longbow::runtime::StreamSocket;
use longbow::stream::{
    Heartbeat, Hub, HubOptions, Mode, Next, NoOrders, StreamLimits, StreamMetrics, StreamQuotas,
    StreamRequest, write_price,
};
use longbow::types::{PriceCents, Symbol, SymbolIndex, TimestampMicros, UserId};
use rustix::thread::{CpuSet, sched_setaffinity};
use rustix::time::{ClockId, clock_gettime};

const CLIENTS: usize = 1_000;
const SENDER_CORE: usize = 0;
const READER_CORE: usize = 1;

/// Pins this thread to a core, so that sender and reader neither move nor share one.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core);
    // With fewer cores, the thread stays unpinned.
    let _stays = sched_setaffinity(None, &cores);
}

/// CPU time of this thread, which excludes other threads and other machines on the host.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let seconds = u64::try_from(time.tv_sec).expect("time goes forward");
    Duration::new(seconds, u32::try_from(time.tv_nsec).expect("under a second"))
}

/// Server sides of connections; a thread drains the clients' sides.
struct Crowd {
    servers: Vec<OwnedFd>,
    stop: Arc<AtomicBool>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Crowd {
    fn gather() -> Self {
        pin(SENDER_CORE);
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let mut clients = Vec::with_capacity(CLIENTS);
        let mut servers = Vec::with_capacity(CLIENTS);
        for _ in 0..CLIENTS {
            let client = TcpStream::connect(address).expect("connects");
            client.set_nonblocking(true).expect("an option");
            clients.push(client);
            servers.push(listener.accept().expect("accepts").0.into());
        }
        let stop = Arc::new(AtomicBool::new(false));
        let stopping = Arc::clone(&stop);
        let reader = std::thread::spawn(move || {
            pin(READER_CORE);
            let mut buffer = vec![0; 1 << 16];
            while !stopping.load(Ordering::Relaxed) {
                for client in &mut clients {
                    while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
                }
            }
        });
        Self { servers, stop, reader: Some(reader) }
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(reader) = self.reader.take() {
            reader.join().expect("the reader ends");
        }
    }
}

fn bare(criterion: &mut Criterion) {
    let mut crowd = Crowd::gather();
    let limits = StreamLimits::default().socket;
    let sockets: Vec<StreamSocket> = crowd
        .servers
        .drain(..)
        .map(|server| StreamSocket::new(server, limits).expect("a live socket"))
        .collect();
    let mut frame = Vec::new();
    let value = longbow::market::LastValue {
        price_cents: 16_740,
        timestamp: TimestampMicros::new(1_732_400_000_123_456),
        ..Default::default()
    };
    write_price(&mut frame, &Symbol::new("SPY").expect("a symbol"), &value);
    let mut group = criterion.benchmark_group("to 1,000 clients, CPU time");
    group.throughput(Throughput::Elements(CLIENTS as u64)).sample_size(20);
    group.bench_function("bare send loop", |bencher| {
        bencher.iter_custom(|passes| {
            let began = cpu_time();
            for _ in 0..passes {
                for socket in &sockets {
                    let _full_is_fine = socket.send(&frame);
                }
            }
            cpu_time() - began
        });
    });
    group.finish();
}

fn hub(criterion: &mut Criterion) {
    let mut crowd = Crowd::gather();
    let watch = Arc::new(ShardWatch::new());
    let (mut market, reader) =
        open_market(Watchers::new(vec![Arc::clone(&watch)]), MarketLimits::default());
    let symbol = Symbol::new("SPY").expect("a symbol");
    let index = SymbolIndex::new(0).expect("the first");
    market
        .list(&[Listing {
            symbol,
            previous_close: PriceCents::new(1).ok(),
            open: None,
            session: None,
            source: Arc::from("bench"),
            synthetic: true,
        }])
        .expect("it fits");
    market.begin_session("1", 1);
    market.set_up(true);
    let mut hub = Hub::new(
        reader,
        watch,
        HubOptions {
            node: None,
            shard: 0,
            limits: StreamLimits::default(),
            metrics: StreamMetrics::default(),
            orders: Box::new(NoOrders),
        },
    )
    .expect("descriptors are left");
    let quotas = Arc::new(StreamQuotas::new(CLIENTS, CLIENTS));
    let user = UserId::new("bench").expect("a name");
    for server in crowd.servers.drain(..) {
        let server = server.as_fd().try_clone_to_owned().expect("a descriptor");
        let request = StreamRequest {
            permit: quotas.reserve(&user).expect("room"),
            symbols: vec![(symbol, index)],
            mode: Mode::Latest,
            max_rate: None,
            heartbeat: Heartbeat::Comment,
            resume: None,
            orders: None,
        };
        hub.adopt(server, request).expect("room");
    }
    let mut sequence = 0;
    let mut group = criterion.benchmark_group("to 1,000 clients, CPU time");
    group.throughput(Throughput::Elements(CLIENTS as u64)).sample_size(20);
    group.bench_function("print, ring, hub, send", |bencher| {
        bencher.iter_custom(|passes| {
            let began = cpu_time();
            for _ in 0..passes {
                sequence += 1;
                market.print(&Print {
                    symbol: index,
                    price: PriceCents::new(16_740 + i64::from(sequence % 2 == 0)).expect("a price"),
                    num_shares: 100,
                    counts_volume: true,
                    timestamp: TimestampMicros::new(1_732_400_000_000_000 + sequence),
                    sequence,
                    execution: sequence,
                });
                market.end_batch(sequence);
                while hub.run_slice() == Next::Slice {}
            }
            cpu_time() - began
        });
    });
    group.finish();
}

criterion_group!(benches, bare, hub);
criterion_main!(benches);
