//! `loadtest prices hot`: one symbol that every client watches, at increasing rates of prints, beside
//! the bare `send()` loop.

use serde_json::{Value, json};

use super::LoadOptions;
use crate::{
    error::Result,
    phase::Interrupt,
    report::{Medians, Ratios},
    stream::{self, StreamArgs},
    target::TargetArgs,
};

/// Flags of this scenario.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct HotArgs {
    /// Numbers of clients
    #[arg(long, value_delimiter = ',', default_value = "1000,10000", value_name = "COUNTS")]
    clients: Vec<usize>,
    /// Prints per second of the symbol
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "5000,20000,50000,100000",
        value_name = "RATES"
    )]
    print_rates: Vec<f64>,
}

/// Medians for one number of clients and one rate.
#[derive(Debug, Clone)]
pub(super) struct Point {
    /// Number of clients.
    pub clients: usize,
    /// Requested prints per second.
    pub print_rate: f64,
    /// Medians of the server.
    pub server: Medians,
    /// Medians of the bare loop.
    pub bare: Medians,
    /// Ratios of the two.
    pub ratios: Ratios,
}

/// Runs the scenario and prints its report.
///
/// # Errors
/// Whatever stopped the run.
pub(super) fn run(
    arguments: &HotArgs,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Value> {
    let mut points = Vec::new();
    for clients in &arguments.clients {
        for rate in &arguments.print_rates {
            points.push(measure(*clients, *rate, options, interrupt)?);
        }
    }
    println!(
        "\n{:>8} {:>10} {:>9} {:>11} {:>14} {:>12} {:>12} {:>10}",
        "clients",
        "prints/s",
        "sends/s",
        "us/send",
        "us/send, bare",
        "CPU per send",
        "sends/s",
        "p99 ms"
    );
    for point in &points {
        let number = |value: Option<f64>, decimals: usize| {
            value.map_or("-".to_owned(), |value| format!("{value:.decimals$}"))
        };
        println!(
            "{:>8} {:>10.0} {:>9} {:>11} {:>14} {:>7} times {:>6} times {:>10} (to reach: under {})",
            point.clients,
            point.print_rate,
            number(point.server.sends_per_second, 0),
            number(point.server.sender_micros, 3),
            number(point.bare.sender_micros, 3),
            number(point.ratios.sender, 3),
            number(point.ratios.sends, 3),
            number(point.server.age_p99_millis, 2),
            number(point.allowed_p99_millis(), 2),
        );
    }
    Ok(json!({
        "scenario": "hot",
        "points": points.iter().map(Point::to_json).collect::<Vec<_>>(),
    }))
}

/// Measures one point and prints its rounds.
///
/// # Errors
/// Whatever stopped the run.
pub(super) fn measure(
    clients: usize,
    print_rate: f64,
    options: &LoadOptions,
    interrupt: &Interrupt,
) -> Result<Point> {
    println!();
    let target = TargetArgs::to_spawn(
        options.program.clone(),
        options.users,
        print_rate,
        options.serve_arguments.clone(),
        options.exchange_arguments.clone(),
    );
    let arguments = StreamArgs::of_one_symbol(target, clients, options.seconds, options.rounds);
    let (_, rounds) = stream::measure(&arguments, interrupt)?;
    Ok(Point {
        clients,
        print_rate,
        server: Medians::of(&rounds, "server"),
        bare: Medians::of(&rounds, "bare"),
        ratios: Ratios::of(&rounds),
    })
}

impl Point {
    /// Twice the time of one sweep of the bare loop over all clients.
    fn allowed_p99_millis(&self) -> Option<f64> {
        // From its rate, not its CPU time: what counts is when the last client has the price.
        Some(2.0 * self.clients as f64 / self.bare.sends_per_second? * 1e3)
    }

    /// As JSON.
    #[must_use]
    pub(super) fn to_json(&self) -> Value {
        json!({
            "clients": self.clients,
            "printsPerSecond": self.print_rate,
            "server": self.server.to_json(),
            "bare": self.bare.to_json(),
            "cpuPerSendRatio": self.ratios.sender,
            "processCpuPerSendRatio": self.ratios.process,
            "sendsRatio": self.ratios.sends,
            "allowedP99Millis": self.allowed_p99_millis(),
        })
    }
}
