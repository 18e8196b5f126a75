//! `loadtest orders`: a storm of limit orders that stay open, in a closed or an open loop.

use std::{fs, path::PathBuf, process};

use serde_json::{Value, json};

use crate::{
    clock::{seconds_between, wall_micros},
    cpu::{self, HostCpu, HostUse},
    disk_sync::{DiskSync, SyncMicros},
    error::{Context, Error, Result},
    metrics::{Metrics, Scrape},
    order_client::{OrderOptions, OrderReport},
    order_window,
    phase::Interrupt,
    report::median,
    shares::Shares,
    target::{Target, TargetArgs},
};

/// Prints per second of SPY if this test starts the exchange: the rate of the recorded session.
const DEFAULT_PRINT_RATE: f64 = 19.0;
/// Most connections: below the usual limit of open files.
const MAX_IN_FLIGHT: usize = 10_000;

/// Flags of `loadtest orders`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct OrdersArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Connections, each with at most one order in flight
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    in_flight: usize,
    /// Open loop: orders per second, due at fixed times regardless of the server; latency counts from
    /// the due time [default: closed loop, an order follows each answer]
    #[arg(long, value_name = "PER_SECOND")]
    rate: Option<f64>,
    /// Length of each measured window, in seconds
    #[arg(long, default_value_t = 10.0, value_name = "SECONDS")]
    seconds: f64,
    /// Time of load before each window, in seconds
    #[arg(long, default_value_t = 1.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Number of windows
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    rounds: usize,
    /// Symbols of the orders, in turn
    #[arg(long, default_value = "SPY", value_delimiter = ',', value_name = "SYMBOLS")]
    symbols: Vec<String>,
    /// Limit of each buy order, in cents, far below the market
    #[arg(long, default_value_t = 100, value_name = "CENTS")]
    limit_price_cents: u64,
    /// Core of the client thread [default: the last one]
    #[arg(long, value_name = "CORE")]
    client_core: Option<usize>,
    /// Between the windows, measure fdatasync of 4 KiB in this directory, which should be on the
    /// log's disk: latencies are then also given in multiples of a sync
    #[arg(long, value_name = "DIR")]
    measure_sync: Option<PathBuf>,
    /// Also write all measurements to this file
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

impl OrdersArgs {
    fn check(&self) -> Result<()> {
        let refuse = |flag, value: String, allowed: &str| {
            Err(Error::Flag { flag, value, allowed: allowed.to_owned() })
        };
        if !(0.1..=36_000.0).contains(&self.seconds) {
            return refuse("seconds", self.seconds.to_string(), "0.1 to 36000");
        }
        if !(1..=MAX_IN_FLIGHT).contains(&self.in_flight) {
            let allowed = format!("1 to {MAX_IN_FLIGHT}");
            return refuse("in-flight", self.in_flight.to_string(), &allowed);
        }
        match self.rate {
            Some(rate) if !(0.1..=1_000_000.0).contains(&rate) => {
                refuse("rate", rate.to_string(), "0.1 to 1000000")
            }
            _ => Ok(()),
        }
    }
}

/// Runs the test and prints its report.
///
/// # Errors
/// Whatever stopped the run.
pub(crate) fn run(arguments: &OrdersArgs, interrupt: &Interrupt) -> Result<()> {
    arguments.check()?;
    let target = Target::open(&arguments.target, DEFAULT_PRINT_RATE, interrupt)?;
    let client_core = arguments.client_core.unwrap_or(cpu::core_count().saturating_sub(1));
    println!("machine: {}", cpu::machine());
    let pace = match arguments.rate {
        Some(rate) => {
            format!("open loop at {rate} orders/s over {} connections", arguments.in_flight)
        }
        None => format!("closed loop, {} in flight", arguments.in_flight),
    };
    println!("{pace}, windows of {} s, client on core {client_core}", arguments.seconds);
    println!(
        "\n{:>5} {:>9} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>7} {:>6}  answers",
        "round",
        "201/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9ms",
        "max ms",
        "waiting",
        "cli cpu",
        "steal"
    );
    let mut disk = arguments.measure_sync.as_deref().map(DiskSync::open).transpose()?;
    let mut measure_sync = || disk.as_mut().map(DiskSync::measure).transpose();
    let mut rounds: Vec<Round> = Vec::new();
    let mut sync_before = measure_sync()?;
    for number in 1..=arguments.rounds {
        let mut round = measure(arguments, &target, client_core, number, interrupt)?;
        let sync_after = measure_sync()?;
        round.sync = sync_before.zip(sync_after).map(|(before, after)| SyncMicros {
            p50: f64::midpoint(before.p50, after.p50),
            p99: f64::midpoint(before.p99, after.p99),
        });
        sync_before = sync_after;
        round.print();
        rounds.push(round);
    }
    print_medians(&rounds);
    let Some(file) = &arguments.json else { return Ok(()) };
    let report = json!({
        "machine": cpu::machine(),
        "inFlight": arguments.in_flight,
        "ratePerSecond": arguments.rate,
        "users": target.tokens.len(),
        "clientCore": client_core,
        "rounds": rounds.iter().map(Round::to_json).collect::<Vec<_>>(),
    });
    fs::write(file, format!("{report:#}\n")).context(&format!("writing {}", file.display()))
}

