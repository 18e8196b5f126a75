//! Engine transitions without I/O: each order is created, accepted and filled. Separate figures give
//! the overhead of creating the inputs, and the cost with every event encoded as for the log.

#![expect(clippy::unwrap_used, reason = "a bench may stop at the first surprise")]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use longbow::engine::{
    CreateOrder, EngineOptions, Engines, Outbox, ReplyTo, Report, SubmitOutcome,
};
use longbow::order::{EventEncoder, Fill, ReportKind};
use longbow::types::{
    ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol, TimeInForce, TimestampMicros,
    UserId,
};

/// Orders per measured pass, and the users they are spread over.
const ORDERS: u64 = 10_000;
const USERS: u64 = 1_000;
const TRANSITIONS_PER_ORDER: u64 = 3;
const SHARES: u64 = 100;

/// All inputs of one order.
struct Inputs {
    create: CreateOrder,
    external_order_id: ExternalOrderId,
    fill: Fill,
}

fn inputs() -> Vec<Inputs> {
    let symbol = Symbol::new("IBM").unwrap();
    let price = PriceCents::new(18_650).unwrap();
    let make = |number: u64| {
        let now = TimestampMicros::new(1_732_400_000_000_000 + number);
        let user = UserId::new(&format!("user-{}", number % USERS)).unwrap();
        let random = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let create = CreateOrder {
            order_id: OrderId::new(u128::from(now.micros()) * 1_000, random, user.partition()),
            user,
            client_order_id: None,
            symbol,
            side: Side::Buy,
            limit_price: Some(price),
            time_in_force: TimeInForce::Day,
            num_shares: SHARES,
            last_price: None,
            created_at: now,
        };
        let execution_id = ExecutionId::new(&format!("e7-{number}")).unwrap();
        let fill = Fill { execution_id, price, num_shares: SHARES, executed_at: now };
        let external_order_id = ExternalOrderId::new(&format!("o7-{number}")).unwrap();
        Inputs { create, external_order_id, fill }
    };
    (0..ORDERS).map(make).collect()
}

/// Runs every order through its three transitions.
fn cycle(engines: &mut Engines, inputs: Vec<Inputs>, mut decided: impl FnMut(&mut Outbox)) {
    let mut out = Outbox::new();
    for Inputs { create, external_order_id, fill } in inputs {
        let (now, order_id) = (create.created_at, create.order_id);
        engines.create(now, create, ReplyTo(1), &mut out);
        decided(&mut out);
        let accepted = SubmitOutcome::Accepted(external_order_id.clone());
        engines.submit_answer(now, order_id, accepted, &mut out);
        decided(&mut out);
        engines.report(now, Report::new(external_order_id, ReportKind::Filled(fill)), &mut out);
        decided(&mut out);
    }
}

fn drop_decisions(out: &mut Outbox) {
    out.events.clear();
    out.effects.clear();
}

fn engine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(ORDERS * TRANSITIONS_PER_ORDER));
    group.sample_size(20);
    let fresh = || (Engines::new(EngineOptions::default()), inputs());
    let size = criterion::BatchSize::PerIteration;
    group.bench_function("create, accept, fill", |bencher| {
        bencher.iter_batched(
            fresh,
            |(mut engines, inputs)| {
                cycle(&mut engines, inputs, drop_decisions);
                engines
            },
            size,
        );
    });
    group.bench_function("create, accept, fill, with every event encoded", |bencher| {
        bencher.iter_batched(
            fresh,
            |(mut engines, inputs)| {
                let mut encoder = EventEncoder::new();
                cycle(&mut engines, inputs, |out| {
                    for event in &out.events {
                        black_box(encoder.encode(event).unwrap());
                    }
                    drop_decisions(out);
                });
                engines
            },
            size,
        );
    });
    group.bench_function("overhead: the inputs alone", |bencher| {
        bencher.iter_batched(
            fresh,
            |(engines, inputs)| {
                for Inputs { create, external_order_id, fill } in inputs {
                    black_box((create, external_order_id, fill));
                }
                engines
            },
            size,
        );
    });
    group.finish();
}

criterion_group!(benches, engine);
criterion_main!(benches);
