//! `loadtest postgres projection`: how many rows per second the projection writes from an existing
//! log, while no orders come in.
//!
//! A server without Postgres writes the log from real requests, with fills of the simulated exchange.
//! Then Postgres is paused while the server restarts with that log, and is resumed: from its first
//! connection on, the projection has only the log to write.

use std::{
    path::Path,
    process::{self, Command, Stdio},
};

use serde_json::{Value, json};

use super::{
    Stage,
    contender::{CONNECTED, DATABASE, exchange},
    in_range,
    server::Postgres,
    sql::{Sql, refused},
    window::{BEHIND, FEW_RECORDS, order_options},
};
use crate::{
    clock::{seconds_between, wall_micros},
    cpu::{CpuUse, HostCpu, HostUse, ProcessCpu},
    error::{Context, Error, Result},
    metrics::Scrape,
    order_client::OrderOptions,
    order_window,
    prices::Summary,
    process_tree::TreeCpu,
    spawn::{Directory, start_server},
};

/// Limits of the orders, in turn: two far above the market, which fill, and one far below.
const LIMITS_CENTS: [u64; 3] = [10_000_000, 10_000_000, 100];
/// Log size to keep, in MiB: all of it.
const KEEP_MIB: u64 = 1_048_576;
/// How long the orders, their fills and the projection may each take, in seconds.
const MOST_SECONDS: u32 = 1_800;
/// Counts of what Postgres must have in the end.
const COUNTS: &str = "\
    SELECT (SELECT count(*) FROM orders), (SELECT count(*) FROM executions), \
        (SELECT count(*) FROM order_events), (SELECT count(*) FROM external_orders)";
/// The server's counter of rows written.
const ROWS: &str = "longbow_projection_rows_total";
const EVENTS: &str = "longbow_projection_events_total";
const TRANSACTIONS: &str = "longbow_projection_transactions_total";
const OPEN: &str = "longbow_orders_open";

/// Flags of this test.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProjectionArgs {
    /// Orders in the log; two of three fill, each by one execution
    #[arg(long, default_value_t = 300_000, value_name = "COUNT")]
    orders: u64,
    /// Orders in flight while the log is written
    #[arg(long, default_value_t = 256, value_name = "COUNT")]
    in_flight: usize,
    /// Replay speed of the tape, whose prints fill the orders
    #[arg(long, default_value_t = 20.0, value_name = "FACTOR")]
    speed: f64,
}

impl ProjectionArgs {
    /// # Errors
    /// [`Error::Flag`].
    pub(super) fn check(&self) -> Result<()> {
        // The simulated exchange takes a million open orders.
        in_range("orders", self.orders, 1..=1_000_000)?;
        in_range("in-flight", self.in_flight, 1..=10_000)?;
        in_range("speed", self.speed, 0.01..=100_000.0)
    }
}

/// One pass of the projection over the log.
struct Pass {
    seconds: f64,
    rows: f64,
    events: f64,
    transactions: f64,
    server: CpuUse,
    postgres_cores: f64,
    host: HostUse,
}

/// Runs the test and prints its report.
///
/// # Errors
/// Whatever stops it early, and [`Error::Answer`] when Postgres has not everything.
pub(super) fn run(arguments: &ProjectionArgs, stage: &mut Stage<'_>) -> Result<Value> {
    let (exchange, exchange_url) = exchange(stage, arguments.speed)?;
    let data = Directory::inside(stage.path(), "log")?;
    let places = (data.path.as_path(), exchange_url.as_str());
    let filled = fill(arguments, stage, places)?;
    println!(
        "a log of {} orders, each created and accepted, with {filled} fills; each pass begins with \
         empty tables",
        arguments.orders
    );
    let mut passes = Vec::new();
    for number in 1..=stage.rounds {
        let pass = pass(stage, places)?;
        pass.print(number);
        check(&stage.postgres, arguments.orders, filled)?;
        passes.push(pass);
    }
    drop(exchange);
    let rates = Summary::of(passes.iter().map(Pass::rows_per_second));
    println!("\nmedian of {} passes: {} rows/s", passes.len(), rates.text(0));
    Ok(json!({
        "scenario": "projection",
        "orders": arguments.orders,
        "fills": filled,
        "rowsPerSecond": rates.to_json(),
        "passes": passes.iter().map(Pass::to_json).collect::<Vec<_>>(),
    }))
}

