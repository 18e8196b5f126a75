//! `loadtest prices`: price streams of Longbow beside those of other servers, in turns within one run,
//! on the same cores, with the same clients, from the same simulated exchange.
//!
//! The server's sending threads have one core; the clients, the exchange and the feed readers share
//! the other. The test starts and stops everything.

use std::{fs, path::PathBuf};

use serde_json::{Value, json};

use crate::{
    cpu,
    error::{Context, Error, Result},
    phase::Interrupt,
};

pub(crate) mod axum_peer;
mod capacity;
mod contender;
mod curves;
pub(crate) mod exchange;
mod feed;
mod hot;
mod latest;
mod memory;
mod memory_use;
mod nchan;
mod picture;
mod session;
mod stalled;
mod storm;
pub(crate) mod unloaded;
mod window;

/// Flags of `loadtest prices`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PricesArgs {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: CommonArgs,
}

/// Flags of every scenario.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct CommonArgs {
    /// The longbow binary: exchange and server
    #[arg(long, global = true, default_value = "target/release/longbow", value_name = "PATH")]
    spawn: PathBuf,
    /// Core of the clients, the exchange and the feeds [default: the last one]
    #[arg(long, global = true, value_name = "CORE")]
    client_core: Option<usize>,
    /// Core of the servers, to which Longbow pins its first shard
    #[arg(long, global = true, default_value_t = 0, value_name = "CORE")]
    server_core: usize,
    /// Length of each measured window, in seconds
    #[arg(long, global = true, default_value_t = 5.0, value_name = "SECONDS")]
    seconds: f64,
    /// Time between a change of the load and the window, in seconds
    #[arg(long, global = true, default_value_t = 1.5, value_name = "SECONDS")]
    warm_up: f64,
    /// Number of rounds
    #[arg(long, global = true, default_value_t = 3, value_name = "COUNT")]
    rounds: usize,
    /// Random seed of the clients' symbols
    #[arg(long, global = true, default_value_t = 1, value_name = "NUMBER")]
    seed: u64,
    /// Users of Longbow's streams, in turn; each may have 1,000 streams
    #[arg(long, global = true, default_value_t = 40, value_name = "COUNT")]
    users: usize,
    /// An extra argument for longbow serve (repeatable)
    #[arg(long, global = true, value_name = "ARGUMENT", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// An extra argument for longbow exchange (repeatable)
    #[arg(long, global = true, value_name = "ARGUMENT", allow_hyphen_values = true)]
    exchange_arg: Vec<String>,
    /// Also write all measurements to this file
    #[arg(long, global = true, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Scenario {
    /// The highest rate of delivered prices with a p99 age below a limit and without loss, per server
    Capacity(capacity::CapacityArgs),
    /// Longbow's latest prices at a multiple of the speed at which axum is late
    Latest(latest::LatestArgs),
    /// One symbol that every client watches, beside a bare send() loop
    Hot(hot::HotArgs),
    /// The latency of a single print, beside a ping-pong over loopback
    Unloaded(unloaded::UnloadedArgs),
    /// Memory of an idle stream, in the server and in the kernel
    Memory(memory::MemoryArgs),
    /// Half of the clients stop reading
    Stalled(stalled::StalledArgs),
    /// All clients disconnect and reconnect at once
    Storm(storm::StormArgs),
    /// CPU time by number of clients and of symbols, with charts
    Curves(curves::CurvesArgs),
}

/// Options of every scenario.
#[derive(Debug, Clone)]
pub(crate) struct LoadOptions {
    /// The `longbow` binary.
    pub program: PathBuf,
    /// Core of clients, exchange and feeds.
    pub client_core: usize,
    /// Core of the server.
    pub server_core: usize,
    /// Length of a window, in seconds.
    pub seconds: f64,
    /// Warm-up before it, in seconds.
    pub warm_up: f64,
    /// Number of rounds.
    pub rounds: usize,
    /// Random seed.
    pub seed: u64,
    /// Users of Longbow.
    pub users: usize,
    /// Extra arguments for `longbow serve`.
    pub serve_arguments: Vec<String>,
    /// Extra arguments for `longbow exchange`.
    pub exchange_arguments: Vec<String>,
}

