//! `loadtest postgres throughput`: orders per second end to end, in a closed loop.

use serde_json::{Value, json};

use super::{
    Stage,
    contender::Kind,
    in_range,
    table::{Rounds, print_head, print_window},
    window::{Load, Window, measure},
};
use crate::error::Result;

/// Flags of this test.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ThroughputArgs {
    /// Orders in flight, each on its own connection; every number is measured in turn
    #[arg(long, default_value = "64,256", value_delimiter = ',', value_name = "COUNTS")]
    in_flight: Vec<usize>,
    /// Connections of the baseline to Postgres: each number gets one window, and the best one is used
    /// in the rounds
    #[arg(long, default_value = "8,16,32", value_delimiter = ',', value_name = "COUNTS")]
    pools: Vec<usize>,
    /// Length of each measured window, in seconds
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS")]
    seconds: f64,
    /// Settings of Longbow to measure beside the baseline
    #[arg(long, default_value = "wal,postgres,alone", value_delimiter = ',', value_name = "NAMES")]
    contenders: Vec<Ours>,
}

/// How Longbow commits.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum Ours {
    /// Replies wait for the WAL; the projection follows
    Wal,
    /// Replies wait for Postgres too
    Postgres,
    /// Without Postgres
    Alone,
}

impl From<Ours> for Kind {
    fn from(ours: Ours) -> Self {
        match ours {
            Ours::Wal => Self::Wal,
            Ours::Postgres => Self::Postgres,
            Ours::Alone => Self::Alone,
        }
    }
}

impl ThroughputArgs {
    /// # Errors
    /// [`crate::error::Error::Flag`].
    pub(super) fn check(&self) -> Result<()> {
        in_range("seconds", self.seconds, 0.1..=600.0)?;
        self.in_flight.iter().try_for_each(|&count| in_range("in-flight", count, 1..=10_000))?;
        // Postgres allows a hundred connections, and this test needs a few itself.
        self.pools.iter().try_for_each(|&count| in_range("pools", count, 1..=90))
    }
}

/// Runs the test and prints its report.
///
/// # Errors
/// Whatever stops a window early.
pub(super) fn run(arguments: &ThroughputArgs, stage: &Stage<'_>) -> Result<Value> {
    println!(
        "closed loop, windows of {} s after {} s; wal and postgres: longbow --commit wal and \
         --commit postgres; alone: longbow without Postgres; baseline-N: the baseline with N \
         connections",
        arguments.seconds, stage.warm_up
    );
    let reports = arguments.in_flight.iter().map(|&in_flight| {
        let load = Load { in_flight, rate: None, seconds: arguments.seconds };
        print_head();
        let (baseline, tried) = best_pool(&arguments.pools, load, stage)?;
        let ours = arguments.contenders.iter().map(|&ours| Kind::from(ours));
        let kinds: Vec<Kind> = ours.chain([baseline]).collect();
        let mut rounds = Rounds::default();
        for number in 1..=stage.rounds {
            rounds.add(round(&kinds, number, load, stage)?);
        }
        rounds.print_medians(&kinds);
        let ratios = kinds.iter().filter(|&&kind| kind != baseline);
        let ratios: Vec<_> = ratios.map(|&kind| (kind, rounds.ratio(kind, baseline))).collect();
        for (kind, ratio) in &ratios {
            println!("  {kind} / {baseline}: {} times", ratio.text(2));
        }
        Ok(json!({
            "inFlight": in_flight,
            "pools": tried.iter().map(|window| window.to_json(0)).collect::<Vec<_>>(),
            "baseline": baseline.to_string(),
            "ratiosToBaseline": ratios.iter()
                .map(|(kind, ratio)| (kind.to_string(), ratio.to_json()))
                .collect::<serde_json::Map<_, _>>(),
            "rounds": rounds.to_json(&kinds),
        }))
    });
    Ok(json!({ "scenario": "throughput", "loads": reports.collect::<Result<Vec<_>>>()? }))
}

/// Measures one window of each contender. Each round begins with a different one.
///
/// # Errors
/// Whatever stops a window early.
pub(super) fn round(
    kinds: &[Kind],
    number: usize,
    load: Load,
    stage: &Stage<'_>,
) -> Result<Vec<Window>> {
    let mut kinds = kinds.to_vec();
    let first = (number - 1) % kinds.len().max(1);
    kinds.rotate_left(first);
    let mut windows = Vec::new();
    for kind in kinds {
        let window = measure(stage, kind, load)?;
        print_window(&number.to_string(), &window);
        windows.push(window);
    }
    Ok(windows)
}

/// The baseline with the number of connections that gave the most orders per second.
fn best_pool(pools: &[usize], load: Load, stage: &Stage<'_>) -> Result<(Kind, Vec<Window>)> {
    let mut tried: Vec<Window> = Vec::new();
    for &pool in pools {
        let window = measure(stage, Kind::Baseline { pool }, load)?;
        print_window("pool", &window);
        tried.push(window);
    }
    let rate = |window: &&Window| window.accepted_per_second();
    let best = tried.iter().max_by(|one, other| rate(one).total_cmp(&rate(other)));
    Ok((best.map_or(Kind::Baseline { pool: 16 }, |window| window.kind), tried))
}