/// Lets a server without Postgres write the log; returns the number of fills.
fn fill(
    arguments: &ProjectionArgs,
    stage: &Stage<'_>,
    (data, exchange): (&Path, &str),
) -> Result<u64> {
    let program = (stage.program.as_path(), stage.path());
    let serve = serve_arguments(stage, None);
    let (server, url, admin) = start_server(program, (data, exchange), &serve, stage.interrupt)?;
    let address = url.strip_prefix("http://").and_then(|address| address.parse().ok());
    let address = address
        .ok_or_else(|| Error::Answer { what: "the server's address".to_owned(), answer: url })?;
    let run_id = format!("{:x}-{:x}", wall_micros(), process::id());
    let options = OrderOptions {
        limit_prices_cents: LIMITS_CENTS.to_vec(),
        most_orders: Some(arguments.orders),
        ..order_options(stage, address, &run_id, arguments.in_flight)
    };
    let seen = order_window::send_all(options, MOST_SECONDS.into(), stage.interrupt)?;
    if seen.all_answers.get(&201) != Some(&arguments.orders) {
        return Err(Error::Answer {
            what: format!("{} orders were to be accepted", arguments.orders),
            answer: format!("{:?}, {:?}", seen.all_answers, seen.examples),
        });
    }
    // Every third order stays open; other open orders wait for a print.
    let open = arguments.orders / LIMITS_CENTS.len() as u64;
    let mut last = None;
    let all_filled = stage.interrupt.wait_until(MOST_SECONDS.into(), || {
        last = Scrape::read(&admin)?.metrics.get(OPEN);
        Ok(last.is_some_and(|found| found <= open as f64))
    })?;
    if !all_filled {
        return Err(Error::Answer {
            what: format!("{open} orders were to stay open"),
            answer: format!("{last:?} are open{}", server.log_end()),
        });
    }
    Ok(arguments.orders - open)
}

/// Lets the projection write the whole log into empty tables.
fn pass(stage: &mut Stage<'_>, (data, exchange): (&Path, &str)) -> Result<Pass> {
    stage.postgres.wake(stage.interrupt)?;
    let database = stage.postgres.fresh_database(DATABASE)?;
    migrate(&stage.program, &database)?;
    stage.postgres.rest(stage.interrupt)?;
    let program = (stage.program.as_path(), stage.path());
    let serve = serve_arguments(stage, Some(&database));
    let (server, _, admin) = start_server(program, (data, exchange), &serve, stage.interrupt)?;
    stage.postgres.wake(stage.interrupt)?;
    let read = || {
        Ok::<_, Error>((
            Scrape::read(&admin)?,
            ProcessCpu::read(server.pid())?,
            TreeCpu::read(stage.postgres.pid())?,
            HostCpu::read()?,
        ))
    };
    let late = |what: &str| Error::Timeout {
        what: what.to_owned(),
        seconds: MOST_SECONDS.into(),
        detail: server.log_end(),
    };
    let mut before = read()?;
    let connected = stage.interrupt.wait_until(MOST_SECONDS.into(), || {
        before = read()?;
        Ok(before.0.metrics.get(CONNECTED).is_some_and(|servers| servers > 0.0))
    })?;
    if !connected {
        return Err(late("the connection of the projection"));
    }
    let mut scrape = before.0.clone();
    let caught_up = stage.interrupt.wait_until(MOST_SECONDS.into(), || {
        scrape = Scrape::read(&admin)?;
        let behind = scrape.metrics.get(BEHIND);
        let has_begun = scrape.metrics.get(ROWS).is_some_and(|rows| rows > 0.0);
        Ok(has_begun && behind.is_some_and(|records| records <= FEW_RECORDS))
    })?;
    if !caught_up {
        return Err(late("the end of the projection"));
    }
    let (_, server_cpu, postgres_cpu, host) = read()?;
    let growth = |name: &str| {
        let before = before.0.metrics.get(name).unwrap_or(0.0);
        scrape.metrics.get(name).unwrap_or(0.0) - before
    };
    Ok(Pass {
        seconds: seconds_between(before.0.at, scrape.at),
        rows: growth(ROWS),
        events: growth(EVENTS),
        transactions: growth(TRANSACTIONS),
        server: server_cpu.since(&before.1),
        postgres_cores: postgres_cpu.cores_since(&before.2),
        host: host.since(&before.3),
    })
}