/// One figure over several rounds: median, minimum and maximum.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Summary {
    /// The median.
    pub median: f64,
    least: f64,
    most: f64,
}

impl Summary {
    /// Summarizes the figures, ignoring NaN; without any the result is NaN.
    pub(crate) fn of(figures: impl Iterator<Item = f64>) -> Self {
        let figures: Vec<f64> = figures.filter(|figure| figure.is_finite()).collect();
        let of = |pick: fn(f64, f64) -> f64| figures.iter().copied().reduce(pick);
        let (least, most) = (of(f64::min), of(f64::max));
        Self {
            least: least.unwrap_or(f64::NAN),
            most: most.unwrap_or(f64::NAN),
            median: crate::report::median(figures).unwrap_or(f64::NAN),
        }
    }

    /// As text, with this many decimals.
    #[must_use]
    pub(crate) fn text(&self, decimals: usize) -> String {
        let Self { median, least, most } = self;
        if least == most {
            return format!("{median:.decimals$}");
        }
        format!("{median:.decimals$} ({least:.decimals$}-{most:.decimals$})")
    }

    /// As JSON.
    #[must_use]
    pub(crate) fn to_json(self) -> Value {
        json!({ "median": self.median, "least": self.least, "most": self.most })
    }
}

/// Runs a scenario and prints its report.
///
/// # Errors
/// Whatever stopped the run.
pub(crate) fn run(arguments: &PricesArgs, interrupt: &Interrupt) -> Result<()> {
    let common = &arguments.common;
    let options = common.options()?;
    println!("machine: {}", cpu::machine());
    println!(
        "server on core {}, clients, exchange and feeds on core {}, windows of {} s, {} rounds, \
         seed {}",
        options.server_core, options.client_core, options.seconds, options.rounds, options.seed
    );
    let report = match &arguments.scenario {
        Scenario::Capacity(arguments) => capacity::run(arguments, &options, interrupt)?,
        Scenario::Latest(arguments) => latest::run(arguments, &options, interrupt)?,
        Scenario::Hot(arguments) => hot::run(arguments, &options, interrupt)?,
        Scenario::Unloaded(arguments) => unloaded::run(arguments, &options, interrupt)?,
        Scenario::Curves(arguments) => curves::run(arguments, &options, interrupt)?,
        Scenario::Memory(arguments) => memory::run(arguments, &options, interrupt)?,
        Scenario::Stalled(arguments) => stalled::run(arguments, &options, interrupt)?,
        Scenario::Storm(arguments) => storm::run(arguments, &options, interrupt)?,
    };
    common.write(report)
}

impl CommonArgs {
    fn options(&self) -> Result<LoadOptions> {
        let refuse = |flag, value: &dyn ToString, allowed: &str| {
            Err(Error::Flag { flag, value: value.to_string(), allowed: allowed.to_owned() })
        };
        if !(0.1..=600.0).contains(&self.seconds) {
            return refuse("seconds", &self.seconds, "0.1 to 600");
        }
        if self.rounds == 0 {
            return refuse("rounds", &self.rounds, "at least 1");
        }
        let client_core = self.client_core.unwrap_or(cpu::core_count().saturating_sub(1));
        if client_core == self.server_core {
            return refuse("client-core", &client_core, "another core than the server's");
        }
        // Each client needs a descriptor.
        let _ = cpu::raise_descriptor_limit();
        Ok(LoadOptions {
            program: self.spawn.clone(),
            client_core,
            server_core: self.server_core,
            seconds: self.seconds,
            warm_up: self.warm_up,
            rounds: self.rounds,
            seed: self.seed,
            users: self.users,
            serve_arguments: self.serve_arg.clone(),
            exchange_arguments: self.exchange_arg.clone(),
        })
    }

    fn write(&self, report: Value) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let whole = json!({
            "machine": cpu::machine(),
            "windowSeconds": self.seconds,
            "rounds": self.rounds,
            "seed": self.seed,
            "serveArguments": self.serve_arg,
            "report": report,
        });
        fs::write(file, format!("{whole:#}\n")).context(&format!("writing {}", file.display()))
    }
}
