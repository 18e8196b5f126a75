//! Fills a data directory with ended and open orders, through the log and the index that
//! `longbow serve` uses, to measure a start with many orders.
//!
//! It first reports how long a start takes with the orders already there, so a second run with
//! `--orders 0` measures just that.
//!
//! ```sh
//! cargo run --release --package loadtest --example fill_index -- /tmp/many --orders 10000000 --open 1000000
//! ```

use std::error::Error;
use std::future::poll_fn;
use std::path::PathBuf;
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use futures_lite::future::block_on;
use longbow::index::{Index, IndexFollower, IndexMetrics, IndexOptions};
use longbow::order::{
    Change, Changed, Created, Event, EventEncoder, FeedPosition, Fill, RECORD_FORMAT_VERSION,
};
use longbow::shutdown::{Shutdown, StopReason};
use longbow::types::{
    ClientOrderId, Clock, ExecutionId, ExternalOrderId, OrderId, PriceCents, Side, Symbol,
    TimeInForce, TimestampMicros, USER_PARTITIONS, UserId, UserPartition,
};
use longbow::wal::{self, Lsn, NewRecord, WalAppender, WalError, WalOptions};

// The allocator of `longbow` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Fills a data directory with orders.
#[derive(Debug, Parser)]
struct Arguments {
    /// The data directory; orders are added to those already there.
    data_dir: PathBuf,
    /// Number of orders to add.
    #[arg(long, default_value_t = 10_000_000)]
    orders: u64,
    /// How many of them stay open.
    #[arg(long, default_value_t = 1_000_000)]
    open: u64,
    /// Number of users the orders are spread over.
    #[arg(long, default_value_t = 1_000_000)]
    users: u64,
}

/// Microseconds between two orders: 10 million of them fill a session of eight hours.
const ORDER_INTERVAL_MICROS: u64 = 2_880;

/// Orders between two feed positions; a start also reads the orders that ended since the last one.
const ORDERS_PER_POSITION: u64 = 1_000;

/// Interval between checks of the index's position.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

struct Filler {
    appender: WalAppender,
    encoder: EventEncoder,
    arguments: Arguments,
    start_micros: u64,
    /// Makes the ids of each run different.
    run: u64,
    /// The last record that was appended.
    last: Lsn,
}