fn serve_arguments(stage: &Stage<'_>, database: Option<&str>) -> Vec<String> {
    let mut arguments = vec![
        "--shards=1".to_owned(),
        format!("--jwt-secret-file={}", stage.secret.display()),
        format!("--wal-keep-mib={KEEP_MIB}"),
    ];
    arguments.extend(database.map(|database| format!("--postgres={database}")));
    arguments.extend_from_slice(&stage.serve_arguments);
    arguments
}

/// Creates the tables.
fn migrate(program: &Path, database: &str) -> Result<()> {
    let made = Command::new(program)
        .arg("migrate")
        .arg(format!("--postgres={database}"))
        .stdin(Stdio::null())
        .output()
        .context("running longbow migrate")?;
    if made.status.success() {
        return Ok(());
    }
    let answer = String::from_utf8_lossy(&made.stderr).into_owned();
    Err(Error::Answer { what: "longbow migrate".to_owned(), answer })
}

/// Checks that Postgres has everything in the log, exactly once and durably.
fn check(postgres: &Postgres, orders: u64, fills: u64) -> Result<()> {
    let session = Sql::connect(&postgres.url(DATABASE))?;
    for setting in ["synchronous_commit", "fsync"] {
        let value = session.setting(setting)?;
        if value != "on" {
            let what = format!("{setting} of Postgres is not on");
            return Err(Error::Answer { what, answer: value });
        }
    }
    let row = session.row(COUNTS, &[])?;
    let count = |at: usize| {
        let count: i64 = row.try_get(at).map_err(refused("count its rows"))?;
        Ok::<_, Error>(count.unsigned_abs())
    };
    let found = [count(0)?, count(1)?, count(2)?, count(3)?];
    let expected = [orders, fills, 2 * orders + fills, orders];
    if found == expected {
        println!(
            "      in Postgres: {} orders, {} executions, {} events, {} ids of the exchange, as in the \
             log; synchronous_commit and fsync are on",
            orders,
            fills,
            2 * orders + fills,
            orders
        );
        return Ok(());
    }
    Err(Error::Answer {
        what: "rows of orders, executions, order_events and external_orders".to_owned(),
        answer: format!("found {found:?}, the log has {expected:?}"),
    })
}

impl Pass {
    fn rows_per_second(&self) -> f64 {
        self.rows / self.seconds
    }

    fn print(&self, number: usize) {
        println!(
            "{number:>5} {:>9.0} rows/s, {:>9.0} changes of orders/s: {:.0} rows in {:.2} s and {:.0} \
             transactions; CPU, % of a core: projection {:.1}, server {:.1}, Postgres {:.1}; steal \
             {:.2} %",
            self.rows_per_second(),
            self.events / self.seconds,
            self.rows,
            self.seconds,
            self.transactions,
            self.server.cores(|name| name.starts_with("projection")) * 100.0,
            self.server.cores(|_| true) * 100.0,
            self.postgres_cores * 100.0,
            self.host.steal * 100.0,
        );
    }

    fn to_json(&self) -> Value {
        json!({
            "rowsPerSecond": self.rows_per_second(),
            "eventsPerSecond": self.events / self.seconds,
            "seconds": self.seconds,
            "rows": self.rows,
            "events": self.events,
            "transactions": self.transactions,
            "serverCoresByThread": self.server.cores_by_name(),
            "postgresCores": self.postgres_cores,
            "hostSteal": self.host.steal,
        })
    }
}
