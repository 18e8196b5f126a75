//! `loadtest postgres`: orders with Postgres, beside the baseline, in turns within one run, on the
//! same cores, with the same client and the same simulated exchange.
//!
//! The run creates a real Postgres on the disk of the logs. Every window has its own empty database,
//! log and exchange, and ends with a check that Postgres has exactly the answered orders.

use std::{
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use crate::{
    cpu::{self, Cores},
    error::{Context, Error, Result},
    phase::Interrupt,
    spawn::{Directory, token_by_secret},
};

mod contender;
mod counts;
mod lag;
mod projection;
pub(crate) mod server;
mod sql;
mod table;
mod throughput;
mod window;

use server::Postgres;

/// Bytes of the run's token key, written as hexadecimal digits.
const SECRET_BYTES: usize = 32;

/// Flags of `loadtest postgres`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct PostgresArgs {
    #[command(subcommand)]
    scenario: Scenario,
    #[command(flatten)]
    common: CommonArgs,
}

#[derive(Debug, Clone, clap::Subcommand)]
enum Scenario {
    /// Orders per second end to end: Longbow with either commit mode, Longbow without Postgres, and
    /// the baseline at its best
    Throughput(throughput::ThroughputArgs),
    /// How far Postgres lags at a fixed rate, and what the projection costs at the highest rate
    Lag(lag::LagArgs),
    /// Rows per second into Postgres from an existing log
    Projection(projection::ProjectionArgs),
}

/// Flags of every scenario.
#[derive(Debug, Clone, clap::Args)]
struct CommonArgs {
    /// The longbow binary: exchange and server
    #[arg(long, global = true, default_value = "target/release/longbow", value_name = "PATH")]
    spawn: PathBuf,
    /// Directory for Postgres, logs and everything else during the test; on a disk, not in memory
    #[arg(long, global = true, default_value = "target", value_name = "DIR")]
    directory: PathBuf,
    /// Core of the client thread [default: the last one]
    #[arg(long, global = true, value_name = "CORE")]
    client_core: Option<usize>,
    /// Cores of Postgres [default: all]
    #[arg(long, global = true, value_name = "CORES")]
    postgres_cores: Option<Cores>,
    /// Cores of the exchange [default: all]
    #[arg(long, global = true, value_name = "CORES")]
    exchange_cores: Option<Cores>,
    /// Cores of the baseline [default: all]. Longbow places its threads itself, with one shard
    #[arg(long, global = true, value_name = "CORES")]
    baseline_cores: Option<Cores>,
    /// Time of load before each window, in seconds
    #[arg(long, global = true, default_value_t = 2.0, value_name = "SECONDS")]
    warm_up: f64,
    /// Number of rounds
    #[arg(long, global = true, default_value_t = 5, value_name = "COUNT")]
    rounds: usize,
    /// Users; connections use them in turn
    #[arg(long, global = true, default_value_t = 256, value_name = "COUNT")]
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

/// State shared by all windows of a run. Dropping it stops Postgres and removes everything.
struct Stage<'a> {
    /// The `longbow` binary.
    program: PathBuf,
    client_core: usize,
    exchange_cores: Cores,
    baseline_cores: Cores,
    warm_up: f64,
    rounds: usize,
    serve_arguments: Vec<String>,
    exchange_arguments: Vec<String>,
    /// File with the key of the tokens.
    secret: PathBuf,
    tokens: Vec<String>,
    postgres: Postgres,
    // Dropped last: the programs write to it until they have stopped.
    directory: Directory,
    interrupt: &'a Interrupt,
}