impl Filler {
    fn append(&mut self, event: &Event) -> Result<(), Box<dyn Error>> {
        let payload = self.encoder.encode(event)?;
        let record = NewRecord {
            partition: event.partition_byte(),
            kind: event.kind(),
            format_version: RECORD_FORMAT_VERSION,
            payload,
        };
        loop {
            let seen = self.appender.committed();
            match self.appender.append(record) {
                Ok(lsn) => {
                    self.last = lsn;
                    return Ok(());
                }
                Err(WalError::Busy) => {
                    self.appender.flush();
                    block_on(poll_fn(|context| self.appender.poll_progress(context, seen)));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn feed_position(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        let at = TimestampMicros::new(self.start_micros + number * ORDER_INTERVAL_MICROS);
        let session = "fill".into();
        self.append(&Event::FeedPosition(FeedPosition {
            session,
            sequence: number,
            past: Vec::new(),
            at,
        }))
    }

    fn order(&mut self, number: u64) -> Result<(), Box<dyn Error>> {
        // Spreads orders, and the open ones among them, evenly over the users.
        let random = number.wrapping_add(self.run).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let user = UserId::new(&format!("user-{}", random % self.arguments.users))?;
        let stays_open = number * self.arguments.open / self.arguments.orders
            != (number + 1) * self.arguments.open / self.arguments.orders;
        let micros = self.start_micros + number * ORDER_INTERVAL_MICROS;
        let at = TimestampMicros::new(micros);
        let order_id = OrderId::new(u128::from(micros) * 1_000, random, user.partition());
        self.append(&Event::Created(Created {
            order_id,
            user,
            client_order_id: Some(ClientOrderId::new(&format!("{random:016x}-fill"))?),
            symbol: Symbol::new("IBM")?,
            side: Side::Buy,
            limit_price: Some(PriceCents::new(16_740)?),
            time_in_force: TimeInForce::Gtc,
            num_shares: 100,
            created_at: at,
            submit_before: at.saturating_add_micros(5_000_000),
            reservation: longbow::money::Reservation::Nothing,
        }))?;
        let external_order_id = ExternalOrderId::new(&format!("{}-{number}", self.run))?;
        let accepted = Change::Accepted { external_order_id };
        self.append(&Event::Changed(Changed { order_id, at, change: accepted }))?;
        if !stays_open {
            let change = Change::Filled(Fill {
                execution_id: ExecutionId::new(&format!("execution-{random:016x}"))?,
                price: PriceCents::new(16_739)?,
                num_shares: 100,
                executed_at: at,
            });
            self.append(&Event::Changed(Changed { order_id, at, change }))?;
        }
        Ok(())
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let arguments = Arguments::parse();
    let began = Instant::now();
    let options = WalOptions::new(arguments.data_dir.join("wal"));
    let log_start = wal::log_start(&options)?;
    let index = Index::open(IndexOptions::new(arguments.data_dir.join("index"), log_start))?;
    let recovery = wal::recover(&options, index.position(), &mut |_| Ok(()))?;
    println!(
        "index at record {} and log up to record {} opened in {:.2} s",
        index.position(),
        recovery.next_lsn.0 - 1,
        began.elapsed().as_secs_f64()
    );
    report_start(&index)?;
    let (appender, writer) = wal::open(options, recovery)?;
    let follower = IndexFollower::new(index.clone(), writer.handle(), IndexMetrics::default())?;
    let shutdown = Shutdown::new();
    let stop = shutdown.clone();
    let following = thread::Builder::new().name("index".into());
    let following = following.spawn(move || follower.run(&stop))?;
    let writing = thread::Builder::new().name("wal".into()).spawn(move || writer.run())?;

    let now_micros = Clock.now().micros();
    let orders = arguments.orders;
    let start_micros = now_micros.saturating_sub(orders * ORDER_INTERVAL_MICROS);
    let run = now_micros.wrapping_mul(orders);
    let encoder = EventEncoder::new();
    let last = index.position();
    let mut filler = Filler { appender, encoder, arguments, start_micros, run, last };
    for number in 0..orders {
        filler.order(number)?;
        if (number + 1).is_multiple_of(ORDERS_PER_POSITION) {
            filler.feed_position(number)?;
        }
    }
    let (mut appender, last) = (filler.appender, filler.last);
    while appender.committed() < last {
        let seen = appender.committed();
        appender.flush();
        block_on(poll_fn(|context| appender.poll_progress(context, seen)));
    }
    println!("{last} records in the log after {:.1} s", began.elapsed().as_secs_f64());
    while index.position() < last && index.trouble().is_none() {
        thread::sleep(POLL_INTERVAL);
    }
    // The follower makes everything durable and ends when the log does.
    drop(appender);
    shutdown.request(StopReason::Requested);
    writing.join().map_err(|_| "the log's thread panicked")??;
    following.join().map_err(|_| "the index's thread panicked")??;
    println!("{} in the index after {:.1} s", index.position(), began.elapsed().as_secs_f64());
    report_start(&index)
}

/// Measures how long two threads take to read all open orders, as a start does.
fn report_start(index: &Index) -> Result<(), Box<dyn Error>> {
    let began = Instant::now();
    let load = |remainder: usize| -> Result<usize, String> {
        let mut loaded = 0;
        for number in (0..USER_PARTITIONS).filter(|number| number % 2 == remainder) {
            let partition = u8::try_from(number).ok().and_then(UserPartition::new);
            let partition = partition.ok_or("no such partition")?;
            let loading = index.load_open(partition, &mut |_| loaded += 1);
            loading.map_err(|error| error.to_string())?;
        }
        Ok(loaded)
    };
    let loaded = thread::scope(|scope| {
        let other = scope.spawn(|| load(1));
        let one = load(0)?;
        Ok::<_, String>(one + other.join().map_err(|_| "a thread panicked")??)
    })?;
    println!("{loaded} open orders read in {:.2} s", began.elapsed().as_secs_f64());
    Ok(())
}
