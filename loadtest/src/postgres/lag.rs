//! `loadtest postgres lag`: how far Postgres lags behind the log at a fixed order rate, and how much
//! the projection reduces the highest rate.

use serde_json::{Value, json};

use super::{
    Stage,
    contender::Kind,
    in_range,
    table::{Rounds, print_head, print_window},
    throughput::round,
    window::{Load, Window, measure},
};
use crate::{error::Result, prices::Summary};

/// Flags of this test.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct LagArgs {
    /// Orders per second, due at fixed times whatever the server does
    #[arg(long, default_value_t = 5_000.0, value_name = "PER_SECOND")]
    rate: f64,
    /// Length of the window at that rate, in seconds
    #[arg(long, default_value_t = 60.0, value_name = "SECONDS")]
    seconds: f64,
    /// Connections at that rate: enough for 100 ms of orders
    #[arg(long, default_value_t = 512, value_name = "COUNT")]
    connections: usize,
    /// Orders in flight at the highest rate
    #[arg(long, default_value_t = 64, value_name = "COUNT")]
    in_flight: usize,
    /// Length of each window at the highest rate, in seconds
    #[arg(long, default_value_t = 8.0, value_name = "SECONDS")]
    window_seconds: f64,
}

impl LagArgs {
    /// # Errors
    /// [`crate::error::Error::Flag`].
    pub(super) fn check(&self) -> Result<()> {
        in_range("rate", self.rate, 0.1..=1_000_000.0)?;
        in_range("seconds", self.seconds, 0.1..=36_000.0)?;
        in_range("window-seconds", self.window_seconds, 0.1..=600.0)?;
        in_range("connections", self.connections, 1..=10_000)?;
        in_range("in-flight", self.in_flight, 1..=10_000)
    }
}

/// Runs the test and prints its report.
///
/// # Errors
/// Whatever stops a window early.
pub(super) fn run(arguments: &LagArgs, stage: &Stage<'_>) -> Result<Value> {
    println!(
        "open loop at {} orders/s for {} s over {} connections, longbow --commit wal",
        arguments.rate, arguments.seconds, arguments.connections
    );
    print_head();
    let load = Load {
        in_flight: arguments.connections,
        rate: Some(arguments.rate),
        seconds: arguments.seconds,
    };
    let mut steady = Rounds::default();
    for number in 1..=stage.rounds {
        let window = measure(stage, Kind::Wal, load)?;
        print_window(&number.to_string(), &window);
        print_lag(&window);
        steady.add(vec![window]);
    }
    steady.print_medians(&[Kind::Wal]);
    let lag = steady.figure(Kind::Wal, |window| lag_millis(window, 0.99));
    println!("  Postgres is behind by at most {} ms at the 99th percentile", lag.text(0));

    println!(
        "\nclosed loop with {} in flight, windows of {} s: with the projection (wal), without (alone)",
        arguments.in_flight, arguments.window_seconds
    );
    print_head();
    let load =
        Load { in_flight: arguments.in_flight, rate: None, seconds: arguments.window_seconds };
    let kinds = [Kind::Wal, Kind::Alone];
    let mut highest = Rounds::default();
    for number in 1..=stage.rounds {
        highest.add(round(&kinds, number, load, stage)?);
    }
    highest.print_medians(&kinds);
    let kept = highest.ratio(Kind::Wal, Kind::Alone);
    println!("  wal / alone: {} times: the rate falls by {:.1} %", kept.text(3), fall(&kept));
    Ok(json!({
        "scenario": "lag",
        "steady": {
            "ratePerSecond": arguments.rate,
            "lagP99Millis": lag.to_json(),
            "rounds": steady.to_json(&[Kind::Wal]),
        },
        "highest": {
            "inFlight": arguments.in_flight,
            "withToWithout": kept.to_json(),
            "fallPercent": fall(&kept),
            "rounds": highest.to_json(&kinds),
        },
    }))
}

/// The reduction of the median, in percent.
fn fall(kept: &Summary) -> f64 {
    (1.0 - kept.median) * 100.0
}

fn lag_millis(window: &Window, share: f64) -> f64 {
    window.lag.as_ref().map_or(f64::NAN, |lag| lag.quantile(share) * 1_000.0)
}

fn print_lag(window: &Window) {
    let Some(lag) = &window.lag else { return };
    let at = |share| lag_millis(window, share);
    println!(
        "      {:.0} changes in Postgres, behind by {:.0} ms on average, at most {:.0} ms p50, {:.0} \
         ms p90, {:.0} ms p99, {:.0} ms all; {} orders left late, {:.1} ms at most",
        lag.count(),
        lag.mean() * 1_000.0,
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0),
        window.seen.sent_late,
        window.seen.most_late_nanos as f64 / 1e6
    );
}