/// One measured window.
struct Round {
    number: usize,
    seen: OrderReport,
    host: HostUse,
    /// CPU seconds per second by server thread, when the process is known.
    cores_by_thread: std::collections::BTreeMap<String, f64>,
    /// Growth per second of the server's counters.
    counters_per_second: std::collections::BTreeMap<String, f64>,
    /// Requests of any kind to the exchange per submitted order.
    exchange_requests_per_order: Option<f64>,
    /// Where an order's time goes, if the server reports it.
    shares: Option<Shares>,
    /// Duration of a sync, measured before and after the window.
    sync: Option<SyncMicros>,
}

fn measure(
    arguments: &OrdersArgs,
    target: &Target,
    client_core: usize,
    number: usize,
    interrupt: &Interrupt,
) -> Result<Round> {
    let options = OrderOptions {
        address: target.address,
        authority: target.authority.clone(),
        in_flight: arguments.in_flight,
        tokens: target.tokens.clone(),
        rate: arguments.rate,
        run_id: format!("{:x}-{:x}", wall_micros(), process::id()),
        symbols: arguments.symbols.clone(),
        limit_prices_cents: vec![arguments.limit_price_cents],
        most_orders: None,
        core: client_core,
    };
    let lengths = (arguments.warm_up, arguments.seconds);
    let read = || Ok((Scrape::read(&target.admin).ok(), target.cpu()?, HostCpu::read()?));
    let (seen, before, after) = order_window::run(options, lengths, interrupt, read)?;
    let used = after.1.zip(before.1).map(|(after, before)| after.since(&before));
    let scrapes = before.0.zip(after.0);
    let growth = scrapes.as_ref().map(|(before, after)| {
        let seconds = seconds_between(before.at, after.at);
        let growth = after.metrics.growth_since(&before.metrics).into_iter();
        growth.map(|(name, value)| (name, value / seconds)).collect()
    });
    let told = scrapes.as_ref().map(|(before, after)| (&before.metrics, &after.metrics));
    let client_millis = seen.latencies.mean() / 1_000.0;
    Ok(Round {
        number,
        host: after.2.since(&before.2),
        cores_by_thread: used.map(|used| used.cores_by_name()).unwrap_or_default(),
        counters_per_second: growth.unwrap_or_default(),
        exchange_requests_per_order: told.and_then(|(before, after)| requests(before, after)),
        shares: told.and_then(|(before, after)| Shares::between(before, after, client_millis)),
        sync: None,
        seen,
    })
}

/// Requests to the exchange per submitted order between two readings.
fn requests(before: &Metrics, after: &Metrics) -> Option<f64> {
    let growth = |name: &str| {
        let name = format!("longbow_orders_{name}_total");
        Some(after.get(&name)? - before.get(&name).unwrap_or(0.0))
    };
    let orders = growth("submitted").filter(|orders| *orders > 0.0)?;
    let kinds = ["submit_requests", "cancel_requests", "query_requests"];
    Some(kinds.iter().filter_map(|name| growth(name)).sum::<f64>() / orders)
}

/// Prints the medians of all windows, if there are several.
fn print_medians(rounds: &[Round]) {
    let of = |value: &dyn Fn(&Round) -> Option<f64>| {
        median(rounds.iter().filter_map(value).collect()).unwrap_or(f64::NAN)
    };
    if rounds.len() < 2 {
        return;
    }
    println!(
        "\nmedian of {} windows: {:.0} accepted/s, p50 {:.2} ms, p99 {:.2} ms, max {:.2} ms, \
         {:.2} exchange requests an order, steal {:.2} %",
        rounds.len(),
        of(&|round| Some(round.accepted_per_second())),
        of(&|round| Some(round.millis(0.5))),
        of(&|round| Some(round.millis(0.99))),
        of(&|round| Some(round.millis(1.0))),
        of(&|round| round.exchange_requests_per_order),
        of(&|round| Some(round.host.steal * 100.0)),
    );
    if rounds.iter().any(|round| round.sync.is_some()) {
        println!(
            "fdatasync of 4 KiB p50 {:.0} us, p99 {:.0} us: an order's p50 is {:.2} syncs, its p99 {:.2}",
            of(&|round| round.sync.map(|sync| sync.p50)),
            of(&|round| round.sync.map(|sync| sync.p99)),
            of(&|round| round.in_syncs(0.5)),
            of(&|round| round.in_syncs(0.99)),
        );
    }
}

