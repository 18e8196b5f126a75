//! What a print costs for candles: on the feed thread, beside what it costs there anyway; on the thread that
//! makes candles; and in the store.

#![expect(clippy::unwrap_used, clippy::indexing_slicing, reason = "a bench may end with a panic")]

use std::cell::Cell;
use std::hint::black_box;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use longbow::exchange::wire::FeedLine;
use longbow::index::{CandleQuery, CandleStore};
use longbow::market::candles::{
    BookState, CANDLE_EVENT_WORDS, Candle, CandleBook, CandleEvent, CandleEventKind, CandleKey,
    CandleOrder, CandleTrade, ChangedCandles, DAY_MINUTES, FeedMark, Interval, Lookups,
    MINUTE_MICROS, Minute,
};
use longbow::market::{Listing, MarketLimits, Print, Watchers, execution_number, open_market};
use longbow::sync::ring;
use longbow::types::{PriceCents, Symbol, SymbolIndex, TimestampMicros};

// The allocator of `longbow` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Symbols that trade in turn.
const SYMBOLS: u64 = 1_000;
/// Prints of a minute.
const A_MINUTE: u64 = 60_000;
const FIRST: u64 = 20_000 * DAY_MINUTES as u64;
const REMEMBERED_PRINTS: usize = 262_144;

fn names() -> Vec<Symbol> {
    (0..SYMBOLS).map(|n| Symbol::new(&format!("S{n}")).unwrap()).collect()
}

fn index(sequence: u64) -> SymbolIndex {
    SymbolIndex::new(usize::try_from(sequence % SYMBOLS).unwrap()).unwrap()
}

fn cents(sequence: u64) -> i64 {
    (10_000 + sequence % 97).cast_signed()
}

fn time(sequence: u64) -> TimestampMicros {
    TimestampMicros::new((FIRST + sequence / A_MINUTE) * MINUTE_MICROS)
}

fn print(sequence: u64) -> Print {
    Print {
        symbol: index(sequence),
        price: PriceCents::new(cents(sequence)).unwrap(),
        num_shares: 100,
        counts_volume: true,
        timestamp: time(sequence),
        sequence,
        execution: sequence,
    }
}

fn event(sequence: u64) -> CandleEvent {
    let trade = CandleTrade {
        symbol: index(sequence),
        cents: cents(sequence),
        num_shares: 100,
        counts_volume: true,
        execution: sequence,
    };
    let mark = FeedMark { numbering: 1, sequence };
    CandleEvent { mark, at: time(sequence), kind: CandleEventKind::Print(trade) }
}

struct Named(Vec<Symbol>);

impl Lookups for Named {
    fn name(&self, symbol: SymbolIndex) -> Option<Symbol> {
        self.0.get(symbol.get()).copied()
    }

    fn stored(&self, _key: CandleKey) -> Option<Candle> {
        None
    }
}

/// The feed thread: a line read, its print in the market, and its event in the ring of candles.
fn feed_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("candles/feed-thread");
    group.throughput(Throughput::Elements(1));
    let line = br#"{"sequence":18467,"type":"trade","executionId":"T-18467","symbol":"S17","priceInCents":16748,"numShares":200,"timestamp":1795959273509316}"#;
    group.bench_function("read a line", |bencher| {
        bencher.iter(|| {
            let line: FeedLine = serde_json::from_slice(black_box(line)).unwrap();
            let execution = line.execution_id.as_ref().map(|id| execution_number(id.as_str()));
            black_box((line.sequence, execution))
        });
    });
    let (mut market, _reader) = open_market(Watchers::default(), MarketLimits::default());
    let listing = |symbol| Listing {
        symbol,
        previous_close: None,
        open: None,
        session: None,
        source: "bench".into(),
        synthetic: true,
    };
    market.list(&names().into_iter().map(listing).collect::<Vec<_>>()).unwrap();
    let sequence = Cell::new(0);
    let next = || {
        sequence.set(sequence.get() + 1);
        sequence.get()
    };
    group.bench_function("print in the market", |bencher| {
        bencher.iter(|| {
            market.print(&print(next()));
        });
    });
    let (mut writer, _events) = ring::<CANDLE_EVENT_WORDS>(65_536);
    group.bench_function("event for candles", |bencher| {
        bencher.iter(|| writer.publish(&event(next()).to_words()));
    });
    group.finish();
}

/// The thread `candles`.
fn maker_thread(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("candles/maker-thread");
    group.throughput(Throughput::Elements(1));
    let names = Named(names());
    let mut book = CandleBook::new(BookState::default(), REMEMBERED_PRINTS);
    let mut sequence = 0;
    group.bench_function("take a print", |bencher| {
        bencher.iter(|| {
            sequence += 1;
            book.take(&event(sequence), &names);
            // Once a second.
            if sequence % (A_MINUTE / 60) == 0 {
                black_box(book.take_changed());
            }
        });
    });
    group.bench_function("bust of a remembered print", |bencher| {
        bencher.iter(|| {
            sequence += 1;
            let CandleEventKind::Print(trade) = event(sequence - 1_000).kind else {
                unreachable!("events of this bench are prints")
            };
            let kind = CandleEventKind::Bust(trade);
            book.take(&CandleEvent { kind, ..event(sequence) }, &names);
        });
    });
    group.finish();
}

/// The store: a second's changes, and pages.
fn store(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("candles/store");
    let directory = tempfile::tempdir().unwrap();
    let store = CandleStore::new(directory.path().join("candles"));
    store.open().unwrap();
    let names = names();
    let first = u32::try_from(FIRST).unwrap();
    let minute = Cell::new(first);
    let second = || {
        minute.set(minute.get() + 1);
        let candle = |symbol: &Symbol| ((*symbol, Minute(minute.get())), Some(Candle::of(5, 5)));
        let candles = names.iter().map(candle).collect();
        ChangedCandles { candles, state: BookState::default() }
    };
    group.throughput(Throughput::Elements(SYMBOLS));
    group.bench_function("write 1,000 candles", |bencher| {
        bencher.iter_batched(
            second,
            |changed| store.write(&changed).unwrap(),
            BatchSize::LargeInput,
        );
    });
    // At least two weeks of one symbol.
    while minute.get() < first + 14 * DAY_MINUTES {
        minute.set(minute.get() + 1);
        let candles = vec![((names[0], Minute(minute.get())), Some(Candle::of(5, 5)))];
        store.write(&ChangedCandles { candles, state: BookState::default() }).unwrap();
    }
    group.throughput(Throughput::Elements(1));
    for (name, interval, limit) in [
        ("page of 100 of 1m", Interval::Minute, 100),
        ("page of 1,000 of 1m", Interval::Minute, 1_000),
        ("page of 14 of 1d", Interval::Day, 14),
    ] {
        let query = CandleQuery {
            symbol: names[0],
            interval,
            from: None,
            to: None,
            order: CandleOrder::NewestFirst,
            after: None,
            limit,
        };
        group.bench_function(name, |bencher| bencher.iter(|| store.page(&query).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, feed_thread, maker_thread, store);
criterion_main!(benches);
