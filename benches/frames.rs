//! The cost of encoding a price frame, beside the cost of sending it: a frame is encoded once for all
//! clients and sent once per client.

#![expect(clippy::expect_used, reason = "a bench that cannot be set up has nothing to measure")]

use std::hint::black_box;
use std::io::Read;
use std::net::{TcpListener, TcpStream};

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longbow::market::LastValue;
use longbow::stream::write_price;
use longbow::types::{Symbol, TimestampMicros};
use rustix::net::{SendFlags, send};
use serde_json::json;

fn value() -> LastValue {
    LastValue {
        price_cents: 16_740,
        timestamp: TimestampMicros::new(1_732_400_000_123_456),
        ..LastValue::default()
    }
}

fn encoding(criterion: &mut Criterion) {
    let (symbol, value) = (Symbol::new("SPY").expect("a symbol"), value());
    let mut group = criterion.benchmark_group("price frame");
    group.throughput(Throughput::Elements(1));
    let mut out = Vec::with_capacity(256);
    group.bench_function("harness: clear a buffer", |bencher| {
        bencher.iter(|| black_box(&mut out).clear());
    });
    group.bench_function("write_price", |bencher| {
        bencher.iter(|| {
            out.clear();
            write_price(&mut out, black_box(&symbol), black_box(&value));
            black_box(out.len())
        });
    });
    group.bench_function("serde_json, as a measure", |bencher| {
        bencher.iter(|| {
            let data = json!({
                "symbol": black_box(&symbol).as_str(),
                "priceInCents": black_box(value.price_cents),
                "timestamp": value.timestamp.micros(),
            });
            format!("event: price\ndata: {data}\n\n").len()
        });
    });
    group.finish();
}

/// One `send` of a frame over loopback to a reading client: the unit of everything else.
fn sending(criterion: &mut Criterion) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let mut client = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
    let (server, _) = listener.accept().expect("accepts");
    server.set_nodelay(true).expect("an option");
    let reader = std::thread::spawn(move || {
        let mut buffer = vec![0; 1 << 20];
        while client.read(&mut buffer).is_ok_and(|read| read > 0) {}
    });
    let mut frame = Vec::new();
    write_price(&mut frame, &Symbol::new("SPY").expect("a symbol"), &value());
    let mut group = criterion.benchmark_group("price frame");
    group.throughput(Throughput::Elements(1));
    group.bench_function("send it over loopback", |bencher| {
        bencher.iter(|| send(&server, &frame, SendFlags::NOSIGNAL).expect("the client reads"));
    });
    group.finish();
    drop(server);
    reader.join().expect("the reader ends with the connection");
}

criterion_group!(benches, encoding, sending);
criterion_main!(benches);