impl Round {
    fn accepted_per_second(&self) -> f64 {
        self.seen.accepted as f64 / self.seen.seconds
    }

    /// A latency in multiples of the median sync.
    fn in_syncs(&self, quantile: f64) -> Option<f64> {
        self.sync.map(|sync| self.millis(quantile) * 1_000.0 / sync.p50)
    }

    fn millis(&self, quantile: f64) -> f64 {
        self.seen.latencies.value_at_quantile(quantile) as f64 / 1_000.0
    }

    fn print(&self) {
        let answers: Vec<String> =
            self.seen.answers.iter().map(|(status, count)| format!("{status}: {count}")).collect();
        println!(
            "{:>5} {:>9.0} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>8.2} {:>7} {:>6.1}% {:>5.2}%  {}",
            self.number,
            self.accepted_per_second(),
            self.millis(0.5),
            self.millis(0.9),
            self.millis(0.99),
            self.millis(0.999),
            self.millis(1.0),
            self.seen.most_waiting,
            self.seen.cpu_share * 100.0,
            self.host.steal * 100.0,
            answers.join(", ")
        );
        let threads: Vec<String> = self
            .cores_by_thread
            .iter()
            .map(|(name, cores)| format!("{name} {:.1}", cores * 100.0))
            .collect();
        if !threads.is_empty() {
            println!("      server threads, % of a core: {}", threads.join(", "));
        }
        self.print_details();
        if self.seen.unanswered > 0 {
            println!("      LOST: {} orders had no answer", self.seen.unanswered);
        }
        for example in &self.seen.examples {
            println!("      answer: {example}");
        }
    }

    fn print_details(&self) {
        if let Some(shares) = &self.shares {
            println!("      {}", shares.line());
        }
        if let Some(requests) = self.exchange_requests_per_order {
            println!("      {requests:.2} exchange requests an order");
        }
        if let (Some(sync), Some(p50)) = (self.sync, self.in_syncs(0.5)) {
            println!(
                "      fdatasync of 4 KiB p50 {:.0} us, p99 {:.0} us: p50 is {p50:.2} syncs",
                sync.p50, sync.p99
            );
        }
        if self.seen.sent_late > 0 {
            println!(
                "      {} orders left a millisecond or more after they were due, {:.1} ms at most",
                self.seen.sent_late,
                self.seen.most_late_nanos as f64 / 1e6
            );
        }
    }

    fn to_json(&self) -> Value {
        json!({
            "round": self.number,
            "seconds": self.seen.seconds,
            "acceptedPerSecond": self.accepted_per_second(),
            "answeredPerSecond": self.seen.answered as f64 / self.seen.seconds,
            "latencyMillis": {
                "p50": self.millis(0.5), "p90": self.millis(0.9), "p99": self.millis(0.99),
                "p999": self.millis(0.999), "max": self.millis(1.0),
            },
            "answers": self.seen.answers.iter()
                .map(|(status, count)| (status.to_string(), json!(count)))
                .collect::<serde_json::Map<_, _>>(),
            "sent": self.seen.sent,
            "unanswered": self.seen.unanswered,
            "mostWaiting": self.seen.most_waiting,
            "sentLate": self.seen.sent_late,
            "mostLateMillis": self.seen.most_late_nanos as f64 / 1e6,
            "exchangeRequestsPerOrder": self.exchange_requests_per_order,
            "stages": self.shares.as_ref().map(Shares::to_json),
            "syncMicros": self.sync.map(|sync| json!({ "p50": sync.p50, "p99": sync.p99 })),
            "clientCpuShare": self.seen.cpu_share,
            "hostSteal": self.host.steal,
            "busyByCore": self.host.busy_by_core,
            "coresByThread": self.cores_by_thread,
            "countersPerSecond": self.counters_per_second,
            "otherAnswers": self.seen.examples,
        })
    }
}