/// Runs a scenario and prints its report.
///
/// # Errors
/// Whatever stopped the run.
pub(crate) fn run(arguments: &PostgresArgs, interrupt: &Interrupt) -> Result<()> {
    let common = &arguments.common;
    common.check()?;
    match &arguments.scenario {
        Scenario::Throughput(arguments) => arguments.check()?,
        Scenario::Lag(arguments) => arguments.check()?,
        Scenario::Projection(arguments) => arguments.check()?,
    }
    let mut stage = Stage::set(common, interrupt)?;
    println!("machine: {}", cpu::machine());
    println!("{}", stage.postgres.text());
    println!(
        "client on core {}, exchange on cores {}, baseline on cores {}, Longbow with one shard \
         where it places itself; {} users, {} rounds",
        stage.client_core,
        stage.exchange_cores,
        stage.baseline_cores,
        stage.tokens.len(),
        stage.rounds
    );
    let report = match &arguments.scenario {
        Scenario::Throughput(arguments) => throughput::run(arguments, &stage)?,
        Scenario::Lag(arguments) => lag::run(arguments, &stage)?,
        Scenario::Projection(arguments) => projection::run(arguments, &mut stage)?,
    };
    common.write(&stage, &report)
}

impl CommonArgs {
    fn check(&self) -> Result<()> {
        in_range("rounds", self.rounds, 1..=1_000)?;
        in_range("users", self.users, 1..=10_000)?;
        in_range("warm-up", self.warm_up, 0.0..=600.0)
    }

    fn write(&self, stage: &Stage<'_>, report: &Value) -> Result<()> {
        let Some(file) = &self.json else { return Ok(()) };
        let whole = json!({
            "machine": cpu::machine(),
            "postgresVersion": stage.postgres.version,
            "postgresSettings": server::SETTINGS.iter()
                .map(|(name, value)| ((*name).to_owned(), json!(value)))
                .collect::<serde_json::Map<_, _>>(),
            "clientCore": stage.client_core,
            "exchangeCores": stage.exchange_cores.to_string(),
            "baselineCores": stage.baseline_cores.to_string(),
            "users": stage.tokens.len(),
            "rounds": self.rounds,
            "serveArguments": self.serve_arg,
            "exchangeArguments": self.exchange_arg,
            "report": report,
        });
        fs::write(file, format!("{whole:#}\n")).context(&format!("writing {}", file.display()))
    }
}

impl<'a> Stage<'a> {
    fn set(common: &CommonArgs, interrupt: &'a Interrupt) -> Result<Self> {
        // Each connection needs a descriptor.
        let _ = cpu::raise_descriptor_limit();
        let directory = Directory::inside(&common.directory, "load-postgres")?;
        server::refuse_memory(&directory.path)?;
        let secret = directory.path.join("token-key");
        let key: [u8; SECRET_BYTES] = rand::random();
        let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        fs::write(&secret, key).context("writing the key of the tokens")?;
        let users = 0..common.users;
        let tokens = users.map(|user| token_by_secret(&common.spawn, &secret, user));
        let tokens = tokens.collect::<Result<_>>()?;
        let all = |cores: &Option<Cores>| cores.clone().unwrap_or_else(Cores::all);
        let cores = all(&common.postgres_cores);
        let postgres = Postgres::start(&directory.path, &cores, interrupt)?;
        Ok(Self {
            program: common.spawn.clone(),
            client_core: common.client_core.unwrap_or(cpu::core_count().saturating_sub(1)),
            exchange_cores: all(&common.exchange_cores),
            baseline_cores: all(&common.baseline_cores),
            warm_up: common.warm_up,
            rounds: common.rounds,
            serve_arguments: common.serve_arg.clone(),
            exchange_arguments: common.exchange_arg.clone(),
            secret,
            tokens,
            postgres,
            directory,
            interrupt,
        })
    }

    /// The directory of the programs' logs.
    fn path(&self) -> &Path {
        &self.directory.path
    }
}

/// Checks the value of a flag.
fn in_range<T: PartialOrd + ToString>(
    flag: &'static str,
    value: T,
    allowed: std::ops::RangeInclusive<T>,
) -> Result<()> {
    if allowed.contains(&value) {
        return Ok(());
    }
    let allowed = format!("{} to {}", allowed.start().to_string(), allowed.end().to_string());
    Err(Error::Flag { flag, value: value.to_string(), allowed })
}
